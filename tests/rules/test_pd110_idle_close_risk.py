"""PD110: the proxy keeps connections into the race window, and nothing was lost yet."""

import pytest

import pcapdiag
from pcapdiag.base.findings import Severity, VerdictKind
from pcapdiag.rules.diagnose import diagnose
from tests.hellos import CHANGE_CIPHER_SPEC, client_hello, quoted, record, server_hello
from tests.rules.builders import MS, Scene, fin
from tests.scenario import parse, write_capture


def risk(upstream, *losses, scene, hours=0.0):
    changes = {"last_ts_ns": scene.t0 + round(hours * 3_600_000) * MS} if hours else {}
    diagnosis = diagnose(scene.analysis(*losses, upstream=upstream, **changes))
    found = [f for f in diagnosis.findings if f.code == "PD110"]
    return (found[0] if found else None), next(v for v in diagnosis.verdicts if v.code == "PD110")


def test_near_misses_are_counted_and_losses_per_day_expected_where_enough_was_seen():
    scene = Scene()
    finding, verdict = risk(scene.upstream(near_misses=5, near_in_zone=5), scene=scene, hours=1)
    assert verdict.kind is VerdictKind.FOUND
    assert finding.severity is Severity.WARNING
    assert finding.count == 5
    assert finding.occurrences == ()
    # 5 near misses in a window of two RTT within an hour: half as many in the race window itself, 24 such spans a day.
    assert finding.details["expected_losses_per_day"] == pytest.approx(5 * 0.5 * 24)
    low, high = (finding.details[f"expected_losses_per_day_{end}"] for end in ("low", "high"))
    assert low == pytest.approx(1.61 * 0.5 * 24, rel=0.02)
    assert high == pytest.approx(11.67 * 0.5 * 24, rel=0.01)
    assert "at its traffic about 60 (19 to 140) per day will be lost to this upstream" in finding.message


def test_that_none_was_lost_of_very_many_that_came_near_counts_for_more():
    """A poll that always comes just in time: its gaps have a rhythm, and the window is never hit."""
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=1000, near_in_zone=1000), scene=scene, hours=10)
    assert finding.details["expected_losses_per_day"] == 0
    assert finding.details["expected_losses_per_day_high"] == pytest.approx(3 * 2.4)
    assert "per day" not in finding.message


def test_gaps_beyond_the_timer_tell_nothing_of_the_window():
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=4, near_in_zone=0), scene=scene, hours=10)
    assert finding.details["expected_losses_per_day"] == 0


@pytest.mark.parametrize(("near", "expected", "high"), [(4, 4.8, 12.3), (0, 0.0, 3.6)])
def test_less_than_ten_a_day_are_no_headline_and_stand_beside_their_interval(near, expected, high):
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=near, near_in_zone=near), scene=scene, hours=10)
    assert "per day" not in finding.message
    assert finding.details["expected_losses_per_day"] == pytest.approx(expected)
    assert finding.details["expected_losses_per_day_high"] == pytest.approx(high, rel=0.01)


def test_a_rate_per_day_wants_a_long_look():
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=40, near_in_zone=40), scene=scene, hours=0.03)
    assert "per day" not in finding.message
    assert not [key for key in finding.details if "per_day" in key]


def test_idle_closings_without_near_misses_are_information():
    scene = Scene()
    finding, _ = risk(scene.upstream(near_misses=0), scene=scene)
    assert finding.severity is Severity.INFO


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


def test_inside_tls_a_fin_of_the_proxy_is_not_said_to_be_the_first_closing(tmp_path):
    hello = quoted(client_hello(versions=(0x0304,)))
    answer = quoted(server_hello(version=0x0304) + CHANGE_CIPHER_SPEC + record(23, bytes(900)))
    done = quoted(CHANGE_CIPHER_SPEC + record(23, bytes(53)))
    data, alert = quoted(record(23, bytes(200))), quoted(record(23, bytes(19)))
    script = f"+0 > S\n+0.02 < S.\n+0 > .\n+0.01 > P. {hello}\n+0.02 < P. {answer}\n+0.01 > P. {done}\n"
    script += f"+0.01 > P. {data}\n+0.02 < P. {data}\n+5 < P. {alert}\n+0.0001 > P. {alert}\n+0 > F.\n+0.02 < F.\n"
    (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns"))
    report = pcapdiag.analyze(tmp_path / "a.pcap", proxies=["10.9.0.100"])
    assert not report.analysis.losses
    (reason,) = (v["reason"] for v in report.to_json()["verdicts"] if v["code"] == "PD110")
    assert "the proxy closed" not in reason
    assert "a close_notify of the upstream before it" in reason
