"""PD203: who cut a response, by packets or by the log."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import VerdictKind
from pcapdiag.proxy.logs.entries import BODY
from pcapdiag.rules.diagnose import diagnose
from pcapdiag.rules.pd203_truncated_response import TruncatedResponse
from tests.proxy.join.builders import MS, T0, entry, wire
from tests.report.builders import with_log
from tests.rules.builders import BEFORE, END, Scene, Seg, acknowledged, fin, only, proxy_fin, proxy_full, rst, verdict


def test_a_response_that_the_upstream_cut_is_truncated():
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[loss])), "PD203")
    assert finding.count == 1
    assert "1 response (by FIN)" in finding.message


def test_ways_in_which_responses_were_cut_are_counted_where_there_are_several():
    scene = Scene()
    by_fin = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    by_rst = replace(scene.lost(acknowledged(160), rst(500, ack=END), truncated=True), depth=1)
    finding = only(diagnose(scene.analysis(truncated=[by_fin, by_rst])), "PD203")
    assert "2 responses (1 by RST, 1 by FIN)" in finding.message


def test_a_response_that_broke_off_inside_its_head_had_announced_no_end():
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[replace(loss, is_head_whole=False)])), "PD203")
    assert "before the end of the head" in finding.message


def test_who_sends_to_a_proxy_that_does_not_read_did_not_cut_the_response():
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_full(400), rst(60_400, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[loss])), "PD203")
    assert "after the proxy had taken nothing for 60 s: its own window was zero" in finding.message
    assert "a client that reads slowly" in finding.remedy
    (occurrence,) = finding.occurrences
    assert "window of zero: the proxy reads nothing, for 60 s" in {e.text for e in occurrence.evidence}


def test_a_window_that_was_full_for_a_moment_is_no_cause():
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_full(400), rst(900, ack=END), truncated=True)
    assert "cut off 1 response" in only(diagnose(scene.analysis(truncated=[loss])), "PD203").message


def test_both_kinds_are_told_apart():
    scene = Scene()
    cut = [
        scene.lost(acknowledged(160), *segments, rst(60_400, ack=END), truncated=True)
        for segments in ((proxy_full(400),), ())
    ]
    messages = [f.message for f in diagnose(scene.analysis(truncated=cut)).findings if f.code == "PD203"]
    assert ["its own window" in message for message in sorted(messages, key=len)] == [False, True]


@pytest.mark.parametrize(("segments", "code"), [((), "PD204"), ((proxy_full(400),), None)])
def test_the_upstream_did_not_stall_where_the_proxy_did_not_read(segments, code):
    scene = Scene()
    begun = Seg(Key.RESPONSE, 300, BEFORE, END, 900)
    loss = scene.lost(acknowledged(160), begun, *segments, proxy_fin(60_300), truncated=True)
    codes = {f.code for f in diagnose(scene.analysis(truncated=[loss])).findings if f.code != "PD110"}
    assert codes == ({code} if code else set())


def test_a_response_that_the_proxy_cut_is_nobodys_fault():
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(400), truncated=True)
    diagnosis = diagnose(scene.analysis(truncated=[loss], upstream=scene.upstream(None)))
    assert diagnosis.findings == ()
    assert verdict(diagnosis, "PD203").kind is VerdictKind.CLEAN


def test_a_response_that_only_the_log_says_was_cut_off_is_found_beside_those_that_packets_show():
    seen = wire(500, first_response_ns=T0 + 550 * MS)
    unseen = wire(2500, conn=1, first_response_ns=T0 + 2550 * MS, is_failure=False, is_end_known=False)
    log = with_log([seen, unseen], [entry(0, action=BODY), entry(2, line=2, action=BODY)])
    (finding,) = TruncatedResponse().check(log)
    assert [occurrence.conn for occurrence in finding.occurrences] == [1]
    assert "the proxy's log says so" in finding.message
