"""Turns inside TLS that are no lost requests, and those that are although nothing of them can be read."""

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.codes import Protocol
from pcapdiag.engine.capture.series import group_captures
from tests.hellos import CHANGE_CIPHER_SPEC, client_hello, quoted, record, server_hello
from tests.scenario import parse, write_capture


def handshake(**hello):
    begin = "+0 @{n} > S\n+0.02 @{n} < S.\n+0.0001 @{n} > .\n"
    first, answer = client_hello(name="a.example", **hello), server_hello() + record(22, bytes(900))
    finished = CHANGE_CIPHER_SPEC + record(22, bytes(40))
    says = ((">", first), ("<", answer), (">", finished), ("<", finished))
    return begin + "".join(f"+0.01 @{{n}} {way} P. {quoted(data)}\n" for way, data in says)


PLAIN = handshake()
MESSAGE = quoted(record(23, bytes(120)))
SAY, ANSWER, TAKE = f"+1 @{{n}} > P. {MESSAGE}\n", f"+0.1 @{{n}} < P. {MESSAGE}\n", "+0.01 @{n} < .\n"
FEED = (SAY + TAKE).replace("+1 ", "+5 ") * 5
GIVEN_UP = "+60 @{n} > F.\n+0.02 @{n} < F.\n"


@pytest.fixture
def losses_of(tmp_path):
    """Return a function that gives the losses of connections, each a script of its own."""

    def run(*scripts, **inputs):
        path = tmp_path / "a.pcap"
        script = "".join(part.replace("{n}", str(n)) for n, part in enumerate(scripts))
        path.write_bytes(write_capture(parse(script), container="pcap-ns"))
        return build_analysis(group_captures([str(path)]), Inputs(**inputs)).losses

    return run


@pytest.mark.parametrize("ending", ["+9 @{n} < F.\n", GIVEN_UP, "+9 @{n} > R.\n"])
@pytest.mark.parametrize("turns", [SAY + TAKE, FEED])
def test_what_is_sent_one_way_asked_for_nothing(losses_of, turns, ending):
    assert losses_of(PLAIN + turns + ending) == ()


@pytest.mark.parametrize("ending", ["+9 @{n} < F.\n", GIVEN_UP, "+9 @{n} < R.\n"])
def test_where_requests_are_answered_one_without_an_answer_is_lost(losses_of, ending):
    assert len(losses_of(PLAIN + SAY + ANSWER + SAY + TAKE + ending)) == 1
    assert len(losses_of(PLAIN + SAY + ANSWER + "+1 @{n} > F.\n", PLAIN + SAY + TAKE + ending)) == 1


def test_a_feed_is_no_request_although_what_opened_it_was_answered(losses_of):
    assert losses_of(PLAIN + SAY + ANSWER + FEED + "+9 @{n} < F.\n") == ()


def test_an_upload_is_no_feed(losses_of):
    piece = quoted(record(23, bytes(1300)))
    upload = f"+1 @{{n}} > P. {piece}\n" + (f"+0.25 @{{n}} > P. {piece}\n" * 44) + TAKE
    assert len(losses_of(PLAIN + SAY + ANSWER + upload + "+9 @{n} < F.\n")) == 1


def test_who_speaks_http_sends_requests(losses_of):
    assert len(losses_of(handshake(alpn=("http/1.1",)) + SAY + TAKE + "+9 @{n} < F.\n")) == 1


def test_what_a_proxy_sends_are_requests(losses_of):
    assert len(losses_of(PLAIN + SAY + TAKE + "+9 @{n} < F.\n", upstreams=("10.9.0.1",))) == 1


def test_a_reset_is_kept_as_one_of_an_unknown_protocol(losses_of):
    (loss,) = losses_of(PLAIN + SAY + TAKE + "+9 @{n} < R.\n")
    assert loss.connection.protocol is Protocol.OPAQUE


def test_a_feed_that_was_reset_is_kept_as_bytes_of_an_unknown_protocol(losses_of):
    (loss,) = losses_of(PLAIN + FEED + "+9 @{n} < R.\n", upstreams=("10.9.0.1",))
    assert loss.connection.protocol is Protocol.OPAQUE
