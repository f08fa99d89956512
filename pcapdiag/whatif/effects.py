"""What a report's own remedies would have done: a sentence each, from a replay of the captured requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import NS_PER_MS, about, count_of, format_duration_ns
from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.keys import Asked, is_possible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.scenarios import Quantity, Scenario
    from pcapdiag.whatif.group import ServerGroup

MOST_REQUESTS: Final = 200_000
"""Of which an effect is worked out while somebody waits for the report."""
_REPLAYED: Final = 1_400_000
"""Requests, draws and scenarios counted, that an effect may take: a third of a second."""
_FEWEST, _MOST = 5, 20
"""Draws."""
_CONNECTIONS_APART: Final = 0.3
"""Of the connections that were seen, by how many the replay may miss them and still tell an effect."""
_NO_LIVE: Final = "requests without a live upstream"
_FAILED: Final = "failed requests of clients"


def timeout_of_proxy(timeout_ns: int) -> Asked:
    """[ns] Return the wish that the proxy keeps idle connections for no longer."""
    return Asked((("proxy.keepalive_timeout", format_duration_ns(timeout_ns).replace(" ", "")),))


IN_ROTATION: Final = Asked((("max_fails", "0"),))
"""The wish that no failure puts a peer out."""


def effects(groups: Sequence[ServerGroup], wishes: Sequence[Asked]) -> dict[Asked, str]:
    """Say what settings would have done to the captured requests.

    Parameters
    ----------
    groups : sequence of ServerGroup
        As `groups.build_groups` gives them.
    wishes : sequence of Asked
        Each is replayed alone.

    Returns
    -------
    dict of Asked to str
        One sentence each; without those that the proxy has no setting for. Nothing where the replay of the captured
        settings is not what was observed.
    """
    n_requests = sum(len(group.arrivals.requests) for group in groups)
    possible = [wish for wish in wishes if all(is_possible(wish, group.settings) for group in groups)]
    if not possible or not 0 < n_requests <= MOST_REQUESTS:
        return {}
    draws = max(min(_REPLAYED // (n_requests * (1 + len(possible))), _MOST), _FEWEST)
    try:
        answer = compute(groups, possible, draws=draws)
    except UsageError:
        return {}  # more servers than are replayed
    if answer.disagreement:
        return {}
    observed, replayed, *predicted = answer.scenarios
    otherwise = sum(group.observed.get("lost_otherwise", 0) for group in groups)
    told = (
        (wish, _told(observed, replayed, scenario, otherwise))
        for wish, scenario in zip(possible, predicted, strict=True)
    )
    return {wish: text for wish, text in told if text}


def _told(observed: Scenario, replayed: Scenario, predicted: Scenario, otherwise: int) -> str:
    """Return the sentence; `otherwise` counts the lost tries that no setting of the pool would have saved."""
    if predicted.bound or not _opens_alike(observed, replayed):
        return ""  # what remains is not known then, and a sentence has no room to say so
    if predicted.lost_tries is None or predicted.lost_tries.low < otherwise:
        return ""  # the replay has not met all of them: what is fewer in it was not saved
    parts = [
        _remaining(left, seen, *words)
        for left, seen, words in (
            (predicted.lost_tries, observed.lost_tries, ("lost try", "lost tries")),
            (predicted.no_live_upstreams, observed.no_live_upstreams, ("request without a live upstream", _NO_LIVE)),
            (predicted.client_failures, observed.client_failures, ("failed request of a client", _FAILED)),
        )
        if seen is not None and seen.expected
    ]
    if parts:
        return f"Replayed with that, {', '.join(parts)}; {_cost(observed, replayed, predicted)}."
    was, left = replayed.lost_tries, predicted.lost_tries
    if observed.lost_tries is None or was is None or left is None or round(left.high):
        return ""
    due = f" (with the settings as they are {round(was.low)} to {round(was.high)})" if round(was.high) else ""
    return f"Replayed with that, no try is lost{due}; {_cost(observed, replayed, predicted)}."


def _remaining(left: Quantity | None, seen: Quantity, one: str, many: str) -> str:
    counted = count_of(round(seen.expected), one, many)
    if left is None:
        return f"of {counted} it is not known how many remain"
    if left.low > seen.expected:
        return f"instead of {counted} {round(left.low)} to {round(left.high)}"
    if round(left.low) == round(left.high):
        n_left = round(left.expected)
        return f"of {counted} {n_left} {'remains' if n_left == 1 else 'remain'}"
    return f"of {counted} {round(left.low)} to {round(left.high)} remain"


def _opens_alike(observed: Scenario, replayed: Scenario) -> bool:
    """Tell whether the replay of the captured settings opens about the connections that were seen.

    Where it opens others, other requests met their ends in it, and what it says of losses is a coincidence.
    """
    if observed.connections_opened is None or replayed.connections_opened is None:
        return True
    before = observed.connections_opened.expected
    return abs(replayed.connections_opened.expected - before) <= max(_CONNECTIONS_APART * before, 3)


def _cost(observed: Scenario, replayed: Scenario, predicted: Scenario) -> str:
    if observed.connections_opened is None or predicted.connections_opened is None:
        return "its cost is not known"
    before, after = observed.connections_opened.expected, predicted.connections_opened.expected
    more = round(after - before)
    was, would = replayed.added_latency_ns, predicted.added_latency_ns
    slower_ns = round(would.mean.expected - was.mean.expected) if was is not None and would is not None else 0
    pays = f", an answer takes {about(round(slower_ns, -5))} longer in the mean" if slower_ns >= NS_PER_MS else ""
    if more <= 0:
        return f"it opens no more connections{pays}"
    share = f" ({more / before:.0%})" if before else ""
    return f"{count_of(more, 'connection')} more{share}{pays}"
