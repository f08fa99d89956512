"""HTTP/2 frames and streams: against the twin, against hyper's own implementation, and at every cut."""

import h2.config
import h2.connection
import h2.events
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import ExchangeFlag, Key, Outcome, Protocol
from pcapdiag.engine.http.kernels.http2 import looks_like_settings, read_status
from pcapdiag.engine.http.kernels.http_state import MAX_OPEN_PER_CONNECTION
from tests import http2_frames as frames
from tests.engine.http.kernels.plain_http2 import looks_like_settings as plainly_settings
from tests.engine.http.kernels.plain_http2 import status_of_block
from tests.engine.http.kernels.test_http import BATCHES, MOD, STEPS_NS, compare, play, run
from tests.engine.tcp.kernels.plain_tcp import ACK, CLIENT, FIN, MS, ORIG, PSH, RESP, RST, SERVER, SYN, Segment
from tests.http2_frames import (
    BEGIN,
    CANCEL,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEAD,
    INTERNAL_ERROR,
    NO_ERROR,
    PADDED,
    REFUSED_STREAM,
    answer,
    data,
    frame,
    goaway,
    headers,
    request,
    reset,
    status,
)

ALSO_TESTS = ("http2_streams",)
ANY = tuple(
    part
    for stream in (1, 3, 5)
    for part in (
        headers(stream),
        headers(stream, flags=END_HEADERS | END_STREAM),
        headers(stream, flags=END_STREAM) + frame(frames.CONTINUATION, stream, b"\x82", END_HEADERS),
        headers(stream, bytes(5) + HEAD, END_HEADERS | HAS_PRIORITY),
        headers(stream, b"\2" + HEAD + b"\0\0", END_HEADERS | PADDED),
        data(stream),
        data(stream, b"", END_STREAM),
        data(stream, b"the end", END_STREAM),
        frame(frames.WINDOW_UPDATE, stream, bytes(4)),
        frame(frames.PRIORITY, stream, bytes(5)),
        reset(stream, CANCEL),
        reset(stream, REFUSED_STREAM),
        reset(stream, 0xFFFFFFFF),
    )
)
BESIDE = (
    frame(frames.PING, 0, bytes(8)),
    frame(frames.SETTINGS, 0, b"", 1),
    frame(frames.WINDOW_UPDATE, 0, bytes(4)),
    frame(99, 3, b"grease"),
)
BROKEN = (
    frame(frames.PING, 0, bytes(7)),
    frame(frames.CONTINUATION, 1, b"\x82", END_HEADERS),
    headers(9, flags=0),
    data(0),
    b"garbage that is no frame",
    frame(frames.GOAWAY, 0, bytes(4)),
)
_BY_STREAM = tuple(
    part
    for stream in (1, 3, 5)
    for part in (
        answer(stream),
        reset(stream, NO_ERROR),
        reset(stream, REFUSED_STREAM),
        data(stream),
        data(stream, b"", END_STREAM),
        headers(stream, status(204), END_HEADERS | END_STREAM),
        headers(stream, status(502)),
        headers(stream, status(503, huffman=True)),
        headers(stream, b"\x3f\xe1\x1f" + status(404)),
        headers(stream, status(100)),
        headers(stream, b"\xbe"),
        goaway(stream - 2 if stream > 1 else 0),
        goaway(stream, INTERNAL_ERROR),
    )
)


def initial_window(*sizes):
    """Return SETTINGS that begin streams with so much credit, another setting in between."""
    entries = (b"\0\4" + size.to_bytes(4, "big") + b"\0\3" + bytes(4) for size in sizes)
    return frame(frames.SETTINGS, 0, b"".join(entries))


def grant(stream, more):
    return frame(frames.WINDOW_UPDATE, stream, more.to_bytes(4, "big"))


