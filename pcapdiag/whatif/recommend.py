"""Which settings lose nothing at the least cost, and what else people do about this race."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

from pcapdiag.base.scenarios import Recommendation
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, count_of, format_duration_ns
from pcapdiag.proxy.conf.put import put_setting
from pcapdiag.whatif.compute import predict, race_window
from pcapdiag.whatif.kernels.replay_state import MOST_PEERS
from pcapdiag.whatif.keys import Asked, is_possible
from pcapdiag.whatif.replay import NEXT_UPSTREAM, draws_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcapdiag.base.findings import Change
    from pcapdiag.base.scenarios import Scenario, WhatIf
    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.whatif.group import ServerGroup

MARGIN_NS: Final = 100 * NS_PER_MS
"""[ns] Kept between the longest idle time and the shortest that may be lost, for clocks and busy machines."""
_LEAST_NS: Final = 100 * NS_PER_MS
_OF_UPSTREAM: Final = "upstream.keepalive_timeout"
_PAIR_REQUESTS: Final = 1_000_000
"""Requests, draws counted, that a combination may take before it is worth a whole replay."""
_FEWEST_DRAWS: Final = 10
_MOST_PAIRS: Final = 5
"""Combinations, the cheapest ones, that are replayed whole and told."""


def safe_timeout_ns(groups: Sequence[ServerGroup]) -> int:
    """[ns] Longest time for which the proxy may keep idle connections and lose nothing; -1: no limit was measured.

    That is the upstream's timeout less what it varies, less a round trip, less a margin: a request sent later may
    cross the FIN.
    """
    least = -1
    for group in groups:
        for place in group.places:
            window = race_window(group, group.settings, place.endpoint)
            ends = [window[0]] if window is not None else []
            if place.forgets_ns >= 0:
                # Between what was answered and what was lost the limit of a firewall lies somewhere.
                ends.append(min(place.answered_ns, place.forgets_ns - place.rtt_ns))
            if ends:
                safe = max(min(ends) - MARGIN_NS, 0)
                least = safe if least < 0 else min(least, safe)
    return least


def rounded_down(ns: int) -> int:
    """[ns] A time as people configure it: whole seconds, below ten also halves, below one tenths."""
    if ns >= 10 * NS_PER_S:
        return ns // NS_PER_S * NS_PER_S
    step = NS_PER_S // 2 if ns >= NS_PER_S else NS_PER_S // 10
    return ns // step * step


def field_remedies(groups: Sequence[ServerGroup], advised_ns: int = -1) -> list[Asked]:
    """Return what people really do about an idle-close race, as scenarios for this proxy; each is weighed alike.

    Parameters
    ----------
    groups : sequence of ServerGroup
        What is replayed.
    advised_ns : int
        [ns] Timeout of the proxy that the report on the incident advises, so that the two say the same; -1: none.
    """
    safe_ns = _proxy_timeout_ns(groups, advised_ns)
    asked: list[tuple[tuple[str, str], ...]] = []
    held = [group.settings for group in groups]
    if safe_ns >= _LEAST_NS and any(not 0 <= s.keepalive_timeout_ns <= safe_ns for s in held):
        asked.append((("proxy.keepalive_timeout", _written(safe_ns)),))
    kept_ns = max(s.keepalive_timeout_ns for s in held)
    # Longer than the proxy keeps, by a quarter: then the proxy closes first, whichever timer is late.
    if kept_ns >= 0:
        asked.append((("upstream.keepalive_timeout", _written(kept_ns + max(kept_ns // 4, 5 * NS_PER_S))),))
    if all(s.is_picked for s in held):
        has_several = any(len(s.peers) > 1 for s in held)
        if has_several and any(peer.max_fails == 1 for s in held for peer in s.peers):
            asked += [(("max_fails", "10"),), (("max_fails", "0"),)]
        if has_several and not any(peer.is_backup for s in held for peer in s.peers):
            added = tuple(("backup", f"+{peer.endpoint}") for s in held for peer in s.peers)
            if all(2 * len(s.peers) <= MOST_PEERS for s in held):
                asked.append(added)
        conditions = set().union(*(s.next_upstream for s in held)) - {"off"}
        if "non_idempotent" not in conditions:
            wanted = {"error", "timeout", *conditions, "non_idempotent"}
            asked.append((("next_upstream", ",".join(c for c in NEXT_UPSTREAM if c in wanted)),))
    pool = max(s.keepalive for s in held)
    if pool > 0:
        # Without a configuration nobody knows what the pool's size is.
        if all(s.is_picked for s in held):
            asked += [(("proxy.keepalive", str(max(pool // 4, 1))),), (("proxy.keepalive", str(pool * 4)),)]
        asked.append((("proxy.keepalive", "0"),))
    wished = [Asked(settings) for settings in asked]
    return [one for one in wished if all(is_possible(one, group.settings) for group in groups)]


def _proxy_timeout_ns(groups: Sequence[ServerGroup], advised_ns: int) -> int:
    safe_ns = rounded_down(safe_timeout_ns(groups))
    return min(advised_ns, safe_ns) if advised_ns > 0 and safe_ns > 0 else max(advised_ns, safe_ns)


def _written(ns: int) -> str:
    return format_duration_ns(ns).replace(" ", "")


def recommend(
    groups: Sequence[ServerGroup],
    answer: WhatIf,
    settings: ProxySettings | None,
    *,
    seed: int,
    advised_ns: int = -1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Recommendation | None:
    """Return the settings without a predicted loss at the least cost.

    Parameters
    ----------
    groups : sequence of ServerGroup
        As for `compute.compute`.
    answer : WhatIf
        Whose replay holds.
    settings : ProxySettings or None
        The configuration, for the changes in it.
    seed : int
        Of the draws.
    advised_ns : int
        [ns] As for `field_remedies`.
    on_progress : callable, optional
        Called with remedies replayed and in all.

    Returns
    -------
    Recommendation or None
        None where the captured settings lose nothing; without settings where none of those that were tried, alone or
        two at a time, helps. Where tries are lost whatever is set, that under which no request of a client fails.
    """
    observed, replayed = answer.scenarios[:2]
    was_lost = observed.lost_tries is not None and observed.lost_tries.expected > 0
    if not was_lost and (replayed.lost_tries is None or round(replayed.lost_tries.low) < 1):
        return None
    remedies = field_remedies(groups, advised_ns)
    tried: list[Scenario] = []
    for one in remedies:
        tried.append(predict(groups, one, seed=seed))
        if on_progress is not None:
            on_progress(len(tried), len(remedies))
    known = [s for s in tried if not s.bound]
    sound = [s for s in known if _worst(s) == 0]
    if not sound:
        pairs = _sound_pairs(groups, remedies, seed, on_progress)
        sound = [s for s in pairs if _worst(s) == 0]
        # Where tries are lost whatever is set, what counts is what clients see of it: if they see anything today.
        suffering = (s.client_failures.high for s in (observed, replayed) if s.client_failures is not None)
        if not sound and round(max(suffering, default=0)) > 0:
            sound = [s for s in known if _failing(s) == 0] or pairs
        tried += [s for s in sound if s not in known]
    in_proxy = [s for s in sound if _OF_UPSTREAM not in s.settings]
    best = min(in_proxy or sound, key=_cost, default=None)
    if best is None:
        return Recommendation({}, tried=tuple(tried))
    warnings = [*best.warnings, *_alternatives(sound, best, replayed)]
    if _worst(best) > 0:
        warnings.insert(0, "tries are lost all the same, and another one answers: it hides the failure, and mends none")
    changes: tuple[Change, ...] = ()
    if settings is not None:
        names = [group.name for group in groups]
        changes = tuple(
            dict.fromkeys(c for key, value in best.settings.items() for c in put_setting(settings, names, key, value))
        )
    if "proxy.keepalive_timeout" in best.settings:
        warnings.append(_why_just_that(groups))
    if _OF_UPSTREAM in best.settings:
        warnings.append("the idle timeout of upstreams is set at their own server, not in the proxy's configuration")
    return Recommendation(dict(best.settings), changes, tuple(warnings), tuple(tried))


def _why_just_that(groups: Sequence[ServerGroup]) -> str:
    of = "the upstream's timeout less a round trip, what it varies and"
    if any(place.forgets_ns >= 0 for group in groups for place in group.places):
        of = "the longest idle gap that was still answered, before something forgot the connection, less"
    return (
        f"the limit is {_written(round(safe_timeout_ns(groups), -7))}: {of} {format_duration_ns(MARGIN_NS)} for clocks"
        " and busy machines; what is advised is at most that, in round numbers"
    )


def _sound_pairs(
    groups: Sequence[ServerGroup],
    remedies: Sequence[Asked],
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> list[Scenario]:
    """Return combinations of two remedies under which no try is lost; where there is none, no client's request.

    Few draws tell which are hopeless; the others are replayed as often as anything that was asked for.
    """
    n_requests = max(sum(len(group.arrivals.requests) for group in groups), 1)
    draws = max(min(draws_for(n_requests), _PAIR_REQUESTS // n_requests), _FEWEST_DRAWS)
    # A longer timeout of the upstream is a bound, and what is a bound is not sound.
    known = [one for one in remedies if all(key != _OF_UPSTREAM for key, _ in one.settings)]
    pairs = [Asked(one.settings + two.settings) for one, two in combinations(known, 2) if not _keys(one) & _keys(two)]
    hopeful: list[tuple[Asked, Scenario]] = []
    for number, pair in enumerate(pairs):
        made = predict(groups, pair, draws=draws, seed=seed)
        if _failing(made) == 0 and not made.bound:
            hopeful.append((pair, made))
        if on_progress is not None:
            on_progress(number + 1, len(pairs))
    hopeful = [(pair, made) for pair, made in hopeful if _worst(made) == 0] or hopeful
    whole = [predict(groups, pair, seed=seed) for pair, _ in sorted(hopeful, key=lambda h: _cost(h[1]))[:_MOST_PAIRS]]
    return [made for made in whole if _failing(made) == 0 and not made.bound]


def _keys(one: Asked) -> set[str]:
    return {key for key, _ in one.settings}


def _worst(scenario: Scenario) -> float:
    """Return the most that a scenario may lose."""
    lost = scenario.lost_tries
    return max(lost.high if lost is not None else 0.0, _failing(scenario))


def _failing(scenario: Scenario) -> float:
    """Return the most requests of clients that may fail in a scenario."""
    failed = scenario.client_failures
    return failed.high if failed is not None else 0.0


def _cost(scenario: Scenario) -> float:
    return scenario.connections_opened.expected if scenario.connections_opened is not None else 0.0


def _alternatives(sound: Sequence[Scenario], best: Scenario, before: Scenario) -> list[str]:
    """Say what it costs, and which other settings lose nothing either."""
    said = []
    # Of the numbers as they stand in the table below it.
    extra = round(_cost(best)) - round(_cost(before))
    if extra > 0:
        said.append(
            f"it opens {count_of(extra, 'connection')} more in the time that was watched than today's settings, by the"
            " replay of both"
        )
    said += [
        f"with {other.name} nothing is lost either, and {_cost(other):.0f} connections are opened instead of "
        f"{_cost(best):.0f}"
        for other in sound
        if other is not best and _cost(other) < _cost(best) and _worst(other) == 0
    ]
    return said
