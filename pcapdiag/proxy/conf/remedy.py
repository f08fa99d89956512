"""What to change in a proxy's configuration, in its own words: plain data that a renderer makes text or a diff of.

Each function states one need of a finding and returns the changes that meet it; none, if the configuration meets it
already or cannot. Knows which setting meets which need; how a proxy writes it is in `change.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.change import APISIX_BLOCK, CONFIG_MAP, change_of, in_words, unique, wait_in_words
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import nginx_time, seconds, version_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pcapdiag.base.findings import Change
    from pcapdiag.proxy.conf.change import Wait
    from pcapdiag.proxy.conf.settings import Endpoint, Location, ProxySettings, Setting, UpstreamBlock

_POOL_TIMEOUT_SINCE = (1, 15, 3)
_LATE_NS = NS_PER_S
"""[ns] How late a timer may be."""
_BUSY_BUFFERS = "proxy_busy_buffers_size must be at least as large"


def lower_pool_timeouts(settings: ProxySettings, limits: Mapping[str, int]) -> tuple[Change, ...]:
    """Return how to make the proxy give up idle connections of several blocks in time, one value for each line.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    limits : mapping of str to int
        [ns] The longest that a connection may stay idle, by name of the block.

    Returns
    -------
    tuple of Change
        For each of these blocks that keeps connections longer, in the order of the configuration.
    """
    made: list[Change] = []
    # ingress-nginx and Kong have one setting for all blocks.
    is_common = settings.kind in {ProxyKind.INGRESS_NGINX, ProxyKind.KONG}
    least = min(limits.values(), default=0)
    for block in settings.upstreams:
        if block.name not in limits:
            continue
        to_ns = least if is_common else limits[block.name]
        kept = block.keepalive_timeout_ns
        if block.keepalive.value != 0 and not 0 <= kept.value <= to_ns:
            made += _pool_timeout(settings, block, to_ns)
    return tuple(dict.fromkeys(made))


def lower_request_limit(settings: ProxySettings, peer: Endpoint | str, to: int) -> tuple[Change, ...]:
    """Return how to make nginx give connections to a peer up after as many requests as the peer does.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.
    to : int
        The most requests that a connection may carry.

    Returns
    -------
    tuple of Change
        For each block of nginx's that holds the peer, keeps connections and lets them carry more.
    """
    made: list[Change] = []
    for block in settings.blocks_of_peer(peer):
        held = block.keepalive_requests
        is_kept = settings.kind is ProxyKind.NGINX and not block.implicit and block.keepalive.value != 0
        if is_kept and not 0 < held.value <= to:
            name, where, source = "keepalive_requests", f"upstream {block.name}", block.source
            old = str(held.value) if held.value >= 0 else ""
            made.append(change_of(settings, name, where, held, source, old, str(to), _POOL_TIMEOUT_SINCE))
    return unique(made)


def raise_timeout(
    settings: ProxySettings,
    peer: Endpoint | str,
    wait: Wait,
    to_ns: int,
    *,
    ran_out_ns: int = -1,
    targets: Iterable[str] = (),
) -> tuple[Change, ...]:
    """Return how to make the proxy wait longer for a peer.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.
    wait : {"connect", "send", "read"}
        For what it waits.
    to_ns : int
        [ns] The shortest that it must wait.
    ran_out_ns : int
        [ns] The timeout that was too short; where some places hold just that, the others are left alone.
    targets : iterable of str
        Of the requests that it was too short for: places that none of them can have reached are left alone.

    Returns
    -------
    tuple of Change
        One for each place in the configuration where a shorter time holds.
    """
    reached = _reached(settings.locations_of(settings.blocks_of_peer(peer)), targets)
    places = tuple(place for place in reached if _timeout_of(place, wait).value == ran_out_ns)
    return _timeouts(settings, places or reached, wait, to_ns, lambda held_ns: 0 <= held_ns < to_ns, ran_out_ns)


def lower_timeout(settings: ProxySettings, peer: Endpoint | str, wait: Wait, to_ns: int) -> tuple[Change, ...]:
    """Return how to make the proxy give up sooner.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.
    wait : {"connect", "send", "read"}
        For what it waits.
    to_ns : int
        [ns] The longest that it may wait.

    Returns
    -------
    tuple of Change
        One for each place in the configuration where a longer time holds.
    """
    places = settings.locations_of(settings.blocks_of_peer(peer))
    return _timeouts(settings, places, wait, to_ns, lambda held_ns: not 0 <= held_ns <= to_ns)


def _reached(places: Sequence[Location], targets: Iterable[str]) -> Sequence[Location]:
    """Return the places that one of these requests may have reached, by nginx's longest prefix; all if none may."""
    found: dict[int, Location] = {}
    for target in targets:
        path = target.partition("?")[0]
        prefixes = [(p, p.path.removeprefix("^~").strip()) for p in places if p.path.startswith(("/", "^~"))]
        fits = [(place, prefix) for place, prefix in prefixes if path.startswith(prefix)]
        longest = {s: max(len(x) for p, x in fits if p.server_names == s) for s in {p.server_names for p, _ in fits}}
        found |= {id(p): p for p, prefix in fits if len(prefix) == longest[p.server_names]}
        found |= {id(p): p for p in places if p.path.startswith("=") and p.path[1:].strip() == path}
        # What a regular expression, a variable or a named location takes is not worked out here.
        found |= {id(p): p for p in places if not p.path.startswith(("/", "^~", "="))}
    return tuple(place for place in places if id(place) in found) or places


