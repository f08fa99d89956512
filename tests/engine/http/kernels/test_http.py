"""The framer's kernels against their plain twin: whole messages, messages in pieces, and bytes without sense."""

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import Key, Outcome
from pcapdiag.base.columns import EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.tcp.tracker import Tracker
from tests.engine.http.kernels.plain_http import frame
from tests.engine.tcp.kernels.plain_tcp import (
    ACK,
    CLIENT,
    FIN,
    MOD,
    MS,
    ORIG,
    PSH,
    RESP,
    RST,
    SERVER,
    SYN,
    Segment,
    make_batch,
)

STEPS_NS = (0, 1000, MS, 6 * MS, 4000 * MS)
ROW = ("protocol", "n_exchanges", "n_unanswered", "keep_alive_s", "keep_alive_max", "idle_at_close_ns")


def run(segments, *, sizes=(10**6,)):
    """Return exchanges by (conn, depth), key segments likewise, and connection rows, as the framer has them."""
    exchanges, keys, texts = RowStore(EXCHANGES), RowStore(KEY_SEGMENTS), ByteStore()
    tracker, framer = Tracker(), Framer(exchanges, keys, texts)
    rows = []
    first = turn = 0
    while first < len(segments):
        size = sizes[turn % len(sizes)]
        for tracked in tracker.update(make_batch(segments[first : first + size], first)):
            framer.update(tracked)
            rows.extend(tracked.conn_rows.copy())
        first += size
        turn += 1
    for tracked in tracker.finish():
        framer.update(tracked)
        rows.extend(tracked.conn_rows.copy())
    found = {}
    for row in exchanges.table().rows:
        told = {name: row[name].item() for name in EXCHANGES.names}
        at = told.pop("text_offset")
        for name in ("target", "host", "request_id"):
            length = told.pop(f"{name}_len")
            told[name] = texts.read(at, length) if at >= 0 else b""
            at += length
        found[told.pop("conn"), told["depth"]] = told
    found_keys = {}
    for row in keys.table().rows:
        found_keys.setdefault((int(row["conn"]), int(row["depth"])), {})[Key(int(row["key"]))] = int(row["frame"])
    conns = {}
    for row in rows:
        told = {name: row[name].item() for name in (*ROW, "closing_open_exchange")}
        told["server"] = texts.read(int(row["server_offset"]), int(row["server_len"]))
        conns[row["conn"].item()] = told
    assert framer.n_exchanges == len(found)
    assert framer.n_unanswered == sum(x["outcome"] == Outcome.UNANSWERED for x in found.values())
    return found, found_keys, conns


def compare(segments, sizes=(10**6,)):
    exchanges, keys, conns = run(segments, sizes=sizes)
    want = frame(segments)
    assert {k: {**x.row, **x.text} for k, x in want_exchanges(want)} == exchanges
    want_keys = {k: x.keys for k, x in want_exchanges(want) if x.keys}
    want_keys |= {(c.conn, -1): c.keys for c in want.values() if is_failed_attempt(c)}
    assert keys == want_keys
    assert conns == {
        c.conn: {
            **{name: int(getattr(c, name)) for name in ROW},
            "closing_open_exchange": int(c.closing_open),
            "server": c.server,
        }
        for c in want.values()
    }
    return exchanges


def want_exchanges(conversations):
    return [((c.conn, x.row["depth"]), x) for c in conversations.values() for x in c.done]


def is_failed_attempt(c):
    return not c.n_exchanges and Key.SYN in c.keys and Key.SYN_ACK not in c.keys


def chunked(body, size):
    """Return chunked content, a trailer field behind it."""
    cut = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%X;e=1\r\n%s\r\n" % (len(c), c) for c in cut) + b"0\r\nX-Sum: 1\r\n\r\n"


def tls_record(kind, length):
    """Return a record whose content means nothing."""
    return bytes([kind, 3, 3]) + length.to_bytes(2, "big") + bytes(0x80 + i % 100 for i in range(length))


