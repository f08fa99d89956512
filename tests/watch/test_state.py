"""What the recorder remembers: bounded whatever happens, and the same after a restart."""

import json

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.watch.known import Failing, KnownFailures
from pcapdiag.watch.model import (
    Failure,
    JobResult,
    KeptIncident,
    Pending,
    Reported,
    SourceFile,
    WatchOptions,
)
from pcapdiag.watch.schedule import Schedule
from pcapdiag.watch.state import State, StateFile
from pcapdiag.watch.tail import LogPosition

pytestmark = pytest.mark.compiled_only

S = 1_000_000_000
DAY = 86_400 * S


def reported(keys, number):
    return Reported(f"PD101/{number}", "PD101", "race", "error", "s", "m", tuple(keys), len(keys), S, S)


@pytest.mark.long
def test_a_thousand_failures_a_minute_take_no_more_room_after_hours(tmp_path):
    """Ten thousand new ones in every report, of a thousand kinds, and a log that names as many again."""
    state = State()
    schedule = Schedule(state, WatchOptions("-", "out"))
    file = StateFile(tmp_path)
    sizes = []
    for turn in range(40):
        now_ns = (1_700_000_000 + 600 * turn) * S
        schedule.add(*(Failure(f"{turn} {n % 1500}", f"10.0.0.{n % 250}:80", now_ns, now_ns) for n in range(10_000)))
        assert schedule.take_due(now_ns + 60 * S, -1, is_full=False, is_last=False)
        keys = [str(Failing(f"10.0.0.1:{n}", "10.0.0.2:80", now_ns + n * 1000, n)) for n in range(10_000)]
        found = tuple(reported(keys[n::100], n + turn) for n in range(100))
        clients = tuple(f"10.9.{turn}.{n % 250}:{n}" for n in range(2000))
        result = JobResult(found, written=True, client_endpoints=clients, count=10_000)
        assert schedule.settle(result, now_ns + 70 * S, now_ns - 3600 * S)
        assert state.is_new((f.identifier for f in found), now_ns)
        state.forget(now_ns)
        file.write(state, [], (1, 2))
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        assert len(state.keys) <= 50_000
        assert len(state.pending) <= 1001
        assert len(state.cooling) <= 5000
        assert len(schedule._clients) <= 20_000
    assert max(sizes[10:]) < 1.1 * max(sizes[:10])
    known = KnownFailures(state.keys, state.known_until_ns)
    assert known.holds(Failing("10.0.0.1:9999", "10.0.0.2:80", now_ns + 9999 * 1000, 9999))
    assert known.holds(Failing("10.0.0.1:1", "10.0.0.2:80", 1_700_000_000 * S + 1000, 1)), "older ones by their time"
    assert not known.holds(Failing("10.0.0.1:9999", "10.0.0.2:80", now_ns + 10_000 * 1000, 10_000))
    file.close()


def test_a_key_goes_with_the_recording_that_could_show_its_failure_again():
    state = State()
    state.remember(["a b 1000 1", f"a b {7300 * S} 2"], -1, 7200 * S)
    assert list(state.keys) == [f"a b {7300 * S} 2"]
    assert state.known_until_ns == -1


def test_a_trouble_is_new_again_after_a_quiet_day():
    state = State()
    assert state.is_new(["x"], 10 * DAY)
    assert not state.is_new(["x"], 10 * DAY + DAY // 2)
    assert not state.is_new(["x"], 11 * DAY)
    assert state.is_new(["x", "y"], 11 * DAY)
    assert state.is_new(["x"], 12 * DAY + 1)


def test_all_of_it_is_there_after_a_restart(tmp_path):
    state = State(
        incidents=[
            KeptIncident("p", "PD101", "race", "error", "s", "m", ("PD101/x",), 1, S, S, 5, ("gone",), is_new=True)
        ],
        n_incidents=7,
        known_until_ns=4,
        seen={"PD101/x": 5},
        cooling={"id PD101/x": 9},
        pending=[Pending("b", 1, 2, 3, 4)],
        running=[Pending("a", 1, 2, 3, 4)],
        read_until_ns=6,
        series="/captures/x",
        logs={"e": LogPosition(1, 2, 3, 4)},
        owed={"json-1": ["p"]},
    )
    state.keys.append("a b 9 1")
    sources = [SourceFile("ab", 64, 10, is_done=True, first_ns=5)]
    file = StateFile(tmp_path)
    file.write(state, sources, (3, 400))
    file.close()
    file = StateFile(tmp_path)
    again = file.read()
    file.close()
    assert [p.signature for p in again.pending] == ["a", "b"]
    assert (again.sources, again.ring_mark, again.running) == (sources, (3, 400), [])
    for name in ("incidents", "n_incidents", "keys", "known_until_ns", "seen", "cooling", "read_until_ns", "series"):
        assert getattr(again, name) == getattr(state, name), name
    assert (again.logs, again.owed) == (state.logs, state.owed)


def test_what_was_reported_is_written_only_when_it_changes(tmp_path):
    state, file = State(), StateFile(tmp_path)
    file.write(state, [], (1, 1))
    before = (tmp_path / "reported.json").stat().st_mtime_ns
    file.write(state, [], (1, 2))
    assert (tmp_path / "reported.json").stat().st_mtime_ns == before
    state.remember(["a b 1 1"], -1, -1)
    file.write(state, [], (1, 2))
    assert json.loads((tmp_path / "reported.json").read_bytes())["keys"] == ["a b 1 1"]
    file.close()


def test_a_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"version": 1}')
    file = StateFile(tmp_path)
    with pytest.raises(UsageError, match="another version of pcapdiag"):
        file.read()
    file.close()
