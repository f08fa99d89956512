"""Which files a log is: facts about folders, globs and rotated files."""

import gzip

import pytest

from pcapdiag.base.errors import LogError
from pcapdiag.proxy.logs.files import expand_logs, older_files
from pcapdiag.proxy.logs.older import find_older

S = 10**9
NOON_S = 1_795_262_400
"""2026-11-21 12:00:00, as if it were UTC."""


def entry(clock, pid=7):
    upstream = 'upstream: "http://10.1.1.1:80/"'
    return f"2026/11/21 {clock} [error] {pid}#0: *1 no live upstreams while connecting to upstream, {upstream}\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("error.log", "error.log.1", "error.log.2", "error.log-20261120", "access.log", "other.txt"):
        (tmp_path / name).write_text("")
    for name in ("error.log.2.gz", "error.log.10.gz", "error.log-20261119.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b""))
    return tmp_path


def names(paths):
    return [path.rsplit("/", 1)[1] for path in paths]


def test_of_a_folder_the_logs_in_use_are_taken(folder):
    assert names(expand_logs([str(folder)], "error")) == ["error.log"]
    assert names(expand_logs([str(folder)], "access")) == ["access.log"]


def test_a_glob_is_taken_at_its_word_and_no_file_twice(folder):
    given = [str(folder / "error.log.?"), str(folder / "error.log.1")]
    assert names(expand_logs(given, "error")) == ["error.log.1", "error.log.2"]


@pytest.mark.parametrize("name", ["nothing*", "empty"])
def test_what_holds_no_log_is_said(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(LogError, match=r"nothing fits|no error log in this folder"):
        expand_logs([str(folder / name)], "error")


def test_rotated_files_come_newest_first_and_plain_before_compressed(folder):
    assert names(older_files(str(folder / "error.log"))) == [
        *("error.log.1", "error.log.2", "error.log.10.gz"),
        *("error.log-20261120", "error.log-20261119.gz"),
    ]
    assert older_files(str(folder / "access.log")) == ()


@pytest.mark.parametrize("name", ["error-20261120.log", "error-2026-11-20.log.gz"])
def test_a_date_may_stand_before_the_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert names(older_files(str(tmp_path / "error.log"))) == [name]


@pytest.fixture
def rotated(tmp_path):
    (tmp_path / "error.log").write_text(entry("12:00:30"))
    (tmp_path / "error.log.1").write_text(entry("10:00:00") + entry("11:59:59") + entry("12:00:10"))
    (tmp_path / "error.log.2.gz").write_bytes(gzip.compress(entry("08:00:00").encode()))
    return tmp_path


def find(folder, first_s, offset_ns=0, given=()):
    log = str(folder / "error.log")
    first_ns = (NOON_S + first_s) * S
    return find_older([log], [], None, first_ns, first_ns + 40 * S, offset_ns, given=[log, *given])


def test_a_log_that_begins_in_time_is_enough(rotated):
    assert find(rotated, 95).errors == ()


def test_of_a_rotated_log_only_the_capture_s_time_is_read(rotated):
    older = find(rotated, 0)
    (log,) = older.errors
    assert [e.ts_s - NOON_S for e in log] == [-1, 10]
    assert names([log.log.path]) == ["error.log.1"]
    (remark,) = older.remarks()
    assert remark.startswith(f"{rotated}/error.log begins after the capture does; of {rotated}/error.log.1 what lies")


def test_a_rotated_log_that_was_given_is_not_read_again(rotated):
    assert find(rotated, 0, given=[str(rotated / "error.log.1")]).errors == ()


def test_the_zone_is_taken_off_and_without_one_all_zones_are_looked_at(rotated):
    assert [len(list(log)) for log in find(rotated, -8 * 3600, offset_ns=8 * 3600 * S).errors] == [2]
    assert len(find(rotated, -8 * 3600, offset_ns=None).errors) == 2


def test_an_empty_log_in_use_has_all_before_it(rotated):
    (rotated / "error.log").write_text("")
    assert len(list(find(rotated, 0).errors[0])) == 2
