"""The tracker's memory and its loop around the kernels.

Owns the live state, lets it grow by doubling up to a bound, and evicts the longest idle connections beyond it. Those
from which nothing more is to be expected go first: a flood of SYNs neither takes all memory nor costs others theirs.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.base.codes import ConnEnd, FrameKind, UndecodedReason
from pcapdiag.base.columns import CONNECTIONS, HISTORY_BYTES, STREAM_EVENTS
from pcapdiag.engine.pool import grown, link_free
from pcapdiag.engine.tcp.kernels import tcp_state as state
from pcapdiag.engine.tcp.kernels.tcp import track_segments
from pcapdiag.engine.tcp.kernels.tcp_end import end_all, give_up_pending
from pcapdiag.engine.tcp.kernels.tcp_table import rehash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import FrameBatch

Rows = np.ndarray[Any, Any]

EVENTS = 3 * 16384 + state.EVENT_MARGIN
ROWS = 4096
_CROWDED_SLOTS = 1 << 16
"""From here on what is spent makes room before memory grows: a slot costs 2.6 kB, the framer's part included."""
_STRAY_NS = 250_000_000
"""[ns] A closed connection is kept at least so long for stray segments, even then."""


class Shard(NamedTuple):
    """A share of the connections of a capture: those whose endpoints hash to its number.

    Attributes
    ----------
    number, n_shards : int
        Which one, from 0, of how many.
    seed : int
        Of the hash, 31 bits: the same for all shards of a capture, and one that a hostile capture cannot know.
    """

    number: int
    n_shards: int
    seed: int


ALL = Shard(0, 1, 0)


@dataclass(slots=True)
class TrackedBatch:
    """What the tracker hands on: valid until the next one is asked for.

    Attributes
    ----------
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        In capture order.
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Connections that ended; the layer above fills in what it knows.
    buffer, piece_bytes : ndarray of uint8
        What `data_offset` points into, for source 0 and 1 (flat).
    """

    events: Rows
    conn_rows: Rows
    buffer: NDArray[np.uint8]
    piece_bytes: NDArray[np.uint8]


