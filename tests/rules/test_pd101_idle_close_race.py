"""PD101: what it says of a race, and of closings that are none of the idle timer."""

import pytest

from pcapdiag.base.codes import ExchangeFlag
from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import BEFORE, END, MS, START, Scene, fin, only, proxy_fin, rst, unsolicited


def test_a_race_says_how_many_requests_the_remedy_would_have_saved():
    scene = Scene()
    losses = [scene.lost(fin(127), idle_ms=idle) for idle in (3877, 3950)]
    finding = only(diagnose(scene.analysis(*losses)), "PD101")
    assert finding.identifier == "PD101/10.1.1.1:80/idle-4s"
    assert finding.confidence is Confidence.CONFIRMED
    assert "an idle limit of 3 s for connections to 10.1.1.1:80" in finding.remedy
    assert "2 of 2 lost requests" in finding.remedy
    assert "nginx keepalive_timeout" in finding.remedy
    assert finding.details["would_have_saved"] == 2
    assert finding.details["shortest_raced_gap_ns"] == 3877 * MS


def test_a_reload_is_told_apart_from_the_idle_timer():
    scene = Scene()
    diagnosis = diagnose(scene.analysis(scene.lost(fin(127)), scene.lost(fin(90), idle_ms=250)))
    assert {f.identifier for f in diagnosis.findings} == {
        "PD101/10.1.1.1:80/idle-4s",
        "PD101/10.1.1.1:80/other-age",
    }
    reload = next(f for f in diagnosis.findings if f.identifier.endswith("other-age"))
    assert "reload" in reload.remedy
    assert "keepalive_timeout 3s" not in reload.remedy


def test_a_race_without_a_measured_timeout_is_still_the_race():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(127)), upstream=scene.upstream(None))), "PD101")
    assert finding.identifier.endswith("/unknown-age")
    assert finding.confidence is Confidence.CONFIRMED


def test_the_keep_alive_field_stands_in_for_a_measured_timeout():
    scene = Scene()
    upstream = scene.upstream(None, keep_alive_s=4)
    assert only(diagnose(scene.analysis(scene.lost(rst(162), idle_ms=3909), upstream=upstream)), "PD101")


@pytest.mark.parametrize(
    ("segments", "words", "absent"),
    [
        ((fin(127),), "crossed its FIN on the wire", "RST"),
        ((rst(95, ack=START),), "crossed its RST on the wire", "FIN"),
        ((rst(162),), "met its closing, of which the capture has a RST alone", "crossed"),
        ((proxy_fin(50, ack=BEFORE + 1), rst(162)), "met its closing, whose FIN the capture lacks", "crossed"),
        (
            (unsolicited(50), proxy_fin(50.2, ack=BEFORE + 24), fin(210, ack=END + 1, seq=BEFORE + 24)),
            "crossed its close_notify on the wire",
            "FIN",
        ),
    ],
)
def test_what_crossed_the_request_is_named_as_what_it_was(segments, words, absent):
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(*segments, idle_ms=3909))), "PD101")
    assert words in finding.message
    assert absent not in finding.message


@pytest.mark.parametrize(
    ("gaps_ms", "longest_s"), [((3_000, 3_700), 30), ((300, 700), -1), ((250,), -1), ((2_000, 9_000), -1)]
)
def test_closings_that_are_no_timer_get_no_timeout_for_advice(gaps_ms, longest_s):
    scene = Scene()
    losses = [scene.lost(fin(90), idle_ms=ms, late=1_000 * n) for n, ms in enumerate(gaps_ms)]
    upstream = scene.upstream(None, longest_answered_gap_ns=longest_s * 1_000 * MS)
    finding = only(diagnose(scene.analysis(*losses, upstream=upstream)), "PD101")
    assert finding.remedy.startswith("Look in the upstream's log for reloads")
    assert "upstream's own idle timeout" not in finding.remedy


def opened_ahead(scene, at_ms, unused_ms=20_000, **changes):
    """Return a request that crosses a closing on a connection that was opened ahead of need, and nothing before it."""
    return scene.lost(fin(at_ms), depth=0, opened_ms=unused_ms + scene.rtt_ms + 0.02, **changes)


def test_a_connection_that_was_opened_ahead_says_how_long_it_was_unused():
    scene = Scene()
    finding = only(diagnose(scene.analysis(opened_ahead(scene, 100), upstream=scene.upstream(None))), "PD101")
    assert finding.identifier.endswith("/unused")
    assert "closed connections that were unused for 20.1 s after they were opened" in finding.message
    assert "(unused for 20 s)" in finding.message
    assert "unknown" not in finding.message
    assert "client_header_timeout" in finding.remedy


def test_an_unused_connection_is_not_ended_by_a_timer_of_another_length():
    scene = Scene()
    messages = {
        f.identifier.rpartition("/")[2]: f.message
        for f in diagnose(scene.analysis(opened_ahead(scene, 100), opened_ahead(scene, 100, 3_900))).findings
        if f.code == "PD101"
    }
    assert set(messages) == {"idle-4s", "unused"}
    assert "idle timeout" not in messages["unused"]
    assert "(unused for 3.9 s)" in messages["idle-4s"]


def test_one_that_was_open_when_the_capture_began_has_an_unknown_age():
    scene = Scene()
    loss = opened_ahead(scene, 100, flags=ExchangeFlag.MID_STREAM, orig_isn=-1)
    finding = only(diagnose(scene.analysis(loss, upstream=scene.upstream(None))), "PD101")
    assert "of unknown age" in finding.message


def test_where_the_upstreams_direction_was_not_captured_its_unseen_fin_proves_no_race():
    scene = Scene()
    sent = proxy_fin(50, ack=BEFORE + 1)
    one_way = diagnose(scene.analysis(scene.lost(sent, idle_ms=-1, resp_ttl=-1)))
    assert [f.code for f in one_way.findings if f.code != "PD110"] == ["PD999"]
    assert "only the proxy's direction was captured" in only(one_way, "PD999").message
    both = diagnose(scene.analysis(scene.lost(sent, idle_ms=-1)))
    assert only(both, "PD101").confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("idle_ms", "segments", "code"),
    [
        (565, (), "PD999"),  # a process may have died, and acknowledged the request by the FIN that is missing
        (3_900, (), "PD101"),
        (565, (rst(120, seq=BEFORE + 1),), "PD101"),  # who answers by a RST had closed before
    ],
)
def test_an_unseen_fin_at_another_age_than_the_idle_timer_is_no_race(idle_ms, segments, code):
    scene = Scene()
    loss = scene.lost(proxy_fin(50, ack=BEFORE + 1), *segments, idle_ms=idle_ms)
    assert {f.code for f in diagnose(scene.analysis(loss)).findings} - {"PD110"} == {code}
