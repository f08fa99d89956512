"""From tables to the tries that logs are joined with: lost requests, failed attempts, last exchanges of connections.

Decides what of the capture an error log could tell of; which entry tells of which try is the affair of `proxy.join`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.handshake import HandshakeEnd
from pcapdiag.analysis.losses import to_connection
from pcapdiag.analysis.tls import closing_segment
from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Framing, Key, Leg, Method, Outcome
from pcapdiag.proxy.join.arrivals import AnsweredRequest
from pcapdiag.proxy.join.ledger import WireTry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Loss

Rows = np.ndarray[Any, Any]
MOST_SERVED = 50_000
"""Answered requests that are looked up in an application's log."""
_REPEATED_NS = 120 * 1_000_000_000
"""[ns] How much later than a lost request its repetition may come."""


def list_tries(analysis: Analysis) -> tuple[WireTry, ...]:
    """Return what an error log could tell of.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Returns
    -------
    tuple of WireTry
        Failures first, then answered requests after which the proxy or the upstream closed, then connections that
        were closed when their TLS handshake was done: a proxy that refuses the certificate does so.
    """
    # Which of the early answers were lost, the log tells.
    failures = [_from_loss(loss) for loss in (*analysis.losses, *analysis.truncated, *analysis.early)]
    known = {wire.key for wire in failures}
    answered = (wire for wire in _answered(analysis) if wire.key not in known)
    return (*failures, *answered, *_unused_handshakes(analysis))


