"""Hypothesis strategies: HTTP/1.1 conversations over TCP, as the proxy's capture would show them.

A conversation says what was meant (requests, responses, how the connection ended); `render` makes segments of it. What
must be found is then known without reading the capture, and the same meaning can be rendered in many ways.
"""

from dataclasses import dataclass
from enum import Enum

from hypothesis import strategies as st

from tests.scenario import ORIG, RESP, Segment

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
US = 1_000
HALF_RTT_NS = 10_000 * US
MSS = 1448


class Ending(Enum):
    """How a connection ends; LOST endings add one request that is never answered."""

    OPEN = "open"
    RESP_CLOSES = "the responder closes when idle"
    ORIG_CLOSES = "the originator closes when idle"
    UNTIL_CLOSE = "the last response ends with the connection"
    RACE = "a request crosses the responder's FIN"
    RESET = "a request is answered by RST alone"
    SILENCE = "a request is repeated and never acknowledged"
    CLOSED_IN_HAND = "a request is acknowledged, then FIN"
    RESET_IN_HAND = "a request is acknowledged, then RST"


LOST = {Ending.RACE, Ending.RESET, Ending.SILENCE, Ending.CLOSED_IN_HAND, Ending.RESET_IN_HAND}


@dataclass(frozen=True)
class Exchange:
    """One request and its response, and the times around them."""

    method: str
    target: str
    status: int
    request: bytes
    response: bytes
    idle_ns: int
    think_ns: int


@dataclass(frozen=True)
class Conversation:
    """One connection from its SYN on; `lost` is the request without an answer, for the endings that have one."""

    exchanges: tuple
    ending: Ending
    lost: Exchange
    start_ns: int
    acknowledges: bool
    """Whether the responder acknowledges requests before it answers."""


@dataclass(frozen=True)
class Fact:
    """What must be found of one exchange."""

    method: str
    target: str
    status: int
    is_answered: bool
    request_bytes: int
    response_bytes: int
    idle_ns: int


def facts_of(conversation):
    """Return the exchanges that a reader of the capture must find, in order."""
    facts = [
        Fact(e.method, e.target, e.status, True, len(e.request), len(e.response), e.idle_ns if depth else -1)
        for depth, e in enumerate(conversation.exchanges)
    ]
    if conversation.ending in LOST:
        e = conversation.lost
        idle_ns = e.idle_ns if facts else -1
        facts.append(Fact(e.method, e.target, -1, False, len(e.request), 0, idle_ns))
    return facts


class _Side:
    def __init__(self):
        self.next = 0


def render(conversations, *, sizes=(MSS,)):
    """Return the segments of all conversations by time; payload is cut into pieces of the given sizes, in turn.

    The pieces of one message share one time, so that a message begins and ends when it does however it is cut.
    """
    segments = [s for conn, c in enumerate(conversations) for s in _render_one(conn, c, sizes)]
    return sorted(segments, key=lambda s: s.ts_ns)


def _render_one(conn, conversation, sizes):
    out, sides, now = [], (_Side(), _Side()), conversation.start_ns
    cycle = 0

    def send(side, flags, payload=b"", **fields):
        near, far = sides[side], sides[1 - side]
        segment = Segment(now, conn, side, flags, near.next, far.next if flags & ACK else -1, payload, **fields)
        near.next = segment.end
        out.append(segment)

    def send_message(side, data):
        nonlocal cycle
        while data:
            size = sizes[cycle % len(sizes)]
            cycle += 1
            send(side, ACK | (PSH if len(data) <= size else 0), data[:size])
            data = data[size:]

    send(ORIG, SYN)
    now += 2 * HALF_RTT_NS
    send(RESP, SYN | ACK)
    now += 10 * US
    send(ORIG, ACK)
    for depth, e in enumerate(conversation.exchanges):
        now += e.idle_ns if depth else 10 * US
        send_message(ORIG, e.request)
        now += 2 * HALF_RTT_NS
        if conversation.acknowledges:
            send(RESP, ACK)
        now += e.think_ns
        send_message(RESP, e.response)
        if e is conversation.exchanges[-1] and conversation.ending is Ending.UNTIL_CLOSE:
            out[-1] = Segment(now, conn, RESP, ACK | PSH | FIN, out[-1].seq, out[-1].ack, out[-1].payload)
            sides[RESP].next += 1
            send(ORIG, ACK | FIN)
            return out
        ack_ns, now = now, now + 5 * US
        send(ORIG, ACK)
        now = ack_ns
    _render_ending(conversation, send, send_message, sides, out, now)
    return out


