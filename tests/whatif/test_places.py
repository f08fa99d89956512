"""What is measured of upstreams, from captures of real servers and from attempts that failed."""

from types import SimpleNamespace

import numpy as np
import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.base.codes import Key
from pcapdiag.whatif.group import Outage
from pcapdiag.whatif.places import _outages, connection_places, measure_places
from tests.conftest import ROOT

pytestmark = pytest.mark.compiled_only
MS, S = 10**6, 10**9


def measured(name):
    (capture,) = (ROOT / "captures" / name).glob("proxy.pcap*")
    captured = analyze_captures([str(capture)], Inputs()).captured
    return captured.analysis, measure_places(captured.analysis, captured.findings)


def test_an_idle_timeout_is_measured_with_round_trip_and_spread():
    analysis, places = measured("idle_close_race_before")
    assert [place.endpoint for place in places] == [str(u.endpoint) for u in analysis.upstreams]
    for place in places:
        assert place.timeout_ns == pytest.approx(4 * S, abs=10 * MS)
        assert place.rtt_ns == pytest.approx(160 * MS, abs=1 * MS)
        assert 0 < place.spread_ns < 10 * MS
        assert (place.drop_ns, place.reset_ns, place.limit, place.outages) == (-1, -1, 0, ())


def test_the_tail_of_round_trips_has_the_median_that_was_measured():
    """Of an exponential distribution the median is ln 2 of the mean."""
    analysis, places = measured("idle_close_race_before")
    for place, upstream in zip(places, analysis.upstreams, strict=True):
        assert place.rtt_tail_ns * np.log(2) == pytest.approx(upstream.rtt_p50_ns - upstream.rtt_min_ns, abs=1)


def test_a_firewall_that_forgets_has_the_gap_from_which_on_it_does():
    _, (place,) = measured("silent_drop_on_reuse")
    assert place.drop_ns == pytest.approx(4 * S, abs=50 * MS)
    assert place.timeout_ns == -1


def test_a_state_that_was_lost_resets():
    _, places = measured("reset_on_reuse_state_lost")
    assert all(2 * S < place.reset_ns < 3 * S for place in places)


def test_a_reload_closes_all_at_one_moment_and_takes_along_who_had_few():
    _, places = measured("upstream_reload")
    moments = [place.closings for place in places]
    assert all(moments)
    shared = [
        any(abs(a - b) < 200 * MS for a in its for other in moments if other is not its for b in other)
        for its in moments
    ]
    assert shared.count(True) >= 2


def test_a_server_that_looks_now_and_then_may_be_late():
    _, (place,) = measured("late_idle_timer")
    assert place.late_ns == 1_100_000_000
    assert place.close_ppm > 0, "some responses ended their connections"


def test_without_keep_alive_every_response_ends_its_connection():
    _, places = measured("no_keepalive")
    assert {place.close_ppm for place in places} == {1_000_000}


def test_each_connection_has_the_place_of_its_upstream():
    analysis, places = measured("idle_close_race_before")
    numbers = connection_places(analysis)
    assert set(numbers.tolist()) == {0, 1, 2}
    ports = analysis.connections["resp_lo"] & 0xFF
    assert [places[n].endpoint for n in numbers] == [f"10.1.1.{last}:80" for last in ports]


# Outages.


def attempt(start_s, takes_ms=-1):
    """Return a failed attempt, refused after some time or met with silence."""
    start_ns = round(start_s * S)
    keys = {Key.RESP_RST: SimpleNamespace(ts_ns=start_ns + takes_ms * MS)} if takes_ms >= 0 else {}
    return SimpleNamespace(request_ts_ns=start_ns, keys=keys, icmp=())


def outages(attempts, *opened_s, span_s=(0, 100)):
    opened_ns = np.array([round(s * S) for s in opened_s], np.int64)
    return _outages(attempts, opened_ns, (span_s[0] * S, span_s[1] * S))


def test_an_outage_reaches_half_the_way_to_what_succeeded():
    assert outages([attempt(20, 40), attempt(30, 40)], 10, 50) == (Outage(15 * S, 40 * S, 40 * MS, is_silent=False),)


def test_what_never_succeeded_was_out_for_all_of_the_capture():
    assert outages([attempt(20), attempt(90)]) == (Outage(0, 100 * S, -1, is_silent=True),)


def test_refusals_and_silence_are_two_outages():
    assert outages([attempt(20, 1), attempt(40)]) == (
        Outage(0, 30 * S, MS, is_silent=False),
        Outage(30 * S, 100 * S, -1, is_silent=True),
    )


def test_a_success_between_ends_an_outage():
    assert [(o.start_ns, o.end_ns) for o in outages([attempt(20, 1), attempt(40, 1)], 30)] == [
        (0, 25 * S),
        (35 * S, 100 * S),
    ]


def test_who_never_failed_had_no_outage():
    assert outages([], 1, 2, 3) == ()
