"""Lines of Caddy, as Caddy 2.6 wrote them in the live lab, and those of Go's errors that it writes elsewhere."""

import json
from pathlib import Path

import pytest

from pcapdiag.proxy.logs.caddy_log import _PATTERNS, CADDY_LOG, _line
from pcapdiag.proxy.logs.entries import CONNECTING, HANDSHAKING, HEADER, SENDING, LogKind
from pcapdiag.proxy.logs.foreign import ForeignLog, read_failures, read_served, recognise_log

RECORDED = Path(__file__).parents[3] / "captures" / "caddy_as_proxy" / "caddy.log"
K = LogKind


def lines_of(*loggers):
    return [line for line in RECORDED.read_text().splitlines() if json.loads(line).get("logger") in loggers]


def read_all(tmp_path, lines):
    path = tmp_path / "caddy.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    known = ForeignLog(str(path), CADDY_LOG)
    failures, served = read_failures(known, {}), read_served(known, {})
    return list(failures), list(served), failures.counts


def test_a_recorded_log_is_recognised_and_all_of_it_is_read(tmp_path):
    assert recognise_log(str(RECORDED)).format.proxy == "Caddy"
    failures, served, counts = read_all(tmp_path, RECORDED.read_text().splitlines())
    assert [e.kind for e in failures[::2]] == [K.PREMATURE_CLOSE, K.PREMATURE_CLOSE, K.TIMED_OUT, K.CONNECT_FAILED]
    assert {e.kind for e in failures[1::2]} == {K.GIVEN_UP}
    assert {e.upstream_peer for e in failures[::2]} == {"10.77.0.1:80"}
    assert [a.status for a in served] == [200, 200, 502, 200, 502, 504, 502]
    assert [a.request_id for a in served] == [f"caddy_as_proxy-{n:03}" for n in range(1, 8)]
    assert counts.n_unparsed == 0


@pytest.mark.parametrize(
    ("loggers", "kinds"),
    [
        (("http.log.error",), [K.PREMATURE_CLOSE, K.PREMATURE_CLOSE, K.TIMED_OUT, K.CONNECT_FAILED]),
        (("http.log.access",), [K.TRY_FAILED] * 4),
        (("http.log.error", "http.log.access"), [K.PREMATURE_CLOSE, K.PREMATURE_CLOSE, K.TIMED_OUT, K.CONNECT_FAILED]),
        (
            ("http.handlers.reverse_proxy", "http.log.access"),
            [K.PREMATURE_CLOSE, K.PREMATURE_CLOSE, K.TIMED_OUT, K.CONNECT_FAILED],
        ),
    ],
)
def test_whichever_logs_there_are_each_failure_is_told_once(tmp_path, loggers, kinds):
    failures, _, _ = read_all(tmp_path, lines_of(*loggers))
    assert [e.kind for e in failures] == kinds


def test_requests_of_several_clients_are_kept_apart(tmp_path):
    def of(line, port):
        values = json.loads(line)
        values["request"]["remote_port"] = str(port)
        return json.dumps(values)

    tried = next(line for line in lines_of("http.handlers.reverse_proxy") if '"error"' in line)
    error, access = lines_of("http.log.error")[0], lines_of("http.log.access")[2]
    mixed = [of(tried, 1), of(tried, 2), of(error, 2), of(error, 1), of(access, 1), of(access, 2), of(access, 3)]
    failures, _, _ = read_all(tmp_path, mixed)
    assert [(e.kind, e.tid) for e in failures] == [
        (K.PREMATURE_CLOSE, 1),
        (K.PREMATURE_CLOSE, 2),
        (K.GIVEN_UP, 2),
        (K.GIVEN_UP, 1),
        (K.TRY_FAILED, -1),
    ]


@pytest.mark.parametrize(
    ("error", "kind", "action", "errno"),
    [
        ("EOF", K.PREMATURE_CLOSE, HEADER, ""),
        ("unexpected EOF", K.PREMATURE_CLOSE, HEADER, ""),
        ("http: server closed idle connection", K.PREMATURE_CLOSE, HEADER, ""),
        ("read tcp 10.0.0.1:4->10.1.1.1:80: read: connection reset by peer", K.RECV_FAILED, HEADER, "ECONNRESET"),
        ("write tcp 10.0.0.1:4->10.1.1.1:80: write: broken pipe", K.SEND_FAILED, SENDING, "EPIPE"),
        ("dial tcp [fe80::1]:80: connect: connection refused", K.CONNECT_FAILED, CONNECTING, "ECONNREFUSED"),
        ("dial tcp 10.1.1.1:80: connect: no route to host", K.CONNECT_FAILED, CONNECTING, "EHOSTUNREACH"),
        ("dial tcp 10.1.1.1:80: i/o timeout", K.TIMED_OUT, CONNECTING, ""),
        ("dial tcp 10.1.1.1:80: connect: connection timed out", K.TIMED_OUT, CONNECTING, ""),
        ("dial tcp 10.1.1.1:80: connect: cannot assign requested address", K.NO_RESOURCES, CONNECTING, ""),
        ("dial tcp: lookup app on 10.0.0.2:53: no such host", K.RESOLVE_FAILED, "", ""),
        (
            "dial tcp: lookup app on 10.0.0.2:53: read udp 10.0.0.1:3->10.0.0.2:53: i/o timeout",
            K.RESOLVE_FAILED,
            "",
            "",
        ),
        ("net/http: timeout awaiting response headers", K.TIMED_OUT, HEADER, ""),
        ("tls: failed to verify certificate: x509: certificate has expired", K.TLS_FAILED, HANDSHAKING, ""),
        ("remote error: tls: handshake failure", K.TLS_FAILED, HANDSHAKING, ""),
        ("context canceled", K.CLIENT_CLOSED, HEADER, ""),
        ("what nobody has seen", K.TRY_FAILED, "", ""),
    ],
)
def test_the_words_of_go_say_what_a_try_failed_of(error, kind, action, errno):
    entry = CADDY_LOG.read("caddy.log", 3, _line(error)).entry
    assert (entry.kind, entry.action, entry.errno_name) == (kind, action, errno)
    assert (entry.method, entry.target, entry.client) == ("GET", "/api", "192.0.2.2:42600")
    assert entry.extra == (("request_id", "c20b3cbc"),)


def test_each_pattern_is_the_first_that_its_own_sample_meets():
    for known in _PATTERNS:
        error = json.loads(known.kind.sample)["msg"]
        assert next(other for other in _PATTERNS if other.pattern.search(error)) is known


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 404, "msg": "no such file"},
        {"status": 500, "msg": "template: x"},
        {"ts": "yesterday"},
        {"ts": True},
        {"request": None},
        {"logger": "tls"},
    ],
)
def test_what_is_no_failure_of_a_try_is_none(changes):
    values = json.loads(_line("EOF")) | changes
    record = CADDY_LOG.read("caddy.log", 1, json.dumps(values))
    assert record.entry is None


def test_an_answer_of_the_upstream_is_no_failure_of_a_try(tmp_path):
    values = json.loads(lines_of("http.log.access")[2])
    values["resp_headers"] = {"Server": ["Caddy", "nginx"], "Content-Type": ["text/html"]}
    values["size"] = 157
    failures, served, _ = read_all(tmp_path, [json.dumps(values)])
    assert (failures, [a.status for a in served]) == ([], [502])
