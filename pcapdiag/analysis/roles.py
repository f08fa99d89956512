"""Roles: which leg of the proxy a connection is on, and where the capture was taken.

It reads addresses, directions and times of whole connections and exchanges; it knows nothing of losses, timeouts or
rules. What it cannot tell is taken for the upstream leg, because that is the leg people capture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import CapturePoint, Leg, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.base.tables import Table

_PROXIED = (
    Protocol.HTTP1,
    Protocol.TLS,
    Protocol.FASTCGI,
    Protocol.UWSGI,
    Protocol.SCGI,
    Protocol.HTTP2,
    Protocol.HTTP2_UNREAD,
    Protocol.UPGRADED,
)
"""What a reverse proxy speaks to an upstream; an upstream's own database connection is none of these."""

_MAX_NESTED_EXCHANGES = 50_000
_MAX_NESTED_SERVICES = 12
_MIN_NESTED = 3
_NESTED_SHARE = 0.8

_LAN_RTT_NS = 100_000
_NEAR_SHARE = 0.2


def assign_legs(
    connections: Table,
    exchanges: Table,
    *,
    proxies: Sequence[tuple[int, int]] = (),
    upstreams: Sequence[tuple[int, int, int]] = (),
    own_ports: Collection[int] = (),
) -> NDArray[np.int8]:
    """Return the leg of each connection.

    What the operator says decides first. Then, in this order: an address that answers some and opens other
    connections is the proxy; where the capturing machine both answers and opens connections, the ones it opens are
    the upstream leg; requests that enclose equal requests in time are the client leg; so is what a machine sends to
    itself at a port of the proxy. With one leg only, and where nothing tells, it is the upstream leg.

    Parameters
    ----------
    connections, exchanges : Table
        `columns.CONNECTIONS` and `columns.EXCHANGES`.
    proxies : sequence of (int, int)
        Addresses (upper and lower half) that the operator names as proxies.
    upstreams : sequence of (int, int, int)
        Addresses and ports (-1 for any) that the operator names as upstreams.
    own_ports : collection of int
        Ports at which the proxy answers, by its configuration.

    Returns
    -------
    ndarray of int8, shape (n_conn,)
        `codes.Leg`; UNKNOWN only for connections that the operator's `upstreams` leave out.
    """
    legs = np.full(len(connections), Leg.UPSTREAM, dtype=np.int8)
    if not len(connections):
        return legs
    orig, resp = _address_ids(connections)
    if upstreams:
        return _legs_to_named(connections, orig, resp, upstreams)
    if proxies:
        named_ids = _named_ids(connections, orig, resp, proxies)
        legs[np.isin(resp, named_ids) & ~np.isin(orig, named_ids)] = Leg.CLIENT
        return legs
    both = _both_ways(connections, orig, resp)
    if len(both):
        legs[np.isin(resp, both) & ~np.isin(orig, both)] = Leg.CLIENT
        return legs
    answered_here, opened_here = connections["orig_local"] == 0, connections["orig_local"] == 1
    # A machine that only forwards sees the same originator come in and go out: it is neither end of the connection.
    is_end = not len(np.intersect1d(orig[answered_here], orig[opened_here]))
    if is_end and answered_here.any() and (_is_proxied(connections) & opened_here).any():
        legs[answered_here] = Leg.CLIENT
        return legs
    legs = _legs_by_nesting(connections, exchanges, orig, resp, legs)
    if own_ports and not (legs == Leg.CLIENT).any():
        is_own = (orig == resp) & np.isin(connections["resp_port"], sorted(own_ports))
        if (is_own != (orig == resp)).any():
            legs[is_own] = Leg.CLIENT
    return legs


