"""TLS handshakes tied to their connections: losses of their own, and which connections carry HTTP/2 that is unread."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.handshake import HTTP2, HandshakeEnd, TlsHandshake, TlsView, http2_of, read_handshake
from pcapdiag.analysis.losses import in_order, to_connection, to_loss, with_losses
from pcapdiag.analysis.model import Endpoint, KeySegment, Loss
from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Fate, Key, Leg, Method, Protocol, TcpFlag
from pcapdiag.base.units import format_address
from pcapdiag.engine.asides.collect import AsideKind, pair_keys
from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Connection
    from pcapdiag.base.tables import ByteStore, Table
    from pcapdiag.engine.asides.collect import Aside

Rows = np.ndarray[Any, Any]
_SAYS_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS port|plain HTTP to an SSL-enabled server port"
    rb"|Client sent an HTTP request to an HTTPS server|This combination of host and port requires TLS",
    re.IGNORECASE,
)
"""What nginx, Apache httpd, Go's net/http and Tomcat answer to HTTP in clear on a port where they speak TLS."""
_ENDS = ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port")
_CLOSING_KEYS: dict[tuple[int, int], Key] = {
    (Direction.ORIG, ClosingKind.FIN): Key.ORIG_FIN,
    (Direction.ORIG, ClosingKind.RST): Key.ORIG_RST,
    (Direction.RESP, ClosingKind.FIN): Key.RESP_FIN,
    (Direction.RESP, ClosingKind.RST): Key.RESP_RST,
}


def read_tls(connections: Table, asides: Iterable[Aside]) -> TlsView:
    """Read the handshakes of a run.

    Parameters
    ----------
    connections : Table
        `columns.CONNECTIONS`; row i is connection i.
    asides : iterable of Aside
        Frames whose bytes were kept.

    Returns
    -------
    TlsView
    """
    asides = tuple(asides)
    handshakes: dict[int, TlsHandshake] = {}
    http2 = np.zeros(len(connections), dtype=np.int8)
    http2[np.asarray(connections["protocol"]) == Protocol.HTTP2_UNREAD] = HTTP2.YES
    spoke: set[tuple[int, int, int]] = set()
    for conn, mine in _by_connection(connections, [a for a in asides if a.kind is AsideKind.TLS]).items():
        row = connections.rows[conn]
        handshake = read_handshake(row, mine)
        if handshake is None:
            continue
        handshakes[conn] = handshake
        http2[conn] = max(int(http2[conn]), http2_of(handshake))
        if handshake.answer is not None:
            spoke.add((int(row["resp_hi"]), int(row["resp_lo"]), int(row["resp_port"])))
    _mark_unseen(http2, connections, handshakes)
    refusals = [aside for aside in asides if aside.kind is AsideKind.REFUSAL and _SAYS_TLS.search(aside.data)]
    said = {
        aside.src
        for conn, mine in _by_connection(connections, refusals).items()
        for aside in mine
        if aside.src == tuple(int(connections.rows[conn][name]) for name in ("resp_hi", "resp_lo", "resp_port"))
    }
    return TlsView(handshakes, http2, _only_tls(connections, spoke), frozenset(map(_endpoint, said)))


def _mark_unseen(http2: NDArray[np.int8], connections: Table, handshakes: dict[int, TlsHandshake]) -> None:
    """Mark TLS connections whose hellos were not read as possible HTTP/2 where others to the same endpoint are."""
    rows = connections.rows
    marked = np.flatnonzero(http2)
    is_unseen = rows["protocol"] == Protocol.TLS
    is_unseen[list(handshakes)] = False
    unseen = np.flatnonzero(is_unseen)
    if not len(marked) or not len(unseen):
        return
    ends = ["resp_hi", "resp_lo", "resp_port"]
    known = set(np.unique(rows[marked][ends]).tolist())
    http2[[conn for conn in unseen.tolist() if rows[conn][ends].item() in known]] = HTTP2.POSSIBLE


def _only_tls(connections: Table, spoke: set[tuple[int, int, int]]) -> frozenset[str]:
    if not spoke:
        return frozenset()
    rows = connections.rows
    answered = rows[(rows["protocol"] == Protocol.HTTP1) & (rows["resp_bytes"] > 0)]
    ends = np.unique(answered[["resp_hi", "resp_lo", "resp_port"]]).tolist()
    only = spoke.difference(tuple(int(part) for part in end) for end in ends)
    return frozenset(map(_endpoint, only))


