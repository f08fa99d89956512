"""Which groups of servers there are, how they are set, and which requests went to each.

From the configuration where one was given; without it each request goes where it went, and nothing is said of picking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S, format_duration_ns, format_endpoint
from pcapdiag.proxy.conf.values import version_numbers
from pcapdiag.whatif.access_log_clock import AS_IT_IS
from pcapdiag.whatif.arrivals import ip_hash_key, make_arrivals, read_log, spread_words
from pcapdiag.whatif.captured import begun_tries, captured_requests, count_otherwise, count_seen, own_failures
from pcapdiag.whatif.group import BALANCES, GroupSettings, MeasuredUpstream, Peer, ServerGroup
from pcapdiag.whatif.places import measure_places
from pcapdiag.whatif.wire_times import timed_by_capture

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.proxy.conf.settings import Location, ProxySettings, Server, UpstreamBlock
    from pcapdiag.proxy.logs.entries import AccessEntry
    from pcapdiag.whatif.access_log_clock import AccessLogClock

_NEWEST = (1, 29, 6)
"""What is assumed of an nginx whose version nobody told, as in `proxy.conf.nginx_defaults`."""
_POOL_WITHOUT_CONF = 1024
_MOST = 1 << 20
"""Of any number in a configuration: larger ones make no difference."""
_MOST_WORKERS = 512
_TIMEOUT_WITHOUT_CONF_NS = 60 * NS_PER_S
_GIVE_LOG = "give --access-log"
_USELESS_LOG = (
    "the access log that was given holds, by its clock, no request of the time of the capture that says when it began"
    " ($request_time) and which upstream it was for"
)
_UNKNOWN_CLOCK = (
    "the times of the access log are not those of the capture, and how far the clocks are apart is not known: they are"
    " taken as they are; --error-log would tell"
)


@dataclass(frozen=True, slots=True)
class _UpstreamBlock:
    """A group before its requests are known."""

    name: str
    settings: GroupSettings
    places: tuple[MeasuredUpstream, ...]
    assumptions: tuple[str, ...]


def build_groups(
    analysis: Analysis,
    findings: Sequence[Finding],
    read_entries: Callable[[], Iterable[AccessEntry]] | None,
    clock: AccessLogClock = AS_IT_IS,
) -> tuple[ServerGroup, ...]:
    """Return every group that requests went to.

    Parameters
    ----------
    analysis : Analysis
        With its logs and configuration.
    findings : sequence of Finding
        What was found.
    read_entries : callable or None
        Gives the entries of the access log of the capture's time, each time anew; None without one.
    clock : AccessLogClock
        Of these entries.

    Returns
    -------
    tuple of ServerGroup
        Those with requests only.
    """
    places = measure_places(analysis, findings)
    own = own_failures(analysis, findings)
    groups = []
    for block in _blocks(analysis, places):
        told = None
        if read_entries is not None:
            names = [block.name] if analysis.settings is not None else []
            told = read_log(read_entries(), block.places, names, clock.ahead_ns, own)
        assumptions = list(block.assumptions)
        if told is None:
            requests = captured_requests(analysis, findings, block.places)
            if requests is None:
                continue
            keys, source = [0], "capture"
            counts: dict[str, int] = {}
            assumptions.append(
                "arrivals are those of the capture: requests that found no live upstream are not among them, "
                f"nor does it tell clients apart; {_GIVE_LOG if read_entries is None else _USELESS_LOG}"
            )
        else:
            requests, addresses, counts = told
            requests = timed_by_capture(requests, *begun_tries(analysis, block.places))
            assumptions += spread_words(requests)
            if not clock.fits:
                assumptions.append(_UNKNOWN_CLOCK)
            keys, source = [ip_hash_key(address) for address in addresses], "access log"
        arrivals = make_arrivals(requests, block.places, keys, source=source)
        observed = {**counts, **count_seen(analysis, block.places)}
        observed |= count_otherwise(analysis, findings, block.places)
        # A log has no line of a request that was under way when the proxy itself was stopped.
        beside = max(sum(len(own.get(p.endpoint, ())) for p in block.places) - int(requests.n_fails.sum()), 0)
        groups.append(
            ServerGroup(block.name, block.settings, block.places, arrivals, tuple(assumptions), observed, beside)
        )
    return tuple(groups)


def _blocks(analysis: Analysis, places: Sequence[MeasuredUpstream]) -> list[_UpstreamBlock]:
    settings = analysis.settings
    if settings is None:
        return [_without_conf(analysis, places)] if places else []
    blocks = []
    taken: set[str] = set()
    for block in settings.upstreams:
        mine = [p for p in places if p.endpoint not in taken and block in settings.blocks_of_peer(p.endpoint)]
        if not mine:
            continue
        taken.update(place.endpoint for place in mine)
        blocks.append(_configured(analysis, settings, block, mine))
    return blocks


def _without_conf(analysis: Analysis, places: Sequence[MeasuredUpstream]) -> _UpstreamBlock:
    kept = [u.proxy_idle_close_ns for u in analysis.upstreams if u.proxy_idle_close_ns >= 0]
    timeout_ns = min(kept, default=_TIMEOUT_WITHOUT_CONF_NS)
    how = "as the capture shows" if kept else "nginx's default"
    assumptions = (
        (
            "no configuration was given: the proxy keeps idle connections for "
            f"{format_duration_ns(timeout_ns)} ({how}), and each request goes to the upstream that it went to; "
            "give --proxy-conf"
        ),
    )
    peers = tuple(Peer(place.endpoint, n) for n, place in enumerate(places))
    settings = GroupSettings(peers, is_picked=False, keepalive=_POOL_WITHOUT_CONF, keepalive_timeout_ns=timeout_ns)
    return _UpstreamBlock("", settings, tuple(places), assumptions)


def _configured(
    analysis: Analysis, settings: ProxySettings, block: UpstreamBlock, seen: Sequence[MeasuredUpstream]
) -> _UpstreamBlock:
    pids = {joined.entry.pid for joined in analysis.log.entries} if analysis.log is not None else set()
    return _UpstreamBlock(block.name, *group_settings(settings, block, seen, pids=pids))


def group_settings(
    settings: ProxySettings, block: UpstreamBlock, seen: Sequence[MeasuredUpstream], *, pids: Collection[int]
) -> tuple[GroupSettings, tuple[MeasuredUpstream, ...], tuple[str, ...]]:
    """Return how a block is set, its places (those that were not seen among them), and what is assumed.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    block : UpstreamBlock
        One of its groups.
    seen : sequence of MeasuredUpstream
        Servers of it that were seen.
    pids : collection of int
        Workers that the error log shows.
    """
    assumptions: list[str] = []
    places = list(seen)
    peers = _lua_peers(places) if block.is_lua else _peers(settings, block, places, assumptions)
    location = _location(settings, block, assumptions)
    workers, source = _workers(pids, settings)
    assumptions.append(f"{workers} worker process{'es' if workers > 1 else ''} ({source})")
    version = version_numbers(settings.version) if settings.version else _NEWEST
    balance = _balance(block, assumptions)
    kept = location is None or location.reuse.value
    made = GroupSettings(
        peers=peers,
        balance=balance,
        is_lua=block.is_lua,
        workers=workers,
        has_zone=bool(block.zone.value),
        keepalive=min(block.keepalive.value, _MOST) if kept else 0,
        keepalive_timeout_ns=block.keepalive_timeout_ns.value,
        keepalive_requests=min(block.keepalive_requests.value, 1 << 40),
        keepalive_time_ns=block.keepalive_time_ns.value,
        version=version,
    )
    if location is not None:
        made = replace(
            made,
            next_upstream=frozenset(location.next_upstream.value),
            tries=max(location.next_upstream_tries.value, 0),
            next_timeout_ns=max(location.next_upstream_timeout_ns.value, 0),
            read_timeout_ns=max(location.read_timeout_ns.value, 0),
            connect_timeout_ns=max(location.connect_timeout_ns.value, 0),
            is_buffered=location.request_buffering.value,
        )
    return made, tuple(places), tuple(assumptions)


def _balance(block: UpstreamBlock, assumptions: list[str]) -> str:
    method = block.method.value
    if block.is_lua or method in BALANCES:
        return "round_robin" if block.is_lua else method
    for name in ("least_conn", "ip_hash", "hash"):
        if method.startswith(name):
            return name
    if method.startswith("random"):
        return "random two" if "two" in method else "random"
    assumptions.append(f"how {method} picks is not known: round robin in its place")
    return "round_robin"


def _lua_peers(places: Sequence[MeasuredUpstream]) -> tuple[Peer, ...]:
    """Return peers of a balancer in Lua, which counts no failures (OpenResty, APISIX, Kong, ingress-nginx)."""
    return tuple(Peer(place.endpoint, n, max_fails=0) for n, place in enumerate(places))


def _peers(
    settings: ProxySettings, block: UpstreamBlock, places: list[MeasuredUpstream], assumptions: list[str]
) -> tuple[Peer, ...]:
    """Return the block's servers; those that the capture has not seen are taken to be like the others."""
    by_endpoint = {settings.services.get(place.endpoint, place.endpoint): n for n, place in enumerate(places)}
    peers: list[Peer] = []
    # nginx has a peer for each server line, of the same address too.
    for server in block.servers:
        if server.endpoint is None:
            numbers = [n for n, place in enumerate(places) if place.endpoint.endswith(f":{server.port}")]
        else:
            text = format_endpoint(*server.endpoint)
            if text not in by_endpoint:
                by_endpoint[text] = len(places)
                places.append(replace(places[0], endpoint=text, closings=(), outages=()))
                if not (server.down or server.backup):
                    assumptions.append(
                        f"{text} was not seen in the capture; it is taken to be like {places[0].endpoint}"
                    )
            numbers = [by_endpoint[text]]
        taken = {peer.place for peer in peers} if server.endpoint is None else set()
        peers += [_peer(places[n].endpoint, n, server) for n in numbers if n not in taken]
    return tuple(peers) or _lua_peers(places)


