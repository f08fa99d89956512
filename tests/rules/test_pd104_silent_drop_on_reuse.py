"""PD104: the idle timeout of what forgot the connection, and drops that no timer explains."""

from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, S, Scene, only, resent, syn_again


def test_a_silent_drop_brackets_the_timeout_of_the_middlebox():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=5_000)
    finding = only(diagnose(scene.analysis(loss)), "PD104")
    assert finding.confidence is Confidence.CONFIRMED
    assert "The longest idle gap that was still answered was 3.8 s" in finding.message
    assert finding.details == {"shortest_lost_gap_ns": 5 * S, "longest_answered_gap_ns": 3_800 * MS}


def test_a_silent_drop_after_a_shorter_gap_than_others_is_no_idle_timer():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=650)
    attempts = [scene.attempt(syn_again(1000), late=late) for late in (500, 2_000)]
    finding = only(diagnose(scene.analysis(loss, *attempts)), "PD104")
    assert "No idle timer did that: a gap of 3.8 s was answered" in finding.message
    assert "2 connection attempts to it failed" in finding.message
    assert "keepalive_timeout" not in finding.remedy
    assert finding.changes == ()


def test_where_new_connections_fail_as_well_nothing_forgot_this_one():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=5_000)
    attempts = [scene.attempt(syn_again(1000), late=late) for late in (500, 2_000)]
    finding = only(diagnose(scene.analysis(loss, *attempts)), "PD104")
    assert "No idle timer did that: from then on 2 connection attempts to it failed" in finding.message
    assert "machine that went down" in finding.remedy


def test_attempts_that_failed_before_do_not_speak_for_the_path_later():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=5_000)
    finding = only(diagnose(scene.analysis(scene.attempt(syn_again(1000), late=-20_000), loss)), "PD104")
    assert "The longest idle gap that was still answered" in finding.message
