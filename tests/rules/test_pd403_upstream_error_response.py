"""PD403: errors that the upstream itself answered."""

import pytest

from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Severity, VerdictKind
from tests.hellos import quoted
from tests.rules.builders import verdict
from tests.scenario import parse, write_capture

OPEN = "+0 @0 > S\n+0.001 @0 < S.\n+0.001 @0 > .\n"
ASK = r"""
+0.1 @0 > P. "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.01 @0 < P. "HTTP/1.1 {status} X\r\n{fields}\r\n"
+0.001 @0 > .
"""


def report(tmp_path, script, form=None, **inputs):
    path = tmp_path / "capture.pcap"
    path.write_bytes(write_capture(parse(script), **(form or {})))
    return analyze(path, **inputs).report


def exchange(status, fields=r"Content-Length: 0\r\n"):
    return ASK.format(status=status, fields=fields)


CUT = r"""
+0.1 @0 > P. "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.01 @0 < P. "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"
+0.1 @0 < R.
"""
ALONE = '+0.1 @0 > P. "GET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n"\n+1 @0 < F.\n+0.001 @0 > F.\n'


@pytest.mark.parametrize(("script", "said"), [(CUT, "cut off"), (ALONE, "response was captured"), (exchange(200), "")])
def test_why_no_status_was_judged_is_what_was_seen(tmp_path, script, said):
    (told,) = [v for v in report(tmp_path, OPEN + script).verdicts if v.code == "PD403"]
    assert (told.verdict is VerdictKind.NOT_EVALUATED) == bool(said)
    assert said in told.reason


def errors(report):
    return [f for f in report.findings if f.code == "PD403"]


def test_each_status_of_an_upstream_is_one_finding_with_its_beginning_and_share(tmp_path):
    script = OPEN + "".join(map(exchange, (200, 503, 200, 503, 500)))
    first, second = errors(report(tmp_path, script))
    assert (first.count, first.details["status_code"]) == (2, 503)
    assert (second.count, second.details["status_code"]) == (1, 500)
    assert "2 of its 3 answers" in first.message
    assert first.severity is Severity.WARNING
    assert "itself answered 1 request with status 500" in second.message


@pytest.mark.parametrize("status", [200, 404, 499, 600, 999])
def test_no_other_status_is_an_error_of_the_upstream(tmp_path, status):
    found = report(tmp_path, OPEN + exchange(status))
    assert errors(found) == []
    assert verdict(found, "PD403").verdict is VerdictKind.CLEAN


def test_the_server_field_names_who_answered(tmp_path):
    fields = "Server: gateway/1\\r\\nContent-Length: 0\\r\\n"
    (finding,) = errors(report(tmp_path, OPEN + exchange(502, fields=fields)))
    assert "says gateway/1" in finding.message
    assert "its first answer in the capture" in finding.message


def test_an_error_that_the_proxy_answers_to_its_client_is_none_of_the_upstream(tmp_path):
    found = report(tmp_path, OPEN + exchange(502), {"orig": "192.0.2.2", "resp": "10.9.0.100"}, proxies=["10.9.0.100"])
    assert errors(found) == []


def test_a_response_that_broke_off_has_a_cause_of_its_own(tmp_path):
    script = OPEN + exchange(500, fields="Content-Length: 100\\r\\n") + "+0.01 @0 < R.\n"
    found = report(tmp_path, script)
    assert errors(found) == []
    assert [f.code for f in found.findings] == ["PD203"]


def test_without_a_status_it_is_not_evaluated(tmp_path):
    script = OPEN + '+0.1 @0 > P. "\\x16\\x03\\x01\\x00\\x02ab"\n+0.01 @0 < P. "\\x16\\x03\\x03\\x00\\x02ab"\n'
    assert verdict(report(tmp_path, script), "PD403").verdict is VerdictKind.NOT_EVALUATED


