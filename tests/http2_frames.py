"""HTTP/2 in bytes: frames, requests and answers, and whole captures of a connection that carries them."""

import hpack

from tests.scenario import ORIG, RESP, Segment, write_capture

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 32
HEAD = hpack.Encoder().encode([(":method", "POST"), (":path", "/p.S/Call"), (":authority", "h.test")])
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8


def frame(kind, stream=0, payload=b"", flags=0):
    """Return one frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(stream, block=HEAD, flags=END_HEADERS):
    return frame(HEADERS, stream, block, flags)


def data(stream, content=b"content", flags=0):
    return frame(DATA, stream, content, flags)


def reset(stream, error):
    return frame(RST_STREAM, stream, error.to_bytes(4, "big"))


def goaway(last, error=NO_ERROR):
    return frame(GOAWAY, 0, last.to_bytes(4, "big") + error.to_bytes(4, "big") + b"why")


def status(code, *, huffman=False):
    return hpack.Encoder().encode([(":status", str(code)), ("server", "s")], huffman=huffman)


def request(stream):
    """Return a request that is whole."""
    return headers(stream) + data(stream, b"\0\0\0\0\1x", END_STREAM)


def answer(stream, code=200):
    """Return a response that is whole, with trailers as gRPC has them."""
    return headers(stream, status(code)) + data(stream) + headers(stream, b"\x88", END_HEADERS | END_STREAM)


BEGIN = {ORIG: PREFACE + frame(SETTINGS, 0, bytes(6)), RESP: frame(SETTINGS)}
FLAGS = {"FIN": 0x11, "RST": 0x14, "SYN": 0x02}
MS = 10**6


def capture(*said, start=True):
    """Return a capture of one connection to port 50051.

    Parameters
    ----------
    *said : tuple of (int, int, bytes or str)
        When [ms after the one before], who, and the bytes; or `FIN` or `RST`. A fourth one says what is acknowledged:
        all but so many bytes.
    start : bool
        Whether it begins with the handshake and both sides' first words.
    """
    sent, segments, now = {ORIG: 1, RESP: 1}, [], 0
    first = [(0, ORIG, BEGIN[ORIG], 0), (1, RESP, BEGIN[RESP], 0), (1, ORIG, frame(SETTINGS, 0, b"", 1), 0)]
    if start:
        segments = [
            Segment(0, 0, ORIG, 0x02, 0, -1),
            Segment(MS, 0, RESP, 0x12, 0, 1),
            Segment(MS, 0, ORIG, 0x10, 1, 1),
        ]
    for wait, side, what, *behind in (*(first if start else ()), *said):
        now += wait * MS
        ack = sent[1 - side] - sum(behind)
        is_closing = isinstance(what, str)
        payload = b"" if is_closing else what
        segments.append(Segment(now + 2 * MS, 0, side, FLAGS[what] if is_closing else 0x18, sent[side], ack, payload))
        sent[side] += len(payload) + (what == "FIN")
    return write_capture(segments, resp_port=50051)