def find_capture_point(connections: Table, legs: NDArray[np.int8]) -> CapturePoint:
    """Return where the capture was taken, from the two halves of the upstream leg's handshakes.

    The side that answers at once is the side that was captured: SYN to SYN-ACK takes no time at the upstream, SYN-ACK
    to ACK takes none at the proxy.

    Parameters
    ----------
    connections : Table
        `columns.CONNECTIONS`.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg` of each connection.

    Returns
    -------
    CapturePoint
        UNKNOWN without handshakes, or where the whole path is too short to tell.
    """
    responder_ns = connections["handshake_resp_ns"]
    originator_ns = connections["handshake_orig_ns"]
    known = (np.asarray(legs) == Leg.UPSTREAM) & (responder_ns >= 0) & (originator_ns >= 0)
    if not known.any():
        return CapturePoint.UNKNOWN
    to_upstream = float(np.median(responder_ns[known]))
    to_proxy = float(np.median(originator_ns[known]))
    path = to_upstream + to_proxy
    if path < _LAN_RTT_NS:
        return CapturePoint.UNKNOWN
    if to_proxy <= _NEAR_SHARE * path:
        return CapturePoint.PROXY
    if to_upstream <= _NEAR_SHARE * path:
        return CapturePoint.UPSTREAM
    # Half a millisecond is what a busy machine takes for an answer of its own: below that, no place in between.
    return CapturePoint.BETWEEN if min(to_upstream, to_proxy) > 5 * _LAN_RTT_NS else CapturePoint.UNKNOWN


