"""The framer's memory and its loop around the kernel.

Owns the state of live connections beside the tracker's (same slots), the pool of open exchanges and the scratch rows
of incomplete heads; all grow by doubling. Finished rows go to the stores it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.columns import EXCHANGES, KEY_SEGMENTS
from pcapdiag.engine.http.kernels import http_state as state
from pcapdiag.engine.http.kernels.http import frame_exchanges
from pcapdiag.engine.pool import grown, link_free

if TYPE_CHECKING:
    from pcapdiag.base.tables import ByteStore, RowStore
    from pcapdiag.engine.tcp.tracker import TrackedBatch

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
        self._arrays = state.FramerArrays(
            conns=np.zeros(n_slot, dtype=state.CONN),
            flows=np.zeros(2 * n_slot, dtype=state.FLOW),
            opened=np.zeros(n_open, dtype=state.OPEN),
            rows=EXCHANGES.empty(n_open),
            keys=np.zeros((n_slot, state.N_KEYS), dtype=KEY_SEGMENTS.dtype),
            scratch=np.zeros(n_scratch * state.SCRATCH_BYTES, dtype=np.uint8),
            free_next=np.zeros(n_scratch, dtype=np.int32),
            text=np.zeros(TEXT_BYTES, dtype=np.uint8),
            out_rows=EXCHANGES.empty(OUT_ROWS),
            out_keys=KEY_SEGMENTS.empty(OUT_KEYS),
            ctl=np.zeros(1, dtype=state.CONTROL),
        )
        self._ctl = ctl = self._arrays.ctl[0]
        ctl["text_base"] = len(texts)
        ctl["free_open"] = link_free(self._arrays.opened["next"], 0, -1)
        ctl["n_free_open"] = n_open
        ctl["free_scratch"] = link_free(self._arrays.free_next, 0, -1)
        ctl["n_free_scratch"] = n_scratch

    def _grow_slots(self, n_slot: int) -> None:
        s = self._arrays
        more = max(n_slot, 2 * len(s.conns)) - len(s.conns)
        self._arrays = s._replace(conns=grown(s.conns, more), flows=grown(s.flows, 2 * more), keys=grown(s.keys, more))

    def _grow_opened(self) -> None:
        s = self._arrays
        have = len(s.opened)
        self._arrays = s = s._replace(opened=grown(s.opened, have), rows=grown(s.rows, have))
        self._ctl["free_open"] = link_free(s.opened["next"], have, self._ctl["free_open"])
        self._ctl["n_free_open"] += have

    def _grow_scratch(self) -> None:
        s = self._arrays
        have = len(s.free_next)
        self._arrays = s = s._replace(scratch=grown(s.scratch, len(s.scratch)), free_next=grown(s.free_next, have))
        self._ctl["free_scratch"] = link_free(s.free_next, have, self._ctl["free_scratch"])
        self._ctl["n_free_scratch"] += have

    def _flush(self) -> None:
        s, ctl = self._arrays, self._ctl
        self._exchanges.append(s.out_rows[: ctl["n_exchanges"]])
        self._key_segments.append(s.out_keys[: ctl["n_keys"]])
        self._texts.append(s.text[: ctl["n_text"]])
        ctl["text_base"] += ctl["n_text"]
        ctl["n_exchanges"] = ctl["n_keys"] = ctl["n_text"] = 0

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
        if n_slot > len(self._arrays.conns):
            self._grow_slots(n_slot)
        start = 0
        while start < n_event:
            start = int(
                frame_exchanges(
                    self._arrays, batch.events, start, n_event, batch.buffer, batch.piece_bytes, batch.conn_rows
                )
            )
            status = self._ctl["status"]
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
        return self._arrays

    @property
    def n_exchanges(self) -> int:
        """Exchanges emitted so far."""
        return int(self._ctl["n_emitted"])

    @property
    def n_unanswered(self) -> int:
        """Unanswered requests so far, whatever their leg."""
        return int(self._ctl["n_unanswered"])
