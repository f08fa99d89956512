"""The same segments at both ends: what they say of the clocks, and which of them only one end has.

Works on numbers alone, a bounded part of the connections at a time. A segment is the same at both ends if connection,
direction, sequence number, length and flags are; where the ends cut the stream differently (offloading), bytes decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.ends.join import LONG_BYTES, sent_range
from pcapdiag.base.codes import Direction, Fate, TcpFlag
from pcapdiag.base.columns import SEGMENTS
from pcapdiag.base.tables import RowStore, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.ends.join import Pair

Rows = np.ndarray[Any, Any]

ROWS_AT_ONCE = 1 << 19
"""Rows of one end that are joined at a time."""

_MARKS = TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST
_REL_BITS = 34
_REL_ZERO = 1 << 33
_SLOTS = 1024
_SAMPLES = 4096


class SegmentLog:
    """Keeps the segments of one run that the other end must have seen, too: all but the originator's bare ACKs."""

    def __init__(self) -> None:
        self._store = RowStore(SEGMENTS)

    def append(self, segments: Table) -> None:
        """Take the segments of a batch (a `segment_sink` of the engine)."""
        rows = segments.rows
        is_kept = (rows["payload_len"] > 0) | ((rows["flags"] & int(_MARKS)) != 0) | (rows["dir"] == Direction.RESP)
        self._store.append(rows[is_kept & (rows["fate"] != Fate.DUPLICATE_CAPTURE)])

    def __len__(self) -> int:
        return self._store.n_rows

    def select(self, group_of: NDArray[np.int32], part: int, n_part: int) -> tuple[Rows, NDArray[np.int32]]:
        """Return the rows of the groups that belong to one part, and each row's group.

        Parameters
        ----------
        group_of : ndarray of int32, shape (n_conn,)
            Group of each connection; -1 is none.
        part, n_part : int
            Groups are dealt to parts in turn.

        Returns
        -------
        rows : ndarray of SEGMENTS.dtype, shape (n_row,)
            In capture order.
        groups : ndarray of int32, shape (n_row,)
            Group of each row.
        """
        rows, groups = [SEGMENTS.empty()], [np.empty(0, dtype=np.int32)]
        for chunk in self._store.read_chunks():
            group = group_of[chunk["conn"]]
            is_mine = (group >= 0) & (group % n_part == part)
            rows.append(chunk[is_mine])
            groups.append(group[is_mine])
        return np.concatenate(rows), np.concatenate(groups)


def part_count(*logs: SegmentLog) -> int:
    """Return into how many parts the connections must be divided to keep memory bounded."""
    return 1 + max(len(log) for log in logs) // ROWS_AT_ONCE


@dataclass(slots=True)
class Samples:
    """Times of the same segments at both ends of one path, in one direction.

    Attributes
    ----------
    ts_ns, apart_ns : list of ndarray of int64
        [ns] For slots of time: the proxy's time, and the least receiver's time minus sender's.
    delays : list of ndarray of int64, shape (n, 2)
        [ns] Some of all segments, evenly chosen: the same two numbers.
    """

    ts_ns: list[NDArray[np.int64]] = field(default_factory=list)
    apart_ns: list[NDArray[np.int64]] = field(default_factory=list)
    delays: list[NDArray[np.int64]] = field(default_factory=list)
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class OneSided:
    """Segments that one end has and the other lacks; `n` of each, seen at `ts_ns` of the one that has them.

    `to_upstream` is their direction; `is_missed`: the other end's capture lacks what its machine acknowledged or sent.
    `at_proxy`: the proxy's capture has them.
    """

    path: NDArray[np.int32]
    ts_ns: NDArray[np.int64]
    n: NDArray[np.int64]
    at_proxy: bool
    to_upstream: bool
    is_missed: bool


@dataclass(slots=True)
class Matched:
    """What matching found: samples by path and direction, and the one-sided segments."""

    samples: dict[tuple[int, Direction], Samples]
    one_sided: list[OneSided]


def match_segments(
    near: SegmentLog, far: SegmentLog, pairs: Sequence[Pair], path_of: NDArray[np.int32], *, sizes: tuple[int, int]
) -> Matched:
    """Match the segments of joined connections.

    Parameters
    ----------
    near, far : SegmentLog
        Segments of both ends.
    pairs : sequence of Pair
        The joined connections.
    path_of : ndarray of int32, shape (n_pair,)
        Number of each pair's path (captures and upstream).
    sizes : (int, int)
        Connections of the near and of the far end.

    Returns
    -------
    Matched
    """
    frame = _Frame(pairs)
    near_group, far_group = frame.groups(sizes)
    n_part = part_count(near, far)
    matched = Matched({}, [])
    for part in range(n_part):
        ends = [
            _place(frame, *log.select(group, part, n_part), is_far=is_far)
            for log, group, is_far in ((near, near_group, False), (far, far_group, True))
        ]
        _match_part(frame, ends[0], ends[1], path_of, matched)
    return matched


