"""What somebody who mistyped may have meant."""

import errno
import os

import pytest

from pcapdiag.base.suggest import cannot_open, did_you_mean, nearest


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("anaylze", "analyze"), ("ANALYSE", "analyze"), ("show", "show"), ("tables", "Table"), ("xyzzy", ""), ("", "")],
)
def test_the_nearest_word_is_found_whatever_its_case(typed, meant):
    assert nearest(typed, ["analyze", "show", "Table"]) == meant


def test_a_part_of_a_word_is_nearer_than_what_only_looks_like_it():
    columns = ["depth", "request_path", "idle_before_ns", "first-byte"]
    assert nearest("path", ["depth"]) == "depth"
    assert [nearest(word, columns) for word in ("path", "IDLE", "byte")] == [
        "request_path",
        "idle_before_ns",
        "first-byte",
    ]
    assert nearest("dle", columns) == ""


def test_the_end_of_a_sentence_asks_or_is_empty():
    assert did_you_mean("shwo", ["show"]) == "; did you mean show?"
    assert did_you_mean("quux", ["show"]) == ""


def test_only_a_file_that_is_missing_may_be_another(tmp_path):
    (tmp_path / "error.log").write_text("")
    path = str(tmp_path / "eror.log")
    missing, refused = (OSError(number, os.strerror(number)) for number in (errno.ENOENT, errno.EACCES))
    assert cannot_open(path, missing) == f"cannot open {path}: {missing.strerror}; did you mean {tmp_path}/error.log?"
    assert cannot_open(path, refused) == f"cannot open {path}: {refused.strerror}"
    assert cannot_open("a\0b", ValueError("embedded null byte")) == "cannot open a\0b: embedded null byte"