@pytest.mark.parametrize(("status", "n"), [("502 Bad Gateway", 1), ("404 Not Found", 0)])
def test_the_status_of_a_cgi_response_counts_as_one_of_http(tmp_path, status, n):
    def record(kind, content):
        return bytes([1, kind, 0, 1]) + len(content).to_bytes(2, "big") + bytes(2) + content

    ask = record(1, bytes([0, 1, 1, 0, 0, 0, 0, 0])) + record(4, b"") + record(5, b"")
    page = record(6, f"Status: {status}\r\nContent-Type: text/html\r\n\r\n".encode()) + record(3, bytes(8))
    found = errors(report(tmp_path, OPEN + f"+0.1 @0 > P. {quoted(ask)}\n+0.01 @0 < P. {quoted(page)}\n"))
    assert [f.details["status_code"] for f in found] == [502] * n
    block = b"".join(len(p).to_bytes(2, "little") + p for p in (b"REQUEST_METHOD", b"GET"))
    ask = b"\0" + len(block).to_bytes(2, "little") + b"\0" + block
    page = f"HTTP/1.1 {status}\r\n\r\n".encode()
    found = errors(report(tmp_path, OPEN + f"+0.1 @0 > P. {quoted(ask)}\n+0.01 @0 < P. {quoted(page)}\n+0 @0 < F.\n"))
    assert [f.details["status_code"] for f in found] == [502] * n


def fresh(n, answer):
    """Return the script of as many connections, each with one request and its answer."""
    one = (
        "+1 @{n} > S\n+0.001 @{n} < S.\n+0.001 @{n} > .\n"
        r'+0.001 @{n} > P. "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"'
        '\n+0.01 @{n} < P. "{answer}"\n+0.001 @{n} < F.\n+0.001 @{n} > F.\n'
    )
    return "".join(one.format(n=number, answer=answer) for number in range(n))


HEAD = r"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        "<center>The plain HTTP request was sent to HTTPS port</center>",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        "Client sent an HTTP request to an HTTPS server.",
        r"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    ],
)
def test_a_port_that_says_that_it_speaks_tls_is_told_how_the_proxy_is(tmp_path, body):
    (finding,) = errors(report(tmp_path, fresh(1, HEAD + body)))
    assert finding.severity is Severity.WARNING
    assert "HTTP in clear was sent to a port that speaks TLS" in finding.message
    assert "Let the proxy speak TLS to 10.9.0.1:80 (in nginx `https`" in finding.remedy


def test_who_asks_in_the_words_of_a_tls_port_is_not_one(tmp_path):
    script = (
        OPEN
        + r"""
+0.1 @0 > P. "HTTP/1.1 400 Client sent an HTTP request to an HTTPS server\r\n\r\n"
+0.1 @0 > P. "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.1 @0 < P. "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"
"""
    )
    assert not errors(report(tmp_path, script))


@pytest.mark.parametrize(("n", "last", "is_told"), [(2, "", False), (3, "", True), (3, "200 OK", False)])
def test_a_port_that_answers_nothing_but_400_is_told_for_information(tmp_path, n, last, is_told):
    script = fresh(n, HEAD) + ("" if not last else fresh(n + 1, HEAD.replace("400 Bad Request", last)))
    found = errors(report(tmp_path, script))
    assert [f.severity for f in found] == [Severity.INFO] * is_told
    assert all("and nothing else ever" in f.message for f in found)


def test_bad_requests_on_one_connection_may_be_one_clients(tmp_path):
    assert not errors(report(tmp_path, OPEN + exchange(400) * 4))


@pytest.mark.parametrize(("status", "said"), [(421, "server name of the TLS handshake"), (426, "HTTP/1.1 where")])
def test_a_status_that_only_the_proxy_can_earn_says_what_it_is(tmp_path, status, said):
    (finding,) = errors(report(tmp_path, OPEN + exchange(status)))
    assert said in finding.message
    assert finding.details["status_code"] == status
