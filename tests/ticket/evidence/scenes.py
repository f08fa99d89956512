"""A race with secrets in it, in whatever form a capture may have, and the evidence of it read back."""

import io
from itertools import pairwise

import pcapdiag
from tests.lab_truth import read_records
from tests.scenario import ORIG, RESP, Form, Segment, parse, write_capture

FIELD, COOKIE, QUERY, USER, BODY, REPLY = (f"{word}5ecret{number}" for number, word in enumerate("abcdef"))
SECRETS = (FIELD, COOKIE, QUERY, USER, BODY, REPLY)

REQUEST = (
    f"POST /orders?id=7&token={QUERY} HTTP/1.1\r\nHost: shop.example.test\r\nAuthorization: Bearer {FIELD}\r\n"
    f"X-Api-Key: {FIELD}\r\nCookie: sid={COOKIE}; theme=dark\r\nReferer: https://{USER}@a.example.test/x?q={QUERY}\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()
RESPONSE = (
    f"HTTP/1.1 200 OK\r\nServer: nginx\r\nSet-Cookie: sid={COOKIE}; Path=/\r\nLocation: /done?session={QUERY}\r\n"
    f"Content-Length: {len(REPLY)}\r\n\r\n{REPLY}"
).encode()

START = "+0 > S\n+0.08 < S.\n+0.08 > .\n"


def segments_of(cuts, message, *, at_ns, direction, seq, ack, conn=0):
    """Return the segments of a message cut at the given offsets, a microsecond apart."""
    edges = [0, *sorted({c for c in cuts if 0 < c < len(message)}), len(message)]
    return [
        Segment(at_ns + n * 1000, conn, direction, 0x18, seq + low, ack, message[low:high])
        for n, (low, high) in enumerate(pairwise(edges))
    ]


def race(cuts=(), *, conn=0, start_ns=0, request=REQUEST, response=RESPONSE):
    """Return a connection whose second request crosses the upstream's FIN; both messages are cut at `cuts`."""
    ms = 1_000_000
    opened = [Segment(start_ns + s.ts_ns, conn, s.dir, s.flags, s.seq, s.ack) for s in parse(START)]
    at = start_ns + 170 * ms
    first = segments_of(cuts, request, at_ns=at, direction=ORIG, seq=1, ack=1, conn=conn)
    answer = segments_of(cuts, response, at_ns=at + 170 * ms, direction=RESP, seq=1, ack=1 + len(request), conn=conn)
    after = at + 340 * ms
    here, there = 1 + len(request), 1 + len(response)
    idle = 3_900 * ms
    second = segments_of(cuts, request, at_ns=after + idle, direction=ORIG, seq=here, ack=there, conn=conn)
    end = second[-1].ts_ns
    closing = [
        Segment(after + 10, conn, ORIG, 0x10, here, there),
        *second,
        Segment(end + 60 * ms, conn, RESP, 0x11, there, here),
        Segment(end + 61 * ms, conn, ORIG, 0x11, here + len(request), there + 1),
        Segment(end + 160 * ms, conn, RESP, 0x04, there, -1),
    ]
    return [*opened, *first, *answer, *closing]


def in_time(*connections):
    return sorted((s for c in connections for s in c), key=lambda s: s.ts_ns)


def write(path, segments, **form):
    path.write_bytes(write_capture(segments, Form(**form)))
    return path


def evidence(*paths, write_to=None, anonymize=False, redact=True, options=None, **choice):
    """Return the bytes of the evidence and its summary; `options` go to the analysis."""
    result = pcapdiag.analyze(*paths, anonymize=anonymize, redact=redact, **(options or {}))
    out = io.BytesIO()
    summary = result.write_evidence(out, **choice)
    if write_to is not None:
        write_to.write_bytes(out.getvalue())
    return out.getvalue(), summary


def frames_of(path):
    """Return (time in ns, link type, captured bytes) of every frame, by a decoder of the tests' own."""
    return list(read_records(path))


def losses_of(*paths, **options):
    """Return what makes a lost request the same one in another capture: code, time, idle gap, how it was closed."""
    report = pcapdiag.analyze(*paths, **options).report
    return sorted(
        (f.code, o.request_ts_ns, o.idle_before_ns, o.closing_kind) for f in report.findings for o in f.occurrences
    )
