"""Which handshakes failed, by whom, and which are only not over, not seen, or not whole in the capture."""

import pytest

from pcapdiag.analysis import notes
from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.handshake import HTTP2, HandshakeEnd, OwnCertificate
from pcapdiag.base.codes import Direction
from pcapdiag.engine.capture.series import group_captures
from tests import hellos
from tests.hellos import CHANGE_CIPHER_SPEC, alert, client_hello, quoted, record, server_hello
from tests.scenario import parse, write_capture

ALSO_TESTS = ("tls",)
OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
HELLO = client_hello(name="a.example")
HELLO_13 = client_hello(name="a.example", versions=(0x0304, 0x0303))
ANSWER, ANSWER_13 = server_hello(), server_hello(version=0x0304)
FINISHED = CHANGE_CIPHER_SPEC + record(22, bytes(40))
FINISHED_13 = CHANGE_CIPHER_SPEC + record(23, bytes(53))
FLIGHT = ANSWER + record(22, bytes(900))
FLIGHT_13 = ANSWER_13 + CHANGE_CIPHER_SPEC + record(23, bytes(800)) + record(23, bytes(53))
CLOSE_NOTIFY, CLOSE_NOTIFY_13 = record(21, bytes(26)), record(23, bytes(19))


def sent(*data):
    return "".join(f"+0.01 > P. {quoted(part)}\n" for part in data)


def got(*data):
    return "".join(f"+0.01 < P. {quoted(part)}\n" for part in data)


@pytest.fixture
def analyse(tmp_path):
    """Return a function that analyses one script."""

    def run(script, **form):
        path = tmp_path / "a.pcap"
        path.write_bytes(write_capture(parse(script), container="pcap-ns", **form))
        return build_analysis(group_captures([str(path)]))

    return run


FAILED = {
    "alert of the upstream": (sent(HELLO) + got(alert(70)) + "+0 < F.\n", HandshakeEnd.ALERT, Direction.RESP),
    "alert after the upstream's hello": (
        sent(HELLO) + got(FLIGHT) + sent(alert(48)) + "+0 > F.\n",
        HandshakeEnd.ALERT,
        Direction.ORIG,
    ),
    "alert before it closes, in one segment with its hello": (
        sent(HELLO) + got(ANSWER + alert(40)),
        HandshakeEnd.ALERT,
        Direction.RESP,
    ),
    "alert for a certificate that the client lacks": (
        sent(HELLO) + got(FLIGHT) + sent(FINISHED) + got(alert(40)) + "+0 < F.\n",
        HandshakeEnd.ALERT,
        Direction.RESP,
    ),
    "hidden alert": (
        sent(HELLO_13) + got(FLIGHT_13) + sent(CHANGE_CIPHER_SPEC + CLOSE_NOTIFY_13) + "+0 > F.\n",
        HandshakeEnd.HIDDEN_ALERT,
        Direction.ORIG,
    ),
    "http": (sent(HELLO) + got(b"HTTP/1.1 400 Bad Request\r\n\r\n"), HandshakeEnd.NOT_TLS, Direction.RESP),
    "other bytes": (sent(HELLO) + got(b"\0\1\2\3\4") + "+0 < F.\n", HandshakeEnd.NOT_TLS, Direction.RESP),
    "fin": (sent(HELLO) + "+0.01 < F.\n+0 > F.\n", HandshakeEnd.CLOSED, Direction.RESP),
    "rst": (sent(HELLO) + "+0.01 < R.\n", HandshakeEnd.RESET, Direction.RESP),
    "rst after the hello": (sent(HELLO) + got(FLIGHT) + "+0.01 < R.\n", HandshakeEnd.RESET, Direction.RESP),
    "silence": (sent(HELLO) + "+0.01 < .\n+60 > F.\n", HandshakeEnd.SILENCE, Direction.ORIG),
    "the proxy goes away": (sent(HELLO) + got(FLIGHT) + "+0.5 > F.\n", HandshakeEnd.CLOSED, Direction.ORIG),
    "a hello in two segments": (
        sent(HELLO[:20], HELLO[20:]) + got(alert(112)) + "+0 < F.\n",
        HandshakeEnd.ALERT,
        Direction.RESP,
    ),
    "another hello was asked for": (
        sent(HELLO_13)
        + got(server_hello(version=0x0304, random=hellos.HELLO_RETRY))
        + sent(CHANGE_CIPHER_SPEC + HELLO_13)
        + "+0.01 < R.\n",
        HandshakeEnd.RESET,
        Direction.RESP,
    ),
}


