"""Answers that were sent, and sent again, and that whoever asked never acknowledged to the end.

By the upstream's bytes alone such an answer is whole. What tells is the other direction: its acknowledgements stop
short of the answer's end, the upstream repeats itself for seconds, and the originator closes. A frame that only the
capture lacks does not look so: an upstream that was acknowledged repeats nothing. Where the capture has holes, nothing
is said: which bytes were repeated, and how often, is not known then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.analysis.losses import in_order, to_connection, to_loss
from pcapdiag.analysis.tls import closing_segment
from pcapdiag.base.codes import OF_GATEWAYS, Key, Leg, Outcome, Protocol
from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import ByteStore, Table

Rows = np.ndarray[Any, Any]
_FEWEST: Final = 2
"""Retransmissions: a single one may be of a tail whose acknowledgement was late."""
_LEAST_NS: Final = 3 * NS_PER_S
"""[ns] From the answer's last byte to the connection's last segment. What was in flight at the end is so for less, and
nobody leaves bytes unacknowledged for so long without sending them again, twice at least (RFC 6298 section 5)."""
_FRAMED: Final = (Protocol.HTTP1, *OF_GATEWAYS)


def with_undelivered(
    truncated: Sequence[Loss], connections: Table, exchanges: Table, texts: ByteStore, legs: NDArray[np.int8]
) -> tuple[Loss, ...]:
    """Return the truncated responses, and with them the whole ones that never arrived.

    Parameters
    ----------
    truncated : sequence of Loss
        From `build_losses`.
    connections, exchanges : Table
        `columns.CONNECTIONS` and `EXCHANGES`.
    texts : ByteStore
        What their texts lie in.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg`.

    Returns
    -------
    tuple of Loss
        In order; `n_undelivered` says of how many bytes each was not acknowledged.
    """
    missing = _missing(connections, legs)
    stuck = np.flatnonzero(missing > 0)
    if not len(stuck):
        return tuple(truncated)
    rows = connections.rows
    known = {loss.connection.conn for loss in truncated}
    marked = [
        replace(loss, n_undelivered=int(missing[loss.connection.conn])) if _is_repeated(loss) else loss
        for loss in truncated
    ]
    for conn, row in _last_answers(exchanges, stuck).items():
        if conn in known or rows["last_ts_ns"][conn] - (row["request_ts_ns"] + row["duration_ns"]) < _LEAST_NS:
            continue
        loss = to_loss(row, to_connection(rows[conn], texts), closing_segment(rows[conn]), texts)
        marked.append(replace(loss, truncated=True, n_undelivered=int(missing[conn])))
    return in_order(marked)


def _is_repeated(loss: Loss) -> bool:
    last = loss.keys.get(Key.RESPONSE_END) or loss.keys.get(Key.RESPONSE)
    return last is not None and loss.connection.last_ts_ns - last.ts_ns >= _LEAST_NS


def _missing(connections: Table, legs: NDArray[np.int8]) -> NDArray[np.int64]:
    """[bytes] Return what each connection's originator had not acknowledged when it closed; 0 if it is not known."""
    may_be = (legs == Leg.UPSTREAM) & (connections["resp_retransmissions"] >= _FEWEST)
    may_be &= (connections["orig_fin"] != 0) | (connections["orig_rst"] != 0)
    may_be &= connections["n_holes"] == 0
    may_be &= (connections["orig_max_ack"] >= 0) & (connections["resp_isn"] >= 0) & (connections["resp_bytes"] > 0)
    missing = np.zeros(len(legs), np.int64)
    index = np.flatnonzero(may_be)
    rows = connections.take(index)
    acknowledged = (rows["orig_max_ack"] - rows["resp_isn"] - 1) & 0xFFFFFFFF
    # Modulo 2^32, as the numbers are: an answer of more is judged by its end.
    short = ((rows["resp_bytes"] & 0xFFFFFFFF) - acknowledged) & 0xFFFFFFFF
    missing[index] = np.where(short < 1 << 31, np.minimum(short, rows["resp_bytes"]), 0)
    return missing


def _last_answers(exchanges: Table, conns: NDArray[np.int64]) -> dict[int, Rows]:
    """Return the last exchange of each connection, where it was answered and its bytes are framed."""
    last: dict[int, Rows] = {}
    for chunk in exchanges.chunks():
        rows = chunk.rows[np.isin(chunk["conn"], conns)][::-1]
        for index in np.unique(rows["conn"], return_index=True)[1].tolist():
            last[int(rows["conn"][index])] = rows[index].copy()  # a connection's exchanges stand in their order
    return {
        conn: row
        for conn, row in last.items()
        if row["outcome"] == Outcome.ANSWERED and row["protocol"] in _FRAMED and row["request_ts_ns"] >= 0
    }
