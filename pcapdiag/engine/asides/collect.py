"""Picks frames whose bytes are worth reading one by one: ICMP messages, what opens or ends a TLS connection, refusals.

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
MOST_LATER_BYTES = 512
"""[bytes] Kept of a segment that follows a client hello and begins no record of the handshake or alert."""
MOST_REFUSALS = 2_000
"""Answers kept of status 400, per run: their first bytes say why."""
MOST_WATCHED = 20_000
"""Connections whose client hello was seen and whose next segments are kept, at one time."""
MOST_AFTER_HELLO = 12
"""Segments with payload that are kept of a connection after its client hello: few handshakes have more."""

_TLS_ALERT, _TLS_HANDSHAKE, _TLS_MAJOR = 21, 22, 3
_TLS_BEGINS = (20, _TLS_ALERT, _TLS_HANDSHAKE)
"""Change cipher spec stands before what TLS 1.3 encrypts of the handshake: a certificate of the client's, perhaps."""
_CLIENT_HELLO = 1
_REFUSAL = b"HTTP/1.1 400"
_MINOR_AT = 7
"""Where the minor version stands, which may be 0 as well."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


class AsideKind(IntEnum):
    """What a frame was kept for."""

    ICMP = 0
    """An ICMP or ICMPv6 message, from its first byte."""
    TLS = 1
    """TCP payload that begins with a handshake or alert record, or follows a client hello."""
    REFUSAL = 2
    """TCP payload that begins with a response of status 400 in HTTP/1."""


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
        self._room = {**dict.fromkeys(AsideKind, MOST_KEPT), AsideKind.REFUSAL: MOST_REFUSALS}
        self._watched: dict[int, int] = {}

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
        at = np.flatnonzero((frames["kind"] == FrameKind.TCP) & (frames["payload_cap"] > 0))
        for kind, picked in (
            (AsideKind.ICMP, _icmp(frames)),
            (AsideKind.TLS, self._tls(frames, batch.buffer, at)),
            (AsideKind.REFUSAL, _refusals(frames, batch.buffer, at)),
        ):
            n_taken = min(len(picked), self._room[kind])
            self._room[kind] -= n_taken
            self.n_dropped += len(picked) - n_taken
            self.kept.extend(_asides(batch, picked[:n_taken], kind, capture_idx))

    def _tls(self, frames: np.ndarray[Any, Any], buffer: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the frames of handshakes and alerts, and those that follow a client hello on its connection."""
        is_record, is_hello = _tls_records(frames, buffer, at)
        if self._room[AsideKind.TLS] <= 0:
            self._watched.clear()
        if not self._watched and not is_hello.any():
            picked: NDArray[np.int64] = at[is_record]
            return picked
        keys = pair_keys(*(frames[name][at] for name in _PAIR))
        watched = np.fromiter(self._watched, dtype=np.uint64, count=len(self._watched))
        wanted = is_record.copy()
        for n in np.flatnonzero(np.isin(keys, watched) | np.isin(keys, keys[is_hello])).tolist():
            wanted[n] |= self._is_watched(int(keys[n]), is_hello=bool(is_hello[n]))
        chosen: NDArray[np.int64] = at[wanted]
        return chosen

    def _is_watched(self, key: int, *, is_hello: bool) -> bool:
        if is_hello:
            if key not in self._watched and len(self._watched) >= MOST_WATCHED:
                del self._watched[next(iter(self._watched))]
            self._watched[key] = MOST_AFTER_HELLO
            return True
        left = self._watched.get(key, 0)
        if left <= 0:
            return False
        if left == 1:
            del self._watched[key]
        else:
            self._watched[key] = left - 1
        return True


_PAIR = ("src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port")
_KEPT = ("frame", "ts_ns", *_PAIR, "seq", "ack", "ttl", "ip_proto", "payload_offset", "payload_cap", "payload_len")


def pair_keys(*ends: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a number for each pair of endpoints, the same in both directions; others may rarely share it.

    Parameters
    ----------
    *ends : six arrays
        Upper and lower half of the address, and port, of one end and of the other.

    Returns
    -------
    ndarray of uint64
    """
    keys: NDArray[np.uint64] = _endpoint_key(*ends[:3]) + _endpoint_key(*ends[3:])
    return keys


def _endpoint_key(hi: NDArray[Any], lo: NDArray[Any], port: NDArray[Any]) -> NDArray[np.uint64]:
    mixed = hi.astype(np.uint64)
    for part in (lo, port):
        mixed = (mixed ^ part.astype(np.uint64)) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _icmp(frames: np.ndarray[Any, Any]) -> NDArray[np.int64]:
    return np.flatnonzero((frames["kind"] == FrameKind.ICMP) & (frames["payload_cap"] >= 8))


def _refusals(frames: np.ndarray[Any, Any], buffer: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the frames that begin with a status line of HTTP/1 and the status 400."""
    start = frames["payload_offset"][at].astype(np.int64)
    long = np.flatnonzero(frames["payload_cap"][at] >= len(_REFUSAL))
    found = long[buffer[start[long]] == _REFUSAL[0]]
    for n, wanted in enumerate(_REFUSAL):
        if n != _MINOR_AT:
            found = found[buffer[start[found] + n] == wanted]
    picked: NDArray[np.int64] = at[found]
    return picked


def _tls_records(
    frames: np.ndarray[Any, Any], buffer: NDArray[np.uint8], at: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which frames begin with a handshake or alert record, and which with a client hello."""
    is_record, is_hello = np.zeros(len(at), dtype=np.bool_), np.zeros(len(at), dtype=np.bool_)
    size, offset = frames["payload_cap"][at], frames["payload_offset"][at]
    long = np.flatnonzero(size >= 5)
    start = offset[long]
    first = buffer[start]
    is_kind = ((first == _TLS_HANDSHAKE) | (first == _TLS_ALERT)) & (buffer[start + 1] == _TLS_MAJOR)
    is_record[long] = is_kind & (buffer[start + 2] <= 4)
    hello = long[(first == _TLS_HANDSHAKE) & is_record[long] & (size[long] >= 6)]
    is_hello[hello] = buffer[offset[hello] + 5] == _CLIENT_HELLO
    return is_record, is_hello


def _asides(batch: FrameBatch, picked: NDArray[np.int64], kind: AsideKind, capture_idx: int) -> Iterator[Aside]:
    buffer = batch.buffer
    for row in batch.frames[list(_KEPT)][picked].tolist():
        frame, ts_ns, *ends, seq, ack, ttl, ip_proto, start, captured, length = row
        first = int(buffer[start])
        most = MOST_LATER_BYTES if kind is AsideKind.TLS and first not in _TLS_BEGINS else MOST_BYTES
        yield Aside(
            kind=kind,
            capture_idx=capture_idx,
            frame=frame,
            ts_ns=ts_ns,
            src=(ends[0], ends[1], ends[2]),
            dst=(ends[3], ends[4], ends[5]),
            seq=seq,
            ack=ack,
            ttl=ttl,
            ip_proto=ip_proto,
            data=buffer[start : start + min(captured, most)].tobytes(),
            length=length,
        )
