"""The tracker's memory and its loop around the kernels.

Owns the live state, lets it grow by doubling up to a bound, and evicts the longest idle connections beyond it, so that
a flood of SYNs cannot exhaust memory.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.codes import ConnEnd, FrameKind, UndecodedReason
from pcapdiag.columns import CONNECTIONS, FRAMES, HISTORY_BYTES, STREAM_EVENTS
from pcapdiag.kernels import tcp_state as state
from pcapdiag.kernels.tcp import end_all, track_segments
from pcapdiag.kernels.tcp_table import rehash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.capture.batch import FrameBatch

Rows = np.ndarray[Any, Any]

EVENTS = 3 * 16384 + state.EVENT_MARGIN
ROWS = 4096


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
    all_segments : bool
        Emit an event for every segment; otherwise the originator's bare acknowledgements are left out.
    shard : Shard
        Which connections to follow.
    """

    def __init__(
        self,
        *,
        capture_idx: int = 0,
        first_conn: int = 0,
        max_live: int = 1 << 18,
        all_segments: bool = False,
        shard: Shard = ALL,
    ) -> None:
        self._max_live = max_live
        n_slot = min(1024, max_live)
        n_piece = 256
        self._live = np.zeros(n_slot, dtype=state.LIVE)
        self._flows = np.zeros(2 * n_slot, dtype=state.FLOW)
        self._rings = np.zeros((2 * n_slot, state.RING, state.RING_COLUMNS), dtype=np.int64)
        self._history = np.zeros((n_slot, HISTORY_BYTES), dtype=np.uint8)
        self._table = np.zeros(1 << (4 * n_slot - 1).bit_length(), dtype=np.int32)  # a power of two: kernels mask
        self._pieces = np.zeros(n_piece, dtype=state.PENDING)
        self._piece_bytes = np.zeros((n_piece, state.PIECE_BYTES), dtype=np.uint8)
        self._events = np.zeros(EVENTS, dtype=STREAM_EVENTS.dtype)
        self._conn_rows = np.zeros(ROWS, dtype=CONNECTIONS.dtype)
        self._row_bytes = self._conn_rows.view(np.uint8).reshape(ROWS, CONNECTIONS.dtype.itemsize)
        fields = CONNECTIONS.dtype.fields
        assert fields is not None  # noqa: S101 - a structured dtype has fields; this is for the type checker
        self._history_at = int(fields["history"][1])
        self._ctl = np.zeros(state.CONTROL_WORDS, dtype=np.int64)
        self._ctl[state.C_SEED] = secrets.randbits(31)
        self._ctl[state.C_CAPTURE] = capture_idx
        self._ctl[state.C_ALL_SEGMENTS] = all_segments
        self._ctl[state.C_SHARD], self._ctl[state.C_N_SHARDS], self._ctl[state.C_SHARD_SEED] = shard
        self._ctl[state.C_NEXT_CONN] = first_conn
        self._ctl[state.C_NOW] = -(1 << 62)
        self._ctl[state.C_DRAINED_PIECE] = -1
        self._ctl[state.C_FREE_SLOT] = -1
        self._ctl[state.C_FREE_PIECE] = -1
        self._link_slots(0, n_slot)
        self._link_pieces(0, n_piece)

    def _link_slots(self, start: int, stop: int) -> None:
        following = np.arange(start + 1, stop + 1, dtype=np.int32)
        following[-1] = self._ctl[state.C_FREE_SLOT]
        self._live["next_free"][start:stop] = following
        self._ctl[state.C_FREE_SLOT] = start

    def _link_pieces(self, start: int, stop: int) -> None:
        following = np.arange(start + 1, stop + 1, dtype=np.int32)
        following[-1] = self._ctl[state.C_FREE_PIECE]
        self._pieces["next"][start:stop] = following
        self._ctl[state.C_FREE_PIECE] = start
        self._ctl[state.C_N_FREE_PIECES] += stop - start

    def _grow_slots(self) -> bool:
        """Double the slots; return False when the bound is reached."""
        n_slot = len(self._live)
        more = min(n_slot, self._max_live - n_slot)
        if more <= 0:
            return False
        self._live = np.concatenate([self._live, np.zeros(more, dtype=state.LIVE)])
        self._flows = np.concatenate([self._flows, np.zeros(2 * more, dtype=state.FLOW)])
        self._rings = np.concatenate([self._rings, np.zeros((2 * more, *self._rings.shape[1:]), dtype=np.int64)])
        self._history = np.concatenate([self._history, np.zeros((more, HISTORY_BYTES), dtype=np.uint8)])
        self._table = np.zeros(2 * len(self._table), dtype=np.int32)
        rehash(self._arrays())
        self._link_slots(n_slot, n_slot + more)
        return True

    def _grow_pieces(self) -> None:
        n_piece = len(self._pieces)
        self._pieces = np.concatenate([self._pieces, np.zeros(n_piece, dtype=state.PENDING)])
        self._piece_bytes = np.concatenate([self._piece_bytes, np.zeros((n_piece, state.PIECE_BYTES), dtype=np.uint8)])
        self._link_pieces(n_piece, 2 * n_piece)

    def _take_output(self, buffer: NDArray[np.uint8]) -> TrackedBatch:
        n_event = int(self._ctl[state.C_N_EVENTS])
        n_row = int(self._ctl[state.C_N_ROWS])
        self._ctl[state.C_N_EVENTS] = 0
        self._ctl[state.C_N_ROWS] = 0
        return TrackedBatch(self._events[:n_event], self._conn_rows[:n_row], buffer, self._piece_bytes.reshape(-1))

    def _arrays(self) -> state.TrackerArrays:
        return state.TrackerArrays(
            live=self._live,
            flows=self._flows,
            rings=self._rings,
            table=self._table,
            pieces=self._pieces,
            piece_bytes=self._piece_bytes,
            events=self._events,
            conn_rows=self._conn_rows,
            row_bytes=self._row_bytes,
            history=self._history,
            ctl=self._ctl,
            history_at=self._history_at,
        )

    def _end(self, *, older_than_ns: int, end: ConnEnd) -> int:
        return int(end_all(self._arrays(), older_than_ns, int(end)))

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
            start = int(track_segments(self._arrays(), batch.frames, start, n_frame, batch.buffer))
            yield self._take_output(batch.buffer)
            status = self._ctl[state.C_STATUS]
            if status == state.S_NEED_PIECES:
                self._grow_pieces()
            elif status == state.S_NEED_SLOTS and not self._grow_slots():
                yield from self._evict(batch.buffer)

    def _evict(self, buffer: NDArray[np.uint8]) -> Iterator[TrackedBatch]:
        """End the longest idle sixteenth of the connections."""
        ages = self._live["last_ts_ns"][self._live["in_use"] == 1]
        limit = int(np.partition(ages, len(ages) // 16)[len(ages) // 16])
        while n_ended := self._end(older_than_ns=limit, end=ConnEnd.EVICTED):
            self._ctl[state.C_N_EVICTED] += n_ended
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
        return self._live

    @property
    def flows(self) -> Rows:
        """Their directions, `kernels.tcp_state.FLOW`, two for each slot; to be read only."""
        return self._flows

    def wrap_numbers(self, most: int) -> None:
        """Count connections from 0 again where they are more than `most`: for a capture that never ends."""
        if self._ctl[state.C_NEXT_CONN] > most:
            self._ctl[state.C_NEXT_CONN] = 0

    @property
    def n_undecoded(self) -> int:
        """Frames that were not understood."""
        return int(self._ctl[state.C_KINDS + FrameKind.UNDECODED])

    @property
    def n_fragments(self) -> int:
        """Fragments that no frame of their own completed."""
        return int(self._ctl[state.C_KINDS + FrameKind.FRAGMENT])

    @property
    def undecoded_reasons(self) -> NDArray[np.int64]:
        """Undecoded frames by codes.UndecodedReason, shape (n_reason,)."""
        return self._ctl[state.C_REASONS : state.C_REASONS + len(UndecodedReason)].copy()

    @property
    def n_connections(self) -> int:
        """Number after the last connection begun."""
        return int(self._ctl[state.C_NEXT_CONN])

    @property
    def n_evicted(self) -> int:
        """Connections dropped to keep the bound."""
        return int(self._ctl[state.C_N_EVICTED])

    @property
    def n_duplicates(self) -> int:
        """Segments captured twice."""
        return int(self._ctl[state.C_N_DUPLICATES])

    @property
    def n_retransmissions(self) -> int:
        """Retransmitted segments."""
        return int(self._ctl[state.C_N_RETRANSMISSIONS])

    @property
    def n_outside(self) -> int:
        """Segments outside any plausible window."""
        return int(self._ctl[state.C_N_OUTSIDE])

    @property
    def n_holes(self) -> int:
        """Holes in streams."""
        return int(self._ctl[state.C_N_HOLES])

    @property
    def n_segments(self) -> int:
        """TCP segments tracked."""
        return int(self._ctl[state.C_N_TCP])

    @property
    def last_ts_ns(self) -> int:
        """[ns] Latest capture time seen."""
        return int(self._ctl[state.C_NOW])


def compile_tracker() -> None:
    """Compile the tracker's kernels, or load them from the cache."""
    tracker = Tracker(max_live=2)
    arrays = tracker._arrays()  # noqa: SLF001 - the types of its own arrays are what counts
    track_segments(arrays, FRAMES.empty(1), 0, 0, np.zeros(1, dtype=np.uint8))
    end_all(arrays, -1, int(ConnEnd.CAPTURE_END))
    rehash(arrays)
