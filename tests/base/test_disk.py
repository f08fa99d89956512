"""Disks that are full, and files that replace others whole."""

import errno
import itertools
import os
import stat

import pytest

from pcapdiag.base.disk import is_no_room, replace_file


def chained(*errors):
    """Return the first error, each caused by the one after it."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EACCES, "no"), False),
        (ValueError("no room"), False),
        (None, False),
        (chained(ValueError(), RuntimeError(), OSError(errno.ENOSPC, "full")), True),
    ],
)
def test_a_full_disk_is_known_also_behind_other_errors(error, is_so):
    assert is_no_room(error) is is_so


def test_errors_that_cause_each_other_are_not_followed_for_ever():
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    assert not is_no_room(one)


@pytest.mark.parametrize("is_synced", [False, True])
def test_a_file_is_replaced_whole_and_private(tmp_path, is_synced):
    (tmp_path / "a").write_bytes(b"old and longer")
    replace_file(tmp_path / "a", b"new", is_synced=is_synced)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_it_cannot_be_written_all_is_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "a", b"new", is_synced=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]
