"""How close idle gaps came to the race, and of how much of a day that is."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.density import DAY_NS, DailyTraffic, measure_density, near_zone
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger
from pcapdiag.proxy.logs.entries import AccessEntry, Try
from tests.rules.builders import MS, UPSTREAM, Scene, fin

DAY_S = 86_400
T0_S = 1_764_000_000


def entry(second, addr=str(UPSTREAM)):
    tried = Try(*(addr if name == "addr" else 200 if name == "status" else -1 for name in Try._fields))
    values = dict.fromkeys(AccessEntry._fields, "") | {"ts_ns": second * 10**9, "status": 200, "request_time_ns": 0}
    return AccessEntry(**values | {"tries": (tried,), "ts_width_ns": 10**9, "line": 1, "log_conn": -1})


def with_log(analysis, entries, **changes):
    tally = ClientTally()
    list(tally.watch(entries))
    return replace(analysis, log=Ledger(None, (), (), clients=tally, **changes))


def test_the_window_and_the_margin_before_it_are_near():
    zone = near_zone(Scene().upstream(4_000.0))
    assert (zone.until_ns, zone.window_ns, zone.width_ns) == (4_000 * MS, 160 * MS, 320 * MS)
    assert [zone.holds(ms * MS) for ms in (-1, 3_680, 3_681, 4_000, 4_001)] == [False, False, True, True, False]


def test_a_timer_that_is_late_has_a_wider_window():
    timely = Scene().upstream(4_000.0)
    late = replace(timely, race_window_ns=(3_840 * MS, 5_000 * MS))
    assert (near_zone(late).window_ns, near_zone(late).width_ns) == (1_160 * MS, 1_320 * MS)


@pytest.mark.parametrize("changes", [{"timeout_ms": None}, {"rtt_p50_ns": -1}])
def test_what_was_not_measured_has_no_zone(changes):
    assert near_zone(Scene().upstream(**changes)) is None


def test_requests_that_were_lost_there_count_with_those_that_were_lucky():
    scene = Scene()
    inside, outside = scene.lost(fin(127), idle_ms=3_950), scene.lost(fin(127), idle_ms=1_000, conn=1)
    density = measure_density(scene.analysis(inside, outside, upstream=scene.upstream(near_misses=9, near_in_zone=4)))[
        UPSTREAM
    ]
    assert (density.gaps, density.lost) == (5, 1)
    assert density.days == pytest.approx(100 / DAY_S)


def days(entries, hours=1.0):
    """Return how much of a day a capture of so many hours is that begins with the log's first day."""
    scene = Scene()
    first_ns = T0_S * 10**9
    last_ns = first_ns + round(hours * 3_600) * 10**9
    analysis = with_log(scene.analysis(first_ts_ns=first_ns, last_ts_ns=last_ns), entries)
    return DailyTraffic(analysis).days(first_ns, last_ns)


BUSY = [entry(T0_S + n) for n in range(0, 3_600, 10)]  # 361 in the first hour
QUIET = [entry(T0_S + 3_600 + n) for n in range(0, DAY_S - 3_600, 100)]  # and 828 in the other 23


def test_a_capture_counts_as_much_of_a_day_as_the_access_log_says():
    share = 360 / 1188
    assert days([*BUSY, *QUIET]) == pytest.approx(share, rel=0.01)
    # One line of ten in the log: the same share.
    assert days([*BUSY, *QUIET][::10]) == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("stray", [1_000, T0_S - 8 * DAY_S, T0_S + 900 * DAY_S])
def test_a_line_of_another_time_makes_no_day_longer(stray):
    assert days([*BUSY, *QUIET, entry(stray)]) == pytest.approx(days([*BUSY, *QUIET]))


def test_of_a_log_of_two_weeks_the_one_of_the_capture_counts():
    other = [entry(T0_S + 7 * DAY_S + n) for n in range(0, DAY_S, 2)]
    assert days([*BUSY, *QUIET, *other]) == pytest.approx(days([*BUSY, *QUIET]))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(T0_S), entry(T0_S + 3_500)],  # less than an hour
        [entry(T0_S + 5 * DAY_S), entry(T0_S + 5 * DAY_S + 7_200)],  # of another day
    ],
)
def test_a_log_that_does_not_say_leaves_it_to_the_time(entries):
    assert days(entries, hours=2) == pytest.approx(2 * 3_600 * 10**9 / DAY_NS)
