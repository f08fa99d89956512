"""Sees that something failed while it happens: the engine over a capture that never ends.

It keeps nothing but the connections that are open.
What it reports is a suspicion, cheap and early; whether it is a failure and why is found out by a full analysis of the
recording. It looks at connections when they close, not when the engine is done with them: that is a minute later.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.analysis.candidates import lacks_response
from pcapdiag.analysis.flood import is_failed_attempt
from pcapdiag.analysis.losses import ends_in_goodbye, is_loss
from pcapdiag.analysis.twins import MOMENT_NS, RANDOM
from pcapdiag.base.codes import ConnState, ExchangeFlag, Framing, Key, Outcome
from pcapdiag.base.columns import EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore
from pcapdiag.base.units import format_endpoint
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.tcp.tracker import Tracker
from pcapdiag.watch.model import Failure

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.base.columns import Schema
    from pcapdiag.engine.capture.batch import FrameBatch

Rows = np.ndarray[Any, Any]

_MOST_LIVE: Final = 1 << 16
"""Connections that are known at a time; about 200 MB when there are so many."""

_LOOK_EVERY_S: Final = 0.2
_LOOK_EVERY_NS: Final = 1_000_000_000
_NUMBERS: Final = 1 << 30
PATIENCE_NS: Final = 3_000_000_000
"""An attempt without any answer for so long has failed, or will have."""

_MOST_NUMBERS: Final = 4096
"""Connections of which a failure was told last; a twin's comes within milliseconds."""
_STALLED_AFTER: Final = 2
"""Repetitions of a request that nobody acknowledges; the first may be the loss of a packet."""
_ATTEMPT: Final = (-1, True)

_CLOSING_KEYS: Final = (Key.RESP_FIN, Key.RESP_RST, Key.ORIG_FIN, Key.ORIG_RST, Key.RETRANSMISSION)


class _NoText(ByteStore):
    """Takes text and keeps none."""

    def append(self, data: NDArray[np.uint8]) -> None:
        """Forget `data`."""