class Tracker:
    """TCP connections of one capture, fed batch by batch.

    Parameters
    ----------
    capture_idx : int
        Recorded in each connection's row.
    first_conn : int
        Number of the first connection.
    max_live : int
        Bound on live connections.
    max_pieces : int
        Bound on pieces that wait out of order, of 2 KiB each; beyond it the bytes before them are given up as holes.
    all_segments : bool
        Emit an event for every segment; otherwise the originator's bare acknowledgements are left out, but for
        those that shut its window or open it again.
    shard : Shard
        Which connections to follow.
    """

    def __init__(
        self,
        *,
        capture_idx: int = 0,
        first_conn: int = 0,
        max_live: int = 1 << 17,
        max_pieces: int = 1 << 16,
        all_segments: bool = False,
        shard: Shard = ALL,
    ) -> None:
        self._max_live = max_live
        self._max_pieces = max_pieces
        n_slot = min(1024, max_live)
        n_piece = 256
        conn_rows = CONNECTIONS.empty(ROWS)
        fields = CONNECTIONS.dtype.fields
        assert fields is not None  # noqa: S101 - a structured dtype has fields; this is for the type checker
        self._arrays = state.TrackerArrays(
            live=np.zeros(n_slot, dtype=state.LIVE),
            flows=np.zeros(2 * n_slot, dtype=state.FLOW),
            rings=np.zeros((2 * n_slot, state.RING), dtype=state.RING_SEGMENT),
            table=np.zeros(1 << (4 * n_slot - 1).bit_length(), dtype=np.int32),  # a power of two: kernels mask
            pieces=np.zeros(n_piece, dtype=state.PENDING),
            piece_bytes=np.zeros((n_piece, state.PIECE_BYTES), dtype=np.uint8),
            events=STREAM_EVENTS.empty(EVENTS),
            conn_rows=conn_rows,
            row_bytes=conn_rows.view(np.uint8).reshape(ROWS, CONNECTIONS.dtype.itemsize),
            history=np.zeros((n_slot, HISTORY_BYTES), dtype=np.uint8),
            ctl=np.zeros(1, dtype=state.CONTROL),
            frame_kinds=np.zeros(len(FrameKind), dtype=np.int64),
            undecoded_reasons=np.zeros(len(UndecodedReason), dtype=np.int64),
            history_at=int(fields["history"][1]),
        )
        self._ctl = ctl = self._arrays.ctl[0]
        ctl["seed"] = secrets.randbits(31)
        ctl["capture_idx"] = capture_idx
        ctl["all_segments"] = all_segments
        ctl["shard"], ctl["n_shards"], ctl["shard_seed"] = shard
        ctl["next_conn"] = first_conn
        ctl["now_ns"] = -(1 << 62)
        ctl["drained_piece"] = -1
        ctl["free_slot"] = link_free(self._arrays.live["next_free"], 0, -1)
        ctl["free_piece"] = link_free(self._arrays.pieces["next"], 0, -1)
        ctl["n_free_pieces"] = n_piece

    def _grow_slots(self) -> bool:
        """Double the slots; return False when the bound is reached."""
        s = self._arrays
        n_slot = len(s.live)
        more = min(n_slot, self._max_live - n_slot)
        if more <= 0:
            return False
        self._arrays = s = s._replace(
            live=grown(s.live, more),
            flows=grown(s.flows, 2 * more),
            rings=grown(s.rings, 2 * more),
            history=grown(s.history, more),
            table=np.zeros(2 * len(s.table), dtype=np.int32),
        )
        rehash(s)
        self._ctl["free_slot"] = link_free(s.live["next_free"], n_slot, self._ctl["free_slot"])
        return True

    def _grow_pieces(self) -> bool:
        """Double the pieces; return False when the bound is reached."""
        s = self._arrays
        n_piece = len(s.pieces)
        if n_piece >= self._max_pieces:
            return False
        self._arrays = s = s._replace(pieces=grown(s.pieces, n_piece), piece_bytes=grown(s.piece_bytes, n_piece))
        self._ctl["free_piece"] = link_free(s.pieces["next"], n_piece, self._ctl["free_piece"])
        self._ctl["n_free_pieces"] += n_piece
        return True

    def _take_output(self, buffer: NDArray[np.uint8]) -> TrackedBatch:
        s, ctl = self._arrays, self._ctl
        n_event, n_row = int(ctl["n_events"]), int(ctl["n_rows"])
        ctl["n_events"] = ctl["n_rows"] = 0
        return TrackedBatch(s.events[:n_event], s.conn_rows[:n_row], buffer, s.piece_bytes.reshape(-1))

    def _end(self, *, older_than_ns: int, end: ConnEnd, only_spent: bool = False) -> int:
        return int(end_all(self._arrays, older_than_ns, int(only_spent), int(end)))

    def update(self, batch: FrameBatch) -> Iterator[TrackedBatch]:
        """Track a batch of frames.

        Parameters
        ----------
        batch : FrameBatch
            Decoded frames, in capture order.

        Yields
        ------
        TrackedBatch
            Events in capture order; more than one if the output did not fit.
        """
        start = 0
        n_frame = len(batch.frames)
        while start < n_frame:
            start = int(track_segments(self._arrays, batch.frames, start, n_frame, batch.buffer))
            yield self._take_output(batch.buffer)
            status = self._ctl["status"]
            if status == state.S_NEED_PIECES and not self._grow_pieces():
                yield from self._give_up_pending(batch.buffer)
            elif status == state.S_NEED_SLOTS:
                spent_ns = self._spent_until_ns()
                if spent_ns >= 0:
                    yield from self._evict(batch.buffer, older_than_ns=spent_ns, only_spent=True)
                elif not self._grow_slots():
                    yield from self._evict(batch.buffer, older_than_ns=self._idle_until_ns(), only_spent=False)

    def _give_up_pending(self, buffer: NDArray[np.uint8]) -> Iterator[TrackedBatch]:
        """Let nothing wait out of order any longer."""
        slot = 0
        while slot < len(self._arrays.live):
            slot = int(give_up_pending(self._arrays, slot))
            yield self._take_output(buffer)

    def _idle_until_ns(self) -> int:
        """Return the time of the last segment of the longest idle sixteenth of the connections; all slots are taken."""
        last_ns = self._arrays.live["last_ts_ns"]
        return int(np.partition(last_ns, len(last_ns) // 16)[len(last_ns) // 16])

    def _spent_until_ns(self) -> int:
        """Return the same for the older half of those that are closed, or whose SYN nobody answered.

        -1 where they are few, or all slots together: then there is room for more, and they may stay for stray segments.
        """
        live, flows = self._arrays.live, self._arrays.flows
        if len(live) < min(_CROWDED_SLOTS, self._max_live):
            return -1
        orig, resp = flows[0::2], flows[1::2]
        is_closed = (orig["rst"] | resp["rst"] | (orig["fin"] & resp["fin"])) != 0
        is_closed &= live["last_ts_ns"] < self._ctl["now_ns"] - _STRAY_NS
        is_attempt = (resp["n_frames"] == 0) & (orig["max_offset"] == 0)
        spent_ns = live["last_ts_ns"][is_closed | is_attempt]
        if len(spent_ns) < len(live) // 4:
            return -1
        return int(np.partition(spent_ns, len(spent_ns) // 2)[len(spent_ns) // 2])

    def _evict(self, buffer: NDArray[np.uint8], *, older_than_ns: int, only_spent: bool) -> Iterator[TrackedBatch]:
        while self._end(older_than_ns=older_than_ns, end=ConnEnd.EVICTED, only_spent=only_spent):
            yield self._take_output(buffer)

    def finish(self) -> Iterator[TrackedBatch]:
        """End every connection that is still live.

        Yields
        ------
        TrackedBatch
            The last events and rows.
        """
        nothing = np.zeros(1, dtype=np.uint8)
        while self._end(older_than_ns=-1, end=ConnEnd.CAPTURE_END):
            yield self._take_output(nothing)

    @property
    def live(self) -> Rows:
        """What is known of connections that have not ended: `kernels.tcp_state.LIVE` by slot, to be read only."""
        return self._arrays.live

    @property
    def flows(self) -> Rows:
        """Their directions, `kernels.tcp_state.FLOW`, two for each slot; to be read only."""
        return self._arrays.flows

    def wrap_numbers(self, most: int) -> None:
        """Count connections from 0 again where they are more than `most`: for a capture that never ends."""
        if self._ctl["next_conn"] > most:
            self._ctl["next_conn"] = 0

    @property
    def n_undecoded(self) -> int:
        """Frames that were not understood."""
        return int(self._arrays.frame_kinds[FrameKind.UNDECODED])

    @property
    def n_fragments(self) -> int:
        """Fragments that no frame of their own completed."""
        return int(self._arrays.frame_kinds[FrameKind.FRAGMENT])

    @property
    def undecoded_reasons(self) -> NDArray[np.int64]:
        """Undecoded frames by codes.UndecodedReason, shape (n_reason,)."""
        return self._arrays.undecoded_reasons.copy()

    @property
    def n_connections(self) -> int:
        """Number after the last connection begun."""
        return int(self._ctl["next_conn"])

    @property
    def n_evicted(self) -> int:
        """Connections dropped to keep the bound."""
        return int(self._ctl["n_evicted"])

    @property
    def n_duplicates(self) -> int:
        """Segments captured twice."""
        return int(self._ctl["n_duplicates"])

    @property
    def n_retransmissions(self) -> int:
        """Retransmitted segments."""
        return int(self._ctl["n_retransmissions"])

    @property
    def n_outside(self) -> int:
        """Segments outside any plausible window."""
        return int(self._ctl["n_outside"])

    @property
    def n_holes(self) -> int:
        """Holes in streams."""
        return int(self._ctl["n_holes"])

    @property
    def n_segments(self) -> int:
        """TCP segments tracked."""
        return int(self._ctl["n_segments"])

    @property
    def last_ts_ns(self) -> int:
        """[ns] Latest capture time seen."""
        return int(self._ctl["now_ns"])
