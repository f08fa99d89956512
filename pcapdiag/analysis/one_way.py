"""Which turns inside TLS asked for nothing: log shipping, a feed that is pushed, a message without reply.

What a record holds cannot be read, so that a turn without an answer is a lost request only where something says that
requests are answered here: the connection, its upstream, or what was given beside the capture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Key, Outcome, Protocol
from pcapdiag.base.units import NS_PER_S, format_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.analysis.handshake import TlsView
    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import Table

_STREAM_NS = 10 * NS_PER_S
_STREAM_BYTES_PER_S = 4096
"""A turn that takes longer and brings less is no request on its way, but what comes up from time to time."""


def without_one_way(
    losses: Iterable[Loss], view: TlsView, exchanges: Table, connections: Table, *, is_proxied: bool
) -> tuple[Loss, ...]:
    """Return the losses without turns inside TLS that need not have asked for anything.

    Parameters
    ----------
    losses : iterable of Loss
        Of any protocol.
    view : TlsView
        What the handshakes say.
    exchanges, connections : Table
        `columns.EXCHANGES` and `columns.CONNECTIONS`.
    is_proxied : bool
        Whether the operator said that a proxy stands here: what that sends are requests.

    Returns
    -------
    tuple of Loss
        In the same order. One that its upstream ended by RST, or of which nothing was acknowledged, is kept as bytes of
        an unknown protocol.
    """
    losses = tuple(losses)
    turns = [loss for loss in losses if _is_turn(loss)]
    if not turns:
        return losses
    answering = _answering(exchanges, connections)
    left_out: set[tuple[int, int]] = set()
    opaque: set[tuple[int, int]] = set()
    for loss in turns:
        key = loss.connection.conn, loss.depth
        if _is_refused(loss):
            continue
        is_unknown = not is_proxied and not _is_http(loss, view) and str(loss.connection.resp) not in answering
        if is_unknown or _trickles(loss):
            (opaque if _is_cut_off(loss) else left_out).add(key)
    return tuple(
        replace(loss, connection=replace(loss.connection, protocol=Protocol.OPAQUE)) if key in opaque else loss
        for loss in losses
        if (key := (loss.connection.conn, loss.depth)) not in left_out
    )


def _is_turn(loss: Loss) -> bool:
    is_tls = loss.connection.protocol is Protocol.TLS and loss.handshake is None
    # One that keys gave a name did ask for something.
    return is_tls and not loss.is_connect and not loss.truncated and not loss.target


def _answering(exchanges: Table, connections: Table) -> frozenset[str]:
    """Return the responders that answered a turn inside TLS."""
    conns = [
        np.unique(chunk["conn"][(chunk["protocol"] == Protocol.TLS) & (chunk["outcome"] == Outcome.ANSWERED)])
        for chunk in exchanges.chunks()
    ]
    if not conns:
        return frozenset()
    rows = connections.rows[np.unique(np.concatenate(conns))][["resp_hi", "resp_lo", "resp_port"]]
    return frozenset(format_endpoint(int(hi), int(lo), int(port)) for hi, lo, port in np.unique(rows).tolist())


def _is_http(loss: Loss, view: TlsView) -> bool:
    """Tell whether a handshake says that HTTP/1 is spoken."""
    handshake = view.handshakes.get(loss.connection.conn)
    if handshake is None:
        return False
    offered = (*handshake.hello.alpn, *(handshake.answer.alpn if handshake.answer is not None else ()))
    return "http/1.1" in offered


def _is_refused(loss: Loss) -> bool:
    """Tell whether an alert answered the first turn of a connection at once: whatever that was, it was not taken."""
    alert = loss.keys.get(Key.UNSOLICITED)
    if alert is None or loss.is_reused:
        return False
    closings = [loss.keys[key].ts_ns for key in (Key.ORIG_FIN, Key.ORIG_RST) if key in loss.keys]
    is_first = all(alert.ts_ns <= ts_ns for ts_ns in closings)
    return is_first and alert.ts_ns - loss.request_ts_ns <= NS_PER_S


def _trickles(loss: Loss) -> bool:
    """Tell whether a turn comes up from time to time, as a feed does, and was taken."""
    end = loss.keys.get(Key.REQUEST_END)
    took_ns = end.ts_ns - loss.request_ts_ns if end is not None else 0
    n_bytes = (loss.request_end_seq - loss.request_seq) & 0xFFFFFFFF
    taken = loss.flags & (ExchangeFlag.ACKNOWLEDGED | ExchangeFlag.ACKNOWLEDGED_PART)
    return bool(taken) and took_ns >= _STREAM_NS and n_bytes * NS_PER_S < took_ns * _STREAM_BYTES_PER_S


def _is_cut_off(loss: Loss) -> bool:
    """Tell whether the upstream reset the connection, or nothing acknowledged a repeated turn."""
    if Key.RESP_RST in loss.keys and Key.RESP_FIN not in loss.keys:
        return loss.connection.first_closer is Direction.RESP
    return loss.retransmissions > 0 and not loss.is_acknowledged