GRANTS = (
    *(initial_window(*sizes) for sizes in ((7,), (0,), (14, 8), (65_535,), (2**32 - 1,))),
    *(grant(stream, more) for stream in (0, 1, 3) for more in (1, 7, 2**31 - 1)),
)
OF_RESPONDER = (*_BY_STREAM, *GRANTS, goaway(2**31 - 1), frame(frames.PUSH_PROMISE, 1, bytes(4) + HEAD, END_HEADERS))
REQUESTS = tuple(request(n) if n % 4 == 3 else headers(n) for n in (1, 3, 5, 1, 3, 5, 7, 9))
VOCABULARY = {ORIG: (BEGIN[ORIG], *ANY, *REQUESTS, *REQUESTS, *BESIDE), RESP: (BEGIN[RESP], *OF_RESPONDER, *BESIDE)}
WITH_BROKEN = {side: (*parts, *BROKEN) for side, parts in VOCABULARY.items()}
# Most of what is said arrives, or no talk would come as far as its second stream.
SAYS = st.tuples(
    st.sampled_from(STEPS_NS),
    st.integers(0, 1),
    st.sampled_from(("say",) * 24 + ("say and close", "acknowledge", "acknowledge", "full", "close", "reset", "again")),
    st.integers(0, 10**6),
    st.lists(st.integers(1, 40), max_size=2),
    st.one_of(
        *[st.just(["seen"])] * 12, st.lists(st.sampled_from(("seen", "seen", "lost", "late", "twice")), min_size=1)
    ),
)
FIRST = [(0, side, "say", 0, [], ["seen"]) for side in (ORIG, RESP)]


def conversations(vocabulary):
    """Return talks that begin as HTTP/2 does; either side may be first."""
    return st.builds(
        lambda isns, snaplen, first, actions: play(
            isns, snaplen, [*first, *actions], vocabulary, is_seen_from_start=True, in_turns=False
        ),
        st.tuples(st.integers(0, MOD - 1), st.integers(MOD - 300, MOD - 1)),
        st.sampled_from([-1, -1, -1, -1, 100]),
        st.permutations(FIRST),
        st.lists(SAYS, min_size=4, max_size=30),
    )


@given(conversations(VOCABULARY), BATCHES)
def test_streams_are_framed_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


@given(conversations(WITH_BROKEN), BATCHES)
def test_broken_frames_end_the_reading_as_with_the_twin(segments, sizes):
    compare(segments, sizes)


WITH_GRANTS = {
    ORIG: (BEGIN[ORIG], *(part for n in (1, 3) for part in (headers(n), data(n), data(n), data(n, b"", END_STREAM)))),
    RESP: (BEGIN[RESP], *GRANTS, *GRANTS, reset(1, CANCEL), answer(1), frame(frames.GOAWAY, 0, bytes(8))),
}


@given(conversations(WITH_GRANTS), BATCHES)
def test_what_may_be_sent_is_counted_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


def talk(*said, close="", begin=((ORIG, BEGIN[ORIG]), (RESP, BEGIN[RESP]))):
    """Return the segments of one connection: (side, bytes), each a millisecond after the other."""
    sent, segments, now = {ORIG: 0, RESP: 0}, [], 10**9
    ends = {ORIG: (CLIENT, SERVER), RESP: (SERVER, CLIENT)}

    def add(side, flags, payload=b""):
        seq = 1000 + (0 if flags & SYN else 1) + sent[side]
        ack = 1000 + 1 + sent[1 - side] if flags & ACK else -1
        segments.append(Segment(now, *ends[side], flags, seq, ack, payload))
        sent[side] += len(payload)

    add(ORIG, SYN)
    add(RESP, SYN | ACK)
    for side, payload in (*begin, *said):
        now += MS
        add(side, ACK | PSH, payload)
    now += MS
    if close:
        side, kind = close.split()
        add(ORIG if side == "proxy" else RESP, ACK | (FIN if kind == "FIN" else RST))
    return segments


def outcomes(segments):
    """Return what became of each stream: outcome, status, error and whether it was not processed."""
    exchanges, _, _ = run(segments)
    return {
        x["stream"]: (
            Outcome(x["outcome"]).name,
            x["status_code"],
            x["stream_error"],
            bool(x["flags"] & ExchangeFlag.NOT_PROCESSED),
        )
        for x in exchanges.values()
    }


def test_streams_that_overlap_are_told_apart():
    said = [(ORIG, request(1) + request(3)), (RESP, answer(3)), (ORIG, request(5)), (RESP, answer(1, 404) + answer(5))]
    assert outcomes(talk(*said)) == {
        1: ("ANSWERED", 404, -1, False),
        3: ("ANSWERED", 200, -1, False),
        5: ("ANSWERED", 200, -1, False),
    }


def test_a_stream_that_is_refused_was_not_processed_and_another_error_says_nothing_of_that():
    said = [(ORIG, request(1) + request(3)), (RESP, reset(3, REFUSED_STREAM) + reset(1, INTERNAL_ERROR))]
    assert outcomes(talk(*said)) == {1: ("UNANSWERED", -1, 2, False), 3: ("UNANSWERED", -1, 7, True)}


