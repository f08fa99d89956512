"""Defaults of the proxy that the capture contradicts: where no line was read, what is assumed need not hold.

A connection that idled for longer than the default allows, an answer that came after it would have been given up: then
another file sets another value, or another proxy stands there. Such a setting is then not known, and says by what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Leg, Outcome
from pcapdiag.base.units import NS_PER_S, about, format_endpoint
from pcapdiag.proxy.conf.settings import Setting
from pcapdiag.proxy.conf.values import nginx_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.conf.settings import Location, OwnServer, ProxySettings, UpstreamBlock

_LATE_NS = NS_PER_S
"""[ns] How late a timer may be that a busy event loop looks at."""
_POOL_NAMES = frozenset(
    {
        *("keepalive", "common_http_protocol_options.idle_timeout", "tcp_proxy idle_timeout"),
        "forwardingTimeouts.idleConnTimeout",
    }
)
_WAIT_NAMES = frozenset({"timeout", "route timeout"})
"""Names under which proxies that are not of nginx's kin have limits with a default: of idle connections, of answers."""


@dataclass(frozen=True, slots=True)
class ShownByConnections:
    """What connections to one upstream show of the proxy, at least; -1 is nothing.

    `gap_ns` is the longest idle gap after which one was used, `wait_ns` the longest that an answer took to begin,
    `requests` the most on one connection.
    """

    gap_ns: int = -1
    wait_ns: int = -1
    requests: int = -1


def without_contradicted(settings: ProxySettings, analysis: Analysis) -> ProxySettings:
    """Return the settings, without the defaults that the capture contradicts.

    Parameters
    ----------
    settings : ProxySettings
        As read.
    analysis : Analysis
        All tables.

    Returns
    -------
    ProxySettings
        Where a default cannot hold, -1 stands in its place, and by what it is contradicted.
    """
    seen = _seen(analysis)
    of_block: dict[str, list[ShownByConnections]] = {}
    of_place: dict[str, list[ShownByConnections]] = {}
    own = settings.own
    for peer, its in seen.items():
        blocks = settings.blocks_of_peer(peer)
        # Of several blocks that hold the peer any may have used the connection.
        if len(blocks) == 1:
            of_block.setdefault(blocks[0].name, []).append(its)
        places = settings.locations_of(blocks)
        if len(places) == 1:
            of_place.setdefault(places[0].source, []).append(its)
        servers = settings.servers_of(peer)
        if len(servers) == 1:
            own = tuple(_server(server, its) if server is servers[0] else server for server in own)
    return replace(
        settings,
        upstreams=tuple(_block(block, of_block.get(block.name, ())) for block in settings.upstreams),
        locations=tuple(_place(place, of_place.get(place.source, ())) for place in settings.locations),
        own=own,
    )


def _seen(analysis: Analysis) -> dict[str, ShownByConnections]:
    """Return what was seen, by the text of the upstream's endpoint."""
    rows = analysis.connections.rows
    waits = np.full(len(rows), -1, dtype=np.int64)
    for chunk in analysis.exchanges.chunks():
        answered = np.flatnonzero(chunk["outcome"] == Outcome.ANSWERED)
        np.maximum.at(waits, chunk["conn"][answered], chunk["first_byte_ns"][answered])
    used = np.flatnonzero((analysis.legs == Leg.UPSTREAM) & (rows["n_exchanges"] > 0))
    ends = np.stack([rows[name][used] for name in ("resp_hi", "resp_lo", "resp_port")]).astype(np.uint64)
    order = np.lexsort(ends[::-1])
    used, ends = used[order], ends[:, order]
    first = np.flatnonzero(np.append(True, (ends[:, 1:] != ends[:, :-1]).any(axis=0))) if len(used) else used
    longest = np.maximum.reduceat(waits[used], first).tolist() if len(used) else []
    most = np.maximum.reduceat(rows["n_exchanges"][used], first).tolist() if len(used) else []
    known = zip(ends[:, first].T.tolist(), longest, most, strict=True)
    by_peer = {format_endpoint(*end): (wait, requests) for end, wait, requests in known}
    gaps = {str(u.endpoint): u.longest_gap_ns for u in analysis.upstreams}
    return {peer: ShownByConnections(gap, *by_peer.get(peer, (-1, -1))) for peer, gap in gaps.items()}


def _block(block: UpstreamBlock, seen: Iterable[ShownByConnections]) -> UpstreamBlock:
    gap = max((its.gap_ns for its in seen), default=-1)
    requests = max((its.requests for its in seen), default=-1)
    if not block.keepalive.value:
        return block
    return replace(
        block,
        keepalive_timeout_ns=_idle(block.keepalive_timeout_ns, gap),
        keepalive_requests=_unless(
            block.keepalive_requests,
            is_beyond=requests > block.keepalive_requests.value,
            held=str(block.keepalive_requests.value),
            but=f"a connection carried {requests:,} requests",
        ),
    )


def _place(place: Location, seen: Iterable[ShownByConnections]) -> Location:
    wait = max((its.wait_ns for its in seen), default=-1)
    return replace(place, read_timeout_ns=_wait(place.read_timeout_ns, wait))


def _server(server: OwnServer, seen: ShownByConnections) -> OwnServer:
    pool = _idle(server.pool_limit_ns, seen.gap_ns) if server.reuse.value else server.pool_limit_ns
    read = _wait(server.read_timeout_ns, seen.wait_ns)
    doubted = {name: limit for names, limit in ((_POOL_NAMES, pool), (_WAIT_NAMES, read)) for name in names}
    shown = tuple((name, _shown(held, doubted.get(name))) for name, held in server.settings)
    return replace(server, pool_limit_ns=pool, read_timeout_ns=read, settings=shown)


def _shown(held: Setting[str], limit: Setting[int] | None) -> Setting[str]:
    """Return how a default is shown that may not hold."""
    if limit is None or not limit.is_contradicted or not held.assumed:
        return held
    return Setting("not known", assumed=True, why=limit.why, is_contradicted=True)


def _idle(held: Setting[int], gap_ns: int) -> Setting[int]:
    return _time(held, gap_ns, "a connection was used after it had idled for")


def _wait(held: Setting[int], wait_ns: int) -> Setting[int]:
    return _time(held, wait_ns, "an answer was waited for, and read, for")


def _time(held: Setting[int], seen_ns: int, but: str) -> Setting[int]:
    is_beyond = seen_ns > held.value + _LATE_NS
    return _unless(held, is_beyond=is_beyond, held=nginx_time(held.value), but=f"{but} {about(seen_ns)}")


def _unless(setting: Setting[int], *, is_beyond: bool, held: str, but: str) -> Setting[int]:
    """Return a setting that is not known where it was assumed, and something is beyond it."""
    if not setting.assumed or setting.value < 0 or not is_beyond:
        return setting
    return Setting(-1, assumed=True, why=f"{setting.why} is {held}, but {but}", is_contradicted=True)
