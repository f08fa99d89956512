"""From groups and wishes to the answer: observed, replayed, one scenario per wish."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.scenarios import AddedLatency, Quantity, ReplayModel, Scenario, WhatIf, WorkerCount
from pcapdiag.base.units import count_of, format_duration_ns
from pcapdiag.whatif.intervals import quantity, room_of, share_within
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.keys import Asked, apply, check_addresses
from pcapdiag.whatif.replay import SEED, draws_for, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.whatif.group import GroupSettings, ServerGroup

_HELD = 0.85
"""Share of the replays below which an interval is said to have been cut."""
_TOLERATED = 0.1
"""Of what was observed, beyond the replay's own interval."""
_SWEEP_REQUESTS: Final = 1_000_000
"""Requests, draws counted, that a point of a sweep may take."""
_LIMITS: Final = {
    "proxy.keepalive_timeout": state.TIMED_OUT,
    "proxy.keepalive": state.CROWDED_OUT,
    "proxy.keepalive_requests": state.USED_UP,
    "proxy.keepalive_time": state.GROWN_OLD,
}
"""Keys of limits to how long a connection is kept, and what counts the connections that met the limit."""
_NOT_THE_SAME = "the log's own failures are not what these assumptions give: something else happened, or they are wrong"


@dataclass(frozen=True)
class _ReplayTotals:
    """Draws of all groups together."""

    counts: NDArray[np.int64]
    added_p99_ns: NDArray[np.float64]


