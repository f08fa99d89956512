"""Timers that are known to be at odds: how long a proxy keeps idle connections, and when servers close them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.server_defaults import DEFAULTS
from pcapdiag.base.triage import TimerOdds
from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.conf.settings import ProxySettings, Setting


def timers_at_odds(settings: ProxySettings | None) -> tuple[tuple[TimerOdds, ...], tuple[str, ...]]:
    """Return what a configuration keeps longer than some servers do, and groups to which it keeps nothing.

    Parameters
    ----------
    settings : ProxySettings or None
        None where no configuration was given: nothing is said then.

    Returns
    -------
    tuple of (tuple of TimerOdds, tuple of str)
        One for each group of servers, or each server of a proxy that sets it there.
    """
    if settings is None:
        return (), ()
    kept: list[TimerOdds] = []
    unkept: list[str] = []
    for name, is_kept, limit in _pools(settings):
        if not is_kept:
            unkept.append(name)
        elif (odds := _odds(name, limit)) is not None:
            kept.append(odds)
    return tuple(dict.fromkeys(kept)), tuple(dict.fromkeys(unkept))


def _pools(settings: ProxySettings) -> Iterator[tuple[str, bool, Setting[int]]]:
    """Yield group, whether idle connections are kept, and for how long."""
    for block in settings.upstreams:
        places = settings.locations_of([block])
        if places:
            is_kept = block.keepalive.value > 0 and any(place.reuse.value for place in places)
            yield block.name, is_kept, block.keepalive_timeout_ns
    for server in settings.own:
        name = server.name if "/" in server.name else f"{server.block}/{server.name}"
        yield name, server.reuse.value, server.pool_limit_ns


def _odds(name: str, limit: Setting[int]) -> TimerOdds | None:
    sooner = tuple(f"{d.name} {d.idle_s} s" for d in DEFAULTS if limit.value < 0 or d.idle_s * NS_PER_S <= limit.value)
    if not sooner:
        return None
    return TimerOdds(name, limit.value / NS_PER_S if limit.value >= 0 else -1.0, limit.source, limit.why, sooner)
