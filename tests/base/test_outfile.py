"""Files that are written: complete or not there, private, never over another by accident."""

import os
import stat
import threading

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.base.outfile import open_file


def write(path, data=b"new", **options):
    with open_file(path, **options) as file:
        file.write(data)


def test_a_file_is_private_and_there_only_when_it_is_complete(tmp_path):
    with open_file(tmp_path / "a") as file:
        file.write(b"half")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"half"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_work_that_fails_leaves_nothing_and_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), open_file(tmp_path / "a", force=True) as file:
        file.write(b"half" * (1 // 0))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_what_exists_is_replaced_only_if_that_is_meant(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / "a")
    write(tmp_path / "a", force=True)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_another_wrote_meanwhile_stays(tmp_path):
    with pytest.raises(UsageError, match="exists already"), open_file(tmp_path / "a"):
        (tmp_path / "a").write_bytes(b"theirs")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"theirs")]


def test_a_link_is_followed_within_its_folder_and_never_out_of_it(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_bytes(b"old")
    (tmp_path / "folder" / "link").symlink_to("real")
    (tmp_path / "out").symlink_to(tmp_path / "folder" / "real")
    write(tmp_path / "folder" / "link", force=True)
    assert (tmp_path / "folder" / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"
    with pytest.raises(UsageError, match="a link to another folder"):
        write(tmp_path / "out", b"other", force=True)
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"


def test_a_bad_place_is_known_before_the_work_begins(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path, tmp_path / "no" / "folder", tmp_path / "loop"):
        with pytest.raises(UsageError), open_file(place, force=True):
            pytest.fail("the work began")


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write(fifo)
    reader.join()
    assert read == [b"new"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
