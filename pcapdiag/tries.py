"""From tables to the tries that logs are joined with: lost requests, failed attempts, last exchanges of connections.

Decides what of the capture an error log could tell of; which entry tells of which try is `correlate`'s affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.codes import ClosingKind, Direction, ExchangeFlag, Key, Leg, Method, Outcome
from pcapdiag.correlate.ledger import WireTry
from pcapdiag.losses import to_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis import Analysis, Loss

Rows = np.ndarray[Any, Any]


def list_tries(analysis: Analysis) -> tuple[WireTry, ...]:
    """Return what an error log could tell of.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Returns
    -------
    tuple of WireTry
        Failures first, then answered requests after which the proxy or the upstream closed.
    """
    failures = [_from_loss(loss) for loss in (*analysis.losses, *analysis.truncated)]
    known = {wire.key for wire in failures}
    return (*failures, *(wire for wire in _answered(analysis) if wire.key not in known))


def _from_loss(loss: Loss) -> WireTry:
    def at(key: Key) -> int:
        segment = loss.keys.get(key)
        return segment.ts_ns if segment is not None else -1

    is_late = bool(loss.flags & ExchangeFlag.LATE_ANSWER)
    sent = [at(key) for key in (Key.REQUEST_END, Key.RETRANSMISSION, Key.LAST_RETRANSMISSION)]
    return WireTry(
        conn=loss.connection.conn,
        depth=loss.depth,
        uid=loss.connection.uid,
        orig=str(loss.connection.orig),
        peer=str(loss.connection.resp),
        request_frame=loss.request_frame,
        start_ns=loss.request_ts_ns,
        last_sent_ns=max(loss.request_ts_ns, loss.connection.last_ts_ns if loss.is_connect else -1, *sent),
        # What came after the proxy had closed was no response to it.
        first_response_ns=-1 if is_late else at(Key.RESPONSE),
        resp_fin_ns=at(Key.RESP_FIN),
        resp_rst_ns=at(Key.RESP_RST),
        orig_fin_ns=at(Key.ORIG_FIN),
        orig_rst_ns=at(Key.ORIG_RST),
        alert_ns=at(Key.UNSOLICITED),
        method=loss.method_name,
        target=loss.target,
        host=loss.host,
        request_id=loss.request_id,
        is_failure=True,
        is_acknowledged=loss.is_acknowledged,
        has_head=loss.status_code >= 0 and not is_late,
    )


def _answered(analysis: Analysis) -> Iterator[WireTry]:
    """Yield the last exchange of each connection that was closed: the only one whose response can have been bad."""
    connections = analysis.connections
    is_upstream = np.asarray(analysis.legs) == Leg.UPSTREAM
    n_exchanges = connections["n_exchanges"]
    closed = is_upstream & (connections["closing_kind"] != ClosingKind.NONE)
    for chunk in analysis.exchanges.chunks():
        conn = chunk["conn"]
        answered = (chunk["outcome"] == Outcome.ANSWERED) | (chunk["outcome"] == Outcome.TRUNCATED)
        for row in chunk.rows[answered & closed[conn] & (chunk["depth"] == n_exchanges[conn] - 1)]:
            yield _from_rows(analysis, row, connections.rows[int(row["conn"])])


def _from_rows(analysis: Analysis, row: Rows, connection: Rows) -> WireTry:
    who = to_connection(connection, analysis.texts)
    is_orig = who.first_closer is Direction.ORIG
    is_fin = who.closing_kind is ClosingKind.FIN
    at = int(row["text_offset"])
    lengths = int(row["target_len"]), int(row["host_len"]), int(row["request_id_len"])
    texts, offset = [], at
    for length in lengths:
        texts.append(analysis.texts.read(offset, length).decode("utf-8", errors="backslashreplace") if at >= 0 else "")
        offset += length
    start = int(row["request_ts_ns"])
    first_byte = int(row["first_byte_ns"])
    closing = who.closing_ts_ns
    method = Method(int(row["method"]))
    return WireTry(
        conn=who.conn,
        depth=int(row["depth"]),
        uid=who.uid,
        orig=str(who.orig),
        peer=str(who.resp),
        request_frame=int(row["request_frame"]),
        start_ns=start,
        last_sent_ns=start,
        first_response_ns=start + max(first_byte, 0),
        resp_fin_ns=closing if not is_orig and is_fin else -1,
        resp_rst_ns=closing if not is_orig and not is_fin else -1,
        orig_fin_ns=closing if is_orig and is_fin else -1,
        orig_rst_ns=closing if is_orig and not is_fin else -1,
        alert_ns=-1,
        method="" if method is Method.NONE else method.name,
        target=texts[0],
        host=texts[1],
        request_id=texts[2],
        is_failure=False,
        is_acknowledged=bool(int(row["flags"]) & ExchangeFlag.ACKNOWLEDGED),
        has_head=int(row["status_code"]) >= 0,
    )