def compute(
    groups: Sequence[ServerGroup],
    asked: Sequence[Asked],
    *,
    sweep: tuple[str, Sequence[Asked]] | None = None,
    draws: int = 0,
    seed: int = SEED,
    must_agree: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> WhatIf:
    """Replay the captured settings, then each scenario.

    Parameters
    ----------
    groups : sequence of ServerGroup
        At least one.
    asked : sequence of Asked
        Scenarios.
    sweep : tuple of (str, sequence of Asked), optional
        A key and a scenario for each of its values.
    draws, seed : int
        As for `replay.run`.
    must_agree : bool
        Whether nothing is predicted where the replay is not what was observed.
    on_progress : callable, optional
        Called with scenarios done and in all.

    Returns
    -------
    WhatIf
        Without a recommendation.

    Raises
    ------
    UsageError
        A setting that this proxy does not have, or an address that is no server.
    """
    points = list(sweep[1]) if sweep else []
    check_addresses([*asked, *points], [group.settings for group in groups])
    n_requests = sum(len(group.arrivals.requests) for group in groups)
    n_draws = draws or draws_for(n_requests)
    replayed = _run(groups, [group.settings for group in groups], n_draws, seed)
    observed = _observed(groups)
    first = _scenario("replayed", {}, replayed, n_requests)
    first = replace(first, scattered=tuple(_capped(first, replayed)))
    difference = _unexplained(groups) or find_disagreement(observed, first)
    disagreement = difference if must_agree else ""
    scenarios = [observed, first]
    total = 2 + len(asked) + len(points)
    if disagreement:
        scenarios += [_unpredicted(one) for one in [*asked, *points]]
    else:
        n = n_draws if draws else max(min(n_draws, _SWEEP_REQUESTS // max(n_requests, 1)), 10)
        predicted = chain(
            (predict(groups, one, draws=n_draws, seed=seed) for one in asked),
            _swept(groups, sweep[0], points, n, seed) if sweep else (),
        )
        for scenario in predicted:
            scenarios.append(scenario)
            if on_progress is not None:
                on_progress(len(scenarios), total)
    return WhatIf(
        scenarios=tuple(scenarios),
        model=_model(groups, n_draws, seed, () if must_agree or not difference else (_NOT_THE_SAME,)),
        sweep=sweep[0] if sweep else "",
        first_swept=2 + len(asked) if sweep else -1,
        disagreement=disagreement,
        agrees=not difference,
    )


def predict(groups: Sequence[ServerGroup], one: Asked, *, draws: int = 0, seed: int = SEED) -> Scenario:
    """Replay one scenario; see `compute`."""
    n_requests = sum(len(group.arrivals.requests) for group in groups)
    settings = [apply(one, group.settings) for group in groups]
    return _predicted(groups, one, settings, _run(groups, settings, draws or draws_for(n_requests), seed))


def _swept(groups: Sequence[ServerGroup], key: str, points: Sequence[Asked], n: int, seed: int) -> Iterator[Scenario]:
    """Replay the points of a sweep, from the least value on; those beyond a limit that no connection met only once.

    The same seed draws the same chances, so that a higher limit cannot give anything else.
    """
    limit = _LIMITS.get(key)
    totals = None
    for one in points:
        settings = [apply(one, group.settings) for group in groups]
        if limit is None or totals is None or totals.counts[:, limit].any():
            totals = _run(groups, settings, n, seed)
        yield _predicted(groups, one, settings, totals)


def _predicted(
    groups: Sequence[ServerGroup], one: Asked, settings: Sequence[GroupSettings], totals: _ReplayTotals
) -> Scenario:
    n_requests = sum(len(group.arrivals.requests) for group in groups)
    made = _scenario(one.name, _joined(one.settings), totals, n_requests)
    bound, why = _bound(groups, settings)
    if settings == [group.settings for group in groups]:
        why = (*why, "that is how it is set already, so it changes nothing")
    warnings = (*why, *_warnings(groups, settings))
    return replace(made, bound=bound, warnings=warnings, scattered=tuple(_capped(made, totals)))


def _unpredicted(one: Asked) -> Scenario:
    """Return a scenario that was asked for, and of which nothing can be said."""
    why = "nothing is predicted, because the replay of the captured settings is not what was observed"
    return Scenario(one.name, _joined(one.settings), warnings=(why,))


def _joined(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return settings by key; several servers that become backups stand behind each other."""
    joined: dict[str, list[str]] = defaultdict(list)
    for key, value in settings:
        joined[key].append(value)
    return {key: " ".join(values) for key, values in joined.items()}


def _run(groups: Sequence[ServerGroup], settings: Sequence[GroupSettings], n: int, seed: int) -> _ReplayTotals:
    counts: NDArray[np.int64] = np.zeros((n, state.N_COUNTS), np.int64)
    p99 = np.zeros(n)
    for group, wanted in zip(groups, settings, strict=True):
        result = run(group, wanted, draws=n, seed=seed)
        counts += result.counts
        counts[:, state.LOST] += group.lost_beside
        p99 = np.maximum(p99, result.added_p99_ns)
    return _ReplayTotals(counts, p99)


def _scenario(name: str, settings: dict[str, str], totals: _ReplayTotals, n_requests: int) -> Scenario:
    c = totals.counts
    used = np.maximum(c[:, state.OPENED] + c[:, state.REUSED], 1)
    answered = np.maximum(c[:, state.CLIENTS] - _failures(c), 1)
    return Scenario(
        name=name,
        settings=settings,
        client_failures=_failing(_failures(c), n_requests),
        client_502=_failing(c[:, state.FAILED_502], n_requests),
        client_504=_failing(c[:, state.FAILED_504], n_requests),
        lost_tries=_failing(c[:, state.LOST]),
        retried=quantity(c[:, state.RETRIED]),
        no_live_upstreams=quantity(c[:, state.NO_LIVE]),
        connections_opened=quantity(c[:, state.OPENED]),
        idle_connections_max=quantity(c[:, state.IDLE_MAX]),
        time_wait_max=quantity(c[:, state.TIME_WAIT_MAX]),
        reuse_ratio=quantity(c[:, state.REUSED] / used, at_most=1.0),
        added_latency_ns=AddedLatency(quantity(c[:, state.ADDED_NS] / answered), quantity(totals.added_p99_ns)),
    )


def _failing(values: NDArray[np.int64], at_most: float = np.inf) -> Quantity:
    return quantity(values, at_most=at_most, room=room_of(values))


def _capped(scenario: Scenario, totals: _ReplayTotals) -> list[str]:
    """Say which intervals would be wider than what they are about, and hold fewer than nine of ten replays for that."""
    c = totals.counts
    columns = (
        ("lost tries", scenario.lost_tries, c[:, state.LOST]),
        ("failed requests of clients", scenario.client_failures, _failures(c)),
    )
    return [
        f"{told.low:.0f} to {told.high:.0f} {words}: {share:.0%} of the replays, the others are scattered widely"
        for words, told, values in columns
        if told is not None
        and (share := share_within(values, told)) < _HELD
        and told.high - told.low >= room_of(values) - 1
    ]


def _failures(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    total: NDArray[np.int64] = counts[:, [state.FAILED_502, state.FAILED_504, state.FAILED_OTHER]].sum(axis=1)
    return total


def _observed(groups: Sequence[ServerGroup]) -> Scenario:
    def counted(name: str) -> Quantity | None:
        if any(name not in group.observed for group in groups):
            return None
        n = float(sum(group.observed[name] for group in groups))
        return Quantity(n, n, n)

    reused, requests = counted("reused"), counted("requests")
    ratio = None
    if reused is not None and requests is not None and requests.expected:
        share = reused.expected / requests.expected
        ratio = Quantity(share, share, share)
    return Scenario(
        name="observed",
        client_failures=counted("client_failures"),
        client_502=counted("client_502"),
        client_504=counted("client_504"),
        lost_tries=counted("lost_tries"),
        retried=counted("retried"),
        no_live_upstreams=counted("no_live_upstreams"),
        connections_opened=counted("connections_opened"),
        idle_connections_max=counted("idle_connections_max"),
        time_wait_max=counted("time_wait_max"),
        reuse_ratio=ratio,
    )


def find_disagreement(observed: Scenario, replayed: Scenario) -> str:
    """Say where the replay of the captured settings is not what was observed; empty where they agree."""
    for name, words in (("lost_tries", "lost tries"), ("client_failures", "failed requests of clients")):
        seen: Quantity | None = getattr(observed, name)
        made: Quantity | None = getattr(replayed, name)
        if seen is None or made is None:
            continue
        room = max(1.0, _TOLERATED * seen.expected, made.high - made.low)
        if not made.low - room <= seen.expected <= made.high + room:
            return (
                f"the replay of the captured settings gives {made.low:.0f} to {made.high:.0f} {words}, and "
                f"{seen.expected:.0f} were observed: the model does not hold here, so nothing is predicted"
            )
    return ""


def _unexplained(groups: Sequence[ServerGroup]) -> str:
    """Say that a connection was forgotten after less idling than others survived: then it was no timer."""
    for group in groups:
        for place in group.places:
            if 0 <= place.forgets_ns < place.answered_ns:
                return (
                    f"{place.endpoint}, or something before it, had forgotten a connection that was idle for"
                    f" {_rounded(place.forgets_ns)}, and another answered after {_rounded(place.answered_ns)}: idle"
                    " time does not explain it, so nothing is predicted"
                )
    return ""


def _bound(groups: Sequence[ServerGroup], settings: Sequence[GroupSettings]) -> tuple[str, tuple[str, ...]]:
    """Say whether connections would be kept for longer than the capture shows what becomes of them."""
    for group, wanted in zip(groups, settings, strict=True):
        held = group.settings
        longest = group.observed.get("longest_gap_ns", -1)
        for place in group.places:
            timeout_ns = place.timeout_ns if wanted.upstream_timeout_ns is None else wanted.upstream_timeout_ns
            limits = [ns for ns in (wanted.keepalive_timeout_ns, timeout_ns) if ns >= 0]
            before = [ns for ns in (held.keepalive_timeout_ns, place.timeout_ns) if ns >= 0]
            kept_ns = min(limits, default=-1)
            is_longer = kept_ns < 0 <= min(before, default=-1) or kept_ns > min(before, default=kept_ns)
            is_other = wanted.keepalive and wanted.keepalive_timeout_ns != held.keepalive_timeout_ns
            if is_other and place.forgets_ns >= 0 and (kept_ns < 0 or kept_ns > max(place.answered_ns, 0)):
                known = (
                    "none was idle before and answered"
                    if place.answered_ns < 0
                    else (f"the longest that was answered was {_rounded(place.answered_ns)}")
                )
                why = (
                    f"something forgot a connection to {place.endpoint} that was idle for {_rounded(place.forgets_ns)};"
                    f" {known}: what happens in between nobody knows"
                )
                return "lower", (why,)
            if is_longer and longest < 0:
                why = f"no idle connection to {place.endpoint} is known to have been used: nobody knows what ends one"
                return "lower", (why,)
            if is_longer and 0 <= longest < max(kept_ns, longest + (kept_ns < 0)):
                why = (
                    f"no connection to {place.endpoint} was idle for longer than {_rounded(longest)} and then "
                    "used: what else ends one that is kept longer (a firewall, say) the capture cannot show"
                )
                return "lower", (why,)
    return "", ()


def _warnings(groups: Sequence[ServerGroup], settings: Sequence[GroupSettings]) -> tuple[str, ...]:
    said: list[str] = []
    for group, wanted in zip(groups, settings, strict=True):
        held = group.settings
        added = wanted.next_upstream - held.next_upstream
        if "non_idempotent" in added:
            said.append("non_idempotent sends a POST again: what the upstream had already done may be done twice")
        if wanted.keepalive > held.keepalive:
            said.append("a larger pool may close more connections at one moment, so that max_fails trips sooner")
        if wanted.keepalive == 0 < held.keepalive:
            said.append("without kept connections each request waits for a handshake")
        elif wanted.keepalive < held.keepalive:
            said.append("a smaller pool may open more connections: each holds a port, and 60 s longer in TIME_WAIT")
        if any(peer.max_fails == 0 for peer in wanted.peers) and any(peer.max_fails for peer in held.peers):
            said.append("with max_fails=0 a server that is really down is tried by every request")
        said += _window_warning(group, wanted)
    return tuple(dict.fromkeys(said))


def _window_warning(group: ServerGroup, wanted: GroupSettings) -> list[str]:
    """Say that a timeout of the proxy lies above what is safe."""
    for place in group.places:
        window = race_window(group, wanted, place.endpoint)
        if window is None:
            continue
        low, high = window
        if wanted.keepalive_timeout_ns != group.settings.keepalive_timeout_ns and wanted.keepalive_timeout_ns > low:
            return [
                (
                    f"the proxy keeps connections for {format_duration_ns(wanted.keepalive_timeout_ns)}, and requests "
                    f"to {place.endpoint} that come {_rounded(low)} to {_rounded(high)} after the last may be lost"
                )
            ]
    return []


def _rounded(ns: int) -> str:
    return format_duration_ns(round(ns, -7) if abs(ns) >= 1_000_000_000 else round(ns, -6))


def race_window(group: ServerGroup, settings: GroupSettings, endpoint: str) -> tuple[int, int] | None:
    """[ns] Idle gaps after which a request to a server may be lost; None where it closes none."""
    place = next(place for place in group.places if place.endpoint == endpoint)
    timeout_ns = place.timeout_ns if settings.upstream_timeout_ns is None else settings.upstream_timeout_ns
    if timeout_ns < 0:
        return None
    rtt_ns = place.rtt_ns + 3 * place.rtt_tail_ns
    return max(timeout_ns - 4 * place.spread_ns - rtt_ns, 0), timeout_ns + place.late_ns + 4 * place.spread_ns


def _model(groups: Sequence[ServerGroup], draws: int, seed: int, remarks: tuple[str, ...]) -> ReplayModel:
    workers = max(group.settings.workers for group in groups)
    assumptions = tuple(dict.fromkeys(text for group in groups for text in group.assumptions))
    source = next((t for t in assumptions if "worker process" in t), "one is assumed")
    windows = [w for g in groups for p in g.places if (w := race_window(g, g.settings, p.endpoint)) is not None]
    window = (min(low for low, _ in windows), max(high for _, high in windows)) if windows else (-1, -1)
    said = (
        *remarks,
        *assumptions,
        (
            f"{count_of(draws, 'replay')} of what a capture cannot know: which worker serves a client, how much timers "
            "and round trips vary, whether clients wait for an answer before they go on"
        ),
        "failures that no idle connection explains happen to the same requests again, whichever server they go to",
    )
    return ReplayModel(WorkerCount(workers, source), seed, draws, said, window)