def _address_ids(connections: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each originator address and each responder address, equal for equal addresses."""
    n_conn = len(connections)
    hi = np.concatenate((connections["orig_hi"], connections["resp_hi"]))
    lo = np.concatenate((connections["orig_lo"], connections["resp_lo"]))
    order = np.lexsort((lo, hi))
    hi, lo = hi[order], lo[order]
    ids = np.empty(2 * n_conn, dtype=np.int64)
    ids[order] = np.cumsum(np.concatenate(([False], (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]))))
    return ids[:n_conn], ids[n_conn:]


def _named_ids(
    connections: Table, orig: NDArray[np.int64], resp: NDArray[np.int64], addresses: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    found: list[NDArray[np.int64]] = []
    for hi, lo in addresses:
        as_orig = (connections["orig_hi"] == np.uint64(hi)) & (connections["orig_lo"] == np.uint64(lo))
        as_resp = (connections["resp_hi"] == np.uint64(hi)) & (connections["resp_lo"] == np.uint64(lo))
        found += [orig[as_orig][:1], resp[as_resp][:1]]
    return np.concatenate(found)


def _legs_to_named(
    connections: Table,
    orig: NDArray[np.int64],
    resp: NDArray[np.int64],
    upstreams: Sequence[tuple[int, int, int]],
) -> NDArray[np.int8]:
    """Return legs where only the named endpoints are upstreams; what reaches their clients is the client leg."""
    named = np.zeros(len(connections), dtype=np.bool_)
    for hi, lo, port in upstreams:
        same = (connections["resp_hi"] == np.uint64(hi)) & (connections["resp_lo"] == np.uint64(lo))
        named |= same & (connections["resp_port"] == port) if port >= 0 else same
    legs = np.full(len(connections), Leg.UNKNOWN, dtype=np.int8)
    legs[np.isin(resp, np.unique(orig[named]))] = Leg.CLIENT
    legs[named] = Leg.UPSTREAM
    return legs


def _is_proxied(connections: Table) -> NDArray[np.bool_]:
    """Tell which connections a reverse proxy may have opened: a protocol of its own, or nothing said at all."""
    silent = (connections["orig_bytes"] == 0) & (connections["resp_bytes"] == 0)
    result: NDArray[np.bool_] = np.isin(connections["protocol"], _PROXIED) | silent
    return result


def _both_ways(connections: Table, orig: NDArray[np.int64], resp: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the addresses that answer some connections and open others; loopback proves nothing."""
    certain = (connections["orig_inferred"] == 0) & (orig != resp)
    if not certain.any():
        certain = orig != resp
    speaks = np.isin(connections["protocol"], _PROXIED)
    return np.intersect1d(orig[certain & _is_proxied(connections)], resp[certain & speaks])


def _legs_by_nesting(
    connections: Table,
    exchanges: Table,
    orig: NDArray[np.int64],
    resp: NDArray[np.int64],
    legs: NDArray[np.int8],
) -> NDArray[np.int8]:
    """Return legs where one group of services only ever encloses the other in time: that one is the client leg."""
    group = _service_groups(orig, resp, connections["resp_port"])
    names = np.unique(group)
    if not 1 < len(names) <= _MAX_NESTED_SERVICES:
        return legs
    rows = _first_rows(exchanges)
    if not len(rows):
        return legs
    # A client whose request got no answer waited until its connection ended.
    is_open = rows["duration_ns"] < 0
    rows["duration_ns"][is_open] = (connections["last_ts_ns"][rows["conn"]] - rows["request_ts_ns"])[is_open]
    of_group = group[rows["conn"]]
    for outer, inner in _ordered_pairs(names):
        a, b = rows[of_group == outer], rows[(of_group == inner) & ~is_open]
        if min(len(a), len(b)) < _MIN_NESTED:
            continue
        forth, back = _enclosed_share(a, b), _enclosed_share(b, a)
        # One try per request is usual, several are possible; many more inner than outer requests is mere load.
        if forth >= _NESTED_SHARE and back <= 1 - _NESTED_SHARE and len(b) <= 4 * len(a):
            legs[group == outer] = Leg.CLIENT
    return legs


def _ordered_pairs(names: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    for a in names.tolist():
        for b in names.tolist():
            if a != b:
                yield a, b


def _service_groups(orig: NDArray[np.int64], resp: NDArray[np.int64], port: NDArray[np.int32]) -> NDArray[np.int64]:
    """Group connections by service (responder address and port), and services that share an originator.

    Services used from one address are on one leg; on loopback every address is the same and only the port counts.
    """
    service = np.asarray(np.unique(resp * 65536 + port, return_inverse=True)[1], dtype=np.int64)
    group = service.copy()
    apart = orig != resp
    for _ in range(int(service.max()) + 1):
        # Each round gives every connection the smallest group of its originator, then of its service.
        before = group
        group = group.copy()
        group[apart] = _lowest(group[apart], orig[apart])
        group = _lowest(group, service)
        if (group == before).all():
            break
    return group


def _lowest(values: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each value the smallest one with the same key."""
    if not len(keys):
        return values
    lowest = np.full(int(keys.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, keys, values)
    return lowest[keys]


def _first_rows(exchanges: Table) -> np.ndarray[Any, Any]:
    """Return the first exchanges that have a request, as many as the comparison looks at."""
    kept: list[np.ndarray[Any, Any]] = []
    n_row = 0
    for chunk in exchanges.chunks():
        rows = chunk.rows[["conn", "request_ts_ns", "duration_ns", "method", "target_len"]]
        rows = rows[chunk["request_ts_ns"] >= 0]
        kept.append(rows[: _MAX_NESTED_EXCHANGES - n_row].copy())
        n_row += len(kept[-1])
        if n_row >= _MAX_NESTED_EXCHANGES:
            break
    return np.concatenate(kept) if kept else np.empty(0, dtype=[("conn", "i4")])


def _enclosed_share(outer: np.ndarray[Any, Any], inner: np.ndarray[Any, Any]) -> float:
    """Return the share of `inner` that lies within an exchange of `outer` with the same method and target length."""
    enclosed = 0
    outer_key = outer["method"].astype(np.int64) * 65536 + outer["target_len"]
    inner_key = inner["method"].astype(np.int64) * 65536 + inner["target_len"]
    for key in np.unique(inner_key).tolist():
        a, b = outer[outer_key == key], inner[inner_key == key]
        if not len(a):
            continue
        a = a[np.argsort(a["request_ts_ns"], kind="stable")]
        latest_end = np.maximum.accumulate(a["request_ts_ns"] + a["duration_ns"])
        before = np.searchsorted(a["request_ts_ns"], b["request_ts_ns"], side="right") - 1
        end = b["request_ts_ns"] + b["duration_ns"]
        enclosed += int(((before >= 0) & (latest_end[before] >= end)).sum())
    return enclosed / len(inner)
