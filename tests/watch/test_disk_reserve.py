"""A disk that is full: the ring gives way in steps, reports are tried less and less often, it is said once a minute."""

import pytest

from pcapdiag.watch import disk_reserve
from pcapdiag.watch.disk_reserve import DiskReserve

MB = 1 << 20


class FakeRing:
    """Gives up a quarter at a time, as far as it may."""

    def __init__(self):
        self.n_bytes, self.n_lost, self.n_grown, self.asked = 100 * MB, 0, 0, []

    def give_way(self, keep_from_ns, least_bytes):
        self.asked.append((keep_from_ns, least_bytes))
        freed = min(self.n_bytes // 4, self.n_bytes - least_bytes)
        self.n_bytes -= freed
        return freed

    def grow(self):
        self.n_grown += 1


@pytest.fixture
def now(monkeypatch):
    """Return the clock [s]; to be changed by the test."""
    now = [1000.0]
    monkeypatch.setattr(disk_reserve.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def made(now):  # noqa: ARG001 - the clock is there first
    ring, said = FakeRing(), []
    return DiskReserve(ring, said.append), ring, said


def test_the_ring_gives_up_a_part_at_a_time_and_never_more_than_three_quarters(made, now):
    reserve, ring, _ = made
    for _ in range(100):
        reserve.ran_out("a report", 7, is_report=True)
        now[0] += 10
    assert ring.n_bytes >= 25 * MB
    assert set(ring.asked) == {(7, 25 * MB)}
    assert len(ring.asked) <= 100 * 10 // 30 + 1


def test_a_report_is_tried_again_later_each_time_but_at_least_every_minute(made, now):
    reserve, _, _ = made
    pauses = []
    for _ in range(9):
        reserve.ran_out("a report", -1, is_report=True)
        start = now[0]
        while reserve.is_short:
            now[0] += 1
        pauses.append(now[0] - start)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    reserve.ran_out("a report", -1, is_report=True)
    reserve.found_room()
    assert not reserve.is_short


def test_what_is_no_report_keeps_none_waiting(made):
    reserve, _, _ = made
    reserve.ran_out("the recorder's own state", -1, is_report=False)
    assert not reserve.is_short


def test_it_is_said_once_a_minute(made, now):
    reserve, ring, said = made
    for _ in range(13):
        reserve.ran_out("a report", -1, is_report=True)
        ring.n_lost += 5
        reserve.look()
        now[0] += 10
    assert len(said) == 3
    assert said[0].startswith(
        "no room on the disk for a report: it is tried again, and recording goes on. The ring gave"
    )


def test_frames_that_could_not_be_kept_are_counted_once(made, now):
    reserve, ring, said = made
    ring.n_lost = 1234
    reserve.look()
    now[0] += 61
    reserve.look()
    assert [line.split(" could")[0] for line in said] == ["no room on the disk: 1,234 frames"]


def test_the_ring_grows_again_when_there_was_room_for_a_minute(made, now):
    reserve, ring, _ = made
    reserve.ran_out("a report", -1, is_report=True)
    for _ in range(59):
        now[0] += 1
        reserve.look()
    assert ring.n_grown == 0
    for _ in range(121):
        now[0] += 1
        reserve.look()
    assert ring.n_grown == 3
