"""The framer's memory and its loop around the kernel.

Owns the state of live connections beside the tracker's (same slots), the pool of open exchanges and the scratch rows
of incomplete heads; all grow by doubling. Finished rows go to the stores it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS, STREAM_EVENTS, ByteStore, RowStore
from pcapdiag.kernels import http_state as state
from pcapdiag.kernels.http import frame_exchanges

if TYPE_CHECKING:
    from pcapdiag.tcp.tracker import TrackedBatch

Rows = np.ndarray[Any, Any]

OUT_ROWS = 16384
OUT_KEYS = 2 * state.KEY_MARGIN
TEXT_BYTES = 4 * state.TEXT_MARGIN


class Framer:
    """Exchanges of one capture, fed with the tracker's batches.

    Parameters
    ----------
    exchanges : RowStore
        Gets the finished exchanges (`columns.EXCHANGES`).
    key_segments : RowStore
        Gets the key segments of lost ones (`columns.KEY_SEGMENTS`).
    texts : ByteStore
        Gets targets, hosts, request identifiers and Server fields.
    """

    def __init__(self, exchanges: RowStore, key_segments: RowStore, texts: ByteStore) -> None:
        self._exchanges = exchanges
        self._key_segments = key_segments
        self._texts = texts
        n_slot, n_open, n_scratch = 1024, 1024, 64
        self._conns = np.zeros(n_slot, dtype=state.CONN)
        self._flows = np.zeros(2 * n_slot, dtype=state.FLOW)
        self._keys = np.zeros((n_slot, state.N_KEYS), dtype=KEY_SEGMENTS.dtype)
        self._opened = np.zeros(n_open, dtype=state.OPEN)
        self._rows = np.zeros(n_open, dtype=EXCHANGES.dtype)
        self._scratch = np.zeros(n_scratch * state.SCRATCH_BYTES, dtype=np.uint8)
        self._free_next = np.zeros(n_scratch, dtype=np.int32)
        self._text = np.zeros(TEXT_BYTES, dtype=np.uint8)
        self._out_rows = np.zeros(OUT_ROWS, dtype=EXCHANGES.dtype)
        self._out_keys = np.zeros(OUT_KEYS, dtype=KEY_SEGMENTS.dtype)
        self._ctl = np.zeros(state.CONTROL_WORDS, dtype=np.int64)
        self._ctl[state.C_TEXT_BASE] = len(texts)
        self._ctl[state.C_FREE_OPEN] = -1
        self._ctl[state.C_FREE_SCRATCH] = -1
        self._link_opened(0, n_open)
        self._link_scratch(0, n_scratch)

    def _link_opened(self, start: int, stop: int) -> None:
        following = np.arange(start + 1, stop + 1, dtype=np.int32)
        following[-1] = self._ctl[state.C_FREE_OPEN]
        self._opened["next"][start:stop] = following
        self._ctl[state.C_FREE_OPEN] = start
        self._ctl[state.C_N_FREE_OPEN] += stop - start

    def _link_scratch(self, start: int, stop: int) -> None:
        following = np.arange(start + 1, stop + 1, dtype=np.int32)
        following[-1] = self._ctl[state.C_FREE_SCRATCH]
        self._free_next[start:stop] = following
        self._ctl[state.C_FREE_SCRATCH] = start
        self._ctl[state.C_N_FREE_SCRATCH] += stop - start

    def _grow_slots(self, n_slot: int) -> None:
        have = len(self._conns)
        more = max(n_slot, 2 * have) - have
        self._conns = np.concatenate([self._conns, np.zeros(more, dtype=state.CONN)])
        self._flows = np.concatenate([self._flows, np.zeros(2 * more, dtype=state.FLOW)])
        self._keys = np.concatenate([self._keys, np.zeros((more, state.N_KEYS), dtype=KEY_SEGMENTS.dtype)])

    def _grow_opened(self) -> None:
        have = len(self._opened)
        self._opened = np.concatenate([self._opened, np.zeros(have, dtype=state.OPEN)])
        self._rows = np.concatenate([self._rows, np.zeros(have, dtype=EXCHANGES.dtype)])
        self._link_opened(have, 2 * have)

    def _grow_scratch(self) -> None:
        have = len(self._free_next)
        self._scratch = np.concatenate([self._scratch, np.zeros(len(self._scratch), dtype=np.uint8)])
        self._free_next = np.concatenate([self._free_next, np.zeros(have, dtype=np.int32)])
        self._link_scratch(have, 2 * have)

    def _arrays(self) -> state.FramerArrays:
        return state.FramerArrays(
            conns=self._conns,
            flows=self._flows,
            opened=self._opened,
            rows=self._rows,
            keys=self._keys,
            scratch=self._scratch,
            free_next=self._free_next,
            text=self._text,
            out_rows=self._out_rows,
            out_keys=self._out_keys,
            ctl=self._ctl,
        )

    def _flush(self) -> None:
        ctl = self._ctl
        self._exchanges.append(self._out_rows[: ctl[state.C_N_EXCHANGES]])
        self._key_segments.append(self._out_keys[: ctl[state.C_N_KEYS]])
        self._texts.append(self._text[: ctl[state.C_N_TEXT]])
        ctl[state.C_TEXT_BASE] += ctl[state.C_N_TEXT]
        ctl[state.C_N_EXCHANGES] = 0
        ctl[state.C_N_KEYS] = 0
        ctl[state.C_N_TEXT] = 0

    def update(self, batch: TrackedBatch) -> None:
        """Take in a tracked batch; fills in the HTTP columns of its finished connections.

        Parameters
        ----------
        batch : TrackedBatch
            Events in capture order.
        """
        n_event = len(batch.events)
        if n_event == 0:
            return
        n_slot = int(batch.events["slot"].max()) + 1
        if n_slot > len(self._conns):
            self._grow_slots(n_slot)
        start = 0
        while start < n_event:
            start = int(
                frame_exchanges(
                    self._arrays(), batch.events, start, n_event, batch.buffer, batch.piece_bytes, batch.conn_rows
                )
            )
            status = self._ctl[state.C_STATUS]
            if status == state.F_OUTPUT_FULL:
                self._flush()
            elif status == state.F_NEED_OPEN:
                self._grow_opened()
            elif status == state.F_NEED_SCRATCH:
                self._grow_scratch()
        self._flush()

    @property
    def open_state(self) -> state.FramerArrays:
        """What is known of connections that have not ended, by the tracker's slots; to be read only."""
        return self._arrays()

    @property
    def n_exchanges(self) -> int:
        """Exchanges emitted so far."""
        return int(self._ctl[state.C_N_EMITTED])

    @property
    def n_unanswered(self) -> int:
        """Unanswered requests so far, whatever their leg."""
        return int(self._ctl[state.C_N_UNANSWERED])


def compile_framer() -> None:
    """Compile the framer's kernel, or load it from the cache."""
    framer = Framer(RowStore(EXCHANGES), RowStore(KEY_SEGMENTS), ByteStore())
    nothing = np.zeros(1, dtype=np.uint8)
    arrays = framer._arrays()  # noqa: SLF001 - the types of its own arrays are what counts
    frame_exchanges(arrays, STREAM_EVENTS.empty(1), 0, 0, nothing, nothing, CONNECTIONS.empty(1))
