"""-o: complete or not there, private, and never over a file that exists unless forced."""

import stat
from pathlib import Path

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.output import open_output


def write(path, data=b"new", **options):
    with open_output(str(path), **options) as file:
        file.write(data)


def test_a_new_file_is_readable_by_its_owner_alone(tmp_path):
    write(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


def test_an_existing_file_is_left_alone(tmp_path):
    (tmp_path / "r").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == b"old"


def test_force_replaces_it_with_a_private_one(tmp_path):
    (tmp_path / "r").write_bytes(b"old")
    (tmp_path / "r").chmod(0o644)
    write(tmp_path / "r", force=True)
    assert (tmp_path / "r").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path):
    def write_slowly():
        with open_output(str(tmp_path / "r")) as file:
            file.write(b"new")
            (tmp_path / "r").write_bytes(b"other")

    with pytest.raises(UsageError, match="exists already"):
        write_slowly()
    assert (tmp_path / "r").read_bytes() == b"other"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_run_that_fails_leaves_nothing_behind(tmp_path):
    def fail_half_way():
        with open_output(str(tmp_path / "r")) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_device_is_written_to_and_stays_a_device():
    write("/dev/null", force=True)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_place_that_does_not_exist_is_said_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="cannot write"), open_output(str(tmp_path / "no" / "r")):
        pytest.fail("the work began")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path, there, force):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    if there:
        (elsewhere / "r").write_bytes(b"old")
    (folder / "r").symlink_to(elsewhere / "r")
    with pytest.raises(UsageError, match="link to another folder"):
        write(folder / "r", force=force)
    assert [p.read_bytes() for p in elsewhere.iterdir()] == ([b"old"] if there else [])


def test_a_link_to_itself_is_an_error_in_one_sentence(tmp_path):
    (tmp_path / "r").symlink_to("r")
    with pytest.raises(UsageError, match=r"cannot write|exists already"):
        write(tmp_path / "r")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path, force=True)
