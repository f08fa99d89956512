"""What findings say: values that can be checked against the scene."""

from dataclasses import replace

import pytest

from pcapdiag.capture.batch import Capture, CaptureFile
from pcapdiag.codes import Direction, Key
from pcapdiag.diagnose import diagnose
from pcapdiag.findings import Confidence, Note, Severity, VerdictKind
from pcapdiag.rules._remedy import nginx_time, safe_proxy_timeout_ns
from pcapdiag.rules._wire import hop_count
from tests.rules.builders import END, MS, S, Scene, acknowledged, fin, proxy_fin, request, resent, rst, syn_again


def only(diagnosis, code):
    (finding,) = [f for f in diagnosis.findings if f.code == code]
    return finding


def verdict(diagnosis, code):
    return next(v for v in diagnosis.verdicts if v.code == code)


@pytest.mark.parametrize("timeout_ms", [500, 1_000, 2_000, 4_000, 5_000, 20_000, 65_000, 75_000, 350_000, 3_600_000])
@pytest.mark.parametrize("rtt_ms", [0.1, 1, 40, 160])
def test_the_advised_timeout_is_below_the_race_window(timeout_ms, rtt_ms):
    scene = Scene(rtt_ms=rtt_ms)
    safe = safe_proxy_timeout_ns(scene.upstream(timeout_ms))
    assert 0 < safe < (timeout_ms - rtt_ms) * MS
    assert safe > 0.3 * (timeout_ms - rtt_ms) * MS


def test_no_timeout_is_short_enough_where_the_path_is_longer():
    assert safe_proxy_timeout_ns(Scene(rtt_ms=300).upstream(250)) == -1


@pytest.mark.parametrize(("ns", "text"), [(3 * S, "3s"), (60 * S, "60s"), (1_500 * MS, "1500ms")])
def test_a_timeout_is_written_as_nginx_reads_it(ns, text):
    assert nginx_time(ns) == text


def test_a_race_says_how_many_requests_the_remedy_would_have_saved():
    scene = Scene()
    losses = [scene.lost(fin(127), idle_ms=idle) for idle in (3877, 3950)]
    finding = only(diagnose(scene.analysis(*losses)), "PD101")
    assert finding.identifier == "PD101/10.1.1.1:80/idle-4s"
    assert finding.confidence is Confidence.CONFIRMED
    assert "keepalive_timeout 3s;" in finding.remedy
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


def test_a_timeout_that_is_only_possible_decides_nothing():
    scene = Scene()
    upstream = scene.upstream(4_000, confidence=Confidence.POSSIBLE)
    assert only(diagnose(scene.analysis(scene.lost(rst(162), idle_ms=3909), upstream=upstream)), "PD106")


def test_missing_segments_lower_the_confidence():
    scene = Scene()
    loss = scene.lost(fin(127), n_holes=1)
    assert only(diagnose(scene.analysis(loss)), "PD101").confidence is Confidence.LIKELY
    dropped = Capture([CaptureFile("proxy.pcap")], [Note("interface-drops", "the capturing machine dropped 3 packets")])
    analysis = scene.analysis(scene.lost(fin(127)), captures=(dropped,))
    assert only(diagnose(analysis), "PD101").confidence is Confidence.LIKELY


def test_evidence_counts_as_wireshark_does():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(127), rst(160)))), "PD101")
    (occurrence,) = finding.occurrences
    before, sent, closed, reset = occurrence.evidence
    assert (before.rel_seq, before.rel_ack, before.payload_len) == (1, 124, 214)
    assert (sent.rel_seq, sent.rel_ack, sent.dir) == (124, 215, Direction.ORIG)
    assert (closed.rel_seq, closed.rel_ack) == (215, 124)
    assert (reset.rel_seq, reset.ack, reset.rel_ack) == (215, -1, -1)
    assert "acknowledges none of the request" in closed.text
    assert occurrence.closing_kind == "FIN"
    assert occurrence.closing_frame == closed.frame


def test_evidence_of_a_connection_without_syn_counts_from_the_first_number_known():
    scene = Scene()
    loss = scene.lost(fin(127), orig_isn=-1, resp_isn=-1)
    (occurrence,) = only(diagnose(scene.analysis(loss)), "PD101").occurrences
    assert [(e.rel_seq, e.rel_ack) for e in occurrence.evidence] == [(1, 1), (1, 215), (215, 1)]