BODY = b"0123456789abcdef"
REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: h.test\r\n\r\n",
    b"HEAD /head HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 7-7\r\n\r\n",
    b"POST /p HTTP/1.1\r\nContent-Length: 16\r\n\r\n" + BODY,
    b"PUT /c HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunked(BODY, 5),
    b"\r\npost /old HTTP/1.0\r\nContent-length:0\r\n\r\n",
    b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test\r\n\r\n",
    b"PROPFIND /dav HTTP/1.1\r\n\r\n",
    b"GET /bare HTTP/1.1\nHost: \th.test \n\n",
    b"GET /up HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nServer: s/1\r\nContent-Length: 16\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunked(BODY, 7),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 16\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nConnection: close, x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
)
FRAGMENTS = (
    b"GET ",
    b"HTTP/1.1 200",
    b"\r\n",
    b"\n\n",
    b"Content-Length: 4\r\n",
    b"transfer-encoding: chunked\r\n\r\n",
    b"4\r\nabcd\r\n",
    b"0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"garbage in between",
    b"GARBAGE",
    b"\x01\x01\x00\x01\x00\x08\x00\x00" + bytes(8),
    b"\x00\x20\x00\x00\x04\x00PATH" + bytes(22),
    b"39:CONTENT_LENGTH\x004\0REQUEST_URI\0/of/scgi\0,body",
    b"900:CONTENT_LENGTH\x004\0REQUEST_METHOD\0PUT\0" + bytes(9),
    b"18:CONTENT_LENGTH\0x4\0,",
    b"X-Powered-By: PHP\r\nStatus: 502 Bad Gateway\r\n\r\n",
    b"\x01\x06\x00\x01\x00\x0f\x00\x00status:\t 503\n\n\n",
    b"\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"get key\r\n",
    b"BREW /pot HTCPCP/1.0\r\n\r\n",
)
RECORDS = tuple(
    tls_record(kind, n)
    for kind, n in ((22, 60), (20, 1), (23, 40), (23, 53), (23, 25), (23, 19), (21, 2), (23, 0), (23, 300))
)

CHUNKS = {ORIG: REQUESTS + FRAGMENTS + RECORDS, RESP: RESPONSES + FRAGMENTS + RECORDS}
WHOLE = {ORIG: REQUESTS, RESP: RESPONSES}
ONLY_TLS = {ORIG: RECORDS, RESP: RECORDS}


def _record(kind, number=1, content=b"", padding=0):
    head = bytes([1, kind]) + number.to_bytes(2, "big") + len(content).to_bytes(2, "big") + bytes([padding, 0])
    return head + content + bytes(padding)


def _ask(number):
    begin = _record(1, number, b"\0\1\1\0\0\0\0\0")
    return begin + _record(4, number, b"\x0e\x03REQUEST_METHODGET", 3) + _record(4, number)


def _asked(number):
    begin = _record(1, number, b"\0\1\1\0\0\0\0\0")
    return (
        _ask(number) + _record(5, number),
        _ask(number),
        _record(5, number, b"body", 4),
        _record(5, number),
        _record(2, number),
        begin,
    )


def _told(number):
    ends = (_record(3, number, bytes([0, 0, 0, 1, status, 0, 0, 0]), status) for status in range(5))
    output = _record(6, number, b"Status: 404 X\r\n\r\n")
    return (
        output + _record(6, number) + _record(3, number, bytes(8)),
        _record(6, number, b"\r\nok", 2),
        _record(6, number),
        _record(7, number, b"PHP message: no"),
        *ends,
        _record(3, number),
    )


FASTCGI = {
    ORIG: (*_asked(1), *_asked(2), _record(9, 0, b"\x0e\0FCGI_MAX_CONNS")),
    RESP: (*_told(1), *_told(2), _record(10, 0, b"\x0e\1FCGI_MAX_CONNS1"), b"\0garbage"),
}


def _scgi(*texts):
    head = b"".join(text + b"\0" for text in texts)
    return str(len(head)).encode() + b":" + head + b","


SCGI = {
    ORIG: (
        _scgi(b"CONTENT_LENGTH", b"4", b"REQUEST_METHOD", b"PUT", b"REQUEST_URI", b"/up") + b"body",
        _scgi(b"CONTENT_LENGTH", b"0", b"REQUEST_METHOD", b"GET", b"HTTP_HOST", b"h" * 300, b"HTTP_X_REQUEST_ID", b"i"),
        _scgi(b"CONTENT_LENGTH", b"", b"ODD"),
        _scgi(b"CONTENT_LENGTH", b"x1", b"CONTENT_LENGTH", b"2"),
        _scgi(b"CONTENT_LENGTH", b"9" * 30, b"REQUEST_URI", b"/"),
        b"99999:CONTENT_LENGTH\x007\0REQUEST_METHOD\0POST\0",
        b"1:CONTENT_LENGTH\x007\0REQUEST_METHOD\0POST\0",
        b"body",
    ),
    RESP: (b"Status: 404 X\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n", b"X: y\r\nstatus:\t503\r\n", b"page"),
}


ACTIONS = st.tuples(
    st.sampled_from(STEPS_NS),
    st.integers(0, 1),
    st.sampled_from(
        ("say",) * 12 + ("say and close", "acknowledge", "acknowledge", "full", "close", "reset", "again", "probe")
    ),
    st.integers(0, 10**6),
    st.lists(st.integers(1, 90), max_size=3),
    st.lists(st.sampled_from(("seen",) * 8 + ("lost", "late", "twice", "unacknowledging")), min_size=1, max_size=4),
)


