"""What all connections to one upstream show of it: which there are, and over how many hops its segments come.

Knows the table of connections, and no rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.units import parse_address

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss

    Rows = np.ndarray[Any, Any]


def rows_of_peer(analysis: Analysis, peer: Endpoint) -> Rows:
    """Return the connections to an endpoint in the order of the table, as rows of `columns.CONNECTIONS`.

    The table is sorted once: a flood has as many endpoints as losses.
    """
    order, *columns = _by_peer(analysis)
    start, stop = 0, len(order)
    for column, value in zip(columns, (*parse_address(peer.address), peer.port), strict=True):
        bounds = [np.searchsorted(column[start:stop], column.dtype.type(value), side) for side in ("left", "right")]
        start, stop = start + int(bounds[0]), start + int(bounds[1])
    mine: Rows = analysis.connections.rows[np.sort(order[start:stop])]
    return mine


def _by_peer(analysis: Analysis) -> tuple[NDArray[Any], ...]:
    """Return the order of the connections by responder, and the columns that tell a responder, in that order."""
    key = f"{__name__}:by-peer"
    if key not in analysis.memo:
        rows = analysis.connections.rows
        order = np.lexsort((rows["resp_port"], rows["resp_lo"], rows["resp_hi"]))
        analysis.memo[key] = (order, *(rows[name][order] for name in ("resp_hi", "resp_lo", "resp_port")))
    found: tuple[NDArray[Any], ...] = analysis.memo[key]
    return found


def hop_count(ttl: int) -> int:
    """Return how many routers a packet passed, from the usual initial values of the TTL; -1 if it is not known."""
    if ttl < 0:
        return -1
    return next(initial for initial in (64, 128, 255) if initial >= ttl) - ttl


def own_ttls(analysis: Analysis, loss: Loss) -> frozenset[int]:
    """Return the TTLs that an upstream's packets to this proxy had on connections that opened."""
    connection = loss.connection
    key = f"{__name__}:{connection.capture_idx}:{connection.orig.address}:{connection.resp}"
    if key not in analysis.memo:
        hi, lo = (np.uint64(half) for half in parse_address(connection.orig.address))
        rows = rows_of_peer(analysis, connection.resp)
        of_proxy = (rows["orig_hi"] == hi) & (rows["orig_lo"] == lo) & (rows["capture_idx"] == connection.capture_idx)
        is_opened = (rows["syn_ack_frames"] > 0) | (rows["resp_bytes"] > 0)
        ttls = rows["resp_ttl"][of_proxy & is_opened & (rows["resp_ttl"] >= 0)]
        analysis.memo[key] = frozenset(np.unique(ttls).tolist())
    found: frozenset[int] = analysis.memo[key]
    return found


def own_ttl(analysis: Analysis, loss: Loss) -> int:
    """Return the TTL of the upstream's own segments on this connection; -1 if it is not known.

    Where the capture holds none of them, it is that of its segments to this proxy on all others, if that is one.
    """
    if loss.connection.resp_ttl >= 0:
        return loss.connection.resp_ttl
    others = own_ttls(analysis, loss)
    return min(others) if len(others) == 1 else -1
