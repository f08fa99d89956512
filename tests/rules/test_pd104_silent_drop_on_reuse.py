"""PD104: the idle timeout of what forgot the connection, and drops that no timer explains."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._dialect import wait_setting
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, S, Scene, only, probe_answered, resent, syn_again


def test_of_one_direction_alone_nobody_knows_what_was_acknowledged():
    scene = Scene()
    segments = (resent(300), resent(900, Key.LAST_RETRANSMISSION))
    only(diagnose(scene.analysis(scene.lost(*segments))), "PD104")
    seen = replace(scene.lost(*segments), keys={})
    one_way = replace(seen, connection=replace(seen.connection, resp_ttl=-1))
    only(diagnose(scene.analysis(one_way)), "PD999")


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


def test_the_idle_gap_of_a_path_runs_from_the_last_answered_probe():
    scene = Scene()
    loss = scene.lost(probe_answered(-20_000), resent(360), retransmissions=7, idle_ms=65_000)
    kept_alive = scene.upstream(longest_answered_gap_ns=80 * S, longest_path_gap_ns=15 * S)
    finding = only(diagnose(scene.analysis(loss, upstreams=(kept_alive,))), "PD104")
    assert finding.confidence is Confidence.LIKELY  # the path may have broken since
    assert "Keep-alive probes were still answered 20 s before the request" in finding.message
    assert "The longest idle gap without a keep-alive probe that was still answered was 15 s" in finding.message
    assert finding.details == {"shortest_lost_gap_ns": 20 * S, "longest_answered_gap_ns": 15 * S}
    assert "between the last answered probe and the request" in finding.remedy
    assert any("until here the path knew the connection" in e.text for e in finding.occurrences[0].evidence)


def test_a_long_gap_that_was_kept_alive_by_probes_does_not_excuse_the_path():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=65_000)
    kept_alive = scene.upstream(longest_answered_gap_ns=100 * S, longest_path_gap_ns=30 * S)
    finding = only(diagnose(scene.analysis(loss, upstreams=(kept_alive,))), "PD104")
    assert "No idle timer did that" not in finding.message
    assert "The longest idle gap without a keep-alive probe that was still answered was 30 s" in finding.message
    assert "30 s, the longest idle gap without a keep-alive probe that was answered" in finding.remedy


def test_probes_on_some_connections_are_said_of_those_alone():
    scene = Scene()
    losses = [
        scene.lost(probe_answered(-20_000), resent(360), retransmissions=7, idle_ms=65_000),
        scene.lost(resent(360), retransmissions=7, idle_ms=65_000, late=1_000),
    ]
    message = "".join(f.message for f in diagnose(scene.analysis(*losses)).findings if f.code == "PD104")
    assert "On some of them, keep-alive probes" in message


def test_where_every_answered_gap_was_probed_nothing_is_known_of_the_limit():
    scene = Scene()
    loss = scene.lost(resent(360), retransmissions=7, idle_ms=65_000)
    kept_alive = scene.upstream(longest_answered_gap_ns=100 * S, longest_path_gap_ns=-1)
    remedy = only(diagnose(scene.analysis(loss, upstreams=(kept_alive,))), "PD104").remedy
    assert "No request after an idle gap without a keep-alive probe was answered here" in remedy


ONE_SETTING_FOR_BOTH = (ProxyKind.ALB, ProxyKind.CLB)


@pytest.mark.parametrize("kind", [*ProxyKind, None])
@pytest.mark.parametrize("idle_ms", [5_000, 650])
def test_what_only_shortens_the_wait_is_named_as_the_proxy_names_it(kind, idle_ms):
    """Where it limits how long idle connections are kept as well, it is the cure of those that an idle timer took."""
    scene = Scene()
    analysis = scene.analysis(scene.lost(resent(360), retransmissions=7, idle_ms=idle_ms), proxy_kind=kind)
    remedy = only(diagnose(analysis), "PD104").remedy
    sentence = (
        f"owering {wait_setting(analysis, analysis.losses[0], 'read')} only shortens the wait of each lost request."
    )
    assert (sentence in remedy) is (idle_ms == 650 or kind not in ONE_SETTING_FOR_BOTH)
