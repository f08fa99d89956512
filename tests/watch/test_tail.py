"""A log that grows, rotates, is emptied and is cut: no line is lost or told twice, and each keeps its number."""

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.errors import UsageError
from pcapdiag.watch.logwatch import LogWatch
from pcapdiag.watch.model import KeptIncident, Pending, SourceFile
from pcapdiag.watch.state import State, StateFile
from pcapdiag.watch.tail import LogTail


def add(path, text):
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "error.log"


def cut(tail, tmp_path, since_ns):
    folder = tmp_path / "cut"
    folder.mkdir(exist_ok=True)
    return {name: (folder / name).read_text() for name in tail.cut(folder, "error.log", since_ns)}


def test_only_what_is_added_counts_and_lines_keep_their_numbers(log, tmp_path):
    add(log, "one\ntwo\n")
    tail = LogTail(str(log))
    assert list(tail.poll(1)) == []
    add(log, "three\nfo")
    assert list(tail.poll(2)) == [b"three"]
    add(log, "ur\n")
    assert list(tail.poll(3)) == [b"four"]
    assert cut(tail, tmp_path, 2) == {"error.log": "\n\nthree\nfour\n"}
    assert cut(tail, tmp_path, 3) == {"error.log": "\n\n\nfour\n"}
    assert cut(tail, tmp_path, 4) == {}
    tail.close()


def test_a_rotated_log_is_read_to_its_end_and_cut_with_its_successor(log, tmp_path):
    tail = LogTail(str(log))
    assert list(tail.poll(1)) == []
    add(log, "one\n")
    assert list(tail.poll(2)) == [b"one"]
    add(log, "two\n")
    log.rename(tmp_path / "error.log.1")
    add(tmp_path / "error.log.1", "three\n")
    add(log, "four\n")
    assert list(tail.poll(3)) == [b"two", b"three", b"four"]
    (tmp_path / "error.log.1").unlink()
    assert cut(tail, tmp_path, 2) == {"error.log.1": "one\ntwo\nthree\n", "error.log": "four\n"}
    tail.forget(4)
    assert cut(tail, tmp_path, 4) == {}
    tail.close()


def test_a_log_that_is_emptied_in_place_is_read_from_its_beginning(log, tmp_path):
    tail = LogTail(str(log))
    assert list(tail.poll(1)) == []
    add(log, "one is long\n")
    assert list(tail.poll(2)) == [b"one is long"]
    log.write_text("two\n")
    assert list(tail.poll(3)) == [b"two"]
    assert cut(tail, tmp_path, 1) == {"error.log": "two\n"}
    tail.close()


def test_a_later_run_goes_on_where_the_lines_may_still_be_wanted(log, tmp_path):
    add(log, "zero\n")
    tail = LogTail(str(log))
    assert list(tail.poll(1)) == []
    add(log, "one\n")
    assert list(tail.poll(2)) == [b"one"]
    known = tail.position()
    tail.close()
    add(log, "two\n")
    again = LogTail(str(log), known=known)
    assert list(again.poll(9)) == [b"one", b"two"]
    assert cut(again, tmp_path, 9) == {"error.log": "\none\ntwo\n"}
    again.close()


def test_an_entry_about_an_upstream_is_a_failure_and_others_are_none(log):
    watch = LogWatch(Inputs(error_logs=(str(log),)), known={})
    assert watch.poll(1) == []
    head = "2026/11/20 23:59:55 [error] 3784#3784: *62 "
    tail = (
        ', client: 192.0.2.2, server: x, request: "GET /api HTTP/1.1", upstream: "http://10.1.1.1:80/api", host: "x"\n'
    )
    add(log, head + "upstream prematurely closed connection while reading response header from upstream" + tail)
    add(log, head.replace("error", "notice") + "something else\n")
    add(log, 'not a line of a log at all "GET /\n')
    assert [f.signature for f in watch.poll(2)] == ["log premature_close 10.1.1.1:80"]
    watch.close()


def test_all_logs_are_followed_and_cut_for_a_report(tmp_path):
    names = {"error_logs": "error.log", "access_logs": "access.log", "upstream_logs": "app.log"}
    watch = LogWatch(Inputs(**{kind: (str(tmp_path / name),) for kind, name in names.items()}), known={})
    watch.poll(1)
    for name in names.values():
        add(tmp_path / name, f"a line of {name}\n")
    watch.poll(2)
    folder = tmp_path / "job"
    folder.mkdir()
    assert watch.cut(folder, 2) == Inputs(**{kind: (name,) for kind, name in names.items()})
    assert {name: (folder / name).read_text() for name in names.values()} == {
        name: f"a line of {name}\n" for name in names.values()
    }
    assert set(watch.positions()) == {str(tmp_path / name) for name in names.values()}
    watch.close()


def test_the_state_survives_and_keeps_a_second_recorder_out(tmp_path):
    folder = tmp_path / "out" / ".watch"
    folder.mkdir(parents=True)
    file = StateFile(folder)
    with pytest.raises(UsageError, match="another recorder writes to"):
        StateFile(folder)
    incident = KeptIncident("p", "PD101", "race", "error", "s", "m", ("PD101/x",), 1, 2, 3, 4, ("gone",))
    state = State(
        incidents=[incident],
        n_incidents=7,
        cooling={"id x": 5},
        pending=[Pending("b", 1, 2, 3, 4)],
        running=[Pending("a", 1, 2, 3, 4)],
    )
    state.keys.append("a b 1")
    file.write(state, [SourceFile("head", 64, 12, is_done=True)], (3, 400))
    file.close()
    again = StateFile(folder)
    read = again.read()
    again.close()
    assert (read.incidents, read.n_incidents, list(read.keys)) == ([incident], 7, ["a b 1"])
    assert [p.signature for p in read.pending] == ["a", "b"]
    assert (read.sources, read.ring_mark) == ([SourceFile("head", 64, 12, is_done=True)], (3, 400))
    assert (folder / "state.json").stat().st_mode & 0o077 == 0