def _endpoint(end: tuple[int, int, int]) -> str:
    hi, lo, port = end
    return str(Endpoint(format_address(hi, lo), port))


def settle_losses(
    losses: Sequence[Loss],
    truncated: Sequence[Loss],
    view: TlsView,
    connections: Table,
    exchanges: Table,
    texts: ByteStore,
    legs: NDArray[np.int8],
) -> tuple[tuple[Loss, ...], tuple[Loss, ...]]:
    """Return the losses with failed handshakes among them, and without what their bytes or HTTP/2 only look like.

    Parameters
    ----------
    losses, truncated : sequence of Loss
        From `build_losses`.
    view : TlsView
        From `read_tls`.
    connections, exchanges : Table
        `columns.CONNECTIONS` and `EXCHANGES`.
    texts : ByteStore
        What its texts lie in.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg`.

    Returns
    -------
    losses, truncated : tuple of Loss
        Each ordered by capture and request frame; of a failed handshake exactly one.
    """
    failed = {
        conn: handshake
        for conn, handshake in view.handshakes.items()
        if handshake.end is not None and legs[conn] == Leg.UPSTREAM
    }
    kept: list[Loss] = []
    for loss in losses:
        conn = loss.connection.conn
        if conn in failed:
            if loss.depth == 0 and failed[conn].end in (HandshakeEnd.PLAIN_REQUEST, HandshakeEnd.REJECTED):
                kept.append(replace(loss, handshake=failed.pop(conn)))
        elif loss.is_connect or not view.http2[conn]:
            kept.append(loss)
    taken = {conn for conn in view.handshakes if view.handshakes[conn].end is not None}
    cut = tuple(t for t in truncated if t.connection.conn not in taken and not view.http2[t.connection.conn])
    for row in _requests_in_clear(failed, exchanges):
        # Framed as a turn, the alert passed for an answer.
        conn = int(row["conn"])
        connection = to_connection(connections.rows[conn], texts)
        loss = to_loss(row, connection, closing_segment(connections.rows[conn]), texts)
        kept.append(replace(loss, truncated=False, handshake=failed.pop(conn)))
    for conn, handshake in failed.items():
        row = connections.rows[conn]
        kept.append(to_handshake_loss(to_connection(row, texts), row, handshake))
    return in_order(kept), cut


def _requests_in_clear(failed: dict[int, TlsHandshake], exchanges: Table) -> list[Rows]:
    """Return the first exchange of connections whose request in clear was answered by a TLS alert."""
    wanted = [conn for conn, handshake in failed.items() if handshake.end is HandshakeEnd.PLAIN_REQUEST]
    if not wanted:
        return []
    found: dict[int, Rows] = {}
    for chunk in exchanges.chunks():
        is_first = np.isin(chunk["conn"], wanted) & (chunk["depth"] == 0) & (chunk["request_frame"] >= 0)
        for row in chunk.rows[is_first]:
            found.setdefault(int(row["conn"]), row)
    return list(found.values())


def _by_connection(connections: Table, asides: Sequence[Aside]) -> dict[int, list[Aside]]:
    """Return asides by the connection that their endpoints and frame belong to."""
    if not asides:
        return {}
    ends = np.array([(*a.src, *a.dst) for a in asides], dtype=np.uint64)
    keys = pair_keys(*ends.T)
    rows = connections.rows
    own = pair_keys(*(rows[name] for name in _ENDS))
    index = np.flatnonzero(np.isin(own, keys))
    candidates: dict[int, list[int]] = defaultdict(list)
    for conn, key in zip(index.tolist(), own[index].tolist(), strict=True):
        candidates[key].append(conn)
    found: dict[int, list[Aside]] = defaultdict(list)
    for aside, key in zip(asides, keys.tolist(), strict=True):
        for conn in candidates.get(key, ()):
            row = rows[conn]
            if row["capture_idx"] == aside.capture_idx and row["first_frame"] <= aside.frame <= row["last_frame"]:
                found[conn].append(aside)
                break
    return found


