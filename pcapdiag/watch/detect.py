"""Sees that something failed while it happens: the engine over a capture that never ends.

It keeps nothing but the connections that are open.
What it reports is a suspicion, cheap and early; whether it is a failure and why is found out by a full analysis of the
recording. It looks at connections when they close, not when the engine is done with them: that is a minute later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.codes import Direction, ExchangeFlag, Framing, Key, Outcome, Protocol
from pcapdiag.columns import EXCHANGES, KEY_SEGMENTS, ByteStore, RowStore
from pcapdiag.http.framer import Framer
from pcapdiag.tcp.tracker import Tracker
from pcapdiag.units import format_endpoint, parse_address, parse_endpoint
from pcapdiag.watch.model import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.capture.batch import FrameBatch

Rows = np.ndarray[Any, Any]

MAX_LIVE: Final = 1 << 16
"""Connections that are known at a time; about 200 MB when there are so many."""

_LOOK_EVERY_S: Final = 0.2
_LOOK_EVERY_NS: Final = 1_000_000_000
_NUMBERS: Final = 1 << 30
PATIENCE_NS: Final = 3_000_000_000
"""An attempt without any answer for so long has failed, or will have."""

_STALLED_AFTER: Final = 2
"""Repetitions of a request that nobody acknowledges; the first may be the loss of a packet."""
_ATTEMPT: Final = (-1, True)

_CLOSING_KEYS: Final = (Key.RESP_FIN, Key.RESP_RST, Key.ORIG_FIN, Key.ORIG_RST, Key.RETRANSMISSION)
_WITHOUT_TURNS: Final = (Protocol.HTTP2, Protocol.UPGRADED)


class _Nothing(RowStore):
    """Takes rows and keeps none."""

    def append(self, rows: Rows) -> None:
        """Forget `rows`."""


class _NoText(ByteStore):
    """Takes text and keeps none."""

    def append(self, data: NDArray[np.uint8]) -> None:
        """Forget `data`."""


class _Lost(RowStore):
    """Keeps the lost ones among the exchanges of one batch."""

    def __init__(self) -> None:
        super().__init__(EXCHANGES, memory_bytes=EXCHANGES.dtype.itemsize)
        self.rows: list[Rows] = []

    def append(self, rows: Rows) -> None:
        """Keep the rows that tell of a loss."""
        outcome = rows["outcome"]
        lost = rows[(outcome == Outcome.UNANSWERED) | (outcome == Outcome.TRUNCATED)]
        self.rows.extend(lost[i] for i in range(len(lost)))


class Detector:
    """The engine's state over all of the recording.

    Parameters
    ----------
    proxies, upstreams : sequence of str
        As in `api.analyze`: whose connections count.
    max_live : int
        Bound on connections that are known at a time.

    Raises
    ------
    ValueError
        An address makes no sense.
    """

    def __init__(self, proxies: Sequence[str] = (), upstreams: Sequence[str] = (), *, max_live: int = MAX_LIVE) -> None:
        self._proxies = {parse_address(text) for text in proxies}
        self._upstreams = {parse_endpoint(text) for text in upstreams}
        self._tracker = Tracker(max_live=max_live)
        self._lost = _Lost()
        self._framer = Framer(self._lost, _Nothing(KEY_SEGMENTS), _NoText())
        self._told: dict[int, tuple[int, bool]] = {}
        self._n_frames = 0
        self._looked_at = time.monotonic()
        self._looked_ns = 0
        self._latest_ns = 0

    @property
    def latest_ns(self) -> int:
        """[ns] Capture time of the newest frame; 0 before the first one."""
        return self._latest_ns

    @property
    def n_evicted(self) -> int:
        """Connections given up to keep the bound."""
        return self._tracker.n_evicted

    def update(self, batch: FrameBatch) -> list[Failure]:
        """Take in a batch and return what has failed.

        Parameters
        ----------
        batch : FrameBatch
            Decoded frames.

        Returns
        -------
        list of Failure
            Each only once.
        """
        failures: list[Failure] = []
        # Files of a folder count from 0 each; the tracker wants numbers that rise.
        batch.frames["frame"] += self._n_frames - int(batch.frames["frame"][0])
        self._n_frames += len(batch.frames)
        for tracked in self._tracker.update(batch):
            self._lost.rows.clear()
            self._framer.update(tracked)
            failures.extend(self._ended(tracked.conn_rows))
        now_ns = self._tracker.last_ts_ns
        self._latest_ns = max(self._latest_ns, int(batch.frames["ts_ns"].max()))
        if time.monotonic() - self._looked_at >= _LOOK_EVERY_S or now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            failures.extend(self.look())
        self._tracker.wrap_numbers(_NUMBERS)
        return failures

    def look(self) -> list[Failure]:
        """Return what has failed on connections that the engine is not done with."""
        self._looked_at = time.monotonic()
        self._looked_ns = self._tracker.last_ts_ns
        return [*self._open_exchanges(), *self._attempts()]

    def _ended(self, conn_rows: Rows) -> Iterator[Failure]:
        """Yield what was lost on connections that have ended unlooked at, by a port that was reused at once."""
        rows = {int(row["conn"]): row for row in conn_rows} if self._lost.rows else {}
        for exchange in self._lost.rows:
            conn = int(exchange["conn"])
            row = rows.get(conn)
            if row is None or self._told.get(conn) == (int(exchange["request_frame"]), True):
                continue
            if exchange["protocol"] in _WITHOUT_TURNS or exchange["protocol"] == Protocol.UNKNOWN:
                continue
            yield from self._failure(row, self._how_lost(exchange, 0), int(row["last_ts_ns"]))
        for conn in conn_rows["conn"].tolist():
            self._told.pop(conn, None)

    def _open_exchanges(self) -> Iterator[Failure]:
        """Yield requests whose connection was closed before their response, or into which nothing gets through."""
        live = self._tracker.live
        state = self._framer.open_state
        n_slot = min(len(live), len(state.conns))
        conns = state.conns[:n_slot]
        waiting = np.flatnonzero((live["in_use"][:n_slot] == 1) & (conns["head"] >= 0))
        heads = conns["head"][waiting]
        closed = (conns["resp_closed"][waiting] != 0) | (conns["orig_closed"][waiting] != 0)
        rows = state.rows[heads]
        stalled = (rows["retransmissions"] >= _STALLED_AFTER) & (rows["flags"] & ExchangeFlag.ACKNOWLEDGED == 0)
        stalled &= self._looked_ns - rows["request_ts_ns"] > PATIENCE_NS
        is_open = state.opened["response_done"][heads] == 0
        late = (conns["orig_closed"][waiting] != 0) & _is_after(rows["response_seq"], conns["orig_close_ack"][waiting])
        suspect = (((closed | stalled) & is_open) | late) & (rows["request_frame"] >= 0)
        for n in np.flatnonzero(suspect).tolist():
            slot, row, is_closed = int(waiting[n]), rows[n], bool(closed[n])
            conn, frame = int(live["conn"][slot]), int(row["request_frame"])
            if self._told.get(conn) in {(frame, True), (frame, is_closed)}:
                continue
            protocol = int(conns["protocol"][slot])
            has_response = bool(state.opened["has_response"][heads[n]])
            if protocol in _WITHOUT_TURNS or not self._is_loss(slot, protocol, row, has_response=has_response):
                continue
            self._told[conn] = (frame, is_closed)
            ts_ns = int(live["closing_ts_ns"][slot]) if is_closed else self._looked_ns
            yield from self._failure(live[slot], self._how_lost(row, int(conns["keys_set"][slot])), ts_ns)

    def _is_loss(self, slot: int, protocol: int, row: Rows, *, has_response: bool) -> bool:
        """Tell whether an exchange that a closing found open can be a loss."""
        if has_response and row["response_framing"] == Framing.TURN:
            return False
        return protocol != Protocol.UNKNOWN or self._tracker.live["first_closer"][slot] == Direction.RESP

    def _attempts(self) -> Iterator[Failure]:
        """Yield connections that nobody accepted."""
        live = self._tracker.live
        flows = self._tracker.flows
        unanswered = (live["in_use"] == 1) & (live["syn_frames"] > 0) & (live["syn_ack_frames"] == 0)
        for slot in np.flatnonzero(unanswered).tolist():
            row, orig, resp = live[slot], flows[2 * slot], flows[2 * slot + 1]
            conn = int(row["conn"])
            if orig["max_offset"] > 0 or conn in self._told:
                continue
            age_ns = self._looked_ns - int(row["first_ts_ns"])
            if resp["rst"]:
                self._told[conn] = _ATTEMPT
                yield from self._failure(row, "refused", int(row["last_ts_ns"]))
            elif resp["n_frames"] == 0 and age_ns > PATIENCE_NS:
                self._told[conn] = _ATTEMPT
                yield from self._failure(row, "no-connection", self._looked_ns)

    def _how_lost(self, exchange: Rows, keys_set: int) -> str:
        """Return in one word what tells this loss from others; what is alike most likely has the same cause."""
        flags = int(exchange["flags"])
        parts = ["truncated" if exchange["response_frame"] >= 0 else "unanswered"]
        parts += ["reused"] if exchange["depth"] > 0 else []
        parts += ["acknowledged"] if flags & ExchangeFlag.ACKNOWLEDGED else []
        parts += [key.name.lower() for key in _CLOSING_KEYS if keys_set >> key & 1]
        return "+".join(parts)

    def _failure(self, row: Rows, how: str, ts_ns: int) -> Iterator[Failure]:
        """Yield a failure of a connection, if it is of the leg that counts as far as the operator told."""
        orig = (int(row["orig_hi"]), int(row["orig_lo"]))
        resp = (int(row["resp_hi"]), int(row["resp_lo"]))
        port = int(row["resp_port"])
        if self._upstreams and not {(*resp, port), (*resp, -1)} & self._upstreams:
            return
        if self._proxies and not self._upstreams and resp in self._proxies and orig not in self._proxies:
            return
        endpoint = format_endpoint(*resp, port)
        first_ns = int(row["first_ts_ns"])
        yield Failure(f"{how} {endpoint}", endpoint, first_ns, ts_ns if ts_ns >= 0 else first_ns)


def _is_after(response_seq: Rows, close_ack: Rows) -> NDArray[np.bool_]:
    """Tell which responses began after what the originator had acknowledged when it closed (RFC 9293 section 3.4)."""
    ahead = (response_seq - close_ack) & 0xFFFFFFFF
    result: NDArray[np.bool_] = (response_seq >= 0) & (close_ack >= 0) & (ahead < 1 << 31)
    return result