class _Recent(RowStore):
    """Keeps the rows of one batch that tell of a loss; key segments all do."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, memory_bytes=schema.dtype.itemsize)
        self.rows: list[Rows] = []

    def append(self, rows: Rows) -> None:
        """Keep those of `rows`."""
        kept = rows[lacks_response(rows["outcome"])] if self.schema is EXCHANGES else rows.copy()
        self.rows.extend(kept[i] for i in range(len(kept)))


class Detector:
    """The engine's state over all of the recording.

    Parameters
    ----------
    inputs : Inputs
        Whose connections count.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._proxies = frozenset(inputs.proxy_addresses)
        self._upstreams = frozenset(inputs.upstream_endpoints)
        self._tracker = Tracker(max_live=_MOST_LIVE)
        self._lost = _Recent(EXCHANGES)
        self._lost_keys = _Recent(KEY_SEGMENTS)
        self._framer = Framer(self._lost, self._lost_keys, _NoText())
        self._told: dict[int, tuple[int, bool]] = {}
        self._numbers: OrderedDict[tuple[int, int, int], tuple[int, tuple[int, ...]]] = OrderedDict()
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
            self._lost_keys.rows.clear()
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
        keys_of: dict[tuple[int, int], dict[Key, int]] = defaultdict(dict)
        for segment in self._lost_keys.rows:
            keys_of[int(segment["conn"]), int(segment["depth"])][Key(int(segment["key"]))] = int(segment["ts_ns"])
        for exchange in self._lost.rows:
            conn = int(exchange["conn"])
            row = rows.get(conn)
            if row is None or self._told.get(conn) == (int(exchange["request_frame"]), True):
                continue
            keys = keys_of[conn, int(exchange["depth"])]
            is_truncated = int(exchange["outcome"]) == Outcome.TRUNCATED
            protocol, closer = int(exchange["protocol"]), int(row["first_closer"])
            if ends_in_goodbye(protocol, keys) and not is_truncated:
                continue
            if is_loss(exchange, keys, protocol=protocol, first_closer=closer, is_truncated=is_truncated):
                isns = int(row["orig_isn"]), int(row["resp_isn"])
                yield from self._failure(row, isns, _how_lost(exchange, keys), int(row["last_ts_ns"]))
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
        opened = state.opened[heads]
        is_open = opened["response_done"] == 0
        late = (conns["orig_closed"][waiting] != 0) & _is_after(rows["response_seq"], conns["orig_close_ack"][waiting])
        # A turn that has begun is an answer, however little of it there is.
        is_answered = (opened["has_response"] != 0) & (rows["response_framing"] == Framing.TURN)
        suspect = (((closed | stalled) & is_open) | late) & ~is_answered & (rows["request_frame"] >= 0)
        # Of a connection that was captured twice the sight nearest to its originator comes first.
        found = np.flatnonzero(suspect)
        for n in found[np.argsort(live["first_ts_ns"][waiting[found]], kind="stable")].tolist():
            slot, row, is_closed = int(waiting[n]), rows[n], bool(closed[n])
            conn, frame = int(live["conn"][slot]), int(row["request_frame"])
            if self._told.get(conn) in {(frame, True), (frame, is_closed)}:
                continue
            keys_set = int(conns["keys_set"][slot])
            keys = {key: int(state.keys[slot, key]["ts_ns"]) for key in Key if keys_set >> key & 1}
            protocol, closer = int(conns["protocol"][slot]), int(live["first_closer"][slot])
            is_truncated = bool(opened["has_response"][n])
            if ends_in_goodbye(protocol, keys) and not is_truncated:
                continue
            if not is_loss(row, keys, protocol=protocol, first_closer=closer, is_truncated=is_truncated):
                continue
            self._told[conn] = (frame, is_closed)
            ts_ns = int(live["closing_ts_ns"][slot]) if is_closed else self._looked_ns
            yield from self._failure(live[slot], self._isns(slot), _how_lost(row, keys), ts_ns)

    def _attempts(self) -> Iterator[Failure]:
        """Yield connections that nobody accepted."""
        live = self._tracker.live
        flows = self._tracker.flows
        unanswered = (live["in_use"] == 1) & (live["syn_frames"] > 0) & (live["syn_ack_frames"] == 0)
        for slot in np.flatnonzero(unanswered).tolist():
            row, orig, resp = live[slot], flows[2 * slot], flows[2 * slot + 1]
            conn = int(row["conn"])
            if conn in self._told or not is_failed_attempt(state := _attempt_state(orig, resp), orig["max_offset"]):
                continue
            is_refused = state is ConnState.REJ
            if is_refused or self._looked_ns - int(row["first_ts_ns"]) > PATIENCE_NS:
                self._told[conn] = _ATTEMPT
                how, ts_ns = ("refused", int(row["last_ts_ns"])) if is_refused else ("no-connection", self._looked_ns)
                yield from self._failure(row, self._isns(slot), how, ts_ns)

    def _isns(self, slot: int) -> tuple[int, int]:
        """Return the numbers with which both sides of a live connection began, -1 where that was not seen."""
        flows = self._tracker.flows
        return int(flows[2 * slot]["isn"]), int(flows[2 * slot + 1]["isn"])

    def _is_told_of_twin(self, row: Rows, isns: tuple[int, int]) -> bool:
        """Tell whether a failure was told of this connection, captured under other addresses at the same moment.

        Both hosts choose their numbers at random; of an attempt there is one, and the originator's port.
        """
        number = (*isns, int(row["orig_port"]) if isns[1] < 0 else -1)
        if isns[0] < RANDOM or 0 <= isns[1] < RANDOM:
            return False
        ends = tuple(int(row[name]) for name in ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port"))
        first_ns = int(row["first_ts_ns"])
        told_ns, told_ends = self._numbers.setdefault(number, (first_ns, ends))
        if len(self._numbers) > _MOST_NUMBERS:
            self._numbers.popitem(last=False)
        return told_ends != ends and abs(first_ns - told_ns) <= MOMENT_NS

    def _failure(self, row: Rows, isns: tuple[int, int], how: str, ts_ns: int) -> Iterator[Failure]:
        """Yield a failure of a connection, if it is of the leg that counts as far as the operator told."""
        orig = (int(row["orig_hi"]), int(row["orig_lo"]))
        resp = (int(row["resp_hi"]), int(row["resp_lo"]))
        port = int(row["resp_port"])
        if self._upstreams and not {(*resp, port), (*resp, -1)} & self._upstreams:
            return
        if self._proxies and not self._upstreams and resp in self._proxies and orig not in self._proxies:
            return
        if self._is_told_of_twin(row, isns):
            return
        endpoint = format_endpoint(*resp, port)
        first_ns = int(row["first_ts_ns"])
        yield Failure(f"{how} {endpoint}", endpoint, first_ns, ts_ns if ts_ns >= 0 else first_ns)


def _how_lost(exchange: Rows, keys: Container[Key]) -> str:
    """Return in one word what tells this loss from others; what is alike most likely has the same cause."""
    parts = ["truncated" if exchange["response_frame"] >= 0 else "unanswered"]
    parts += ["reused"] if exchange["depth"] > 0 else []
    parts += ["acknowledged"] if int(exchange["flags"]) & ExchangeFlag.ACKNOWLEDGED else []
    parts += [key.name.lower() for key in _CLOSING_KEYS if key in keys]
    return "+".join(parts)


def _attempt_state(orig: Rows, resp: Rows) -> ConnState:
    """Return what the state of a connection without a SYN-ACK would be if it ended now."""
    if resp["max_offset"] > 0 or (not resp["rst"] and (orig["rst"] or orig["fin"])):
        return ConnState.OTH  # its originator gave it up, or it is no attempt
    return ConnState.REJ if resp["rst"] else ConnState.S0


def _is_after(response_seq: Rows, close_ack: Rows) -> NDArray[np.bool_]:
    """Tell which responses began after what the originator had acknowledged when it closed (RFC 9293 section 3.4)."""
    ahead = (response_seq - close_ack) & 0xFFFFFFFF
    result: NDArray[np.bool_] = (response_seq >= 0) & (close_ack >= 0) & (ahead < 1 << 31)
    return result
