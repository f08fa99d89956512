"""The access log's clock against that of the capture, where no error log tells it: which shift makes both the same.

An answered request ends at the upstream when its answer is whole, and in the log when it was passed on: so the ends of
all that both hold are one shift apart. A shift is believed only if it is the one that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.codes import Outcome
from pcapdiag.base.units import NS_PER_MS, NS_PER_S
from pcapdiag.whatif.places import connection_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.logs.entries import AccessEntry

FARTHEST_NS: Final = 600 * NS_PER_S
"""[ns] Clocks that are farther apart are not found."""
_BIN_NS: Final = 10 * NS_PER_MS
_EXACT_NS: Final = 2 * NS_PER_MS
"""[ns] What a logged time may leave open: whole seconds tell no shift."""
_MOST_ENDS: Final = 300
"""Captured answers that vote."""
_FEWEST_VOTES: Final = 8
_FITS: Final = 0.5
"""Of the captured answers, how many must stand in the log at a shift."""
_ALONE: Final = 0.6
"""Of the votes for the best shift, how many any other may have: what comes in a rhythm fits many."""
_NEAR_BINS: Final = 2
_IS_SAME_NS: Final = 250 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class AccessLogClock:
    """[ns] Log clock minus capture clock, and whether the log was found to fit at that; else it is taken as it is."""

    ahead_ns: int
    fits: bool


AS_IT_IS: Final = AccessLogClock(0, fits=True)


def measure_access_log_clock(analysis: Analysis, entries: Iterable[AccessEntry]) -> AccessLogClock:
    """Return how far an access log's clock is ahead of the capture's.

    Parameters
    ----------
    analysis : Analysis
        With the exchanges.
    entries : iterable of AccessEntry
        Those of the capture's time, and `FARTHEST_NS` before and after.

    Returns
    -------
    AccessLogClock
        Of 0 where nothing is known; it `fits` where too little is known to doubt it, too.
    """
    captured = _captured_ends(analysis)
    logged = _logged_ends(entries, captured)
    return find_shift(captured, logged)


def find_shift(captured: Mapping[str, NDArray[np.int64]], logged: Mapping[str, NDArray[np.int64]]) -> AccessLogClock:
    """Return the one shift at which the log holds what was captured.

    Parameters
    ----------
    captured, logged : mapping of str to ndarray of int64
        [ns] When answers of each upstream ended.

    Returns
    -------
    AccessLogClock
        As `measure_access_log_clock`.
    """
    n_bins = 2 * FARTHEST_NS // _BIN_NS + 2
    votes: NDArray[np.int64] = np.zeros(n_bins, np.int64)
    n_voters = n_as_it_is = 0
    share = max(_MOST_ENDS // max(len(captured), 1), 1)
    for endpoint, ends in captured.items():
        others = logged.get(endpoint)
        if others is None:
            continue
        for end in ends[:: max(len(ends) // share, 1)].tolist():
            away = others - end
            near = np.unique((away[np.abs(away) <= FARTHEST_NS] + FARTHEST_NS) // _BIN_NS)
            votes[near] += 1  # one answer has one vote for a shift
            n_voters += 1
            n_as_it_is += bool((np.abs(away) <= _IS_SAME_NS).any())
    if n_voters < _FEWEST_VOTES:
        return AS_IT_IS
    pairs = votes[:-1] + votes[1:]
    best = int(np.argmax(pairs))
    ahead_ns = (best + 1) * _BIN_NS - FARTHEST_NS
    away_from_best = np.abs(np.arange(len(pairs)) - best) > _NEAR_BINS
    rival = int(pairs[away_from_best].max(initial=0))
    fits_there = pairs[best] >= _FITS * n_voters and rival <= _ALONE * pairs[best]
    # A wide window around the time as it is holds many by chance; one exact shift that holds as many outweighs it.
    if fits_there and abs(ahead_ns) > _IS_SAME_NS and pairs[best] >= n_as_it_is:
        return AccessLogClock(ahead_ns, fits=True)
    return AS_IT_IS if n_as_it_is >= _FITS * n_voters else AccessLogClock(0, fits=False)


def _captured_ends(analysis: Analysis) -> dict[str, NDArray[np.int64]]:
    """[ns] Return when answers ended, by upstream."""
    of_connection = connection_places(analysis)
    parts: dict[int, list[NDArray[np.int64]]] = {}
    for chunk in analysis.exchanges.chunks():
        upstream = of_connection[chunk["conn"]]
        mine = (upstream >= 0) & (chunk["outcome"] == Outcome.ANSWERED) & (chunk["duration_ns"] >= 0)
        ends = chunk["request_ts_ns"] + chunk["duration_ns"]
        for n in np.unique(upstream[mine]).tolist():
            parts.setdefault(n, []).append(np.asarray(ends[mine & (upstream == n)], np.int64))
    return {str(analysis.upstreams[n].endpoint): np.sort(np.concatenate(ends)) for n, ends in parts.items()}


def _logged_ends(entries: Iterable[AccessEntry], known: Mapping[str, object]) -> dict[str, NDArray[np.int64]]:
    found: dict[str, list[int]] = {}
    for entry in entries:
        last = entry.tries[-1].addr if entry.tries else ""
        if last in known and 0 < entry.status < 500 and entry.ts_width_ns <= _EXACT_NS:
            found.setdefault(last, []).append(entry.ts_ns)
    return {endpoint: np.array(ends, np.int64) for endpoint, ends in found.items()}