@pytest.mark.parametrize(("script", "end", "by"), FAILED.values(), ids=FAILED)
def test_a_handshake_that_failed_is_one_loss(analyse, script, end, by):
    a = analyse(OPEN + script)
    (loss,) = a.losses
    assert (loss.depth, loss.handshake.end, loss.handshake.by) == (-1, end, by)
    assert loss.host == loss.handshake.hello.server_name == "a.example"
    assert a.truncated == ()
    assert a.upstreams[0].unanswered == 1


DATA = sent(record(23, bytes(200))) + got(record(23, bytes(300)))
WHOLE = {
    "TLS 1.2": sent(HELLO) + got(FLIGHT) + sent(FINISHED) + got(FINISHED) + DATA + sent(CLOSE_NOTIFY) + "+0 > F.\n",
    "TLS 1.3": sent(HELLO_13) + got(FLIGHT_13) + sent(FINISHED_13) + DATA + sent(CLOSE_NOTIFY_13) + "+0 > F.\n",
    "resumed": sent(HELLO) + got(ANSWER + FINISHED) + sent(FINISHED) + DATA + "+0 > F.\n",
    "another hello was asked for": (
        sent(HELLO_13)
        + got(server_hello(version=0x0304, random=hellos.HELLO_RETRY))
        + sent(CHANGE_CIPHER_SPEC + HELLO_13)
        + got(FLIGHT_13)
        + sent(FINISHED_13)
        + DATA
    ),
    "nothing was asked": sent(HELLO) + got(FLIGHT) + sent(FINISHED) + got(FINISHED) + sent(CLOSE_NOTIFY) + "+0 > F.\n",
    "nothing was asked in TLS 1.3": (
        sent(HELLO_13) + got(FLIGHT_13) + sent(FINISHED_13) + sent(CLOSE_NOTIFY_13) + "+0 > F.\n+0.01 < R.\n"
    ),
    "a warning": sent(HELLO) + got(alert(112, level=1) + FLIGHT) + sent(FINISHED) + got(FINISHED) + DATA,
    "still open": sent(HELLO) + got(FLIGHT),
    "no answer yet": sent(HELLO),
    "no hello": got(FLIGHT) + sent(FINISHED) + got(FINISHED) + "+0 < F.\n",
}


@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE)
def test_a_handshake_that_is_whole_open_or_not_seen_from_its_beginning_has_not_failed(analyse, script):
    a = analyse(OPEN + script)
    assert [loss for loss in a.losses if loss.handshake is not None] == []


@pytest.mark.parametrize("script", [script for script, *_ in FAILED.values()], ids=FAILED)
def test_without_the_beginning_of_the_connection_nothing_is_claimed_but_what_is_in_clear(analyse, script):
    a = analyse("+0 > . lost\n" + script)
    assert all(loss.handshake is None or loss.handshake.end in (0, 2) for loss in a.losses)


@pytest.mark.parametrize("snaplen", [70, 96, 128])
@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE)
def test_a_capture_that_is_cut_claims_no_failure(analyse, script, snaplen):
    a = analyse(OPEN + script, snaplen=snaplen)
    assert [loss for loss in a.losses if loss.handshake is not None] == []


def test_an_answer_that_the_capture_lacks_is_no_silence(analyse):
    script = OPEN + sent(HELLO) + f"+0.01 < P. {quoted(FLIGHT)} lost\n+0.01 > .\n+1 > F.\n"
    assert [loss.handshake for loss in analyse(script).losses] == []


def test_a_request_in_clear_that_an_alert_answers_is_one_loss(analyse):
    script = OPEN + '+0 > P. "GET /x HTTP/1.1\\r\\n\\r\\n"\n' + got(alert(10)) + "+0 < F.\n+0 > F.\n"
    (loss,) = analyse(script).losses
    assert (loss.depth, loss.target, loss.handshake.end) == (0, "/x", HandshakeEnd.PLAIN_REQUEST)


