"""PD201: several failures of one moment."""

from dataclasses import replace

from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import END, MS, Scene, acknowledged, fin, only


def test_failures_at_one_moment_are_the_end_of_a_process():
    scene = Scene()
    losses = [scene.lost(acknowledged(160), fin(500 + i, ack=END), idle_ms=17) for i in range(3)]
    finding = only(diagnose(scene.analysis(*losses)), "PD201")
    assert " 3 of them ended within a tenth of a second" in finding.message


def test_connections_that_were_opened_after_others_had_ended_say_that_nothing_went_away():
    scene = Scene()
    losses = [scene.lost(acknowledged(1), fin(6, ack=END), depth=0, late=20 * i) for i in range(4)]
    opened = [replace(x, connection=replace(x.connection, first_ts_ns=x.request_ts_ns - 2_000_000)) for x in losses]
    finding = only(diagnose(scene.analysis(*opened)), "PD201")
    assert "went away" not in finding.message
    at_once = [replace(x, connection=replace(x.connection, first_ts_ns=losses[0].request_ts_ns)) for x in losses]
    assert " 4 of them ended within a tenth of a second" in only(diagnose(scene.analysis(*at_once)), "PD201").message


def test_gaps_that_no_server_closes_after_make_no_timer_possible():
    scene = Scene()
    for idle_ms, is_possible in ((9.9, False), (99, False), (4_000, True)):
        losses = [scene.lost(acknowledged(160), fin(500, ack=END), idle_ms=idle_ms)]
        upstream = replace(scene.upstream(None), longest_answered_gap_ns=-1)
        finding = only(diagnose(scene.analysis(*losses, upstream=upstream)), "PD201")
        assert ("An idle timer is not excluded" in finding.remedy) is is_possible
        assert "No timer at the proxy helps" not in finding.remedy


def test_where_an_idle_timer_is_possible_a_failure_in_the_upstream_is_not_certain():
    for answered_ms, confidence in ((-1, Confidence.LIKELY), (5_000, Confidence.CONFIRMED)):
        scene = Scene()
        loss = scene.lost(acknowledged(160), fin(300, ack=END), idle_ms=4_000)
        upstream = replace(scene.upstream(None), longest_answered_gap_ns=answered_ms * MS)
        finding = only(diagnose(scene.analysis(loss, upstream=upstream)), "PD201")
        assert finding.confidence is confidence
