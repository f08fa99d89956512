"""PD110: the proxy keeps connections into the race window, and nothing was lost yet."""

import pytest

from pcapdiag.base.findings import Severity, VerdictKind
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, Scene, fin


def risk(upstream, *losses, scene):
    diagnosis = diagnose(scene.analysis(*losses, upstream=upstream))
    found = [f for f in diagnosis.findings if f.code == "PD110"]
    return (found[0] if found else None), next(v for v in diagnosis.verdicts if v.code == "PD110")


def test_near_misses_are_counted_and_losses_per_day_expected():
    scene = Scene()
    finding, verdict = risk(scene.upstream(near_misses=4), scene=scene)
    assert verdict.kind is VerdictKind.FOUND
    assert finding.severity is Severity.WARNING
    assert finding.count == 4
    assert finding.occurrences == ()
    # 4 near misses in a window of two RTT within 100 s: half as many in the race window itself, 864 such spans a day.
    assert finding.details["expected_losses_per_day"] == pytest.approx(4 * 0.5 * 864)
    low, high = (finding.details[f"expected_losses_per_day_{end}"] for end in ("low", "high"))
    assert low == pytest.approx(1.09 * 0.5 * 864, rel=0.02)
    assert high == pytest.approx(10.24 * 0.5 * 864, rel=0.01)


def test_idle_closings_without_near_misses_are_information():
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=0), scene=scene)
    assert finding.severity is Severity.INFO
    assert finding.details["expected_losses_per_day"] == 0
    assert finding.details["expected_losses_per_day_high"] == pytest.approx(3 * 0.5 * 864)


def test_a_lost_request_makes_it_the_race():
    scene = Scene()
    finding, verdict = risk(scene.upstream(near_misses=4), scene.lost(fin(127)), scene=scene)
    assert finding is None
    assert verdict.kind is VerdictKind.CLEAN


def test_a_proxy_that_closes_in_time_is_at_no_risk():
    scene = Scene()
    finding, verdict = risk(scene.upstream(proxy_idle_close_ns=3_000 * MS, idle_closes_by_proxy=18), scene=scene)
    assert finding is None
    assert verdict.kind is VerdictKind.CLEAN


def test_a_proxy_that_closes_within_the_window_is_at_risk():
    scene = Scene()
    finding, _ = risk(scene.upstream(proxy_idle_close_ns=3_900 * MS, idle_closes_by_proxy=18), scene=scene)
    assert finding is not None


def test_without_a_measured_timeout_it_is_not_evaluated():
    scene = Scene()
    finding, verdict = risk(scene.upstream(None, proxy_idle_close_ns=3_000 * MS, idle_closes_by_proxy=18), scene=scene)
    assert finding is None
    assert verdict.kind is VerdictKind.NOT_EVALUATED
    assert "the proxy closed every idle connection first" in verdict.reason


def test_without_an_rtt_no_rate_is_claimed():
    scene = Scene()
    finding, _ = risk(scene.upstream(rtt_min_ns=-1, rtt_p50_ns=-1, rtt_p99_ns=-1, near_misses=1), scene=scene)
    assert "per day" not in finding.message
