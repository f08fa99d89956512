"""PD203: who cut a response, by packets or by the log."""

from dataclasses import replace

from pcapdiag.base.findings import VerdictKind
from pcapdiag.proxy.join.symptoms import BODY
from pcapdiag.rules.diagnose import diagnose
from pcapdiag.rules.pd203_truncated_response import TruncatedResponse
from tests.proxy.join.builders import MS, T0, entry, wire
from tests.report.builders import with_log
from tests.rules.builders import END, Scene, acknowledged, fin, only, proxy_fin, verdict


def test_a_response_that_the_upstream_cut_is_truncated():
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[loss])), "PD203")
    assert finding.count == 1
    assert "0 by RST, 1 by FIN" in finding.message


def test_a_response_that_broke_off_inside_its_head_had_announced_no_end():
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(500, ack=END), truncated=True)
    finding = only(diagnose(scene.analysis(truncated=[replace(loss, is_head_whole=False)])), "PD203")
    assert "before the end of the head" in finding.message


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
