"""PD304: who ended the handshake, how it is said, and what is advised."""

import pytest

import pcapdiag
from tests import hellos
from tests.hellos import alert, client_hello, quoted, record, server_hello
from tests.scenario import parse, write_capture

OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
HELLO = f"+0.01 > P. {quoted(client_hello(name='a.example'))}\n"
NAMELESS = f"+0.01 > P. {quoted(client_hello())}\n"
FLIGHT = f"+0.01 < P. {quoted(server_hello() + record(22, bytes(900)))}\n"


@pytest.fixture
def report_of(tmp_path):
    """Return a function that returns the report of a script and of files beside it."""

    def run(script, **inputs):
        path = tmp_path / "a.pcap"
        path.write_bytes(write_capture(parse(script), container="pcap-ns"))
        names = {}
        for name, text in inputs.items():
            names[name] = [tmp_path / name]
            names[name][0].write_text(text)
        return pcapdiag.analyze(path, **names).to_json()

    return run


def only(report):
    (finding,) = (f for f in report["findings"] if f["severity"] != "info")
    assert finding["code"] == "PD304"
    return finding


REMEDIES = {
    "protocol_version": (alert(70), "proxy_ssl_protocols"),
    "unrecognized_name": (alert(112), "proxy_ssl_name"),
    "certificate_required": (alert(116), "proxy_ssl_certificate"),
    "no_application_protocol": (alert(120), "ALPN"),
    "handshake_failure": (alert(40), "proxy_ssl_ciphers"),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_an_alert_of_the_upstream_is_named_with_its_remedy(report_of, name):
    data, remedy = REMEDIES[name]
    finding = only(report_of(OPEN + HELLO + f"+0.01 < P. {quoted(data)}\n+0 < F.\n+0 > F.\n"))
    assert f"fatal alert {name}" in finding["message"]
    assert "10.9.0.1:80 sent" in finding["message"]
    assert remedy in finding["remedy"]
    assert (finding["severity"], finding["confidence"]) == ("error", "confirmed")
    assert [e["label"] for e in finding["occurrences"][0]["evidence"]][:3] == ["SYN", "client hello", "alert"]
    assert finding["occurrences"][0]["request_frame"] == 1


def test_without_a_server_name_a_refusal_may_be_for_want_of_one(report_of):
    finding = only(report_of(OPEN + NAMELESS + f"+0.01 < P. {quoted(alert(40))}\n+0 < F.\n"))
    assert "proxy_ssl_server_name on" in finding["remedy"]
    assert "(SNI): none" in finding["message"]


@pytest.mark.parametrize("number", [40, 47, 71])
def test_without_a_server_name_a_refusal_may_be_for_ciphers_all_the_same(report_of, number):
    finding = only(report_of(OPEN + NAMELESS + f"+0.01 < P. {quoted(alert(number))}\n+0 < F.\n"))
    assert "proxy_ssl_ciphers" in finding["remedy"]
    assert "may as well miss a server name" in finding["remedy"]


@pytest.mark.parametrize("number", [40, 47, 71])
def test_with_a_server_name_none_is_missed(report_of, number):
    finding = only(report_of(OPEN + HELLO + f"+0.01 < P. {quoted(alert(number))}\n+0 < F.\n"))
    assert "proxy_ssl_ciphers" in finding["remedy"]
    assert "server name" not in finding["remedy"]


@pytest.mark.parametrize("number", [42, 45, 46, 48])
def test_an_alert_of_the_proxy_on_the_certificate_is_its_own_check(report_of, number):
    finding = only(report_of(OPEN + HELLO + FLIGHT + f"+0.01 > P. {quoted(alert(number))}\n+0 > F.\n"))
    assert "the client sent the fatal alert" in finding["message"]
    assert "its own check of the server's certificate" in finding["message"]
    assert "proxy_ssl_trusted_certificate" in finding["remedy"]


def test_plain_text_after_a_hello_wants_plain_http(report_of):
    finding = only(report_of(OPEN + HELLO + '+0.01 < P. "HTTP/1.0 400 Bad Request\\r\\n\\r\\n"\n+0 < F.\n'))
    assert "HTTP/1.0 400 Bad Request" in finding["message"]
    assert "`http` in place of `https` in `proxy_pass`" in finding["remedy"]


def test_an_upstream_that_closed_before_the_hello_reached_it_refused_nothing_in_it(report_of):
    finding = only(report_of(OPEN + "+0.01 < F.\n" + HELLO + "+0.01 < R\n"))
    assert "before the client hello had reached it" in finding["message"]
    assert "no name, version or certificate" in finding["remedy"]
    assert "-servername" not in finding["remedy"]


def test_one_that_closes_when_it_has_the_hello_may_miss_something_in_it(report_of):
    finding = only(report_of(OPEN + HELLO + "+0.01 < .\n+0.01 < F.\n+0 > F.\n"))
    assert "inside the handshake" in finding["message"]
    assert "-servername" in finding["remedy"]


def test_a_proxy_that_closes_without_an_alert_may_have_had_a_client_that_left(report_of):
    script = OPEN + HELLO + FLIGHT + "+0.5 > F.\n"
    (finding,) = report_of(script)["findings"]
    assert (finding["code"], finding["severity"], finding["confidence"]) == ("PD304", "info", "possible")
    for message in ("client prematurely closed connection", "peer closed connection in SSL handshake"):
        assert only(report_of(script, error_logs=LOG.format(message)))["severity"] == "warning"


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        (b"", "without an alert"),
        (alert(0, 1), "with no other alert than close_notify"),
        (alert(90, 1) + alert(0, 1), "with no other alert than user_canceled and close_notify"),
    ],
)
def test_alerts_that_name_no_fault_are_alerts_all_the_same(report_of, alerts, words):
    sent = f"+0.01 > P. {quoted(alerts)}\n" if alerts else ""
    (finding,) = report_of(OPEN + HELLO + FLIGHT + sent + "+0.01 > F.\n+0.02 < F.\n")["findings"]
    assert f"after the upstream's hello, {words}." in finding["message"].replace("server's", "upstream's")


