"""PD601: what it says of the failures behind a request without a peer."""

from dataclasses import replace

import pytest

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from pcapdiag.rules.pd902_failure_outside_capture import FailureOutsideCapture
from tests.proxy.join.builders import OTHER, SPAN, T0, entry, wire
from tests.proxy.join.test_foreign import haproxy
from tests.report.builders import analysis, with_log

NO_LIVE = LogKind.NO_LIVE_UPSTREAMS


def test_a_complete_chain_is_likely_as_long_as_the_peers_are_assumed():
    log = with_log([wire(500)], [entry(0), entry(4, line=2, kind=NO_LIVE, peer="be")])
    (finding,) = NoLiveUpstreams().check(log)
    assert finding.subject == "be"
    assert finding.count == 1
    assert finding.confidence is Confidence.LIKELY
    assert finding.occurrences[0].log_lines == ("error.log:2", "error.log:1")
    assert "assumed" in finding.message


def test_a_chain_without_a_failure_behind_it_is_possible_at_most():
    (finding,) = NoLiveUpstreams().check(with_log([wire(500)], [entry(0), entry(4, kind=NO_LIVE, peer="be", pid=9)]))
    assert finding.confidence is Confidence.POSSIBLE


def test_peers_that_only_the_request_itself_had_used_up_were_not_put_out():
    tries = [entry(0), entry(0, line=2, peer=OTHER)]
    wires = [wire(500), wire(600, conn=1, peer=OTHER)]
    (finding,) = NoLiveUpstreams().check(with_log(wires, [*tries, entry(0, line=3, kind=NO_LIVE, peer="be")]))
    assert "it had just failed on all of them itself" in finding.message
    assert "put the peers out" not in finding.message
    assert "No peer was out" in finding.remedy
    assert "max_fails" not in finding.remedy


def test_entries_without_no_live_upstreams_are_no_chain():
    assert list(NoLiveUpstreams().check(with_log([wire(500)], [entry(0)]))) == []


def test_without_a_log_it_can_say_nothing():
    assert "--error-log" in NoLiveUpstreams().missing(analysis())
    assert list(NoLiveUpstreams().check(analysis())) == []


def test_what_the_log_knows_beyond_the_capture_is_said():
    log = with_log([wire(500)], [entry(0), entry(4, line=2, kind=NO_LIVE, peer="be")])
    (finding,) = NoLiveUpstreams().check(replace(log, first_ts_ns=T0, last_ts_ns=T0 + 10 * 10**9))
    assert "beyond the capture" not in finding.message
    (finding,) = NoLiveUpstreams().check(replace(log, first_ts_ns=T0 + 60 * 10**9, last_ts_ns=T0 + 90 * 10**9))
    assert "The log goes beyond the capture: 1 of these 1 are of a time before or after it." in finding.message


def of_haproxy(*lines, zone_s=0, kind=ProxyKind.HAPROXY):
    return replace(analysis(log=join_logs([], SPAN, lines, zone_s=zone_s)), proxy_kind=kind)


def test_what_haproxy_had_no_server_for_is_told_in_its_words_and_not_again_as_outside():
    told = of_haproxy(*(haproxy(100 * n, "SC--", line=n, server="be/<NOSRV>", peer="") for n in (1, 2)))
    (finding,) = NoLiveUpstreams().check(told)
    assert (finding.subject, finding.count, finding.confidence) == ("be", 2, Confidence.LIKELY)
    assert finding.severity is Severity.ERROR
    assert "<NOSRV> with termination state SC" in finding.message
    assert "`Server be/NAME is DOWN, reason: ...`" in finding.remedy
    assert not {"max_fails", "fail_timeout", "nginx"} & set(finding.remedy.split())
    assert list(FailureOutsideCapture().check(told)) == []
    assert NoLiveUpstreams().missing(told) == ""


@pytest.mark.parametrize(("state", "server"), [("SC--", "be/s1"), ("sQ--", "be/<NOSRV>"), ("CQ--", "be/<NOSRV>")])
def test_a_server_that_was_tried_or_waited_for_was_there(state, server):
    assert list(NoLiveUpstreams().check(of_haproxy(haproxy(100, state, server=server, peer="")))) == []


def test_what_another_proxy_had_no_server_for_stays_outside_the_capture():
    told = of_haproxy(haproxy(100, "SC--", server="be/<NOSRV>", peer=""), kind=ProxyKind.APACHE)
    assert list(NoLiveUpstreams().check(told)) == []
    (finding,) = FailureOutsideCapture().check(told)
    assert "had no server to try" in finding.message


def test_a_line_of_unknown_time_is_possible_at_most():
    (finding,) = NoLiveUpstreams().check(of_haproxy(haproxy(100, "SC--", server="be/<NOSRV>", peer=""), zone_s=None))
    assert finding.confidence is Confidence.POSSIBLE
    assert "--log-zone" in finding.message