def _timeout_of(place: Location, wait: Wait) -> Setting[int]:
    held: Setting[int] = getattr(place, f"{wait}_timeout_ns")
    return held


def _timeouts(
    settings: ProxySettings,
    places: Sequence[Location],
    wait: Wait,
    to_ns: int,
    is_wrong: Callable[[int], bool],
    ran_out_ns: int = -1,
) -> tuple[Change, ...]:
    made: list[Change] = []
    for place in places:
        held = _timeout_of(place, wait)
        if is_wrong(held.value) or held.is_contradicted:
            name, where, old, new = wait_in_words(settings.kind, place, wait, held.value, to_ns)
            # A default that ran out later than it says is not the one that holds.
            is_other = held.assumed and ran_out_ns > held.value + _LATE_NS
            old = "" if held.is_contradicted or is_other else old
            change = change_of(settings, name, where, held, place.source, old, new)
            is_kong = settings.kind is ProxyKind.KONG
            made.append(_reworded(change, f'"{name}": {{}}') if is_kong else change)
    return unique(made)


def raise_buffer_size(settings: ProxySettings, peer: Endpoint | str, to_bytes: int) -> tuple[Change, ...]:
    """Return how to make room for larger response heads of a peer.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.
    to_bytes : int
        [bytes] The least room.

    Returns
    -------
    tuple of Change
        One for each place where there is less; empty for proxies that have no such key.
    """
    made: list[Change] = []
    kilobytes = 4 * -(-to_bytes // 4096)
    for place in settings.locations_of(settings.blocks_of_peer(peer)):
        held = place.buffer_size_bytes
        if settings.kind in {ProxyKind.APISIX, ProxyKind.KONG} or held.value >= to_bytes:
            continue
        name, where = _named(settings, place, "buffer_size")
        old, new = f"{held.value // 1024}k", f"{kilobytes}k"
        made.append(change_of(settings, name, where, held, place.source, old, new, caution=_BUSY_BUFFERS))
    return unique(made)


def stop_repeating_requests(settings: ProxySettings, peer: Endpoint | str) -> tuple[Change, ...]:
    """Return how to keep the proxy from sending a POST twice: ``non_idempotent`` taken from the conditions.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.

    Returns
    -------
    tuple of Change
        One for each place that has the condition.
    """
    made: list[Change] = []
    for place in settings.locations_of(settings.blocks_of_peer(peer)):
        held = place.next_upstream
        if "non_idempotent" not in held.value:
            continue
        if settings.kind is ProxyKind.INGRESS_NGINX:
            made.append(change_of(settings, "retry-non-idempotent", CONFIG_MAP, held, place.source, "true", "false"))
            continue
        rest = " ".join(condition for condition in held.value if condition != "non_idempotent") or "off"
        name = f"{place.module}_next_upstream"
        made.append(change_of(settings, name, in_words(place), held, place.source, " ".join(held.value), rest))
    return unique(made)


def allow_retries(settings: ProxySettings, peer: Endpoint | str) -> tuple[Change, ...]:
    """Return how to make the proxy try another peer after a failed connection.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    peer : tuple of int or str
        The upstream.

    Returns
    -------
    tuple of Change
        One for each place whose conditions lack ``error``; none where there is no other peer.
    """
    made: list[Change] = []
    for block in settings.blocks_of_peer(peer):
        if block.is_single:
            continue
        for place in settings.locations_of([block]):
            held = place.next_upstream
            if "error" in held.value or settings.kind in {ProxyKind.APISIX, ProxyKind.KONG}:
                continue
            name, where = _named(settings, place, "next_upstream")
            new = " ".join(("error", *(c for c in held.value if c != "off")))
            caution = "a POST, LOCK or PATCH that was sent is not tried again, and must not be: it may have run"
            made.append(
                change_of(settings, name, where, held, place.source, " ".join(held.value), new, caution=caution)
            )
    return unique(made)


def keep_in_rotation(settings: ProxySettings, block_name: str) -> tuple[Change, ...]:
    """Return how to keep failures from putting the peers of a block out.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    block_name : str
        Name of the upstream block.

    Returns
    -------
    tuple of Change
        For each server line that counts failures; none where nginx counts none.
    """
    block = settings.block(block_name)
    # A single peer is never put out, whatever its max_fails.
    if block is None or block.is_single or block.is_lua or block.implicit or settings.kind is not ProxyKind.NGINX:
        return ()
    made: list[Change] = []
    for server in block.servers:
        held = server.max_fails
        if held.value > 0 and not server.down:
            where = f"server {server.address} in upstream {block.name}"
            caution = "a peer that is really down stays in rotation, and each request pays for finding out"
            change = change_of(settings, "max_fails", where, held, server.source, str(held.value), "0", caution=caution)
            made.append(_reworded(change, "max_fails={}"))
    return tuple(made)


def _named(settings: ProxySettings, place: Location, key: str) -> tuple[str, str]:
    """Return name and place of a setting that nginx has for each of its modules."""
    if settings.kind is ProxyKind.INGRESS_NGINX:
        return f"proxy-{key.replace('_', '-')}", CONFIG_MAP
    return f"{place.module}_{key}", in_words(place)


def _pool_timeout(settings: ProxySettings, block: UpstreamBlock, to_ns: int) -> Iterable[Change]:
    """Yield the change of one block's pool timeout."""
    kept = block.keepalive_timeout_ns
    old = "" if kept.value < 0 else str(kept.value // NS_PER_S)
    if settings.kind is ProxyKind.NGINX:
        version = version_numbers(settings.version)
        where = f"upstream {block.name}"
        if (0, 0, 0) < version < _POOL_TIMEOUT_SINCE:
            caution = (
                "this nginx has no keepalive_timeout for upstreams (since 1.15.3); without a pool each request pays"
            )
            size = block.keepalive
            change = change_of(settings, "keepalive", where, size, block.source, str(size.value), "", caution=caution)
            yield change
        elif block.implicit:
            address = block.servers[0].address
            name = "backend"
            pool = f"keepalive {block.keepalive.value}; keepalive_timeout {nginx_time(to_ns)};"
            line = f"upstream {name} {{ server {address}; {pool} }}"
            caution = f"and name it instead of {address} at {block.source}"
            change = change_of(settings, "upstream", "http", kept, block.source, "", name, caution=caution)
            yield replace(change, text=line)
        else:
            old = nginx_time(kept.value) if kept.value >= 0 else ""
            new = nginx_time(to_ns)
            yield change_of(settings, "keepalive_timeout", where, kept, block.source, old, new, _POOL_TIMEOUT_SINCE)
    elif settings.kind is ProxyKind.APISIX and block.name != APISIX_BLOCK:
        new = seconds(to_ns)
        where = f"upstream object {block.name}"
        change = change_of(settings, "keepalive_pool.idle_timeout", where, kept, block.source, old, new)
        yield _reworded(change, '"keepalive_pool": {{"idle_timeout": {}}}')
    elif settings.kind is ProxyKind.APISIX:
        where = "nginx_config.http.upstream in config.yaml"
        yield change_of(settings, "keepalive_timeout", where, kept, block.source, old and f"{old}s", nginx_time(to_ns))
    elif to_ns >= NS_PER_S:
        # Both count whole seconds, and take 0 for something else.
        is_kong = settings.kind is ProxyKind.KONG
        name = "upstream_keepalive_idle_timeout" if is_kong else "upstream-keepalive-timeout"
        where = "kong.conf" if is_kong else CONFIG_MAP
        # A declarative configuration of Kong names the block, kong.conf has the setting.
        beside = "" if is_kong else block.source
        yield change_of(settings, name, where, kept, beside, old, str(to_ns // NS_PER_S))


def _reworded(change: Change, form: str) -> Change:
    """Return a change whose lines are written in another form than the proxy's usual one."""
    return replace(change, old_text=form.format(change.old) if change.old_text else "", text=form.format(change.new))