OFFER = client_hello(alpn=("h2", "http/1.1"))
OFFER_13 = client_hello(alpn=("h2", "http/1.1"), versions=(0x0304, 0x0303))
REST = sent(FINISHED) + got(FINISHED) + DATA + "+0 > F.\n"
ASKS_H2C = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
CHOICES = {
    "chosen": (sent(OFFER) + got(server_hello(alpn="h2") + record(22, bytes(90))) + REST, HTTP2.YES),
    "another": (sent(OFFER) + got(server_hello(alpn="http/1.1") + record(22, bytes(90))) + REST, HTTP2.NO),
    "declined": (sent(OFFER) + got(FLIGHT) + REST, HTTP2.NO),
    "hidden": (sent(OFFER_13) + got(FLIGHT_13) + sent(FINISHED_13) + DATA, HTTP2.POSSIBLE),
    "not offered": (sent(HELLO_13) + got(FLIGHT_13) + sent(FINISHED_13) + DATA, HTTP2.NO),
    "upgraded": (sent(ASKS_H2C) + got(SWITCHES + b"Upgrade: h2c\r\n\r\n" + bytes(9)) + sent(PREFACE), HTTP2.YES),
    "upgraded, no preface": (sent(ASKS_H2C) + got(SWITCHES + b"upgrade:H2C\r\n\r\n"), HTTP2.NO),
    "upgraded, the head is cut": (sent(ASKS_H2C) + got(SWITCHES[:20] + bytes(9)) + sent(PREFACE), HTTP2.YES),
    "declined in clear": (sent(ASKS_H2C) + got(b"HTTP/1.1 204 No\r\nUpgrade: h2c\r\n\r\n"), HTTP2.NO),
    "websocket": (sent(ASKS_H2C) + got(SWITCHES + b"Upgrade: websocket\r\n\r\n" + bytes(9)), HTTP2.NO),
    "in clear": (sent(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)) + got(bytes(9)), HTTP2.YES),
}


@pytest.mark.parametrize(("script", "http2"), CHOICES.values(), ids=CHOICES)
def test_http2_is_known_by_what_was_chosen(analyse, script, http2):
    a = analyse(OPEN + script)
    assert a.tls.http2.tolist() == [http2]
    assert (a.upstreams[0].exchanges == 0) or http2 is HTTP2.NO
    assert any(n.code == "http2-not-evaluated" for n in a.notes) == (http2 is not HTTP2.NO)


def test_what_looks_like_a_lost_request_over_http2_is_none(analyse):
    lost = (
        sent(OFFER_13) + got(FLIGHT_13) + sent(FINISHED_13) + DATA + sent(record(23, bytes(90))) + "+1 < F.\n+0 > F.\n"
    )
    assert len(analyse(OPEN + lost.replace(quoted(OFFER_13), quoted(HELLO_13))).losses) == 1
    assert analyse(OPEN + lost).losses == ()


def test_a_connection_that_was_open_before_is_taken_for_what_the_others_to_its_endpoint_are(analyse):
    whole, _ = CHOICES["chosen"]
    older = DATA.replace("+0.01 ", "+0.01 @1 ")
    assert analyse(OPEN + whole + older).tls.http2.tolist() == [HTTP2.YES, HTTP2.POSSIBLE]
    assert analyse(OPEN + CHOICES["declined"][0] + older).tls.http2.tolist() == [HTTP2.NO, HTTP2.NO]


def test_more_handshakes_than_are_read_are_noted(analyse, monkeypatch):
    monkeypatch.setattr(notes, "MOST_KEPT", 1)
    assert "tls-handshakes-left-out" in {n.code for n in analyse(OPEN + sent(HELLO)).notes}


