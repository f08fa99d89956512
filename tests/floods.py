"""Floods made by numpy: very many connections of a few frames each, as a scan, an attack or an hour of failures brings.

Each kind is a list of frames (who sends it, when, flags, seq, ack, payload); all connections of a kind are alike but
for their client and their time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
REQUEST = b"GET /a?b=c HTTP/1.1\r\nHost: be\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SENT, _GOT = 1 + len(REQUEST), 1 + len(RESPONSE)
_CLIENTS, _SERVER, _START_S = 0x0A0A0000, 0x0A090050, 1_796_000_000
_HEADER = np.array([(0xA1B23C4D, 2, 4, 0, 0, 65535, 101)], dtype="<u4,<u2,<u2,<i4,<u4,<u4,<u4").tobytes()
_IP_TCP = np.dtype(
    [
        *(("s", "<u4"), ("ns", "<u4"), ("cap", "<u4"), ("wire", "<u4")),
        *(("ver", "u1"), ("tos", "u1"), ("len", ">u2"), ("id", ">u2"), ("frag", ">u2"), ("ttl", "u1"), ("proto", "u1")),
        *(("sum", ">u2"), ("src", ">u4"), ("dst", ">u4"), ("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4")),
        *(("ack", ">u4"), ("off", "u1"), ("flags", "u1"), ("win", ">u2"), ("tsum", ">u2"), ("urg", ">u2")),
    ]
)


class Sent(NamedTuple):
    """One frame of every connection of a kind, `at_ms` after its beginning."""

    at_ms: float
    by_server: bool
    flags: int
    seq: int = 0
    ack: int = 0
    payload: bytes = b""
    ttl: int = 64


OPENED = (Sent(0, False, SYN), Sent(0.2, True, SYN | ACK, 0, 1), Sent(0.3, False, ACK, 1, 1))
ASKED = (*OPENED, Sent(0.5, False, PSH | ACK, 1, 1, REQUEST))
ANSWERED = (*ASKED, Sent(1, True, PSH | ACK, 1, _SENT, RESPONSE))

SILENT = (Sent(0, False, SYN), Sent(1000, False, SYN), Sent(3000, False, SYN))
REFUSED = (Sent(0, False, SYN), Sent(0.2, True, RST | ACK, 0, 1))
CLOSED = (*ASKED, Sent(0.9, True, ACK, 1, _SENT), Sent(40, True, FIN | ACK, 1, _SENT))
RESET = (*ASKED, Sent(0.9, True, ACK, 1, _SENT), Sent(60, True, RST | ACK, 1, _SENT))
RACED = (
    *ANSWERED,
    Sent(2001, False, PSH | ACK, _SENT, _GOT, REQUEST),
    Sent(2001.1, True, FIN | ACK, _GOT, _SENT),
    Sent(2001.3, True, RST, _GOT + 1),
)
CUT = (*ASKED, Sent(1, True, PSH | ACK, 1, _SENT, RESPONSE[:-1]), Sent(2, True, FIN | ACK, _GOT - 1, _SENT))


def write_flood(
    path: Path, kinds: Sequence[tuple[Sequence[Sent], int]], *, each_ns: int = 20_000, ports: int = 1
) -> Path:
    """Write a pcap file of so many connections of each kind, begun `each_ns` after one another, kinds taking turns.

    `ports` is the number of server ports that they go to, from 8080 on.
    """
    rng = np.random.default_rng(1)
    of_kind = np.repeat(np.arange(len(kinds)), [n for _, n in kinds])
    rng.shuffle(of_kind)
    parts = []
    for number, (frames, _) in enumerate(kinds):
        conns = np.flatnonzero(of_kind == number).astype(np.int64)
        parts += [_frames(conns, sent, each_ns, ports) for sent in frames]
    times = np.concatenate([times for times, _ in parts])
    starts = np.cumsum([0, *(len(times) for times, _ in parts)])
    with path.open("wb") as file:
        file.write(_HEADER)
        for at in np.argsort(times, kind="stable").tolist():
            part = int(np.searchsorted(starts, at, side="right")) - 1
            file.write(parts[part][1][at - starts[part]])
    return path


def _frames(conns: np.ndarray, sent: Sent, each_ns: int, ports: int) -> tuple[np.ndarray, list[bytes]]:
    rows = np.zeros(len(conns), dtype=_IP_TCP)
    times = conns * each_ns + int(sent.at_ms * 1_000_000)
    rows["s"], rows["ns"] = _START_S + times // 10**9, times % 10**9
    rows["cap"] = rows["wire"] = rows["len"] = 40 + len(sent.payload)
    for name, value in (("ver", 0x45), ("ttl", sent.ttl), ("proto", 6), ("off", 0x50), ("win", 1000)):
        rows[name] = value
    client, server = (_CLIENTS + conns // 60000, 1024 + conns % 60000), (_SERVER, 8080 + conns % ports)
    (src, sport), (dst, dport) = (server, client) if sent.by_server else (client, server)
    rows["src"], rows["sport"], rows["dst"], rows["dport"] = src, sport, dst, dport
    rows["flags"], rows["seq"], rows["ack"] = sent.flags, sent.seq, sent.ack
    return times, [row.tobytes() + sent.payload for row in rows]