class _Frame:
    """Where sequence numbers of each pair are counted from."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        n_pair = len(pairs)
        self._pairs = pairs
        self.flipped = np.array([pair.is_flipped for pair in pairs], dtype=bool).reshape(n_pair)
        self.base = np.full((n_pair, 2), -1, dtype=np.int64)
        self.acknowledged = np.full((n_pair, 2), -_REL_ZERO, dtype=np.int64)
        for number, pair in enumerate(pairs):
            ends = (pair.near, pair.far)
            starts = [
                [sent_range(row.orig_isn, row.resp_max_ack, row.orig_bytes) for row in ends],
                [sent_range(row.resp_isn, row.orig_max_ack, row.resp_bytes) for row in ends],
            ]
            for direction, ranges in enumerate(starts):
                if max(row.orig_bytes if direction == Direction.ORIG else row.resp_bytes for row in ends) < LONG_BYTES:
                    # Where nothing says where the stream began, any number will do.
                    self.base[number, direction] = next((start for start, length in ranges if length >= 0), 0)
            acks = ((row.resp_max_ack, row.orig_max_ack) for row in ends)
            for direction, values in enumerate(zip(*acks, strict=True)):
                rel = [_relative(np.int64(a), self.base[number, direction]) for a in values if a >= 0]
                self.acknowledged[number, direction] = max(rel, default=-_REL_ZERO)

    def groups(self, sizes: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the pair of each connection at both ends; -1 where there is none that can be measured."""
        near, far = (np.full(size, -1, dtype=np.int32) for size in sizes)
        for number, pair in enumerate(self._pairs):
            # A connection in two of the proxy's captures is measured once.
            if (self.base[number] >= 0).all() and far[pair.far.conn] < 0:
                near[pair.near.conn] = far[pair.far.conn] = number
        return near, far


def _relative(seq: Any, base: Any) -> Any:
    d = (seq - base) & 0xFFFFFFFF
    return d - ((d & 0x80000000) << 1)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Segments of one end: `place` orders them by pair, direction and sequence number."""

    place: NDArray[np.int64]
    length: NDArray[np.int64]
    marks: NDArray[np.int64]
    ts_ns: NDArray[np.int64]
    fate: NDArray[np.int8]


def _place(frame: _Frame, rows: Rows, group: NDArray[np.int32], *, is_far: bool) -> _Placed:
    marks = (rows["flags"] & int(_MARKS)).astype(np.int64)
    is_stream = (rows["payload_len"] > 0) | (marks != 0)
    rows, group, marks = rows[is_stream], group[is_stream].astype(np.int64), marks[is_stream]
    direction = rows["dir"].astype(np.int64)
    if is_far:
        direction ^= frame.flipped[group].astype(np.int64)
    rel = _relative(rows["seq"], frame.base[group, direction])
    length = rows["payload_len"] + ((marks & int(TcpFlag.SYN)) != 0) + ((marks & int(TcpFlag.FIN)) != 0)
    return _Placed(
        place=((group * 2 + direction) << _REL_BITS) + rel + _REL_ZERO,
        length=length.astype(np.int64),
        marks=marks,
        ts_ns=rows["ts_ns"],
        fate=rows["fate"],
    )


def _match_part(frame: _Frame, near: _Placed, far: _Placed, path_of: NDArray[np.int32], matched: Matched) -> None:
    place = np.concatenate([near.place, far.place])
    if not len(place):
        return
    length, marks = np.concatenate([near.length, far.length]), np.concatenate([near.marks, far.marks])
    is_far = np.concatenate([np.zeros(len(near.place), np.int64), np.ones(len(far.place), np.int64)])
    order = np.lexsort((is_far, marks, length, place))
    place, length, marks, is_far = place[order], length[order], marks[order], is_far[order]
    is_new = np.ones(len(place), dtype=bool)
    is_new[1:] = (place[1:] != place[:-1]) | (length[1:] != length[:-1]) | (marks[1:] != marks[:-1])
    start = np.flatnonzero(is_new)
    n_far = np.add.reduceat(is_far, start)
    n_near = np.diff(np.append(start, len(place))) - n_far
    first_near = order[start]
    first_far = order[np.minimum(start + n_near, len(order) - 1)] - len(near.place)
    place, length, marks = place[start], length[start], marks[start]
    flow = place >> _REL_BITS
    path, direction = path_of[flow >> 1], flow & 1
    is_once = (n_near == 1) & (n_far == 1)
    _sample(near, far, first_near[is_once], first_far[is_once], path[is_once], direction[is_once], matched)
    # From here on transmissions are counted, by the end that sent them.
    is_stream = length > 0
    is_acknowledged = frame.acknowledged[flow >> 1, direction] >= (
        (place & ((1 << _REL_BITS) - 1)) - _REL_ZERO + length
    )
    for to_upstream in (True, False):
        sender, receiver = (near, far) if to_upstream else (far, near)
        n_sent, n_received = (n_near, n_far) if to_upstream else (n_far, n_near)
        first_sent, first_received = (first_near, first_far) if to_upstream else (first_far, first_near)
        mine = is_stream & (direction == (Direction.ORIG if to_upstream else Direction.RESP))
        is_elsewhere = _covered(receiver, place)
        unseen = mine & (n_sent > 0) & (n_received == 0) & ~is_elsewhere
        again = mine & (n_sent > n_received) & (n_received > 0)
        made_up = mine & (n_sent == 0) & ~_covered(sender, place)
        lost = np.where(again, n_sent - n_received, np.where(unseen, n_sent - is_acknowledged, 0))
        for n, seen, end, is_missed, is_at_sender in (
            (lost, first_sent, sender, False, True),
            (unseen & is_acknowledged, first_sent, sender, True, True),
            (np.where(made_up, n_received, 0), first_received, receiver, True, False),
        ):
            index = np.flatnonzero(n)
            if len(index):
                at_proxy = is_at_sender == to_upstream
                ts_ns = end.ts_ns[seen[index]]
                matched.one_sided.append(
                    OneSided(path[index], ts_ns, n[index].astype(np.int64), at_proxy, to_upstream, is_missed)
                )


def _covered(end: _Placed, place: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether `end` has the byte at each place, in whatever segment."""
    has_bytes = np.flatnonzero(end.length > 0)
    if not len(has_bytes):
        return np.zeros(len(place), dtype=bool)
    order = has_bytes[np.argsort(end.place[has_bytes], kind="stable")]
    start = end.place[order]
    reach = np.maximum.accumulate(start + end.length[order])
    before = np.searchsorted(start, place, side="right") - 1
    covered: NDArray[np.bool_] = (before >= 0) & (reach[np.maximum(before, 0)] > place)
    return covered


