"""Start lines and fields as RFC 9110 and 9112 write them, and the two guesses whether bytes begin a message."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import Method, Protocol
from pcapdiag.engine.http.kernels.http_head import (
    equals_folded,
    keep_line_part,
    looks_like_request,
    looks_like_response,
    method_code,
    parse_field,
    parse_request_line,
    parse_status_line,
)
from pcapdiag.engine.http.kernels.http_state import (
    CONN,
    FLOW,
    HOST_AT,
    LINE_BYTES,
    REQUEST_ID_AT,
    SCRATCH_BYTES,
    TARGET_AT,
    TARGET_BYTES,
)
from tests.engine.http.kernels import plain_http_message as plain

PIECES = st.sampled_from(
    [
        b"GET",
        b"get",
        b"POST",
        b"OPTIONS",
        b"CONNECT",
        b"PROPFIND",
        b"X" * 33,
        b" ",
        b"  ",
        b"/",
        b"*",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"http/2.0",
        b"HTTP/",
        b"HTT",
        b"200",
        b"20",
        b"OK",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b"\x00",
        b":",
        b"Host",
        b"content-length",
        b"Transfer-Encoding",
        b"chunked",
        b",",
        b";",
        b"17",
        b"timeout=",
        b"max=3",
        b"close",
        b"Connection",
        b"Keep-Alive",
        b"keep-alive",
        b"X-Request-Id",
        b"Server",
        b"nginx",
        b"9" * 20,
        b"a" * 300,
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map(b"".join), st.binary(max_size=40))


def array(data):
    """Return bytes with something behind them that must not be read as theirs."""
    return np.frombuffer(b"\n" + data + b" HTTP/1.1\r\n\r\n", dtype=np.uint8).copy()


class Parser:
    """One flow and one connection, blank, and what the head kernels write."""

    def __init__(self):
        self.flow = np.zeros(1, dtype=FLOW)
        self.flow["content_length"] = -1
        self.conn = np.zeros(1, dtype=CONN)
        self.conn["keep_alive_s"] = self.conn["keep_alive_max"] = self.conn["server_offset"] = -1
        self.scratch = np.zeros(2 * SCRATCH_BYTES, dtype=np.uint8)
        self.text = np.zeros(256, dtype=np.uint8)

    def request_line(self, line):
        return parse_request_line(array(line), 1, len(line), self.flow[0], self.scratch, SCRATCH_BYTES)

    def status_line(self, line):
        return parse_status_line(array(line), 1, len(line), self.flow[0])

    def field(self, line, *, is_request):
        buf = array(line)
        return parse_field(
            buf, 1, len(line), self.flow[0], self.scratch, SCRATCH_BYTES, is_request, self.conn[0], self.text, 5
        )

    def kept(self, at, length):
        return self.scratch[SCRATCH_BYTES + at : SCRATCH_BYTES + at + length].tobytes()

    def __getitem__(self, name):
        return int(self.flow[0][name] if name in FLOW.names else self.conn[0][name])


@given(TEXTS, st.sampled_from([Protocol.UNKNOWN, Protocol.HTTP1]))
@example(b"", Protocol.HTTP1)
@example(b"G", Protocol.UNKNOWN)
@example(b"GETX", Protocol.UNKNOWN)
@example(b"get key\r\n", Protocol.UNKNOWN)
@example(b"get key\r\n", Protocol.HTTP1)
@example(b"BREW HTTP/1.1\n", Protocol.UNKNOWN)
@example(b"BREW  HTTP/1.1\n", Protocol.UNKNOWN)
@example(b"BREW /pot HTTP/1.1\n", Protocol.UNKNOWN)
def test_a_request_is_recognized_as_the_twin_does(data, protocol):
    found = looks_like_request(array(data), 1, len(data), int(protocol))
    assert bool(found) == plain.looks_like_request(data, protocol)


def test_what_begins_inside_a_target_is_no_request():
    """The last bytes of a request line whose first ones are not in the capture."""
    for line, is_request in (
        (b"0.0 HTTP/1.1\r\n", False),
        (b"BREW  HTTP/1.1\r\n", False),
        (b"BREW /pot HTTP/1.1\r\n", True),
    ):
        assert bool(looks_like_request(array(line), 1, len(line), int(Protocol.UNKNOWN))) is is_request


@given(TEXTS)
def test_a_response_is_recognized_as_the_twin_does(data):
    assert bool(looks_like_response(array(data), 1, len(data))) == plain.looks_like_response(data)


@given(TEXTS)
@example(b"GET / HTTP/1.1")
@example(b"GET HTTP/1.1")
@example(b"GET  HTTP/1.1")
@example(b"GET /a b HTTP/1.1")
def test_a_start_line_is_read_as_the_twin_does(data):
    line = data.replace(b"\n", b"")
    head, parser = plain.Head(-1), Parser()
    assert bool(parser.request_line(line)) == plain.read_start_line(head, line, is_request=True)
    if head.method != Method.NONE:
        assert parser["method"] == head.method
        assert parser.kept(TARGET_AT, parser["target_len"]) == head.target[:TARGET_BYTES]
    head, parser = plain.Head(-1), Parser()
    assert bool(parser.status_line(line)) == plain.read_start_line(head, line, is_request=False)
    if head.status >= 0:
        assert (parser["status_code"], parser["minor"]) == (head.status, head.minor)


@given(st.lists(TEXTS.map(lambda t: t.replace(b"\n", b"")), max_size=4), st.booleans())
def test_fields_are_read_as_the_twin_does(lines, is_request):
    parser, head = Parser(), plain.Head(-1)
    server = b""
    for line in lines:
        used = parser.field(line, is_request=is_request)
        name, colon, value = line.partition(b":")
        if colon:
            head.fields.append((name.lower(), value.strip(b" \t")))
        if used:
            parser.conn["server_offset"] = 0
            server = parser.text[5 : 5 + used].tobytes()
    assert max(parser["content_length"], -2) == head.content_length
    assert bool(parser["chunked"]) == head.has(b"transfer-encoding", b"chunked")
    assert bool(parser["close"]) == head.has(b"connection", b"close")
    assert bool(parser["keep_alive"]) == head.has(b"connection", b"keep-alive")
    if is_request:
        assert parser.kept(HOST_AT, parser["host_len"]) == b"".join(head.values(b"host")[-1:])[:256]
        assert parser.kept(REQUEST_ID_AT, parser["request_id_len"]) == b"".join(head.values(b"x-request-id")[-1:])[:128]
        assert server == b""
        return
    timeouts = [plain.parameter_of(v, b"timeout=") for v in head.values(b"keep-alive")]
    assert parser["keep_alive_s"] == (timeouts or [-1])[-1]
    assert server == b"".join([v for v in head.values(b"server") if v][:1])[:128]


@pytest.mark.parametrize("method", [m for m in Method if m > Method.OTHER])
def test_every_method_has_its_code_in_either_case(method):
    for name in (method.name, method.name.lower()):
        assert method_code(array(name.encode()), 1, len(name)) == method


@pytest.mark.parametrize("name", ["", "GE", "GETS", "PATCHY", "PROPFIND", "TRACER", "OPTION"])
def test_any_other_token_is_another_method(name):
    assert method_code(array(name.encode()), 1, len(name)) == Method.OTHER


def test_folding_is_for_letters_alone():
    assert equals_folded(array(b"HoSt"), 1, 4, np.frombuffer(b"host", dtype=np.uint8))
    assert not equals_folded(array(b"Ho\x13t"), 1, 4, np.frombuffer(b"ho3t", dtype=np.uint8))
    assert not equals_folded(array(b"[ost"), 1, 4, np.frombuffer(b"{ost", dtype=np.uint8))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"17", 17),
        (b"17, 17", 17),
        (b"x", -1),
        (b"-5", -1),
        (b"", -1),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 20, -2),
    ],
)
def test_a_content_length_is_a_number_or_none_or_beyond_reason(value, number):
    parser = Parser()
    parser.field(b"Content-Length:\t " + value + b"  ", is_request=True)
    assert parser["content_length"] == number


@pytest.mark.parametrize(
    ("value", "timeout", "most"),
    [
        (b"timeout=5, max=100", 5, 100),
        (b"Timeout=60", 60, -1),
        (b"max=7", -1, 7),
        (b"timeout=", -1, -1),
        (b"5", -1, -1),
        (b"timeout=99999999999", -1, -1),
    ],
)
def test_a_keep_alive_field_names_a_timeout_and_a_maximum(value, timeout, most):
    parser = Parser()
    parser.field(b"Keep-Alive: " + value, is_request=False)
    assert (parser["keep_alive_s"], parser["keep_alive_max"]) == (timeout, most)


def test_only_the_first_server_field_is_kept():
    parser = Parser()
    assert parser.field(b"Server: one", is_request=False) == 3
    parser.conn["server_offset"] = 0
    assert parser.field(b"Server: other", is_request=False) == 0
    assert parser["server_len"] == 3


def test_a_line_longer_than_its_place_keeps_its_beginning_and_writes_nowhere_else():
    parser = Parser()
    part = array(b"x" * 1500)
    for _ in range(4):
        keep_line_part(part, 1, 1500, parser.flow[0], parser.scratch, 0)
    assert parser["line_len"] == LINE_BYTES
    assert (parser.scratch[:LINE_BYTES] == ord("x")).all()
    assert not parser.scratch[LINE_BYTES:].any()