def test_a_reset_inside_a_response_cuts_it_off_and_one_behind_it_is_nothing():
    begun = headers(1, status(200)) + data(1)
    said = [(ORIG, headers(1) + request(3)), (RESP, begun + reset(1, CANCEL) + answer(3) + reset(3, NO_ERROR))]
    assert outcomes(talk(*said)) == {1: ("TRUNCATED", 200, 8, False), 3: ("ANSWERED", 200, -1, False)}


@pytest.mark.parametrize(
    ("granted", "is_used"),
    [
        ([], True),
        ([grant(1, 1)], True),  # on the stream, not on the connection
        ([grant(0, 1)], True),
        ([grant(0, 1), grant(1, 1)], False),
        ([grant(0, 1), initial_window(65_536)], False),
        ([initial_window(70_000)], True),
    ],
)
def test_the_segment_that_used_up_the_credit_is_kept_until_more_is_granted(granted, is_used):
    uploads = [(ORIG, headers(1)), *((ORIG, data(1, bytes(13_107))) for _ in range(5))]
    _, keys, _ = run(talk(*uploads, *((RESP, grants) for grants in granted), close="proxy FIN"))
    used = [told[Key.CREDIT_USED] for told in keys.values() if Key.CREDIT_USED in told]
    # SYN and its answer, both sides' first words, the head and five times content.
    assert used == ([9] if is_used else [])


def test_who_has_sent_all_waits_for_no_credit():
    uploads = [(ORIG, data(1, bytes(13_107), END_STREAM if n == 4 else 0)) for n in range(5)]
    _, keys, _ = run(talk((ORIG, headers(1)), *uploads, close="proxy FIN"))
    assert [Key.CREDIT_USED in told for told in keys.values()] == [False]


def test_goaway_tells_which_streams_were_not_processed():
    said = [(ORIG, request(1) + request(3)), (RESP, goaway(1) + answer(1)), (ORIG, request(5))]
    assert outcomes(talk(*said, close="upstream FIN")) == {
        1: ("ANSWERED", 200, -1, False),
        3: ("UNANSWERED", -1, 0, True),
        5: ("UNANSWERED", -1, 0, True),
    }


def test_the_first_goaway_of_a_graceful_end_refuses_nothing():
    said = [(ORIG, request(1)), (RESP, goaway(2**31 - 1)), (ORIG, request(3))]
    said.append((RESP, goaway(3) + answer(1) + answer(3)))
    assert {o[0] for o in outcomes(talk(*said)).values()} == {"ANSWERED"}


@pytest.mark.parametrize("kind", ["FIN", "RST"])
def test_a_closing_leaves_all_open_streams_unanswered_each_with_that_closing(kind):
    segments = talk((ORIG, request(1)), (ORIG, request(3)), close=f"upstream {kind}")
    exchanges, keys, _ = run(segments)
    assert [x["outcome"] for x in exchanges.values()] == [Outcome.UNANSWERED] * 2
    closing = Key.RESP_FIN if kind == "FIN" else Key.RESP_RST
    assert {told[closing] for told in keys.values()} == {len(segments) - 1}
    assert {told[Key.REQUEST] for told in keys.values()} == {4, 5}


def test_ping_settings_and_window_updates_are_no_exchanges_and_no_end_of_an_idle_gap():
    """The idle gap is the time without an open stream: servers and proxies count it so."""
    said = [(ORIG, request(1)), (RESP, answer(1)), *((RESP, part) for part in BESIDE), (ORIG, BESIDE[0])]
    exchanges, _, _ = run(talk(*said, (ORIG, request(3)), (RESP, answer(3))))
    assert [x["stream"] for x in exchanges.values()] == [1, 3]
    assert exchanges[0, 1]["idle_before_ns"] == (len(BESIDE) + 2) * MS


def test_a_request_beside_open_streams_has_no_idle_gap():
    exchanges, _, _ = run(talk((ORIG, request(1)), (ORIG, request(3)), (RESP, answer(3)), (RESP, answer(1))))
    assert exchanges[0, 1]["idle_before_ns"] == -1
    assert exchanges[0, 1]["flags"] & ExchangeFlag.PIPELINED
    assert not exchanges[0, 0]["flags"] & ExchangeFlag.PIPELINED


def test_a_request_begins_and_ends_where_its_own_frames_do():
    first, second = headers(1), data(1, b"x", END_STREAM)
    segments = talk((ORIG, first), (ORIG, request(3)), (ORIG, second), (RESP, answer(1) + answer(3)))
    exchanges, _, _ = run(segments)
    begin = 1001 + len(BEGIN[ORIG])
    assert exchanges[0, 0]["request_seq"] == begin
    assert exchanges[0, 0]["request_end_seq"] == begin + len(first + request(3) + second)
    assert exchanges[0, 0]["request_bytes"] == len(first + second)
    assert exchanges[0, 1]["request_seq"] == begin + len(first)