def test_one_frame_that_is_two_things_is_shown_once():
    scene = Scene()
    loss = scene.lost(fin(127))
    keys = dict(loss.keys)
    keys[Key.REQUEST_END] = replace(keys[Key.REQUEST], key=Key.REQUEST_END)
    (occurrence,) = only(diagnose(scene.analysis(replace(loss, keys=keys))), "PD101").occurrences
    assert [e.label for e in occurrence.evidence].count("request, end of request") == 1


def test_reuse_after_fin_says_for_how_long_the_proxy_had_the_fin():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(-30), request(ack=216)))), "PD102")
    assert "had had for 29.98 ms" in finding.message


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


def test_resets_of_fresh_connections_do_not_say_that_the_requests_were_taken():
    scene = Scene()
    losses = [scene.lost(rst(141), depth=0, late=5_000 * i) for i in range(4)]
    finding = only(diagnose(scene.analysis(*losses)), "PD202")
    assert "took" not in finding.message
    assert "4 requests on fresh connections without having acknowledged any" in finding.message
    assert "a process went away" not in finding.message


def test_resets_without_any_ttl_leave_their_sender_open():
    scene = Scene()
    diagnosis = diagnose(scene.analysis(scene.lost(rst(160, ttl=-1), idle_ms=2212, resp_ttl=-1)))
    assert verdict(diagnosis, "PD105").kind is VerdictKind.NOT_EVALUATED
    assert "TTL" in verdict(diagnosis, "PD105").reason
    assert only(diagnosis, "PD106").confidence is Confidence.LIKELY


def test_a_fast_reset_proves_nothing_at_the_upstream():
    scene = Scene()
    from pcapdiag.codes import CapturePoint

    loss = scene.lost(rst(2), idle_ms=300_000)
    assert only(diagnose(scene.analysis(loss, capture_points=(CapturePoint.UPSTREAM,))), "PD106")


@pytest.mark.parametrize(
    ("ttl", "hops"), [(64, 0), (63, 1), (65, 63), (128, 0), (127, 1), (255, 0), (254, 1), (-1, -1)]
)
def test_hops_count_from_the_usual_initial_values(ttl, hops):
    assert hop_count(ttl) == hops


def test_failures_at_one_moment_are_the_end_of_a_process():
    scene = Scene()
    losses = [scene.lost(acknowledged(160), fin(500 + i, ack=END), idle_ms=17) for i in range(3)]
    finding = only(diagnose(scene.analysis(*losses)), "PD201")
    assert " 3 of them ended within a tenth of a second" in finding.message


def test_a_response_that_the_upstream_cut_is_truncated():
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[loss])), "PD203")
    assert finding.count == 1
    assert "0 by RST, 1 by FIN" in finding.message


def test_a_response_that_the_proxy_cut_is_nobodys_fault():
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(400), truncated=True)
    diagnosis = diagnose(scene.analysis(truncated=[loss], upstream=scene.upstream(None)))
    assert diagnosis.findings == ()
    assert verdict(diagnosis, "PD203").kind is VerdictKind.CLEAN


def test_an_attempt_watched_for_less_than_a_second_decides_nothing():
    scene = Scene()
    attempt = scene.attempt()
    attempt = replace(attempt, connection=replace(attempt.connection, last_ts_ns=attempt.request_ts_ns))
    analysis = scene.analysis(attempt, last_ts_ns=attempt.request_ts_ns + 900 * MS)
    finding = only(diagnose(analysis), "PD999")
    assert finding.severity is Severity.INFO


def test_an_attempt_watched_for_a_second_is_unanswered():
    scene = Scene()
    assert only(diagnose(scene.analysis(scene.attempt())), "PD302").confidence is Confidence.LIKELY
    assert only(diagnose(scene.analysis(scene.attempt(syn_again(1000)))), "PD302").confidence is Confidence.CONFIRMED


def test_waiting_at_the_end_of_the_capture_is_no_more_than_information():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(acknowledged(160)))), "PD999")
    assert finding.severity is Severity.INFO
    assert "when the capture ended" in finding.message


def test_a_flood_of_failures_needs_no_flood_of_proofs():
    scene = Scene()
    finding = only(diagnose(scene.analysis(*[scene.lost(fin(127)) for _ in range(600)])), "PD101")
    assert finding.count == len(finding.occurrences) == 600
    assert finding.occurrences[499].evidence
    assert finding.occurrences[500].evidence == ()