def _sample(
    near: _Placed,
    far: _Placed,
    first_near: NDArray[np.int64],
    first_far: NDArray[np.int64],
    path: NDArray[np.int32],
    direction: NDArray[np.int64],
    matched: Matched,
) -> None:
    """Note the times of segments that each end has once, where nothing says that they are not the same transmission."""
    for way in (Direction.ORIG, Direction.RESP):
        sender, receiver = (near.fate, first_near), (far.fate, first_far)
        if way is Direction.RESP:
            sender, receiver = receiver, sender
        is_clear = (
            (direction == way)
            & np.isin(sender[0][sender[1]], (Fate.NEW, Fate.RESET))
            & np.isin(receiver[0][receiver[1]], (Fate.NEW, Fate.OUT_OF_ORDER, Fate.RESET))
        )
        near_ns, far_ns = near.ts_ns[first_near[is_clear]], far.ts_ns[first_far[is_clear]]
        apart = far_ns - near_ns if way is Direction.ORIG else near_ns - far_ns
        for number, ts_ns, apart_ns in _by_path(path[is_clear], near_ns, apart):
            samples = matched.samples.setdefault((number, way), Samples())
            samples.pairs += len(ts_ns)
            least = _least_by_slot(ts_ns, apart_ns)
            samples.ts_ns.append(ts_ns[least])
            samples.apart_ns.append(apart_ns[least])
            some = slice(None, None, 1 + len(ts_ns) // _SAMPLES)
            samples.delays.append(np.stack([ts_ns[some], apart_ns[some]], axis=1))


def _by_path(
    path: NDArray[np.int32], *columns: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    for number in np.unique(path).tolist():
        mine = path == number
        ts_ns, apart_ns = (column[mine] for column in columns)
        yield number, ts_ns, apart_ns


def _least_by_slot(ts_ns: NDArray[np.int64], apart_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the least distance in each slot of time: all that clocks can be measured by."""
    first = int(ts_ns.min())
    slot = (ts_ns - first) // (1 + (int(ts_ns.max()) - first) // _SLOTS)
    order = np.lexsort((apart_ns, slot))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = slot[order][1:] != slot[order][:-1]
    return order[is_first]
