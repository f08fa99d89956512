"""Without a capture: what access log and configuration alone let one expect, and what has to be assumed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.server_defaults import DEFAULTS
from pcapdiag.base.units import NS_PER_S, format_duration_ns, format_endpoint, parse_duration
from pcapdiag.proxy.logs.entries import Try
from pcapdiag.whatif.arrivals import ip_hash_key, make_arrivals, read_log, spread_words
from pcapdiag.whatif.group import MeasuredUpstream, ServerGroup
from pcapdiag.whatif.groups import group_settings
from pcapdiag.whatif.keys import LONGEST_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.proxy.conf.settings import ProxySettings, UpstreamBlock
    from pcapdiag.proxy.logs.entries import AccessEntry


_MOST_ADDRESSES: Final = 10_000
_MOST_TIMES: Final = 20_000
"""Of connecting, for each address."""


def parse_idle(text: str) -> tuple[int, int, str]:
    """Read how long upstreams keep idle connections.

    Parameters
    ----------
    text : str
        A time, or the name of a server whose default is known.

    Returns
    -------
    tuple of (int, int, str)
        [ns] The timeout, and by how much it may be late; and in words where it comes from.

    Raises
    ------
    UsageError
        It is neither; the message lists the servers.
    """
    try:
        idle_ns = parse_duration(text)
    except ValueError:
        idle_ns = -1
    if idle_ns > LONGEST_NS:
        msg = f"--upstream-idle {text}: at most 365 days"
        raise UsageError(msg)
    if idle_ns >= 0:
        return idle_ns, 0, f"the upstreams close connections that are idle for {text}, as was said"
    named = [d for d in DEFAULTS if text.lower() == d.name.lower()]
    named += [d for d in DEFAULTS if d.token and text.lower() == d.token]
    if not named:
        known = ", ".join(dict.fromkeys(d.name for d in DEFAULTS))
        msg = f"--upstream-idle {text}: neither a time such as 5s nor a server whose default is known ({known})"
        raise UsageError(msg)
    default = named[0]
    said = f"the upstreams are {default.name} with its default of {default.idle_s} s ({default.source})"
    return default.idle_s * NS_PER_S, round(default.late_s * NS_PER_S), said


def forecast_groups(
    settings: ProxySettings,
    read_entries: Callable[[], Iterable[AccessEntry]],
    timeout_ns: int,
    late_ns: int,
    said: str,
) -> tuple[ServerGroup, ...]:
    """Return the groups of a configuration with the requests that an access log has for them.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    read_entries : callable
        Gives the entries of the access log, each time anew: it may be longer than memory.
    timeout_ns, late_ns : int
        [ns] As `parse_idle` gives them.
    said : str
        In words.

    Returns
    -------
    tuple of ServerGroup
        Those with requests only.
    """
    blocks = [block for block in settings.upstreams if not block.is_lua]
    seen = _SeenInLog.of(read_entries())
    groups = []
    for block in blocks:
        endpoints = _endpoints(block, seen)
        if not endpoints or (not seen.has_tries and len(blocks) > 1):
            continue
        rtt_ns, tail_ns = seen.round_trip(endpoints)
        measured = [
            MeasuredUpstream(e, timeout_ns=timeout_ns, late_ns=late_ns, rtt_ns=rtt_ns, rtt_tail_ns=tail_ns)
            for e in endpoints
        ]
        assumptions = [said, _round_trip_words(rtt_ns)]
        entries = read_entries()
        if not seen.has_tries:
            entries = (_to(entry, endpoints[0]) for entry in entries)
            assumptions.append("the access log does not name upstreams: all of its requests went to this group")
        made, places, assumed = group_settings(settings, block, measured, pids=())
        told = read_log(entries, places, [block.name], 0, {})
        if told is None:
            continue
        requests, addresses, counts = told
        assumptions += spread_words(requests)
        arrivals = make_arrivals(requests, places, [ip_hash_key(a) for a in addresses], source="access log")
        groups.append(ServerGroup(block.name, made, places, arrivals, (*assumptions, *assumed), counts))
    return tuple(groups)


@dataclass(slots=True)
class _SeenInLog:
    """What a first pass over an access log tells: addresses, and how long connections to each took to open [ns]."""

    has_tries: bool
    connect_ns: dict[str, list[int]]

    @classmethod
    def of(cls, entries: Iterable[AccessEntry]) -> _SeenInLog:
        connect_ns: dict[str, list[int]] = {}
        for entry in entries:
            for attempt in entry.tries:
                times = connect_ns.get(attempt.addr)
                if times is None:
                    if len(connect_ns) >= _MOST_ADDRESSES:
                        continue
                    times = connect_ns[attempt.addr] = []
                if attempt.connect_time_ns > 0 and len(times) < _MOST_TIMES:
                    times.append(attempt.connect_time_ns)
        return cls(bool(connect_ns), connect_ns)

    def round_trip(self, endpoints: Sequence[str]) -> tuple[int, int]:
        """[ns] Least and usual excess of the time connections took to open; zeros where the log does not say."""
        times = sorted(ns for endpoint in endpoints for ns in self.connect_ns.get(endpoint, ()))
        return (times[0], times[len(times) // 2] - times[0]) if times else (0, 0)


def _endpoints(block: UpstreamBlock, seen: _SeenInLog) -> list[str]:
    written = [format_endpoint(*server.endpoint) for server in block.servers if server.endpoint is not None]
    ports = tuple(f":{server.port}" for server in block.servers if server.endpoint is None and server.port > 0)
    logged = {address for address in seen.connect_ns if ports and address.endswith(ports)}
    return list(dict.fromkeys([*written, *sorted(logged)]))


def _to(entry: AccessEntry, endpoint: str) -> AccessEntry:
    took = entry.request_time_ns
    return entry._replace(tries=(Try(endpoint, entry.status, took, 0, took, 0),))


def _round_trip_words(rtt_ns: int) -> str:
    if rtt_ns:
        return f"a round trip takes {format_duration_ns(rtt_ns)}, the least $upstream_connect_time of the access log"
    return "the access log tells no round trip ($upstream_connect_time): none is assumed, so no request crosses a FIN"