SAME = ("stream", "stream_error", "status_code", "outcome", "flags", "request_seq", "request_end_seq", "response_seq")


@pytest.mark.parametrize("size", range(1, 40))
def test_it_does_not_matter_where_segments_are_cut(size):
    said = [(ORIG, request(1) + headers(3, flags=END_HEADERS | END_STREAM)), (RESP, answer(1) + reset(3, CANCEL))]
    whole, _, _ = run(talk(*said))
    cut = [(side, payload[i : i + size]) for side, payload in said for i in range(0, len(payload), size)]
    pieces, _, _ = run(talk(*cut))
    assert [{n: x[n] for n in SAME} for x in pieces.values()] == [{n: x[n] for n in SAME} for x in whole.values()]


@pytest.mark.parametrize("size", range(5, 60))
def test_it_does_not_matter_where_the_preface_is_cut(size):
    """Alone in its segment, too, as nghttp2 sends it: what follows is no second one. By five bytes it is known."""
    begin = [(ORIG, BEGIN[ORIG][i : i + size]) for i in range(0, len(BEGIN[ORIG]), size)]
    segments = talk((ORIG, request(1)), (RESP, answer(1)), begin=(*begin, (RESP, BEGIN[RESP])))
    assert outcomes(segments) == {1: ("ANSWERED", 200, -1, False)}


@pytest.mark.parametrize("size", [1, 9, 23, 24, 25, 33, 200])
def test_the_preface_behind_an_upgrade_may_come_alone(size):
    asked = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    mine = BEGIN[ORIG]
    cut = [(ORIG, mine[i : i + size]) for i in range(0, len(mine), size)]
    said = (*cut, (RESP, answer(1)), (ORIG, request(3)), (RESP, answer(3)))
    segments = talk(*said, begin=((ORIG, asked), (RESP, switched + BEGIN[RESP])))
    assert outcomes(segments) == {1: ("ANSWERED", 200, -1, False), 3: ("ANSWERED", 200, -1, False)}


def test_a_server_may_speak_first():
    first = [Segment(10**9, CLIENT, SERVER, SYN, 1000, -1, b"")]
    first.append(Segment(10**9, SERVER, CLIENT, SYN | ACK, 1000, 1001, b""))
    hers = BEGIN[RESP]
    first.append(Segment(10**9, SERVER, CLIENT, ACK, 1001, 1001, hers))
    mine = BEGIN[ORIG] + request(1)
    first.append(Segment(10**9 + MS, CLIENT, SERVER, ACK, 1001, 1001 + len(hers), mine))
    first.append(Segment(10**9 + 2 * MS, SERVER, CLIENT, ACK, 1001 + len(hers), 1001 + len(mine), answer(1)))
    assert outcomes(first) == {1: ("ANSWERED", 200, -1, False)}


def test_more_streams_than_are_told_apart_end_the_reading():
    n = MAX_OPEN_PER_CONNECTION
    enough = [(ORIG, headers(1 + 2 * k)) for k in range(n)]
    exchanges, _, conns = run(talk(*enough, close="upstream FIN"))
    assert conns[0]["protocol"] == Protocol.HTTP2
    assert len(exchanges) == conns[0]["n_unanswered"] == n
    exchanges, _, conns = run(talk(*enough, (ORIG, headers(1 + 2 * n)), close="upstream FIN"))
    assert conns[0]["protocol"] == Protocol.HTTP2_UNREAD
    assert {x["outcome"] for x in exchanges.values()} == {Outcome.PENDING}
    assert conns[0]["n_unanswered"] == 0


def test_a_flood_of_resets_in_one_segment_is_bounded():
    """Rapid reset (CVE-2023-44487): many streams that are opened and reset at once."""
    flood = b"".join(headers(1 + 2 * k, b"\x82") + reset(1 + 2 * k, CANCEL) for k in range(2000))
    exchanges, _, conns = run(talk((ORIG, flood)))
    assert conns[0]["protocol"] == Protocol.HTTP2_UNREAD
    assert len(exchanges) <= MAX_OPEN_PER_CONNECTION + 1
    spread = [(ORIG, headers(1 + 2 * k, b"\x82") + reset(1 + 2 * k, CANCEL)) for k in range(600)]
    exchanges, _, conns = run(talk(*spread))
    assert conns[0]["protocol"] == Protocol.HTTP2
    assert len(exchanges) == 600


