"""What became of requests, moment by moment: the bars of the timeline.

Of clients' requests where an access log or their side of the capture tells of them; else of the tries at upstreams, and
beside them the requests that found no live upstream, which sent nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.findings import Role
from pcapdiag.base.units import NS_PER_S
from pcapdiag.report.impact import served_by_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.report.render.charts.scene import Scene

BARS: Final = 60
"""Most moments that the time is cut into."""
_WIDTHS_NS: Final = (
    *(m * 10**n for n in range(3, 9) for m in (1, 2, 5)),
    *(s * NS_PER_S for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)),
)
"""[ns] How long a moment may be: numbers that one can say."""
ANSWERED, SAVED, GONE, FAILED, NO_PEER = (
    "answered",
    "saved by a retry",
    "client gave up",
    "failed",
    "failed: no live upstream",
)
KINDS: Final = (ANSWERED, SAVED, GONE, FAILED, NO_PEER)
"""From the bottom of a bar to its top."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many requests of each kind ended (or, of tries, began) in each moment.

    Attributes
    ----------
    start_ns, width_ns : int
        [ns] The first moment, and how long each is.
    counts : dict of str to tuple of int
        By kind, those that occur; a number for each moment.
    of_clients : bool
        Whether these are requests of clients; else they are tries at upstreams.
    """

    start_ns: int
    width_ns: int
    counts: dict[str, tuple[int, ...]]
    of_clients: bool

    @property
    def most(self) -> int:
        """Height of the highest bar."""
        return max([sum(column) for column in zip(*self.counts.values(), strict=True)], default=0)

    def at(self, moment: int) -> list[tuple[str, int]]:
        """Return the kinds that occur in a moment, and how often."""
        return [(kind, numbers[moment]) for kind, numbers in self.counts.items() if numbers[moment]]

    def total(self, *kinds: str) -> int:
        """Return how many requests are of some kinds."""
        return sum(sum(self.counts.get(kind, ())) for kind in kinds)


def outcomes(scene: Scene, first: int, last: int) -> Outcomes:
    """Return the bars for a span of time.

    Parameters
    ----------
    scene : Scene
        Analysis and report.
    first, last : int
        [ns] The span.

    Returns
    -------
    Outcomes
    """
    served = served_by_second(scene.analysis, scene.report.impact)
    least = (last - first + 1) / BARS
    # What is counted by the second cannot be told more finely.
    least = max(least, NS_PER_S) if served else least
    width = next((w for w in _WIDTHS_NS if w >= least), -(-(last - first + 1) // BARS))
    start = first // width * width
    n_bar = (last - start) // width + 1
    no_peer = np.zeros(n_bar, dtype=np.int64)
    for ts_ns, number in _without_peer(scene):
        if start <= ts_ns <= last:
            no_peer[(ts_ns - start) // width] += number
    if not served:
        counts = _of_tries(scene, start, width, n_bar, last)
        counts[NO_PEER] = no_peer.tolist()
        return Outcomes(start, width, _occurring(counts), of_clients=False)
    counts = {kind: [0] * n_bar for kind in KINDS}
    for ts_ns, one in served.items():
        at = min(max((ts_ns - start) // width, 0), n_bar - 1)
        counts[ANSWERED][at] += one.requests - one.failures - one.gave_up - one.retried
        counts[SAVED][at] += one.retried
        counts[GONE][at] += one.gave_up
        counts[FAILED][at] += one.failures
    _split(counts, no_peer.tolist())
    return Outcomes(start, width, _occurring(counts), of_clients=True)


def _occurring(counts: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {kind: tuple(counts[kind]) for kind in KINDS if any(counts.get(kind, ()))}


def _without_peer(scene: Scene) -> list[tuple[int, int]]:
    """Return when requests found no live upstream, by the capture's clock as well as it is known, and how many."""
    return [
        (o.request_ts_ns - scene.log_ahead_ns, o.stands_for)
        for f in scene.findings(Role.NO_PEER)
        for o in f.occurrences
        if o.request_ts_ns >= 0
    ]


def _split(counts: dict[str, list[int]], no_peer: Sequence[int]) -> None:
    """Tell the failures that found no live upstream from the others; not at all where the two logs do not fit.

    The access log has a line when a request is over: in the moment of the error's entry, or in the next one.
    """
    failed, carried = counts[FAILED], 0
    taken = []
    for number, most in zip(no_peer, failed, strict=True):
        taken.append(min(number + carried, most))
        carried = number + carried - taken[-1] if taken[-1] < number + carried else 0
    if carried:
        return
    counts[NO_PEER] = taken
    counts[FAILED] = [all_ - some for all_, some in zip(failed, taken, strict=True)]


def _of_tries(scene: Scene, start: int, width: int, n_bar: int, last: int) -> dict[str, list[int]]:
    answered, failed = (np.zeros(n_bar, dtype=np.int64) for _ in range(2))
    for requests in scene.requests():
        inside = (requests.ts_ns >= start) & (requests.ts_ns <= last)
        at = (requests.ts_ns - start) // width
        answered += np.bincount(at[inside & requests.is_answered], minlength=n_bar)
        failed += np.bincount(at[inside & ~requests.is_answered], minlength=n_bar)
    for failure in scene.failures:
        if failure.occurrence.depth < 0 and start <= failure.ts_ns <= last:
            failed[(failure.ts_ns - start) // width] += failure.number
    return {ANSWERED: answered.tolist(), FAILED: failed.tolist()}