def _peer(endpoint: str, place: int, server: Server) -> Peer:
    return Peer(
        endpoint,
        place,
        weight=min(max(server.weight.value, 1), _MOST),
        max_fails=min(max(server.max_fails.value, 0), _MOST),
        fail_timeout_s=min(max(server.fail_timeout_ns.value, 0) // NS_PER_S, _MOST),
        max_conns=min(max(server.max_conns.value, 0), _MOST),
        is_backup=server.backup,
        is_down=server.down,
    )


def _location(settings: ProxySettings, block: UpstreamBlock, assumptions: list[str]) -> Location | None:
    places = settings.locations_of([block])
    if not places:
        return None
    first = places[0]
    if any(_of(place) != _of(first) for place in places):
        assumptions.append(f"locations pass on to {block.name} with different rules; those of {first.source} are used")
    return first


def _of(place: Location) -> tuple[object, ...]:
    return place.reuse.value, place.next_upstream.value, place.next_upstream_tries.value, place.read_timeout_ns.value


def _workers(pids: Collection[int], settings: ProxySettings) -> tuple[int, str]:
    told = settings.worker_processes
    if str(told.value).isdigit() and int(told.value) > 0:
        return min(int(told.value), _MOST_WORKERS), told.source or told.why or "as configured"
    seen = set(pids) - {-1}
    if seen:
        return len(seen), f"worker_processes {told.value}: as many as the error log shows"
    return 1, f"worker_processes {told.value}: one is assumed"
