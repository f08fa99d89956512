"""Alerts that packets hide: how logs name them, and what becomes of the request or the connection that got one."""

import pytest

import pcapdiag
from pcapdiag.analysis.rejected import alert_in
from tests.hellos import CHANGE_CIPHER_SPEC, client_hello, quoted, record, server_hello
from tests.scenario import parse, write_capture

NAMED = {
    "SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116)": 116,
    "SSL_read() failed (SSL: error:0A000415:SSL routines::sslv3 alert certificate expired)": 45,
    "SSL_write() failed (SSL: error:0A000418:SSL routines::tlsv1 alert unknown ca:SSL alert number 48)": 48,
    "TLS_error:|268436502:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN:TLS_error_end": 46,
    "TLS_error:|268436576:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA": 48,
    "remote error: tls: certificate required": 116,
    "remote error: tls: unknown certificate authority": 48,
    "remote error: tls: bad certificate": 42,
    "SSL_read() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading)": -1,
    "SSL_read() failed (SSL: error:0A000119:SSL routines::decryption failed or bad record mac)": -1,
    "remote error: tls: something new": -1,
    "upstream prematurely closed connection": -1,
    "": -1,
}


@pytest.mark.parametrize("message", NAMED)
def test_an_alert_is_read_as_each_library_writes_it(message):
    assert alert_in(message) == NAMED[message]


OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
ANSWER_13 = server_hello(version=0x0304) + CHANGE_CIPHER_SPEC + record(23, bytes(800)) + record(23, bytes(53))
ALERT, TICKET, REQUEST = record(23, bytes(19)), record(23, bytes(200)), record(23, bytes(120))


def sent(data):
    return f"+0.01 > P. {quoted(data)}\n"


def got(data):
    return f"+0.01 < P. {quoted(data)}\n"


BEGUN = OPEN + sent(client_hello(versions=(0x0304,))) + got(ANSWER_13)
WHOLE = BEGUN + sent(CHANGE_CIPHER_SPEC + record(23, bytes(53))) + got(TICKET)
CLOSED = got(ALERT) + "+0.0001 < F.\n+0.0001 > F.\n"
PLAIN_12 = OPEN + sent(client_hello()) + got(server_hello() + record(22, bytes(900)))
DONE_12 = CHANGE_CIPHER_SPEC + record(22, bytes(40))
WHOLE_12 = PLAIN_12 + sent(DONE_12) + got(DONE_12)
CLOSED_12 = got(record(21, bytes(26))) + "+0.0001 < F.\n+0.0001 > F.\n"
READ = "SSL_read() failed (SSL: error:0A00045C:SSL routines::{}) while reading response header from upstream"
REQUIRED = READ.format("tlsv13 alert certificate required:SSL alert number 116")
HANDSHAKE_FAILURE = READ.format("sslv3 alert handshake failure:SSL alert number 40")
INTERNAL = READ.format("tlsv1 alert internal error:SSL alert number 80")
PREMATURE = "upstream prematurely closed connection while reading response header from upstream"
EOF = READ.format("unexpected eof while reading")


def entry(message):
    return (
        f"2023/11/14 22:13:20 [error] 7#7: *1 {message}, client: 192.0.2.2, server: a, request: "
        '"GET /a HTTP/1.1", upstream: "https://10.9.0.1:80/a", host: "a"\n'
    )


@pytest.fixture
def report_of(tmp_path):
    """Return a function that returns the report of a script, and of an error log beside it."""

    def run(script, message="", **inputs):
        (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns"))
        (tmp_path / "error.log").write_text(entry(message))
        logs = [tmp_path / "error.log"] if message else []
        return pcapdiag.analyze(tmp_path / "a.pcap", error_logs=logs, **inputs).to_json()

    return run


def said_by(report):
    return [(f["code"], f["confidence"]) for f in report["findings"]]


@pytest.mark.parametrize(
    ("script", "message", "name"),
    [
        (WHOLE + sent(REQUEST) + CLOSED, REQUIRED, "certificate_required (116)"),
        (WHOLE + CLOSED, REQUIRED, "certificate_required (116)"),
        (WHOLE + sent(REQUEST) + CLOSED, INTERNAL, "internal_error (80)"),
        (WHOLE_12 + sent(REQUEST) + CLOSED_12, HANDSHAKE_FAILURE, "handshake_failure (40)"),
        (WHOLE_12 + sent(REQUEST) + got(TICKET) + sent(REQUEST) + CLOSED_12, HANDSHAKE_FAILURE, "handshake_failure"),
    ],
)
def test_an_alert_that_the_log_names_is_the_cause(report_of, script, message, name):
    report = report_of(script, message)
    (finding,) = report["findings"]
    assert (finding["code"], finding["confidence"]) == ("PD304", "confirmed")
    assert f"by the proxy's log 10.9.0.1:80 answered with the alert {name}" in finding["message"]
    assert report["totals"]["unanswered"] == finding["failures"] == 1
    assert [(e["verdict"], e["code"]) for e in report["log"]["entries"]] == [("explained", "PD304")]


@pytest.mark.parametrize("message", [PREMATURE, EOF])
def test_a_log_that_names_no_alert_leaves_it_open(report_of, message):
    report = report_of(WHOLE + sent(REQUEST) + CLOSED, message)
    (finding,) = report["findings"]
    assert finding["code"] == "PD201"
    assert "TLS alert, then FIN or RST" in finding["message"]
    first = finding["remedy"].split("\n\n")[0]  # a page shows what comes first
    assert "may be a close_notify, or a refusal of this connection" in first
    texts = [e["text"] for e in finding["occurrences"][0]["evidence"]]
    assert "close_notify" not in "".join(texts)
    assert [e["verdict"] for e in report["log"]["entries"]] == ["explained"]


def test_an_alert_of_another_kind_on_a_reused_connection_is_no_failed_handshake(report_of):
    script = WHOLE + sent(REQUEST) + got(record(23, bytes(300))) + sent(REQUEST) + CLOSED
    assert [code for code, _ in said_by(report_of(script, INTERNAL))] == ["PD201"]


@pytest.mark.parametrize("inputs", [{}, {"proxies": ["10.9.0.100"]}])
def test_without_a_log_an_alert_for_a_first_request_is_a_loss_all_the_same(report_of, inputs):
    report = report_of(WHOLE + sent(REQUEST) + CLOSED, **inputs)
    assert [code for code, _ in said_by(report)] == ["PD201"]
    assert report["totals"]["unanswered"] == 1


def test_a_connection_that_was_opened_and_closed_unused_is_none(report_of):
    assert report_of(WHOLE + CLOSED)["findings"] == []


@pytest.mark.parametrize("message", [REQUIRED, PREMATURE, ""])
def test_a_certificate_that_was_asked_for_and_lacking_is_told_with_and_without_the_log(report_of, message):
    flight = CHANGE_CIPHER_SPEC + record(23, bytes(25)) + record(23, bytes(53))
    report = report_of(BEGUN + sent(flight) + sent(REQUEST) + CLOSED, message)
    (finding,) = report["findings"]
    is_named = message == REQUIRED
    assert (finding["code"], finding["confidence"]) == ("PD304", "confirmed" if is_named else "likely")
    assert ("although a close_notify would look the same" in finding["message"]) is not is_named
    assert "proxy_ssl_certificate" in finding["remedy"]
    if message:
        assert [e["verdict"] for e in report["log"]["entries"]] == ["explained"]
