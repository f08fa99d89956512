"""Which groups of servers there are, how they are set, and which requests went to each.

From the configuration where one was given; without it each request goes where it went, and nothing is said of picking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Direction, Leg, Method, Outcome
from pcapdiag.base.units import NS_PER_S, format_duration_ns, format_endpoint
from pcapdiag.proxy.conf.values import version_numbers
from pcapdiag.whatif.arrivals import OwnFailure, Requests, ip_hash_key, make_arrivals, read_log
from pcapdiag.whatif.group import BALANCES, Group, GroupSettings, Peer, Place
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.places import RACES, connection_places, measure_places

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Finding
    from pcapdiag.proxy.conf.settings import Location, ProxySettings, Server, UpstreamBlock
    from pcapdiag.proxy.logs.entries import AccessEntry

_NEWEST = (1, 29, 6)
"""What is assumed of an nginx whose version nobody told, as in `proxy.conf.nginx_defaults`."""
_POOL_WITHOUT_CONF = 1024
_TIMEOUT_WITHOUT_CONF_NS = 60 * NS_PER_S
_RETRY_WITHIN_NS = NS_PER_S


@dataclass(frozen=True, slots=True)
class _Block:
    """A group before its requests are known."""

    name: str
    settings: GroupSettings
    places: tuple[Place, ...]
    assumptions: tuple[str, ...]


def build_groups(
    analysis: Analysis, findings: Sequence[Finding], read_entries: Callable[[], Iterable[AccessEntry]] | None
) -> tuple[Group, ...]:
    """Return every group that requests went to.

    Parameters
    ----------
    analysis : Analysis
        With its logs and configuration.
    findings : sequence of Finding
        What was found.
    read_entries : callable or None
        Gives the entries of the access log of the capture's time, each time anew; None without one.

    Returns
    -------
    tuple of Group
        Those with requests only.
    """
    places = measure_places(analysis, findings)
    own = _own_failures(analysis, findings)
    groups = []
    for block in _blocks(analysis, places):
        told = None
        if read_entries is not None:
            names = [block.name] if analysis.settings is not None else []
            told = read_log(read_entries(), block.places, names, _offset_ns(analysis), own)
        assumptions = list(block.assumptions)
        if told is None:
            requests = _captured(analysis, findings, block.places)
            if requests is None:
                continue
            keys, source = [0], "capture"
            counts: dict[str, int] = {}
            assumptions.append(
                "arrivals are those of the capture: requests that found no live upstream are not among them, "
                "nor does it tell clients apart; give --access-log"
            )
        else:
            requests, addresses, counts = told
            keys, source = [ip_hash_key(address) for address in addresses], "access log"
        arrivals = make_arrivals(requests, block.places, keys, source=source)
        observed = {**counts, **_seen(analysis, block.places)}
        groups.append(Group(block.name, block.settings, block.places, arrivals, tuple(assumptions), observed))
    return tuple(groups)


def _offset_ns(analysis: Analysis) -> int:
    clock = analysis.log.clock if analysis.log is not None else None
    return clock.offset_ns if clock is not None and clock.is_measured and not clock.is_ambiguous else 0


def _blocks(analysis: Analysis, places: Sequence[Place]) -> list[_Block]:
    settings = analysis.settings
    if settings is None or not settings.upstreams:
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


def _without_conf(analysis: Analysis, places: Sequence[Place]) -> _Block:
    kept = [u.proxy_idle_close_ns for u in analysis.upstreams if u.proxy_idle_close_ns >= 0]
    timeout_ns = min(kept, default=_TIMEOUT_WITHOUT_CONF_NS)
    how = "as the capture shows" if kept else "nginx's default"
    assumptions = (
        (
            f"no configuration was given: the proxy keeps idle connections for {format_duration_ns(timeout_ns)} ({how}), and "
            "each request goes to the upstream that it went to; give --proxy-conf"
        ),
    )
    peers = tuple(Peer(place.endpoint, n) for n, place in enumerate(places))
    settings = GroupSettings(peers, is_picked=False, keepalive=_POOL_WITHOUT_CONF, keepalive_timeout_ns=timeout_ns)
    return _Block("", settings, tuple(places), assumptions)


def _configured(analysis: Analysis, settings: ProxySettings, block: UpstreamBlock, seen: Sequence[Place]) -> _Block:
    pids = {joined.entry.pid for joined in analysis.log.entries} if analysis.log is not None else set()
    return _Block(block.name, *group_settings(settings, block, seen, pids=pids))


def group_settings(
    settings: ProxySettings, block: UpstreamBlock, seen: Sequence[Place], *, pids: Collection[int]
) -> tuple[GroupSettings, tuple[Place, ...], tuple[str, ...]]:
    """Return how a block is set, its places (those that were not seen among them), and what is assumed.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    block : UpstreamBlock
        One of its groups.
    seen : sequence of Place
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
        workers=workers,
        has_zone=bool(block.zone.value),
        keepalive=block.keepalive.value if kept else 0,
        keepalive_timeout_ns=block.keepalive_timeout_ns.value,
        keepalive_requests=block.keepalive_requests.value,
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