def list_served(analysis: Analysis, lost: Sequence[WireTry]) -> tuple[tuple[AnsweredRequest, ...], bool]:
    """Return answered requests to upstreams, to be looked up in an application's log.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    lost : sequence of WireTry
        Those that got no answer: what was answered soon after one of them may be its repetition.

    Returns
    -------
    tuple of (tuple of AnsweredRequest, bool)
        All where they are few, else those after a lost one and some of the others; and whether any is missing.
    """
    is_upstream = analysis.legs == Leg.UPSTREAM
    began = np.sort(np.array([wire.start_ns for wire in lost], dtype=np.int64))
    n_rows = len(analysis.exchanges)
    step = max(n_rows // MOST_SERVED, 1)
    found: list[AnsweredRequest] = []
    names: dict[int, tuple[str, str]] = {}
    n_near = 0
    at = 0
    for chunk in analysis.exchanges.chunks():
        start = chunk["request_ts_ns"]
        numbers = np.arange(at, at + len(start))
        at += len(start)
        answered = (chunk["outcome"] == Outcome.ANSWERED) & is_upstream[chunk["conn"]]
        before = np.searchsorted(began, start, side="right") - 1
        near = (
            (before >= 0) & (start - began[np.maximum(before, 0)] <= _REPEATED_NS) if len(began) else answered & False
        )
        wanted = answered & (near | (numbers % step == 0))
        for row, is_near in zip(chunk.rows[wanted], near[wanted], strict=True):
            n_near += bool(is_near)
            if n_near <= MOST_SERVED or not is_near:
                found.append(_served(analysis, row, names))
    return tuple(found), step > 1


def _served(analysis: Analysis, row: Rows, names: dict[int, tuple[str, str]]) -> AnsweredRequest:
    conn = int(row["conn"])
    if conn not in names:
        connection = to_connection(analysis.connections.rows[conn], analysis.texts)
        names[conn] = str(connection.resp), str(connection.orig)
    peer, orig = names[conn]
    target, _, request_id = _texts(analysis, row)
    start = int(row["request_ts_ns"])
    method = Method(int(row["method"]))
    return AnsweredRequest(
        peer=peer,
        orig=orig,
        start_ns=start,
        end_ns=start + max(int(row["duration_ns"]), 0),
        method="" if method is Method.NONE else method.name,
        target=target,
        request_id=request_id,
    )


def _texts(analysis: Analysis, row: Rows) -> list[str]:
    """Return target, host and request id of an exchange."""
    offset = int(row["text_offset"])
    texts = []
    for length in (int(row["target_len"]), int(row["host_len"]), int(row["request_id_len"])):
        text = analysis.texts.read(offset, length) if offset >= 0 else b""
        texts.append(text.decode("utf-8", errors="backslashreplace"))
        offset += length if offset >= 0 else 0
    return texts


def _from_loss(loss: Loss) -> WireTry:
    def at(key: Key) -> int:
        segment = loss.keys.get(key)
        return segment.ts_ns if segment is not None else -1

    is_late = bool(loss.flags & ExchangeFlag.LATE_ANSWER)
    icmp = loss.icmp[0] if loss.is_connect and loss.icmp else None
    sent = [at(key) for key in (Key.REQUEST_END, Key.RETRANSMISSION, Key.LAST_RETRANSMISSION)]
    return WireTry(
        conn=loss.connection.conn,
        depth=loss.depth,
        uid=loss.connection.uid,
        orig=str(loss.connection.orig),
        peer=str(loss.connection.resp),
        request_frame=loss.request_frame,
        start_ns=loss.request_ts_ns,
        last_sent_ns=max(loss.request_ts_ns, _last_of_attempt(loss), *sent),
        # What came after the proxy had closed was no response to it.
        first_response_ns=-1 if is_late else at(Key.RESPONSE),
        resp_fin_ns=at(Key.RESP_FIN),
        resp_rst_ns=at(Key.RESP_RST),
        orig_fin_ns=at(Key.ORIG_FIN),
        orig_rst_ns=at(Key.ORIG_RST),
        alert_ns=_alert_ns(loss) if loss.handshake is not None else at(Key.UNSOLICITED),
        method=loss.method_name,
        target=loss.target,
        host=loss.host,
        request_id=loss.request_id,
        is_failure=True,
        is_acknowledged=loss.is_acknowledged,
        has_head=loss.status_code >= 0 and not is_late,
        response_bytes=loss.response_bytes,
        response_frame=loss.keys[Key.RESPONSE].frame if Key.RESPONSE in loss.keys else -1,
        closing_frame=loss.connection.closing_frame,
        held_back_ns=at(Key.ORIG_FIN) if loss.is_acknowledged_too_late else -1,
        is_handshake=loss.handshake is not None,
        is_rejected=loss.handshake is not None and loss.handshake.end is HandshakeEnd.REJECTED,
        icmp_ns=icmp.ts_ns if icmp is not None else -1,
        icmp_errno=icmp.errno if icmp is not None else -1,
        stream_end_ns=_stream_end_ns(loss),
    )


def _stream_end_ns(loss: Loss) -> int:
    """[ns] Return when the upstream said that it ends this stream, or does not serve it; -1 if it did not.

    In FastCGI: when it ended this request without output, or wrote to its error stream.
    """
    end = loss.keys.get(Key.RESP_RESET_STREAM) or loss.keys.get(Key.RESP_END_REQUEST) or loss.keys.get(Key.RESP_STDERR)
    if end is None and loss.flags & ExchangeFlag.NOT_PROCESSED:
        end = loss.keys.get(Key.GOAWAY)
    return end.ts_ns if end is not None else -1


def _unused_handshakes(analysis: Analysis) -> Iterator[WireTry]:
    for conn, handshake in analysis.tls.handshakes.items() if analysis.tls is not None else ():
        hello = handshake.hello_aside
        if not handshake.is_unused or hello is None or analysis.legs[conn] != Leg.UPSTREAM:
            continue
        row = analysis.connections.rows[conn]
        who = to_connection(row, analysis.texts)
        times = {key: segment.ts_ns for key, segment in closing_segment(row).items()}
        yield WireTry(
            conn=conn,
            depth=-1,
            uid=who.uid,
            orig=str(who.orig),
            peer=str(who.resp),
            request_frame=who.first_frame,
            start_ns=who.first_ts_ns,
            last_sent_ns=hello.ts_ns,
            first_response_ns=-1,
            resp_fin_ns=times.get(Key.RESP_FIN, -1),
            resp_rst_ns=times.get(Key.RESP_RST, -1),
            orig_fin_ns=times.get(Key.ORIG_FIN, -1),
            orig_rst_ns=times.get(Key.ORIG_RST, -1),
            alert_ns=-1,
            method="",
            target="",
            host=handshake.hello.server_name,
            request_id="",
            is_failure=False,
            is_acknowledged=False,
            has_head=False,
            closing_frame=who.closing_frame,
            is_handshake=True,
        )


def _last_of_attempt(loss: Loss) -> int:
    """[ns] Return when the last SYN, or the client hello, was sent; -1 for a request."""
    if not loss.is_connect:
        return -1
    if loss.handshake is None:
        return loss.connection.last_ts_ns
    hello = loss.handshake.hello_aside
    return hello.ts_ns if hello is not None else -1


def _alert_ns(loss: Loss) -> int:
    """[ns] Return when the bytes came by which a handshake failed; -1 if there are none."""
    handshake = loss.handshake
    if handshake is None:
        return -1
    alert = handshake.alert
    where = alert.aside if alert is not None else handshake.answer_aside if handshake.text else handshake.rejection
    return where.ts_ns if where is not None else -1


def _answered(analysis: Analysis) -> Iterator[WireTry]:
    """Yield the last exchange of each connection that was closed: the only one whose response can have been bad."""
    connections = analysis.connections
    is_upstream = analysis.legs == Leg.UPSTREAM
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
    target, host, request_id = _texts(analysis, row)
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
        target=target,
        host=host,
        request_id=request_id,
        is_failure=False,
        is_acknowledged=bool(int(row["flags"]) & ExchangeFlag.ACKNOWLEDGED),
        has_head=int(row["status_code"]) >= 0,
        response_bytes=int(row["response_bytes"]),
        response_frame=int(row["response_frame"]),
        closing_frame=who.closing_frame,
        # An upgraded connection ends whenever it ends.
        is_end_known=int(row["response_framing"]) != Framing.TURN and not int(row["flags"]) & ExchangeFlag.UPGRADE,
    )
