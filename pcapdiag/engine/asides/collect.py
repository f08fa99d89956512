"""Picks frames whose bytes are worth reading one by one: ICMP messages, and what opens or ends a TLS connection.

Knows where to look and how much to keep; what the bytes mean is read elsewhere, in Python, of these frames alone.
Bounded: a flood of such frames is counted, not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import FrameKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import FrameBatch

MOST_KEPT = 50_000
"""Frames kept of one kind, per run."""
MOST_BYTES = 2_048
"""[bytes] Kept of one frame."""

_TLS_ALERT, _TLS_HANDSHAKE, _TLS_MAJOR = 21, 22, 3


class AsideKind(IntEnum):
    """What a frame was kept for."""

    ICMP = 0
    """An ICMP or ICMPv6 message, from its first byte."""
    TLS = 1
    """TCP payload that begins with a handshake or alert record."""


@dataclass(frozen=True, slots=True)
class Aside:
    """One frame whose bytes were kept.

    Attributes
    ----------
    frame : int
        0-based index in its capture.
    src, dst : tuple of (int, int, int)
        Address (upper and lower half) and port; port -1 for ICMP.
    seq, ack : int
        Of TCP; -1 without.
    data : bytes
        Captured bytes from the payload's first on, at most `MOST_BYTES`; hostile.
    length : int
        [bytes] Payload on the wire; 0 for ICMP.
    """

    kind: AsideKind
    capture_idx: int
    frame: int
    ts_ns: int
    src: tuple[int, int, int]
    dst: tuple[int, int, int]
    seq: int
    ack: int
    ttl: int
    ip_proto: int
    data: bytes
    length: int


class AsideCollector:
    """Keeps asides of a run: in capture order those of one kind.

    Attributes
    ----------
    kept : list of Aside
    n_dropped : int
        Frames beyond the bound.
    """

    def __init__(self) -> None:
        self.kept: list[Aside] = []
        self.n_dropped = 0
        self._room = dict.fromkeys(AsideKind, MOST_KEPT)

    def take(self, batch: FrameBatch, capture_idx: int) -> None:
        """Keep what a batch holds of such frames.

        Parameters
        ----------
        batch : FrameBatch
            Decoded frames.
        capture_idx : int
            Which capture they are of.
        """
        frames = batch.frames
        for kind, picked in ((AsideKind.ICMP, _icmp(frames)), (AsideKind.TLS, _tls(frames, batch.buffer))):
            n_taken = min(len(picked), self._room[kind])
            self._room[kind] -= n_taken
            self.n_dropped += len(picked) - n_taken
            self.kept.extend(_asides(batch, picked[:n_taken], kind, capture_idx))


def _icmp(frames: np.ndarray[Any, Any]) -> NDArray[np.int64]:
    return np.flatnonzero((frames["kind"] == FrameKind.ICMP) & (frames["payload_cap"] >= 8))


def _tls(frames: np.ndarray[Any, Any], buffer: NDArray[np.uint8]) -> NDArray[np.int64]:
    at = np.flatnonzero((frames["kind"] == FrameKind.TCP) & (frames["payload_cap"] >= 5))
    offset = frames["payload_offset"][at]
    first = buffer[offset]
    is_kind = (first == _TLS_HANDSHAKE) | (first == _TLS_ALERT)
    at, offset = at[is_kind], offset[is_kind]
    picked: NDArray[np.int64] = at[(buffer[offset + 1] == _TLS_MAJOR) & (buffer[offset + 2] <= 4)]
    return picked


def _asides(batch: FrameBatch, picked: NDArray[np.int64], kind: AsideKind, capture_idx: int) -> Iterator[Aside]:
    for row in batch.frames[picked]:
        start = int(row["payload_offset"])
        size = min(int(row["payload_cap"]), MOST_BYTES)
        yield Aside(
            kind=kind,
            capture_idx=capture_idx,
            frame=int(row["frame"]),
            ts_ns=int(row["ts_ns"]),
            src=(int(row["src_hi"]), int(row["src_lo"]), int(row["src_port"])),
            dst=(int(row["dst_hi"]), int(row["dst_lo"]), int(row["dst_port"])),
            seq=int(row["seq"]),
            ack=int(row["ack"]),
            ttl=int(row["ttl"]),
            ip_proto=int(row["ip_proto"]),
            data=batch.buffer[start : start + size].tobytes(),
            length=int(row["payload_len"]),
        )