NO_CERTIFICATE = CHANGE_CIPHER_SPEC + record(23, bytes(25)) + record(23, bytes(53))
CERTIFICATE = CHANGE_CIPHER_SPEC + record(23, bytes(700)) + record(23, bytes(281)) + record(23, bytes(69))
TICKETS = record(23, bytes(200)) + record(23, bytes(200))
REQUEST = record(23, bytes(120))
BEGUN = OPEN + sent(HELLO_13) + got(FLIGHT_13)
REJECTED = {
    "none, before any request": (NO_CERTIFICATE, "", OwnCertificate.EMPTY, -1),
    "none, behind a request": (NO_CERTIFICATE, sent(REQUEST), OwnCertificate.EMPTY, 0),
    "one, behind a request": (CERTIFICATE, sent(REQUEST), OwnCertificate.SENT, 0),
    "one, with a request in the same segment": (CERTIFICATE + REQUEST, "", OwnCertificate.SENT, 0),
}


@pytest.mark.parametrize(("flight", "request_", "own", "depth"), REJECTED.values(), ids=REJECTED)
@pytest.mark.parametrize("end", ["+0 < F.\n+0 > F.\n", "+0 > F.\n+0.01 < F.\n", "+0 > R.\n", "+0 < R.\n"])
def test_an_alert_in_answer_to_a_certificate_rejects_it(analyse, flight, request_, own, depth, end):
    a = analyse(BEGUN + sent(flight) + request_ + got(CLOSE_NOTIFY_13) + end)
    (loss,) = a.losses
    assert (loss.handshake.end, loss.handshake.by) == (HandshakeEnd.REJECTED, Direction.RESP)
    assert (loss.handshake.own_certificate, loss.depth) == (own, depth)
    assert a.upstreams[0].unanswered == 1


def test_an_alert_that_crosses_the_request_rejects_the_certificate_as_well(analyse):
    crossing = f"+0.001 < P. ack {_sent_bytes(HELLO_13, NO_CERTIFICATE) + 1} {quoted(CLOSE_NOTIFY_13)}\n+0 < F.\n"
    (loss,) = analyse(BEGUN + sent(NO_CERTIFICATE, REQUEST) + crossing).losses
    assert (loss.handshake.end, loss.depth) == (HandshakeEnd.REJECTED, 0)


def _sent_bytes(*parts):
    return sum(map(len, parts))


NOT_REJECTED = {
    "tickets were sent": sent(NO_CERTIFICATE) + got(TICKETS) + sent(REQUEST) + got(CLOSE_NOTIFY_13) + "+0 < F.\n",
    "no certificate was asked for": sent(FINISHED_13, REQUEST) + got(CLOSE_NOTIFY_13) + "+0 < F.\n",
    "no alert": sent(NO_CERTIFICATE, REQUEST) + "+0.01 < F.\n",
    "much later": sent(NO_CERTIFICATE, REQUEST) + "+5 < .\n" + got(CLOSE_NOTIFY_13) + "+0 < F.\n",
    "answered": sent(NO_CERTIFICATE, REQUEST) + got(record(23, bytes(300)), CLOSE_NOTIFY_13) + "+0 < F.\n",
    "still open": sent(NO_CERTIFICATE, REQUEST) + got(CLOSE_NOTIFY_13),
}


@pytest.mark.parametrize("script", NOT_REJECTED.values(), ids=NOT_REJECTED)
def test_what_may_be_a_close_notify_rejects_nothing(analyse, script):
    a = analyse(BEGUN + script)
    assert [loss.handshake for loss in a.losses if loss.handshake is not None] == []
    assert a.tls.handshakes[0].end is None


def test_the_handshake_of_a_client_with_a_certificate_is_no_request(analyse):
    whole = sent(CERTIFICATE) + got(TICKETS) + sent(REQUEST) + got(record(23, bytes(300)))
    a = analyse(BEGUN + whole)
    (begins,) = (int(n) for n in a.exchanges["request_seq"] - a.connections["orig_isn"][0])
    assert begins == 1 + len(HELLO_13) + len(CERTIFICATE) + 5


def test_a_proxy_that_closes_because_the_upstream_did_says_no_goodbye(analyse):
    whole = sent(FINISHED_13) + got(TICKETS) + sent(REQUEST) + got(record(23, bytes(300)))
    closing = "+0.0001 < .\n+0.0001 < F.\n+0.0001 > F.\n"
    (loss,) = analyse(BEGUN + whole + sent(REQUEST) + closing).losses
    assert loss.depth == 1
    assert analyse(BEGUN + whole + sent(REQUEST) + "+0.0001 > F.\n+0.0001 < F.\n").losses == ()