def _lua_peers(places: Sequence[Place]) -> tuple[Peer, ...]:
    """A balancer in Lua counts no failures (OpenResty's balancer_by_lua; APISIX, Kong, ingress-nginx)."""
    return tuple(Peer(place.endpoint, n, max_fails=0) for n, place in enumerate(places))


def _peers(
    settings: ProxySettings, block: UpstreamBlock, places: list[Place], assumptions: list[str]
) -> tuple[Peer, ...]:
    """Return the block's servers; those that the capture has not seen are taken to be like the others."""
    by_endpoint = {settings.services.get(place.endpoint, place.endpoint): n for n, place in enumerate(places)}
    peers: list[Peer] = []
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
        peers += [_peer(places[n].endpoint, n, server) for n in numbers if all(p.place != n for p in peers)]
    return tuple(peers) or _lua_peers(places)


def _peer(endpoint: str, place: int, server: Server) -> Peer:
    return Peer(
        endpoint,
        place,
        weight=max(server.weight.value, 1),
        max_fails=max(server.max_fails.value, 0),
        fail_timeout_s=max(server.fail_timeout_ns.value, 0) // NS_PER_S,
        max_conns=max(server.max_conns.value, 0),
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
        return int(told.value), told.source or told.why or "as configured"
    seen = set(pids) - {-1}
    if seen:
        return len(seen), f"worker_processes {told.value}: as many as the error log shows"
    return 1, f"worker_processes {told.value}: one is assumed"


def _own_failures(analysis: Analysis, findings: Sequence[Finding]) -> dict[str, list[OwnFailure]]:
    """Failures that no setting of the pool would have changed, by endpoint."""
    made_again = {(o.conn, o.depth) for f in findings if f.code in RACES for o in f.occurrences}
    found: dict[str, list[OwnFailure]] = {}
    for loss in analysis.losses:
        connection = loss.connection
        if loss.is_connect or (connection.conn, loss.depth) in made_again:
            continue
        found.setdefault(str(connection.resp), []).append(_own_failure(loss))
    return found


def _own_failure(loss: Loss) -> OwnFailure:
    connection = loss.connection
    ends = [k.ts_ns for k in loss.keys.values() if k.kind_name and k.ts_ns >= loss.request_ts_ns]
    end_ns = min(ends, default=max(connection.last_ts_ns, loss.request_ts_ns))
    proxy_gave_up = (
        bool(ends)
        and min((k for k in loss.keys.values() if k.kind_name and k.ts_ns == end_ns), key=lambda k: k.ts_ns).dir
        == Direction.ORIG
    )
    kind = state.TIMEOUT if proxy_gave_up or not ends else state.ERROR
    return OwnFailure(loss.request_ts_ns, int(kind), end_ns - loss.request_ts_ns)


def _captured(analysis: Analysis, findings: Sequence[Finding], places: Sequence[Place]) -> Requests | None:
    """Return requests as the capture has them; a try after a failed one of the same request is no request."""
    numbers = _numbers(analysis, places)
    own = {
        (loss.connection.conn, loss.depth): _own_failure(loss)
        for failures in [_not_races(analysis, findings)]
        for loss in failures
    }
    columns: list[NDArray[np.int64]] = []
    names = ("request_ts_ns", "duration_ns", "status_code", "conn", "depth", "method", "text_offset", "target_len")
    for chunk in analysis.exchanges.chunks():
        mine = (numbers[chunk["conn"]] >= 0) & (chunk["request_ts_ns"] >= 0)
        mine &= np.isin(chunk["outcome"], (Outcome.ANSWERED, Outcome.UNANSWERED, Outcome.TRUNCATED))
        columns.append(np.array([chunk[name][mine] for name in names], np.int64))
    table = np.concatenate(columns, axis=1) if columns else np.zeros((len(names), 0), np.int64)
    table = table[:, np.argsort(table[0], kind="stable")]
    again = _retries(analysis, table)
    table = table[:, ~again]
    if not table.shape[1]:
        return None
    start, duration, status, conn, depth, method = table[:6]
    rtt = np.array([place.rtt_ns for place in places], np.int64)[numbers[conn]]
    fails = [own.get(key) for key in zip(conn.tolist(), depth.tolist(), strict=True)] if own else [None] * len(start)
    return Requests(
        start_ns=start,
        end_ns=start + np.maximum(duration, 0),
        service_ns=np.where(duration >= 0, np.maximum(duration - rtt, 0), -1),
        status=np.where(status > 0, status, 200),
        client=np.zeros(len(start), np.int64),
        flags=_flags(method),
        place=numbers[conn],
        fail_kind=np.array([f.kind if f else 0 for f in fails], np.int64),
        fail_ns=np.array([f.takes_ns if f else 0 for f in fails], np.int64),
        n_fails=np.array([1 if f else 0 for f in fails], np.int64),
    )


def _flags(method: NDArray[np.int64]) -> NDArray[np.int64]:
    flags = np.where(np.isin(method, (Method.POST, Method.PATCH)), int(state.NOT_IDEMPOTENT), 0)
    return flags | np.where(np.isin(method, (Method.POST, Method.PUT, Method.PATCH)), int(state.HAS_BODY), 0)


def _not_races(analysis: Analysis, findings: Sequence[Finding]) -> list[Loss]:
    made_again = {(o.conn, o.depth) for f in findings if f.code in RACES for o in f.occurrences}
    return [
        loss for loss in analysis.losses if not loss.is_connect and (loss.connection.conn, loss.depth) not in made_again
    ]


def _numbers(analysis: Analysis, places: Sequence[Place]) -> NDArray[np.int64]:
    """For each connection the position of its place in the group; -1 for others."""
    of_analysis = connection_places(analysis)
    position = {place.endpoint: n for n, place in enumerate(places)}
    table = np.array([position.get(str(u.endpoint), -1) for u in analysis.upstreams] + [-1], np.int64)
    numbers: NDArray[np.int64] = table[of_analysis]
    return numbers


def _retries(analysis: Analysis, table: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows are further tries: the same request soon after a failure of it ended."""
    again = np.zeros(table.shape[1], bool)
    row_of = {key: n for n, key in enumerate(zip(table[3].tolist(), table[4].tolist(), strict=True))}
    for loss in analysis.losses:
        n = row_of.get((loss.connection.conn, loss.depth), -1)
        if n < 0:
            continue
        end_ns = loss.request_ts_ns + _own_failure(loss).takes_ns
        low = int(np.searchsorted(table[0], end_ns - 1_000_000))
        high = int(np.searchsorted(table[0], end_ns + _RETRY_WITHIN_NS))
        for m in range(max(low, n + 1), high):
            if not again[m] and table[5, m] == table[5, n] and _target(analysis, table, m) == loss.target:
                again[m] = True
                break
    return again


def _target(analysis: Analysis, table: NDArray[np.int64], row: int) -> str:
    offset, length = int(table[6, row]), int(table[7, row])
    return analysis.texts.read(offset, length).decode("latin-1") if offset >= 0 else ""


def _seen(analysis: Analysis, places: Sequence[Place]) -> Mapping[str, int]:
    """Count what the capture shows: connections opened and kept, requests on kept ones, failures."""
    numbers = _numbers(analysis, places)
    c = analysis.connections
    mine = (np.asarray(analysis.legs) == Leg.UPSTREAM) & (numbers >= 0)
    reused = answered = 0
    starts, ends = [], []
    for chunk in analysis.exchanges.chunks():
        rows = mine[chunk["conn"]]
        kept = rows & (chunk["idle_before_ns"] >= 0)
        reused += int(kept.sum())
        answered += int((rows & (chunk["request_ts_ns"] >= 0)).sum())
        ends.append(chunk["request_ts_ns"][kept])
        starts.append(chunk["request_ts_ns"][kept] - chunk["idle_before_ns"][kept])
    closed = mine & (c["idle_at_close_ns"] >= 0) & (c["closing_ts_ns"] >= 0)
    ends.append(c["closing_ts_ns"][closed])
    starts.append(c["closing_ts_ns"][closed] - c["idle_at_close_ns"][closed])
    by_proxy = mine & (c["first_closer"] == Direction.ORIG) & (c["closing_ts_ns"] >= 0)
    waiting = c["closing_ts_ns"][by_proxy]
    ours = {place.endpoint for place in places}
    lost = [loss for loss in analysis.losses if str(loss.connection.resp) in ours]
    return {
        "lost_tries": sum(loss.stands_for for loss in lost),
        "connections_opened": int((mine & (c["orig_isn"] >= 0)).sum()),
        "requests": answered,
        "reused": reused,
        "idle_connections_max": _most_at_once(np.concatenate(starts), np.concatenate(ends)),
        "time_wait_max": _most_at_once(waiting, waiting + 60 * NS_PER_S),
        "longest_gap_ns": max(
            (u.longest_answered_gap_ns for u in analysis.upstreams if str(u.endpoint) in ours), default=-1
        ),
    }


def _most_at_once(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """Return how many spans overlap at most."""
    if not len(starts):
        return 0
    times = np.concatenate([starts, ends])
    steps = np.concatenate([np.ones(len(starts), np.int64), -np.ones(len(ends), np.int64)])
    order = np.lexsort((steps, times))
    return int(np.cumsum(steps[order]).max())