def _render_ending(conversation, send, send_message, sides, out, now):
    def at(ts_ns):
        out[-1] = Segment(
            ts_ns, out[-1].conn, out[-1].dir, out[-1].flags, out[-1].seq, out[-1].ack, out[-1].payload, out[-1].window
        )

    ending, lost = conversation.ending, conversation.lost
    if ending is Ending.RESP_CLOSES or ending is Ending.ORIG_CLOSES:
        first = RESP if ending is Ending.RESP_CLOSES else ORIG
        close_ns = now + lost.idle_ns
        send(first, ACK | FIN)
        at(close_ns)
        send(1 - first, ACK | FIN)
        at(close_ns + 2 * HALF_RTT_NS)
        send(first, ACK)
        at(close_ns + 4 * HALF_RTT_NS)
    if ending not in LOST:
        return
    request_ns = now + (lost.idle_ns if conversation.exchanges else 10 * US)
    before = sides[ORIG].next
    start = len(out)
    send_message(ORIG, lost.request)
    pieces = [Segment(request_ns, s.conn, ORIG, s.flags, s.seq, s.ack, s.payload) for s in out[start:]]
    out[start:] = pieces
    conn = pieces[0].conn
    resp_next = sides[RESP].next
    if ending is Ending.RACE:
        out.append(Segment(request_ns + HALF_RTT_NS, conn, RESP, ACK | FIN, resp_next, before))
        out.append(Segment(request_ns + HALF_RTT_NS + 50 * US, conn, ORIG, ACK | FIN, sides[ORIG].next, resp_next + 1))
        out.append(Segment(request_ns + 2 * HALF_RTT_NS, conn, RESP, RST, resp_next + 1, -1, window=0))
    elif ending is Ending.RESET:
        out.append(Segment(request_ns + 2 * HALF_RTT_NS, conn, RESP, RST, resp_next, -1, window=0))
    elif ending is Ending.SILENCE:
        for n in range(1, 5):
            again_ns = request_ns + 220_000 * US * (2**n - 1)
            out += [Segment(again_ns, conn, ORIG, s.flags, s.seq, s.ack, s.payload) for s in pieces]
    else:
        arrived_ns = request_ns + 2 * HALF_RTT_NS
        end = sides[ORIG].next
        out.append(Segment(arrived_ns, conn, RESP, ACK, resp_next, end))
        flags = ACK | FIN if ending is Ending.CLOSED_IN_HAND else ACK | RST
        out.append(Segment(arrived_ns + lost.think_ns, conn, RESP, flags, resp_next, end))
        if ending is Ending.CLOSED_IN_HAND:
            out.append(Segment(arrived_ns + lost.think_ns + 80 * US, conn, ORIG, ACK | FIN, end, resp_next + 1))


_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~%", min_size=1, max_size=12)
_BODIES = st.integers(0, 4000).map(lambda n: bytes(0x41 + i % 26 for i in range(n)))
_TIMES = st.integers(10, 8_000_000).map(lambda us: us * US)


def _chunked(body, size):
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[i : i + size]), body[i : i + size]) for i in range(0, len(body), size)
    )
    return chunks + b"0\r\n\r\n"


@st.composite
def exchanges(draw, number, *, until_close=False):
    """Draw one exchange; its target ends in its number, so that it can be told from all others."""
    method = draw(st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT", "DELETE"]))
    target = f"/{draw(_NAMES)}/{number}"
    head = f"{method} {target} HTTP/1.1\r\nHost: api.example.test\r\n".encode()
    if method in ("POST", "PUT"):
        body = draw(_BODIES)
        if draw(st.booleans()):
            request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            request = head + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body, draw(st.integers(1, 2000)))
    else:
        request = head + b"\r\n"
    status = 200 if until_close else draw(st.sampled_from([200, 200, 201, 204, 304, 404, 500, 503]))
    start = b"HTTP/1.1 %d X\r\nServer: lab/1.0\r\n" % status
    body = draw(_BODIES)
    if until_close:
        response = start + b"\r\n" + (b"" if method == "HEAD" else b"until close" + body)
    elif method == "HEAD" or status in (204, 304):
        announced = b"" if status == 204 else b"Content-Length: %d\r\n" % len(body)
        response = start + announced + b"\r\n"
    elif draw(st.booleans()):
        response = start + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        response = start + b"transfer-encoding: Chunked\r\n\r\n" + _chunked(body, draw(st.integers(1, 2000)))
    if draw(st.integers(0, 9)) == 0:
        response = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" + response
    return Exchange(method, target, status, request, response, draw(_TIMES), draw(_TIMES))


@st.composite
def conversations(draw, *, max_connections=3, max_exchanges=4, endings=tuple(Ending)):
    """Draw several connections of one proxy to one upstream."""
    result = []
    for conn in range(draw(st.integers(1, max_connections))):
        ending = draw(st.sampled_from(endings))
        n_exchange = draw(st.integers(1, max_exchanges))
        drawn = [
            draw(exchanges(f"{conn}.{i}", until_close=ending is Ending.UNTIL_CLOSE and i == n_exchange - 1))
            for i in range(n_exchange)
        ]
        lost = draw(exchanges(f"{conn}.lost"))
        start_ns = draw(st.integers(0, 2_000_000)) * US
        result.append(Conversation(tuple(drawn), ending, lost, start_ns, draw(st.booleans())))
    return result


piece_sizes = st.lists(st.integers(1, MSS), min_size=1, max_size=6).filter(lambda sizes: max(sizes) >= 64)
"""How payload is cut; never so fine that a capture grows beyond reason."""