def test_a_handshake_whose_client_closed_unseen_failed_by_no_upstream(report_of):
    (finding,) = report_of(OPEN + HELLO + FLIGHT + "+0.01 > F. lost\n+0.02 < F.\n")["findings"]
    assert (finding["code"], finding["severity"]) == ("PD304", "info")


def test_a_request_in_clear_to_a_port_that_speaks_tls_and_resets_is_of_this_kind(report_of):
    whole = HELLO + FLIGHT
    plain = '+1 @1 > S\n+0.02 @1 < S.\n+0 @1 > .\n+0 @1 > P. "GET /g HTTP/1.1\\r\\n\\r\\n"\n+0.01 @1 < R.\n'
    finding = only(report_of(OPEN + whole + plain))
    assert "in clear" in finding["message"]
    assert finding["occurrences"][0]["target"] == "/g"
    assert [f["code"] for f in report_of((OPEN + plain).replace("@1 ", ""))["findings"]] != ["PD304"]


def test_a_port_that_answers_requests_in_clear_speaks_not_only_tls(report_of):
    script = OPEN + HELLO + FLIGHT
    for number, end in ((1, '+0.01 @1 < P. "HTTP/1.1 204 X\\r\\n\\r\\n"\n'), (2, "+0.01 @2 < R.\n")):
        request = f'+0 @{number} > P. "GET /g HTTP/1.1\\r\\n\\r\\n"\n'
        script += f"+1 @{number} > S\n+0.02 @{number} < S.\n+0 @{number} > .\n" + request + end
    assert [f["code"] for f in report_of(script)["findings"]] == ["PD202"]


LOG = (
    "2023/11/14 22:13:20 [error] 7#7: *1 {} while SSL handshaking to upstream, client: 192.0.2.2, server: a, request:"
    ' "GET /a HTTP/1.1", upstream: "https://10.9.0.1:80/a", host: "a"\n'
)


@pytest.mark.parametrize(
    "message",
    [
        "SSL_do_handshake() failed (SSL: error:0A00042E:SSL routines::tlsv1 alert protocol version)",
        "peer closed connection in SSL handshake",
    ],
)
def test_an_entry_on_the_handshake_is_explained_by_it(report_of, message):
    script = OPEN + HELLO + f"+0.01 < P. {quoted(alert(70))}\n+0 < F.\n+0 > F.\n"
    report = report_of(script, error_logs=LOG.format(message))
    (entry,) = report["log"]["entries"]
    assert (entry["verdict"], entry["code"]) == ("explained", "PD304")


def test_a_certificate_that_was_refused_when_the_handshake_was_whole_is_told_by_the_log_alone(report_of):
    done = hellos.CHANGE_CIPHER_SPEC + record(22, bytes(40))
    script = OPEN + HELLO + FLIGHT + f"+0.01 > P. {quoted(done)}\n+0.01 < P. {quoted(done)}\n"
    script += f"+0.01 > P. {quoted(record(21, bytes(26)))}\n+0 > F.\n+0.01 < F.\n"
    assert report_of(script)["findings"] == []
    message = "upstream SSL certificate verify error: (10:certificate has expired)"
    report = report_of(script, error_logs=LOG.format(message))
    finding = only(report)
    assert "10:certificate has expired" in finding["message"]
    assert report["totals"]["unanswered"] == finding["failures"] == 1


