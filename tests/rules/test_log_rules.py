"""PD601 and PD901: what they say of a joined ledger."""

from dataclasses import replace

import pytest

from pcapdiag.correlate.clients import ClientTally
from pcapdiag.correlate.join import join_logs
from pcapdiag.correlate.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.correlate.symptoms import BODY
from pcapdiag.diagnose import diagnose
from pcapdiag.findings import Confidence, Severity
from pcapdiag.logs.entries import LogKind
from pcapdiag.report.build import build_report
from pcapdiag.report.ledger import ledger_lines
from pcapdiag.rules.pd203_truncated_response import TruncatedResponse
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from pcapdiag.rules.pd901_retried_failure import RetriedFailure
from tests.correlate.builders import CONNECTING, MS, OTHER, PEER, SPAN, T0, access, entry, wire
from tests.report.builders import HOSTILE, analysis
from tests.rules.builders import Scene, acknowledged, proxy_fin, syn_again

NO_LIVE = LogKind.NO_LIVE_UPSTREAMS


def with_log(wires, entries, accesses=()):
    return analysis(log=join_logs(wires, SPAN, entries, accesses))


def test_without_a_log_neither_can_say_anything():
    assert "--error-log" in NoLiveUpstreams().missing(analysis())
    assert "--access-log" in RetriedFailure().missing(analysis())
    with_tries, without = ClientTally(), ClientTally()
    assert list(with_tries.watch([access(700, (PEER, 200, 100))]))
    assert list(without.watch([access(700)]))
    ledger = Ledger(clock=None, entries=(), tries=())
    assert RetriedFailure().missing(analysis(log=replace(ledger, clients=with_tries))) == ""
    assert "names no upstreams" in RetriedFailure().missing(analysis(log=replace(ledger, clients=without)))
    assert list(NoLiveUpstreams().check(analysis())) == []
    assert list(RetriedFailure().check(analysis())) == []


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


def test_a_retry_that_failed_too_hid_nothing():
    lines = [access(700, (PEER, 502, 100), (OTHER, 502, 100), status=502)]
    assert list(RetriedFailure().check(with_log([wire(500)], [entry(0)], lines))) == []


def test_a_retry_that_succeeded_is_shown_and_a_post_that_may_have_run_twice_warns():
    tries = (PEER, 502, 100), (OTHER, 200, 321)
    line = access(921, *tries)
    (finding,) = RetriedFailure().check(with_log([wire(500)], [entry(0)], [line]))
    assert finding.severity is Severity.INFO
    assert finding.details["delay_ns_total"] == 100_000_000
    post = access(921, *tries, method="POST")
    wires = [wire(500, method="POST", is_acknowledged=True)]
    (finding,) = RetriedFailure().check(with_log(wires, [entry(0, method="POST")], [post]))
    assert finding.severity is Severity.WARNING


def test_a_response_that_only_the_log_says_was_cut_off_is_found_beside_those_that_packets_show():
    seen = wire(500, first_response_ns=T0 + 550 * MS)
    unseen = wire(2500, conn=1, first_response_ns=T0 + 2550 * MS, is_failure=False, is_end_known=False)
    log = with_log([seen, unseen], [entry(0, action=BODY), entry(2, line=2, action=BODY)])
    (finding,) = TruncatedResponse().check(log)
    assert [occurrence.conn for occurrence in finding.occurrences] == [1]
    assert "the proxy's log says so" in finding.message


@pytest.mark.parametrize(
    ("wait_ms", "kind", "status", "code"),
    [
        (1500, LogKind.TIMED_OUT, 504, "PD204"),
        (1500, None, 499, "PD206"),
        (1500, None, 200, "PD206"),
        (2000, LogKind.CLIENT_CLOSED, 499, "PD206"),
        (2000, None, 499, "PD206"),
        (2000, None, 200, "PD204"),
    ],
)
def test_the_log_knows_who_lost_patience_whatever_the_wait(wait_ms, kind, status, code):
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(wait_ms), idle_ms=17)
    entries = (entry(0, kind=kind),) if kind is not None else ()
    attempt = wire(0, conn=loss.connection.conn, depth=loss.depth)
    line = access(wait_ms, (PEER, status, wait_ms), status=status)
    tries = (JoinedTry(attempt, WireVerdict.LOGGED, entries, line),)
    diagnosis = diagnose(scene.analysis(loss, log=Ledger(clock=None, entries=(), tries=tries)))
    (finding,) = [f for f in diagnosis.findings if f.code in ("PD204", "PD206")]
    assert finding.code == code
    assert (finding.confidence is Confidence.CONFIRMED) == (kind is not None or status == 499)


@pytest.mark.parametrize(("errno_name", "is_told"), [("EHOSTUNREACH", True), ("ETIMEDOUT", False)])
def test_an_attempt_that_icmp_refused_is_told_from_one_that_nothing_answered(errno_name, is_told):
    scene = Scene()
    loss = scene.attempt(syn_again(1000))
    told = entry(0, kind=LogKind.CONNECT_FAILED, action=CONNECTING, errno_name=errno_name)
    tries = (JoinedTry(wire(0, conn=loss.connection.conn, depth=-1), WireVerdict.LOGGED, (told,)),)
    diagnosis = diagnose(scene.analysis(loss, log=Ledger(clock=None, entries=(), tries=tries)))
    (finding,) = [f for f in diagnosis.findings if f.code == "PD302"]
    assert ("ICMP" in finding.message) == is_told


def test_the_report_holds_every_entry_and_every_failed_try_once_and_redacts_them():
    target = "/api?token=secret"
    entries = [
        entry(
            0, request=f"GET {target} HTTP/1.1", target=target, upstream=f"http://{PEER}{target}", upstream_uri=target
        ),
        entry(2, line=2, kind=NO_LIVE, peer="be"),
        entry(4000, line=3),
    ]
    joined = with_log([wire(500, target=target)], entries)
    log = build_report(joined, (), (), version="0").log
    assert [e.verdict.value for e in log.entries] == ["explained", "no_packets_expected", "not_captured"]
    assert [e.code for e in log.entries] == ["", "PD601", ""]
    assert [f.log_lines for f in log.failures] == [("error.log:1",)]
    assert "secret" not in str(log)
    text = " ".join(ledger_lines(log))
    assert "3 log entries about upstreams: 1 explained, 1 with no packets expected, 1 not in the capture." in text
    assert "1 failed try on the wire: 1 with an entry." in text


def test_hostile_entries_never_reach_a_terminal_raw():
    from pcapdiag.report import markdown, terminal

    entries = [entry(0, line=n, path=HOSTILE, request=HOSTILE, message=HOSTILE) for n in (1,)]
    joined = with_log([wire(500, conn=0), wire(520, conn=0, depth=4)], entries)
    made = build_report(joined, (), (), version="0")
    assert "\x1b" not in terminal.render(made)
    assert "<script>" not in markdown.render(made)


def test_a_clock_that_may_be_the_captures_is_said_to_agree_with_it():
    def said(at_ms):
        report = build_report(with_log([wire(at_ms)], [entry(0)]), (), (), version="1")
        (line,) = (line for line in ledger_lines(report.log) if "clock" in line)
        return line

    assert "its clock agrees with the capture's" in said(500)
    assert "ahead of the capture's" in said(-5_000)
    assert "behind the capture's" in said(5_000)
