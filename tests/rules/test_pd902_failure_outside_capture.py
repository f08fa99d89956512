"""PD902: what the logs know and nothing in the packets explains, and what the first line says of it."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import OutsideKind
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report.headline import headline
from pcapdiag.rules.pd902_failure_outside_capture import FailureOutsideCapture
from tests.conftest import ROOT
from tests.proxy.join.builders import CONNECTING, SPAN, T0, access, entry, wire
from tests.report.builders import analysis
from tests.rules.test_pd403_upstream_error_response import OPEN, exchange
from tests.scenario import parse, write_capture

UNIX = "unix:/run/app.sock"
FAR = "10.9.9.9:80"
KINDS = [
    (entry(20, peer=UNIX), OutsideKind.UNIX_SOCKET),
    (
        entry(20, kind=LogKind.CONNECT_FAILED, errno_name="ECONNREFUSED", action=CONNECTING, peer=UNIX),
        OutsideKind.UNIX_SOCKET,
    ),
    (entry(20, kind=LogKind.CONNECT_FAILED, errno_name="EADDRNOTAVAIL", action=CONNECTING), OutsideKind.NOTHING_SENT),
    (entry(20, kind=LogKind.OTHER, errno_name="EMFILE", action=CONNECTING), OutsideKind.NOTHING_SENT),
    (entry(20, kind=LogKind.RESOLVE_FAILED, peer="", action=""), OutsideKind.UNRESOLVED),
    (entry(20, peer=FAR), OutsideKind.OTHER_PEER),
    (entry(20, kind=LogKind.RECV_FAILED, errno_name="ECONNRESET"), OutsideKind.UNMATCHED),
]


def join(wires, entries, accesses=(), **options):
    return join_logs(wires, SPAN, entries, accesses, **options)


def kinds(ledger):
    return [f.kind for f in ledger.outside]


def findings(ledger):
    return list(FailureOutsideCapture().check(analysis(log=ledger)))


@pytest.mark.parametrize(("line", "kind"), KINDS)
def test_each_kind_is_told_by_its_entry_and_says_what_would_show_it(line, kind):
    ledger = join([wire(500)], [entry(0), line])
    assert kinds(ledger) == [kind]
    (finding,) = findings(ledger)
    assert (finding.count, finding.severity, finding.confidence) == (1, Severity.WARNING, Confidence.LIKELY)
    assert finding.remedy
    assert finding.occurrences[0].log_lines == ("error.log:1",)


@pytest.mark.parametrize("kind", [ProxyKind.HAPROXY, ProxyKind.APACHE])
def test_another_proxy_is_not_told_of_variables_of_nginx(kind):
    ledger = join([wire(500)], [entry(0), entry(20, kind=LogKind.RECV_FAILED, errno_name="ECONNRESET")])
    (found,) = FailureOutsideCapture().check(replace(analysis(log=ledger), proxy_kind=kind))
    assert found.remedy == ("They may be among the packets in a form that is not recognised, or elsewhere.")
    assert "$upstream_addr" in findings(ledger)[0].remedy


def test_where_no_zone_is_known_that_is_said_and_a_long_capture_makes_it_no_warning():
    ledger = join([], [entry(20, peer=UNIX)])
    (finding,) = findings(ledger)
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.POSSIBLE)
    assert "is not certain" in finding.message
    (elsewhere,) = findings(join([], [entry(20 + 8 * 3600, peer=UNIX)]))
    assert elsewhere.severity is Severity.INFO
    assert findings(join([], [entry(20 + 40 * 3600, peer=UNIX)])) == []
    (placed,) = findings(join([], [entry(20 + 8 * 3600, peer=UNIX)], zone_s=8 * 3600))
    assert placed.confidence is Confidence.LIKELY


def test_without_a_log_it_is_not_evaluated():
    assert "needs --error-log or --access-log" in FailureOutsideCapture().missing(analysis())
    assert FailureOutsideCapture().missing(analysis(log=join([], [entry(0, concerns_upstream=False)]))) == ""


def test_an_access_log_without_upstreams_says_nothing_of_tries():
    log = replace(join([], [], [access(20_000, status=502)]), accesses_read=1)
    assert "names no upstreams" in FailureOutsideCapture().missing(analysis(log=log))


def report_of(tmp_path, script, lines, **options):
    path, log = tmp_path / "capture.pcap", tmp_path / "error.log"
    path.write_bytes(write_capture(parse(script), start_ns=T0))
    log.write_text("".join(lines))
    return analyze(path, error_logs=[log], log_zone="UTC", **options).report


LINE = (
    "2026/11/20 23:55:56 [error] 7#7: *1 connect() to unix:/run/app.sock failed (111: Connection refused) while"
    ' connecting to upstream, client: 192.0.2.2, server: a, request: "GET / HTTP/1.1", upstream:'
    ' "http://unix:/run/app.sock:/", host: "a"\n'
)


def test_the_first_line_never_says_that_nothing_was_lost_while_one_stands(tmp_path):
    report = report_of(tmp_path, OPEN + exchange(200), [LINE] * 18)
    first = headline(report)
    assert "No request was lost" not in first
    assert "the proxy's logs know 18 failures" in first
    assert any(f.severity is Severity.WARNING for f in report.findings)


def test_the_first_line_names_both_where_packets_show_losses_too(tmp_path):
    cut = OPEN + '+0.1 @0 > P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n+0.01 @0 < F.\n+0.01 @0 > F.\n'
    assert "Besides: the proxy's logs know 1 failure" in headline(report_of(tmp_path, cut, [LINE]))
    answered = headline(report_of(tmp_path, OPEN + exchange(500), [LINE]))
    assert "itself answered" in answered
    assert "Besides: the proxy's logs know 1 failure" in answered


def test_a_capture_that_holds_nothing_is_no_reason_to_say_nothing_of_the_log(tmp_path):
    first = headline(report_of(tmp_path, OPEN, [LINE]))
    assert "nothing to judge in the packets" in first
    assert "logs know 1 failure" in first


def test_the_case_is_a_capture_without_a_loss(cli):
    case = ROOT / "captures" / "failures_without_packets"
    arguments = [case / "capture.pcap", "--error-log", case / "error.log", "--log-zone", "UTC"]
    done = cli("analyze", *arguments)
    assert done.returncode == 1
    assert "the proxy's logs know 6 failures" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("status", "n"), [(502, 1), (504, 1), (200, 0)])
def test_an_access_log_that_names_no_upstream_is_heard_where_packets_show_nothing(tmp_path, status, n):
    capture, log = tmp_path / "a.pcap", tmp_path / "access.log"
    capture.write_bytes(write_capture(parse(OPEN + exchange(200))))
    log.write_text(f'192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" {status} 157\n')
    report = analyze(capture, access_logs=[str(log)])
    found = [f for f in report.found if f.code == "PD902"]
    assert [f.count for f in found] == [n] * (n > 0)
    assert ("No request was lost" in report.headline) == (not n)


@pytest.mark.parametrize(("status", "n"), [(200, 1), (500, 0)])
def test_an_error_answer_that_no_packet_shows_is_told_though_packets_show_others(tmp_path, status, n):
    capture, log = tmp_path / "a.pcap", tmp_path / "access.log"
    capture.write_bytes(write_capture(parse(OPEN + exchange(status))))
    peer = next(str(u.endpoint) for u in build_analysis(group_captures([str(capture)])).upstreams)
    tried = f'rt=0.100 ua="{peer}" us="500" ut="0.100"'
    log.write_text(f'192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /e HTTP/1.1" 500 5 "-" "curl" {tried}\n')
    fmt = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"'
    fmt += ' "$http_user_agent" rt=$request_time ua="$upstream_addr" us="$upstream_status" ut="$upstream_response_time"'
    report = analyze(capture, access_logs=[str(log)], log_format=fmt)
    assert [f.count for f in report.found if f.code == "PD902"] == [1] * n