def test_the_first_line_says_what_http2_hides(report_of):
    offer = f"+0.01 > P. {quoted(client_hello(alpn=('h2',)))}\n"
    done = quoted(hellos.CHANGE_CIPHER_SPEC + record(22, bytes(40)))
    rest = f"+0.01 < P. {quoted(server_hello(alpn='h2'))}\n+0.01 > P. {done}\n+0.01 < P. {done}\n"
    rest += f"+0.01 > P. {quoted(record(23, bytes(90)))}\n+1 < F.\n+0 > F.\n"
    report = report_of(OPEN + offer + rest)
    assert report["findings"] == []
    assert {v["code"]: v["verdict"] for v in report["verdicts"]}["PD201"] == "not_evaluated"
    assert "http2-not-evaluated" in {n["code"] for n in report["notes"]}


def test_an_upstream_that_says_nothing_to_the_hello_is_told_with_the_time_and_the_entry(report_of):
    script = OPEN + HELLO + "+0.01 < .\n+10 > F.\n+0.01 < F.\n"
    finding = only(report_of(script))
    assert "closed after 10.01 s without an answer to its client hello" in finding["message"]
    assert finding["severity"] == "warning"
    message = "upstream timed out (110: Connection timed out)"
    report = report_of(script, error_logs=LOG.replace("22:13:20", "22:13:30").format(message))
    assert [(e["verdict"], e["code"]) for e in report["log"]["entries"]] == [("explained", "PD304")]


def test_an_entry_on_a_handshake_is_not_told_of_a_request_that_was_answered(report_of):
    script = OPEN + '+0 > P. "GET /a HTTP/1.1\\r\\n\\r\\n"\n+0.1 < P. "HTTP/1.1 204 X\\r\\n\\r\\n"\n+0 > F.\n+0 < F.\n'
    report = report_of(script, error_logs=LOG.format("peer closed connection in SSL handshake"))
    assert [f["code"] for f in report["findings"]] == ["PD902"]
    assert report["log"]["entries"][0]["verdict"] != "explained"


HTTPD = "[Tue Nov 14 22:13:20.{us} 2023] [proxy:error] [pid 9:tid 9] {status}[client 192.0.2.2:34462] {code}: {text}\n"


def test_what_httpd_says_of_its_first_write_is_of_the_handshake_that_failed(report_of):
    script = OPEN + HELLO + FLIGHT + f"+0.01 < P. {quoted(alert(40))}\n+0 < F.\n+0 > F.\n"
    status = "(20014)Internal error (specific information not available): "
    failed = "pass request body failed to 10.9.0.1:80 (10.9.0.1)"
    given_up = "Error during SSL Handshake with remote server returned by /a"
    log = HTTPD.format(us="060000", status=status, code="AH01084", text=failed)
    log += HTTPD.format(us="060040", status="", code="AH00898", text=given_up)
    log += HTTPD.format(us="060050", status="", code="AH01097", text=f"{failed} from 192.0.2.2 ()")
    report = report_of(script, error_logs=log)
    assert "fatal alert handshake_failure" in only(report)["message"]
    assert [(e["verdict"], e["code"]) for e in report["log"]["entries"]] == [("explained", "PD304")] * 3


def test_who_has_no_certificate_is_told_so_whatever_the_alert_is_called(report_of):
    hello = f"+0.01 > P. {quoted(client_hello(versions=(0x0304,)))}\n"
    answer = server_hello(version=0x0304) + hellos.CHANGE_CIPHER_SPEC + record(23, bytes(900))
    done = hellos.CHANGE_CIPHER_SPEC + record(23, bytes(25)) + record(23, bytes(53))
    script = OPEN + hello + f"+0.01 < P. {quoted(answer)}\n+0.01 > P. {quoted(done)}\n"
    script += f"+0.01 > P. {quoted(record(23, bytes(90)))}\n+0.01 < P. {quoted(record(23, bytes(19)))}\n"
    script += "+0 < F.\n+0 > F.\n"
    message = "SSL_read() failed (SSL: error:0A000412:SSL routines::sslv3 alert bad certificate:SSL alert number 42)"
    log = LOG.format(message).replace("SSL handshaking to", "reading response header from")
    finding = only(report_of(script, error_logs=log))
    assert "the alert bad_certificate (42)" in finding["message"]
    assert "wants a certificate of the proxy" in finding["remedy"]
