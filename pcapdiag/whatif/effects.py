"""What a report's own remedy would have done: one sentence, from a replay of the captured requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import NS_PER_MS, about, count_of, format_duration_ns
from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.keys import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.scenarios import Quantity, Scenario
    from pcapdiag.whatif.group import Group

MOST_REQUESTS: Final = 200_000
"""Of which an effect is worked out while somebody waits for the report."""
_REQUESTS_PER_SCENARIO: Final = 400_000
"""Draws counted: a fifth of a second."""
_FEWEST, _MOST = 10, 20
"""Draws."""


def effect_of_timeout(groups: Sequence[Group], timeout_ns: int) -> str:
    """Say what a shorter timeout of the proxy would have done to the captured requests.

    Parameters
    ----------
    groups : sequence of Group
        As `groups.build_groups` gives them.
    timeout_ns : int
        [ns] How long the proxy would have kept idle connections.

    Returns
    -------
    str
        One sentence; empty where the replay of the captured settings is not what was observed, nothing was lost, or
        the proxy has no such setting.
    """
    n_requests = sum(len(group.arrivals.requests) for group in groups)
    if not 0 < n_requests <= MOST_REQUESTS:
        return ""
    asked = Asked((("proxy.keepalive_timeout", format_duration_ns(timeout_ns).replace(" ", "")),))
    draws = max(min(_REQUESTS_PER_SCENARIO // n_requests, _MOST), _FEWEST)
    try:
        answer = compute(groups, [asked], draws=draws)
    except UsageError:
        return ""  # more servers than are replayed, or an nginx that has no such setting
    if answer.disagreement:
        return ""
    observed, replayed, predicted = answer.scenarios
    if observed.lost_tries is None or not observed.lost_tries.expected:
        return ""
    parts = [_remaining(predicted.lost_tries, observed.lost_tries, "lost try", "lost tries")]
    if observed.client_failures is not None and observed.client_failures.expected:
        parts.append(_remaining(predicted.client_failures, observed.client_failures, "failed request of a client"))
    return f"Replayed with that, of {' and of '.join(parts)}; {_cost(observed, replayed, predicted)}."


def _remaining(left: Quantity | None, seen: Quantity, one: str, many: str = "failed requests of clients") -> str:
    counted = count_of(round(seen.expected), one, many)
    if left is None:
        return f"{counted} it is not known how many remain"
    if round(left.low) == round(left.high):
        return f"{counted} {round(left.expected)} remain"
    return f"{counted} {round(left.low)} to {round(left.high)} remain"


def _cost(observed: Scenario, replayed: Scenario, predicted: Scenario) -> str:
    if observed.connections_opened is None or predicted.connections_opened is None:
        return "its cost is not known"
    before, after = observed.connections_opened.expected, predicted.connections_opened.expected
    more = round(after - before)
    was, would = replayed.added_latency_ns, predicted.added_latency_ns
    slower_ns = round(would.mean.expected - was.mean.expected) if was is not None and would is not None else 0
    pays = f", an answer takes {about(slower_ns)} longer in the mean" if slower_ns >= NS_PER_MS else ""
    if more <= 0:
        return f"it opens no more connections{pays}"
    share = f" ({more / before:.0%})" if before else ""
    return f"{count_of(more, 'connection')} more{share}{pays}"