def play(isns, snaplen, actions, vocabulary, *, is_seen_from_start, in_turns):
    """Return what is captured of one connection whose ends say pieces of the vocabulary."""
    ends = (CLIENT, SERVER)
    now_ns, sent, fin, segments = 10**9, [0, 0], [0, 0], []

    def add(side, flags, payload=b"", at=None, acked=None, window=1000):
        at = sent[side] if at is None else at
        acked = sent[1 - side] + fin[1 - side] if acked is None else acked
        seq = (isns[side] + (0 if flags & SYN else 1) + at) % MOD
        ack = (isns[1 - side] + 1 + acked) % MOD if flags & ACK else -1
        segments.append(Segment(now_ns, ends[side], ends[1 - side], flags, seq, ack, payload, snaplen, window))

    if is_seen_from_start:
        add(ORIG, SYN)
        add(RESP, SYN | ACK)
    turn = 0
    for step_ns, chosen, verb, choice, cuts, fates in actions:
        now_ns += step_ns
        side = turn if in_turns else chosen
        if verb.startswith("say"):
            turn = 1 - turn
            data = vocabulary[side][choice % len(vocabulary[side])]
            late, pieces = [], []
            for cut in cuts:
                pieces.append(data[:cut])
                data = data[cut:]
            pieces = [p for p in (*pieces, data) if p]
            before = sent[1 - side]
            for n, piece in enumerate(pieces):
                is_last = n == len(pieces) - 1
                flags = ACK | PSH | (FIN if is_last and verb == "say and close" else 0)
                fate = fates[n % len(fates)]
                acked = max(0, before - 50) if fate == "unacknowledging" else None
                if fate == "late":
                    late.append((flags, piece, sent[side]))
                elif fate != "lost":
                    add(side, flags, piece, acked=acked)
                    if fate == "twice":
                        now_ns += 300 * MS
                        add(side, flags, piece)
                sent[side] += len(piece)
                fin[side] |= flags & FIN
            for flags, piece, at in late:
                add(side, flags, piece, at)
        elif verb == "acknowledge":
            add(side, ACK)
        elif verb == "full":
            add(side, ACK, window=0)
        elif verb == "close":
            add(side, ACK | FIN)
            fin[side] = 1
        elif verb == "reset":
            add(side, RST | (ACK if choice % 2 else 0))
        elif verb == "probe":
            add(side, ACK, at=sent[side] - 1)
        elif segments:
            again = segments[choice % len(segments)]
            segments.append(Segment(now_ns, again.src, again.dst, again.flags, again.seq, again.ack, again.payload))
    return segments


def talks(vocabulary):
    return st.builds(
        lambda isns, snaplen, actions, start, in_turns: play(
            isns, snaplen, actions, vocabulary, is_seen_from_start=start, in_turns=in_turns
        ),
        st.tuples(st.integers(0, MOD - 1), st.integers(MOD - 300, MOD - 1)),
        st.sampled_from([-1, -1, -1, 0, 20, 45]),
        st.lists(ACTIONS, max_size=16),
        st.booleans(),
        st.booleans(),
    )


BATCHES = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(talks(WHOLE), BATCHES)
def test_messages_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


def test_the_window_of_a_segment_from_beyond_the_connection_is_not_its_window():
    """Bytes behind the FIN are none of it: the window of zero before them still stands when a probe comes."""
    said = [("say", 0, 0), ("say and close", 0, 0), ("say", 1, 54_660), ("full", 0, 0), ("say", 0, 0), ("probe", 0, 0)]
    actions = [(0, side, what, number, [], ["seen"]) for what, side, number in said]
    compare(play((0, 4_294_966_996), -1, actions, WHOLE, is_seen_from_start=False, in_turns=False), [1])


@given(talks(ONLY_TLS), BATCHES)
def test_tls_records_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


def test_what_a_responder_says_does_not_begin_the_certificate_of_the_originator_anew():
    turns = [(0, 0, "say", 0), (0, 1, "say", 2), (0, 0, "say", 2), (0, 1, "say", 92), (0, 0, "say", 56)]
    actions = [(*turn, [], ["seen"]) for turn in turns]
    compare(play((0, MOD - 300), -1, actions, ONLY_TLS, is_seen_from_start=False, in_turns=False), [1])


@given(talks(CHUNKS), BATCHES)
def test_bytes_without_sense_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


@given(talks(FASTCGI), BATCHES)
def test_fastcgi_records_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


@given(talks(SCGI), BATCHES)
def test_scgi_requests_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


def test_more_requests_than_may_be_open_at_once_are_not_followed():
    begins = _record(1, 1, bytes(8)) + _record(1) * 7_500
    actions = [(0, ORIG, "say", 0, [], ["seen"]), (0, ORIG, "say", 0, [], ["seen"]), (0, RESP, "say", 0, [], ["seen"])]
    vocabulary = {ORIG: (begins,), RESP: (_record(3) * 8_000,)}
    segments = play((0, 0), -1, actions, vocabulary, is_seen_from_start=True, in_turns=False)
    assert len(compare(segments, [1])) == 256
