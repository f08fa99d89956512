"""How close idle gaps came to the race, and of how much of a day that is."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.density import DailyTraffic, measure_density, near_zone
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
    density = measure_density(scene.analysis(inside, outside, upstream=scene.upstream(near_misses=4)))[UPSTREAM]
    assert density.gaps == 5
    assert density.days == pytest.approx(100 / DAY_S)


def test_a_capture_counts_as_much_of_a_day_as_the_access_log_says():
    scene = Scene()
    analysis = scene.analysis(upstream=scene.upstream(exchanges=60))
    # Half a day with 600 requests to it: a day has 1,200, and the capture held 60.
    entries = [entry(T0_S + n * DAY_S // 2 // 599) for n in range(600)]
    density = measure_density(with_log(analysis, entries))[UPSTREAM]
    assert density.days == pytest.approx(60 / 1200, rel=0.01)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(T0_S), entry(T0_S + 3_500)],  # less than an hour
        [entry(T0_S, "10.9.9.9:1"), entry(T0_S + DAY_S, "10.9.9.9:1")],  # of another upstream
    ],
)
def test_a_log_that_does_not_say_leaves_it_to_the_time(entries):
    density = measure_density(with_log(Scene().analysis(), entries))[UPSTREAM]
    assert density.days == pytest.approx(100 / DAY_S)


def test_requests_to_a_service_are_shared_among_the_addresses_behind_it():
    scene = Scene()
    one = scene.upstream(exchanges=30)
    other = replace(one, endpoint=replace(UPSTREAM, port=81), exchanges=90)
    service = "10.96.0.10:80"
    services = {str(u.endpoint): service for u in (one, other)}
    entries = [entry(T0_S + n * 864, service) for n in range(101)]
    analysis = with_log(replace(scene.analysis(), upstreams=(one, other)), entries, services=services)
    traffic = DailyTraffic(analysis)
    assert traffic.requests(one) == pytest.approx(101 / 4)
    assert traffic.requests(other) == pytest.approx(101 * 3 / 4)