def test_a_flood_of_continuations_is_one_request():
    flood = b"".join(frame(frames.CONTINUATION, 1, b"\0" * 400) for _ in range(150))
    assert outcomes(talk((ORIG, headers(1, flags=0) + flood), (ORIG, flood))) == {1: ("UNANSWERED", -1, -1, False)}


def test_a_frame_longer_than_any_is_content_that_never_ends():
    huge = b"\xff\xff\xff" + bytes([frames.DATA, 0, 0, 0, 0, 1]) + b"x" * 100
    assert outcomes(talk((ORIG, headers(1) + huge), close="upstream FIN")) == {1: ("UNANSWERED", -1, -1, False)}


def as_value(block):
    return int.from_bytes(block[:8].ljust(8, b"\0"), "big", signed=True)


@given(st.binary(max_size=8))
@example(b"\x3f\xe1\x1f\x88")
@example(b"\x48\x82\x64\x02")
@example(b"\x48\x03200")
@example(b"\x08\x0299")
@example(b"\x1f\x00\x03200")
@example(b"\x3f\xff\xff\xff\xff\x88")
def test_the_status_is_read_as_hpack_reads_it(block):
    assert read_status(as_value(block), len(block)) == status_of_block(block)


@pytest.mark.parametrize("huffman", [False, True])
def test_every_status_is_read_from_a_first_response(huffman):
    for code in range(100, 1000):
        block = status(code, huffman=huffman)
        assert read_status(as_value(block), min(len(block), 8)) == code


@given(st.binary(max_size=12))
@example(frame(frames.SETTINGS))
@example(frame(frames.SETTINGS, 0, bytes(6))[:9])
@example(frame(frames.SETTINGS, 0, b"", 1))
def test_a_settings_frame_is_known_as_the_twin_knows_it(begin):
    array = np.frombuffer(b"x" + begin + bytes(9), dtype=np.uint8).copy()
    assert bool(looks_like_settings(array, 1, len(begin))) == plainly_settings(begin)


class Hyper:
    """A client and a server of the h2 library, and what each of them says in turn."""

    def __init__(self):
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.said, self.want, self.open = [], {}, {}
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.hand_over()

    def hand_over(self):
        for side, speaker, listener in ((ORIG, self.client, self.server), (RESP, self.server, self.client)):
            payload = speaker.data_to_send()
            if payload:
                self.said.append((side, payload))
                listener.receive_data(payload)

    def act(self, verb, choice):
        if verb == "open":
            stream = self.client.get_next_available_stream_id()
            fields = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", f"/call/{choice}")]
            fields.append(("x", "y" * choice))
            self.client.send_headers(stream, fields)
            self.client.send_data(stream, b"q" * choice, end_stream=True)
            self.want[stream] = ("UNANSWERED", -1, -1)
            self.open[stream] = False
        elif verb == "ping":
            (self.client if choice % 2 else self.server).ping(bytes(8))
        elif self.open:
            stream = sorted(self.open)[choice % len(self.open)]
            has_begun = self.open[stream]
            if verb == "answer":
                code = ("200", "404", "502", "418")[choice % 4]
                if not has_begun:
                    self.server.send_headers(stream, [(":status", code), ("server", "s" * choice)])
                    self.want[stream] = ("TRUNCATED", int(code), -1)
                    self.open[stream] = True
                else:
                    self.server.send_data(stream, b"a" * choice)
                    self.server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
                    self.want[stream] = ("ANSWERED", *self.want[stream][1:])
                    del self.open[stream]
            else:
                (self.client if verb == "cancel" else self.server).reset_stream(stream, error_code=choice % 14)
                self.want[stream] = ("TRUNCATED" if has_begun else "UNANSWERED", self.want[stream][1], choice % 14)
                del self.open[stream]
        self.hand_over()


VERBS = st.tuples(st.sampled_from(("open",) * 2 + ("answer",) * 3 + ("ping", "cancel", "reset")), st.integers(0, 60))


@given(st.lists(VERBS, max_size=40), st.integers(1, 2000))
def test_what_hyper_says_of_streams_is_what_is_found(verbs, size):
    hyper = Hyper()
    del hyper.said[:2]
    for verb, choice in verbs:
        hyper.act(verb, choice)
    cut = [(side, payload[i : i + size]) for side, payload in hyper.said for i in range(0, len(payload), size)]
    found = {stream: o[:3] for stream, o in outcomes(talk(*cut, close="upstream FIN")).items()}
    # A status that stands in the tables of the connection is not known to the kernels.
    assert {s: (o, -1 if found[s][1] == -1 else c, e) for s, (o, c, e) in hyper.want.items()} == found
