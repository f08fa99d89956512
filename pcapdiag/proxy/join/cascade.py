"""`no live upstreams` and its like from balancers in Lua: why each peer of the group could not be tried.

A peer is out for a worker (or for all, with a `zone`) while `now - checked <= fail_timeout`, in whole seconds, after
`max_fails` failures; and for one request once that request has tried it (ngx_http_upstream_round_robin.c). A balancer
in Lua counts no failures: what a request has tried, and what its health checks found, leaves it without a peer. Knows
entries and settings; which packets stand behind an entry was decided before.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.base.units import format_address
from pcapdiag.proxy.join.ledger import Absence, Chain, ChainLink, EntryVerdict
from pcapdiag.proxy.join.pairs import end_of, normalize_peer
from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.proxy.conf.settings import ProxySettings, Server, UpstreamBlock
    from pcapdiag.proxy.join.ledger import JoinedEntry
    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry

DEFAULT_MAX_FAILS = 1
DEFAULT_FAIL_TIMEOUT_S = 10
LONGEST_PROBE_S = 600
"""[s] How long ago a failure may lie that still keeps a peer out: nobody asked for it, or its probe takes so long."""
LONGEST_CHECK_S = 600
"""[s] How long ago a health check may have counted against a peer that is still out."""
_CHECKED = re.compile(r"(?:for|target status) '[^'()]{0,255}\(?((?:\[[0-9a-fA-F:]{2,45}\]|[0-9.]{7,15}):\d{1,5})\)?'")
LONGEST_REQUEST_S = 3600
"""[s] How long a try of a request may have lasted, where no packets say so."""
_AT_ONCE_S = 2
"""[s] So far apart are the stamps of what happened at once: a second each, and a handshake."""


@dataclass(frozen=True, slots=True)
class _Peer:
    """What is known of one server of a group."""

    name: str
    max_fails: int = DEFAULT_MAX_FAILS
    fail_timeout_s: int = DEFAULT_FAIL_TIMEOUT_S
    is_down: bool = False


def build_chains(
    joined: Sequence[JoinedEntry],
    *,
    accesses: Iterable[AccessEntry],
    settings: ProxySettings | None,
    checks: Iterable[ErrorEntry] = (),
) -> tuple[Chain, ...]:
    """Return the chain behind every `no live upstreams`, and of every balancer that found no peer.

    Parameters
    ----------
    joined : sequence of JoinedEntry
        All upstream entries with their verdicts, by time.
    accesses : iterable of AccessEntry
        They name the tries of a request even where the error log has lost them.
    settings : ProxySettings or None
        For the servers of a block; without, the peers that the log names are its servers.
    checks : iterable of ErrorEntry
        What health checks of a balancer logged, by time.

    Returns
    -------
    tuple of Chain
        In the order of the entries.
    """
    history = _History(joined, settings, checks)
    lists: dict[tuple[int, str], list[AccessEntry]] = defaultdict(list)
    for access in accesses:
        lists[access.log_conn, access.method].append(access)
    return tuple(
        (history.chain if j.entry.kind is LogKind.NO_LIVE_UPSTREAMS else history.balanced_chain)(
            position, j, lists[j.entry.log_conn, j.entry.method]
        )
        for position, j in enumerate(joined)
        if j.entry.kind in FOUND_NO_PEER
    )


class _History:
    """The failures of each peer, by worker and by time."""

    def __init__(
        self, joined: Sequence[JoinedEntry], settings: ProxySettings | None, checks: Iterable[ErrorEntry]
    ) -> None:
        self._joined = joined
        self._settings = settings
        self._checks: dict[str, list[ErrorEntry]] = defaultdict(list)
        for check in checks:
            if match := _CHECKED.search(check.message):
                self._checks[normalize_peer(match[1])].append(check)
        self._of_peer: dict[str, list[int]] = defaultdict(list)
        self._of_request: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        self._blocks: dict[str, dict[str, None]] = defaultdict(dict)
        by_uri: dict[tuple[str, str], str] = {}
        for position, j in enumerate(joined):
            entry = j.entry
            self._of_request[entry.pid, entry.log_conn, entry.request].append(position)
            if entry.kind in FOUND_NO_PEER:
                by_uri.setdefault((entry.server, entry.upstream_schema), entry.upstream_peer)
            elif j.verdict is not EntryVerdict.NO_PACKETS_EXPECTED or entry.upstream_peer.startswith("unix:"):
                # A socket sends no packets, and counts against its server as any other does.
                self._of_peer[normalize_peer(entry.upstream_peer)].append(position)
        # Without a configuration: peers that the same virtual server was served by, as far as the log names them.
        for peer, positions in self._of_peer.items():
            for position in positions:
                entry = joined[position].entry
                block = by_uri.get((entry.server, entry.upstream_schema))
                if block is not None:
                    self._blocks[block][peer] = None

    def chain(self, position: int, joined: JoinedEntry, accesses: Sequence[AccessEntry]) -> Chain:
        """Return why no peer was left for the entry at this position."""
        entry = joined.entry
        name = entry.upstream_peer
        block = self._settings.block(name) if self._settings is not None else None
        if block is not None and block.servers:
            peers = [_of_server(server) for server in block.servers]
            has_zone = bool(block.zone.value)
            source = block.source
        else:
            peers, has_zone, source = [_Peer(peer) for peer in self._blocks[name]], False, ""
        tried = self._tried(position, joined, accesses)
        links = tuple(self._link(position, joined, peer, tried, has_zone=has_zone) for peer in peers)
        timeouts = [peer.fail_timeout_s for peer in peers] or [DEFAULT_FAIL_TIMEOUT_S]
        return Chain(entry, name, links, source, max(timeouts), min(timeouts))

    def balanced_chain(self, position: int, joined: JoinedEntry, accesses: Sequence[AccessEntry]) -> Chain:
        """Return why a balancer in Lua had no peer: what the request had tried, and what health checks had found."""
        entry = joined.entry
        tried = self._tried(position, joined, [])
        last = normalize_peer(entry.upstream_peer)
        if ":" in last:
            tried.setdefault(last, -1)
        # The line of the request is the one that names all of these peers and has no success.
        fitting = [a for a in accesses if tried and tried.keys() <= {normalize_peer(t.addr) for t in a.tries}]
        if len(fitting) == 1:
            tried |= {p: -1 for t in fitting[0].tries if ":" in (p := normalize_peer(t.addr)) and p not in tried}
        block = self._block_of(tried)
        checked = {peer for peer in self._checks if self._check(peer, entry.ts_s) is not None}
        peers = (
            [p.name for p in map(_of_server, block.servers)] if block is not None else sorted(tried.keys() | checked)
        )
        links = []
        for peer in dict.fromkeys((*peers, *tried)):
            at, check = tried.get(peer), self._check(peer, entry.ts_s)
            by = self._joined[at] if at is not None and at >= 0 else None
            if at is not None:
                until = by.entry.ts_s if by is not None else entry.ts_s
                links.append(ChainLink(peer, Absence.TRIED, until, by.entry if by else None, by.wire if by else None))
            elif check is not None:
                links.append(ChainLink(peer, Absence.UNHEALTHY, -1, check))
            else:
                links.append(ChainLink(peer, Absence.UNKNOWN))
        site = entry.server if entry.server not in {"", "_"} else entry.host or "the proxy"
        name = block.name if block is not None else f"the balancer of {site}"
        return Chain(entry, name, tuple(links), block.source if block is not None else "", -1)

    def _block_of(self, peers: Iterable[str]) -> UpstreamBlock | None:
        """Return the only block of the configuration that holds one of these peers by its address."""
        if self._settings is None:
            return None
        names = set(peers)
        found = {b.name: b for b in self._settings.upstreams if any(_of_server(s).name in names for s in b.servers)}
        return next(iter(found.values())) if len(found) == 1 else None

    def _check(self, peer: str, now_s: int) -> ErrorEntry | None:
        """Return the last health check that counted against a peer, if one did lately."""
        its = self._checks.get(peer, [])
        at = bisect_right(its, now_s, key=lambda check: check.ts_s) - 1
        return its[at] if at >= 0 and now_s - its[at].ts_s <= LONGEST_CHECK_S else None

    def _tried(self, position: int, joined: JoinedEntry, accesses: Sequence[AccessEntry]) -> dict[str, int]:
        """Return the peers that this request had tried, with the position of the entry (-1: only the access log)."""
        entry = joined.entry
        tried: dict[str, int] = {}
        positions = self._of_request[entry.pid, entry.log_conn, entry.request]
        # A proxy turns to the next peer at once: what failed long before the try after it began was another request's.
        next_s, within_s = entry.ts_s, _AT_ONCE_S
        for before in reversed(positions[: positions.index(position)]):
            other, wire = self._joined[before].entry, self._joined[before].wire
            if other.kind in FOUND_NO_PEER or next_s - other.ts_s > within_s:
                break
            peer = normalize_peer(other.upstream_peer)
            if peer not in tried or other.kind is not LogKind.SERVER_DISABLED:
                tried[peer] = before
            lasted_s = LONGEST_REQUEST_S if wire is None else (end_of(wire) - wire.start_ns) // 1_000_000_000
            next_s, within_s = other.ts_s, lasted_s + _AT_ONCE_S
        nearest = [a for a in accesses if any(t.addr == entry.upstream_peer for t in a.tries)]
        matching = [a for a in nearest if any(normalize_peer(t.addr) in tried for t in a.tries)]
        if len(nearest) == 1 or len(matching) == 1:
            only = matching[0] if len(matching) == 1 else nearest[0]
            names = {normalize_peer(t.addr) for t in only.tries}
            tried = {peer: at for peer, at in tried.items() if peer in names}
            tried |= dict.fromkeys(names - tried.keys() - {entry.upstream_peer}, -1)
        return tried

    def _link(
        self, position: int, joined: JoinedEntry, peer: _Peer, tried: dict[str, int], *, has_zone: bool
    ) -> ChainLink:
        if peer.is_down:
            return ChainLink(peer.name, Absence.DOWN)
        now_s = joined.entry.ts_s
        if peer.name in tried:
            at = tried[peer.name]
            by = self._joined[at] if at >= 0 else None
            until = by.entry.ts_s if by is not None else now_s
            return ChainLink(peer.name, Absence.TRIED, until, by.entry if by else None, by.wire if by else None)
        mine = self._of_peer.get(peer.name, [])
        failures = [
            by
            for by in (self._joined[at] for at in reversed(mine[: bisect_right(mine, position)]))
            if (has_zone or by.entry.pid == joined.entry.pid) and now_s - by.entry.ts_s <= LONGEST_PROBE_S
        ]
        if not failures or not peer.max_fails:
            return ChainLink(peer.name, Absence.UNKNOWN)
        cause = next((f for f in failures if f.entry.kind is not LogKind.SERVER_DISABLED), failures[0])
        until = failures[0].entry.ts_s + peer.fail_timeout_s + 1
        # nginx skips a peer for no other reason: once the time is over one request probes it, and the others wait.
        absence = Absence.DISABLED if now_s <= until else Absence.PROBED
        return ChainLink(peer.name, absence, until, cause.entry, cause.wire)


def _of_server(server: Server) -> _Peer:
    if server.endpoint is None:
        name = server.address
    else:
        high, low, port = server.endpoint
        address = format_address(high, low)
        name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return _Peer(name, server.max_fails.value, max(server.fail_timeout_ns.value, 0) // 1_000_000_000, server.down)
