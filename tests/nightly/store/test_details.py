"""The folder of exchanges in detail: each file complete or not there."""

import errno

import pytest

from pcapdiag.base.errors import StoreError
from pcapdiag.nightly.store.details import DetailFolder
from pcapdiag.nightly.store.model import DetailFile

NAME = "date=2026-11-20/upstream=10.0.0.1%3A8080/k-0.parquet"


@pytest.fixture
def folder(tmp_path):
    return DetailFolder(tmp_path / "details")


def files(folder):
    return sorted(str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file())


def test_nothing_is_made_before_the_first_file(folder):
    folder.sweep([])
    folder.discard(1)
    assert not folder.path.exists()


def test_bytes_get_their_name_and_only_their_owner_reads_them(folder):
    folder.place([DetailFile(NAME, 3, content=b"new")])
    path = folder.path / NAME
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert files(folder) == [NAME]


def test_a_staged_file_is_moved_and_takes_the_place_of_the_one_before(folder):
    folder.place([DetailFile(NAME, 3, content=b"old")])
    staged = folder.staging(7) / "part"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"new")
    folder.place([DetailFile(NAME, 3, staged=str(staged))])
    assert (folder.path / NAME).read_bytes() == b"new"
    assert not staged.exists()


def test_what_a_scan_left_goes_but_not_what_another_still_writes(folder):
    for scan in (7, 8):
        folder.staging(scan).mkdir(parents=True)
        (folder.staging(scan) / "part").write_bytes(b"x")
    folder.sweep([8])
    assert [p.name for p in folder.staging(8).parent.iterdir()] == ["8"]
    folder.discard(8)
    assert not folder.path.exists()


def test_a_discarded_scan_leaves_what_was_placed(folder):
    folder.place([DetailFile(NAME, 1, content=b"x")])
    folder.staging(7).mkdir(parents=True)
    folder.discard(7)
    assert files(folder) == [NAME]


def test_removed_files_take_their_empty_folders_along_and_no_others(folder):
    other = NAME.replace("10.0.0.1", "10.0.0.2")
    folder.place([DetailFile(NAME, 1, content=b"x"), DetailFile(other, 1, content=b"y")])
    folder.remove([NAME, "date=2026-11-21/never/was-0.parquet"])
    assert files(folder) == [other]
    assert not (folder.path / NAME).parent.exists()
    folder.remove([other])
    assert list(folder.path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named_with_what_to_do(tmp_path):
    (tmp_path / "details").write_text("")
    with pytest.raises(StoreError, match=r"details: .*another folder with --exchanges"):
        DetailFolder(tmp_path / "details").place([DetailFile(NAME, 1, content=b"x")])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_without_room_it_says_how_to_go_on(folder, number):
    text = str(folder.refused(OSError(number, "no")))
    assert str(folder.path) in text
    assert "--no-exchanges" in text


def test_a_file_that_could_not_be_written_whole_is_not_there(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pcapdiag.nightly.store.details.os.fsync", full)
    with pytest.raises(StoreError, match="no room left"):
        folder.place([DetailFile(NAME, 1, content=b"x")])
    assert files(folder) == []
