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
    wait: dict[str, int] = {}
    requests: dict[str, int] = {}
    for conn in np.flatnonzero((analysis.legs == Leg.UPSTREAM) & (rows["n_exchanges"] > 0)).tolist():
        row = rows[conn]
        peer = format_endpoint(int(row["resp_hi"]), int(row["resp_lo"]), int(row["resp_port"]))
        wait[peer] = max(wait.get(peer, -1), int(waits[conn]))
        requests[peer] = max(requests.get(peer, -1), int(row["n_exchanges"]))
    peers = {str(u.endpoint): u.longest_gap_ns for u in analysis.upstreams}
    return {peer: ShownByConnections(gap, wait.get(peer, -1), requests.get(peer, -1)) for peer, gap in peers.items()}


def _block(block: UpstreamBlock, seen: Iterable[ShownByConnections]) -> UpstreamBlock:
    gap = max((its.gap_ns for its in seen), default=-1)
    requests = max((its.requests for its in seen), default=-1)
    if not block.keepalive.value:
        return block
    return replace(
        block,
        keepalive_timeout_ns=_time(block.keepalive_timeout_ns, gap, "a connection was used after it had idled for"),
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
    read = _wait(server.read_timeout_ns, seen.wait_ns)
    if read is server.read_timeout_ns:
        return server
    shown = ((name, replace(held, why=read.why) if name == "timeout" else held) for name, held in server.settings)
    return replace(server, read_timeout_ns=read, settings=tuple(shown))


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
