"""A folder that files are written into again and again."""

import os
import stat
import subprocess
import sys

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.base.outfolder import OutFolder
from tests.conftest import ROOT
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


def open_folder(path, **options):
    return OutFolder(path, is_own=lambda head: head.startswith(b"ours"), **options)


def test_a_file_is_written_left_alone_and_replaced(tmp_path):
    with open_folder(tmp_path / "new") as folder:
        assert folder.write("a", b"ours 1")
        assert not folder.write("a", b"ours 1")
        assert folder.write("a", b"ours 2")
        assert folder.write("long", b"ours" * 5000)
        assert not folder.write("long", b"ours" * 5000)
        assert folder.write("long", b"ours" * 4999 + b"theirs")
        assert folder.names() == ["a", "long"]
    assert (tmp_path / "new" / "a").read_bytes() == b"ours 2"


def test_only_what_is_ours_is_replaced_or_removed(tmp_path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "ours").write_bytes(b"ours")
    with open_folder(tmp_path) as folder:
        for name in ("theirs", "folder", "pipe", "link"):
            with pytest.raises(UsageError, match="is not pcapdiag's own"):
                folder.write(name, b"ours")
            assert not folder.remove(name)
        assert folder.remove("ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "ours").exists()


@pytest.fixture
def small_disk(tmp_path):
    """Return a disk of 64 kB; that takes root, as CI is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_file_whole(small_disk):
    with open_folder(small_disk) as folder:
        folder.write("a", b"ours 1")
        with pytest.raises(UsageError, match=r"no room left for .*: make room on its disk"):
            folder.write("a", b"ours" * 50_000)
        assert folder.names() == ["a"]
        assert (small_disk / "a").read_bytes() == b"ours 1"


def test_what_a_killed_process_left_is_swept(tmp_path):
    (tmp_path / ".0123456789abcdef.pcapdiag-part").write_bytes(b"our")
    (tmp_path / ".hidden").write_bytes(b"theirs")
    with open_folder(tmp_path) as folder, folder.locked():
        assert folder.names() == [".hidden"]


HOLD = """
import sys
from pcapdiag.base.outfolder import OutFolder
with OutFolder(sys.argv[1], is_own=lambda head: True) as folder, folder.locked():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_process_writes_at_a_time(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with open_folder(tmp_path) as folder:
            with pytest.raises(UsageError, match="another pcapdiag is writing"), folder.locked(patience_s=0.2):
                pass
            other.stdin.write("go\n")
            other.stdin.flush()
            with folder.locked(patience_s=HANG_S):
                assert folder.write("a", b"ours")


@pytest.mark.parametrize(
    ("mode", "is_private", "expected"),
    [(0o755, False, 0o644), (0o750, False, 0o640), (0o755, True, 0o600), (0o1777, False, 0o600), (0o775, False, 0o644)],
)
def test_who_may_read_the_folder_may_read_the_file(tmp_path, mode, is_private, expected):
    tmp_path.chmod(mode)
    with open_folder(tmp_path, is_private=is_private) as folder:
        folder.write("a", b"ours")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == expected


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write into"):
        open_folder(tmp_path / "file")
