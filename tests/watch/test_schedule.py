"""When reports are due: the grace, the cool-down, what leaves the ring, what is counted and reported later."""

import pytest

from pcapdiag.watch.model import Failure, JobResult, Reported, WatchOptions
from pcapdiag.watch.schedule import Schedule
from pcapdiag.watch.state import State

pytestmark = pytest.mark.compiled_only

S = 1_000_000_000
OPTIONS = WatchOptions("-", "out", grace_ns=10 * S, cool_down_ns=600 * S)


def fail(at_s, name="unanswered 10.1.1.1:80", resp="10.1.1.1:80"):
    return Failure(name, resp, at_s * S - S, at_s * S)


def found(identifier="PD101/x", key="a b 1"):
    return Reported(identifier, "PD101", "race", "error", "s", "m", (key,), 1, S, S)


def make():
    state = State()
    return Schedule(state, OPTIONS), state


def due(schedule, now_s, oldest_s=0, *, is_full=False, is_last=False):
    return [p.signature for p in schedule.take_due(now_s * S, oldest_s * S, is_full=is_full, is_last=is_last)]


def test_a_failure_is_due_when_its_grace_is_over():
    schedule, _ = make()
    schedule.add(fail(100))
    assert due(schedule, 109) == []
    assert due(schedule, 110) == ["unanswered 10.1.1.1:80"]
    assert due(schedule, 120) == []


def test_what_has_waited_long_enough_goes_along_and_what_has_not_waits():
    schedule, state = make()
    schedule.add(fail(100))
    schedule.add(fail(101, "b"))
    schedule.add(fail(108, "c"))
    assert due(schedule, 111) == ["unanswered 10.1.1.1:80", "b"]
    assert [p.signature for p in state.pending] == ["c"]


def test_the_same_is_counted_during_the_cool_down_and_reported_after_it():
    schedule, state = make()
    schedule.add(fail(100))
    assert due(schedule, 110)
    assert schedule.settle(JobResult((found(),), written=True), 112 * S)
    assert list(state.keys) == ["a b 1"]
    assert schedule.cooling(113 * S) == ("PD101/x",)
    schedule.add(fail(200))
    schedule.add(fail(300))
    assert due(schedule, 711) == []
    assert (state.pending[0].n_failures, schedule.n_waiting) == (2, 2)
    assert due(schedule, 712) == ["unanswered 10.1.1.1:80"]
    assert schedule.cooling(713 * S) == ()


def test_what_is_about_to_leave_the_ring_is_due_at_once():
    schedule, _ = make()
    schedule.add(fail(100))
    assert due(schedule, 105, oldest_s=98) == []
    assert due(schedule, 105, oldest_s=99, is_full=True) == ["unanswered 10.1.1.1:80"]


def test_a_report_that_takes_long_is_begun_the_earlier_for_what_is_about_to_leave_but_not_for_all():
    schedule, _ = make()
    schedule.add(fail(130))
    assert due(schedule, 139, oldest_s=99, is_full=True) == []
    schedule.report_ns = 8 * S
    assert due(schedule, 139, oldest_s=115, is_full=True) == []
    assert due(schedule, 139, oldest_s=122, is_full=True) == ["unanswered 10.1.1.1:80"]
    schedule.add(fail(170))
    schedule.report_ns = 3600 * S
    assert due(schedule, 171, oldest_s=120, is_full=True) == []
    assert not schedule.has_leaving(171 * S, 120 * S)
    assert schedule.has_leaving(171 * S, 170 * S)


def test_in_the_end_everything_is_due():
    schedule, _ = make()
    schedule.add(fail(100))
    assert due(schedule, 100, is_last=True) == ["unanswered 10.1.1.1:80"]


def test_known_trouble_in_another_guise_waits_for_the_end_of_its_cool_down():
    schedule, state = make()
    state.cooling["id PD101/x"] = 500 * S
    schedule.add(fail(100))
    assert due(schedule, 110)
    schedule.settle(JobResult((found(),), written=False), 112 * S)
    assert [(p.signature, p.due_ns) for p in state.pending] == [("unanswered 10.1.1.1:80", 500 * S)]


def test_a_false_alarm_is_not_looked_at_again_for_a_while():
    schedule, state = make()
    schedule.add(fail(100))
    assert due(schedule, 110)
    schedule.settle(JobResult(), 112 * S)
    assert state.pending == []
    schedule.add(fail(113))
    assert due(schedule, 200) == []


def test_what_clients_do_at_the_proxy_is_no_failure_once_it_is_known():
    schedule, state = make()
    schedule.add(fail(100))
    assert due(schedule, 110)
    schedule.settle(JobResult(client_endpoints=("10.1.1.1:80",)), 112 * S)
    schedule.add(fail(113, "d"))
    assert state.pending == []
    schedule.add(fail(112 + 3601, "e"))
    assert [p.signature for p in state.pending] == ["e"]


def test_a_report_that_cannot_be_made_is_tried_once_more():
    schedule, _ = make()
    schedule.add(fail(100))
    assert due(schedule, 110)
    assert not schedule.settle(JobResult(error="no memory"), 112 * S)
    assert due(schedule, 113)
    assert schedule.settle(JobResult(error="no memory"), 114 * S)
    assert due(schedule, 1000) == []


def test_a_flood_of_different_failures_is_bounded():
    schedule, state = make()
    for n in range(5000):
        schedule.add(fail(100, f"failure {n}"))
    assert len(state.pending) == 1001
    assert schedule.n_waiting == 5000


def test_what_is_put_back_waits_as_one_with_what_came_meanwhile():
    schedule, state = make()
    schedule.add(fail(100), fail(101))
    assert due(schedule, 112)
    schedule.add(fail(113), fail(114, "b"))
    schedule.put_back()
    assert [(p.signature, p.n_failures, p.first_ts_ns // S, p.last_ts_ns // S) for p in state.pending] == [
        ("unanswered 10.1.1.1:80", 3, 100, 113),
        ("b", 1, 114, 114),
    ]
    assert state.running == []


def test_what_cannot_be_reported_for_days_is_bounded():
    schedule, state = make()
    for turn in range(20):
        schedule.add(*(fail(100, f"failure {turn} {n}") for n in range(500)))
        assert due(schedule, 200)
        schedule.add(*(fail(100, f"another {turn} {n}") for n in range(500)))
        schedule.put_back()
    assert len(state.pending) == 1001
    assert schedule.n_waiting == 20_000