def to_handshake_loss(connection: Connection, row: Rows, handshake: TlsHandshake) -> Loss:
    """Return a failed handshake as a loss of its own: no request was sent.

    Parameters
    ----------
    connection : Connection
    row : record of columns.CONNECTIONS.dtype
        The same.
    handshake : TlsHandshake
        Its `end` is known.
    """
    has_syn = connection.syn_frames > 0 and connection.orig_isn >= 0
    begin = handshake.hello_aside or handshake.answer_aside
    frame = connection.first_frame if has_syn or begin is None else begin.frame
    ts_ns = connection.first_ts_ns if has_syn or begin is None else begin.ts_ns
    return Loss(
        connection=connection,
        depth=-1,
        request_frame=frame,
        request_ts_ns=ts_ns,
        idle_before_ns=-1,
        request_seq=-1,
        request_end_seq=-1,
        request_ack=-1,
        response_bytes=0,
        retransmissions=0,
        method=Method.NONE,
        target="",
        host=handshake.hello.server_name,
        request_id="",
        status_code=-1,
        flags=ExchangeFlag(0),
        truncated=False,
        keys=_syn_segment(connection) | closing_segment(row),
        handshake=handshake,
    )


def _syn_segment(connection: Connection) -> dict[Key, KeySegment]:
    """Return the SYN where it is certain that the connection's first frame is one."""
    if connection.orig_isn < 0 or connection.handshake_resp_ns < 0:
        return {}
    segment = KeySegment(
        key=Key.SYN,
        frame=connection.first_frame,
        ts_ns=connection.first_ts_ns,
        dir=Direction.ORIG,
        seq=connection.orig_isn,
        ack=-1,
        payload_len=0,
        flags=int(TcpFlag.SYN),
        ttl=-1,
        window=-1,
        ip_id=-1,
        fate=int(Fate.NEW),
    )
    return {Key.SYN: segment}


def closing_segment(row: Rows) -> dict[Key, KeySegment]:
    """Return the segment that closed a connection first, under its key."""
    key = _CLOSING_KEYS.get((int(row["first_closer"]), int(row["closing_kind"])))
    if key is None or int(row["closing_frame"]) < 0:
        return {}
    ack = int(row["closing_ack"])
    bit = TcpFlag.RST if key in (Key.ORIG_RST, Key.RESP_RST) else TcpFlag.FIN
    segment = KeySegment(
        key=key,
        frame=int(row["closing_frame"]),
        ts_ns=int(row["closing_ts_ns"]),
        dir=Direction(int(row["first_closer"])),
        seq=int(row["closing_seq"]),
        ack=ack,
        payload_len=0,
        flags=int(bit | TcpFlag.ACK) if ack >= 0 else int(bit),
        ttl=-1,
        window=-1,
        ip_id=-1,
        fate=int(Fate.NEW),
    )
    return {key: segment}


def add_refused(analysis: Analysis) -> Analysis:
    """Return an analysis whose losses hold the handshakes that were whole, and of which the log says that they failed.

    nginx verifies a certificate when the handshake is over (proxy_ssl_verify): on the wire it is an orderly end.
    """
    handshakes = dict(analysis.tls.handshakes) if analysis.tls is not None else {}
    added: list[Loss] = []
    for joined in analysis.log.entries if analysis.log is not None else ():
        wire, entry = joined.wire, joined.entry
        if joined.verdict is not EntryVerdict.EXPLAINED or wire is None or entry.kind is not LogKind.TLS_CERTIFICATE:
            continue
        handshake = handshakes.get(wire.conn)
        if handshake is None or not handshake.is_unused or handshake.end is not None:
            continue
        reason = entry.message.partition("(")[2].rpartition(")")[0] or entry.message
        handshake = replace(handshake, end=HandshakeEnd.REFUSED, by=Direction.ORIG, reason=reason)
        handshakes[wire.conn] = handshake
        row = analysis.connections.rows[wire.conn]
        added.append(to_handshake_loss(to_connection(row, analysis.texts), row, handshake))
    if not added or analysis.tls is None:
        return analysis
    return replace(with_losses(analysis, added), tls=analysis.tls._replace(handshakes=handshakes))


def count_http2(http2: NDArray[np.int8], connections: Table, legs: NDArray[np.int8]) -> tuple[int, int]:
    """Return how many connections to upstreams carry HTTP/2 that is not read, or may, and how many carry anything."""
    carries = (legs == Leg.UPSTREAM) & (connections["orig_bytes"] + connections["resp_bytes"] > 0)
    return int(np.count_nonzero(carries & (http2 > HTTP2.NO))), int(np.count_nonzero(carries))
