"""How long a server keeps an idle connection, from the ages at which it closed them.

Knows ages and times, not connections: what counts as an idle closing is decided where the tables are.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

MOMENT_NS = 100_000_000
"""Closings within one moment are one event, and count as one when it comes to certainty."""
_TIGHT_NS = 60_000_000
_HINT_LATE_NS = 3 * NS_PER_S // 2
"""Node closes a second after the time it announces in its Keep-Alive field."""
_MIN_SWEPT_NS = NS_PER_S
_MIN_SWEPT = 6
"""A handful of kills falls into as wide a window by chance."""
_SURE_MOMENTS = 5
_CHANCE = 100
"""A clean split of idle gaps counts if chance alone would make it less than once in so many."""
_MIN_ENCLOSED = 2
_MOST_GAPS = 1_000


def estimate_idle_timeout(
    ages_ns: Ints, closed_ts_ns: Ints, *, hint_s: int = -1
) -> tuple[int, int, int, Confidence] | None:
    """Return the idle timeout that the ages of closed connections point to.

    The timeout is where the ages are dense, not their mean: a reload closes connections of any age, a sweep closes
    them late. Many closings in one moment are one observation.

    Parameters
    ----------
    ages_ns : ndarray of int64, shape (n,)
        [ns] Time from the last payload byte to the upstream's closing.
    closed_ts_ns : ndarray of int64, shape (n,)
        [ns] Times of those closings.
    hint_s : int
        [s] Timeout announced in the Keep-Alive field, -1 if none.

    Returns
    -------
    tuple of (int, int, int, Confidence) or None
        Value [ns], spread [ns], samples, confidence; None where the ages are scattered.
    """
    ages_ns, closed_ts_ns = _without_mass_closings(ages_ns, closed_ts_ns)
    if not len(ages_ns):
        return None
    order = np.argsort(ages_ns, kind="stable")
    ages, moments = ages_ns[order], _moments(closed_ts_ns)[order]
    first, n_tight = _densest(ages, np.maximum(_TIGHT_NS, ages // 64))
    tight = ages[first : first + n_tight]
    n_moments = len(np.unique(moments[first : first + n_tight]))
    spread = int(tight[-1] - tight[0])
    share = n_tight / len(ages)
    # Were the ages spread evenly, this many would lie in a window of that width.
    expected = len(ages) * max(_TIGHT_NS, int(tight[0]) // 64) / max(int(ages[-1] - ages[0]), 1)
    is_dense = share >= 0.5 or n_tight >= 5 * expected
    hinted = is_announced(int(tight[0]), hint_s)
    if n_tight >= 3 and n_moments >= 3 and is_dense:
        return int(np.median(tight)), spread, n_tight, Confidence.CONFIRMED
    swept = _swept(ages, moments)
    if swept is not None:
        return swept
    if is_dense and (n_moments >= 2 or n_tight == len(ages)):
        confidence = Confidence.LIKELY if n_moments >= 2 or n_tight >= 3 else Confidence.POSSIBLE
        if hinted:
            confidence = Confidence(min(confidence + 1, Confidence.CONFIRMED))
        return int(np.median(tight)), spread, n_tight, confidence
    return None


def is_announced(age_ns: int, hint_s: int) -> bool:
    """Whether a server that closed at an age [ns] had announced that timeout [s] in its Keep-Alive field; -1: none."""
    return hint_s >= 0 and -MOMENT_NS <= age_ns - hint_s * NS_PER_S <= _HINT_LATE_NS


def estimate_late_timeout(ages_ns: Ints, closed_ts_ns: Ints, late_ns: int) -> tuple[int, int, int, Confidence] | None:
    """Return the idle timeout of a server that is known to be late: one cause for all closings within its granularity.

    Parameters
    ----------
    ages_ns : ndarray of int64, shape (n,)
        [ns] Time from the last payload byte to the upstream's closing.
    closed_ts_ns : ndarray of int64, shape (n,)
        [ns] Times of those closings.
    late_ns : int
        [ns] How late the server may be.

    Returns
    -------
    tuple of (int, int, int, Confidence) or None
        The least age [ns], spread [ns], samples, confidence; None where the ages are wider apart than the server is
        late, or so close together that it is not.
    """
    ages_ns, closed_ts_ns = _without_mass_closings(ages_ns, closed_ts_ns)
    if len(ages_ns) < 2:
        return None
    order = np.argsort(ages_ns, kind="stable")
    ages, moments = ages_ns[order], _moments(closed_ts_ns)[order]
    first, n_within = _densest(ages, late_ns + np.maximum(_TIGHT_NS, ages // 64))
    within = ages[first : first + n_within]
    n_moments = len(np.unique(moments[first : first + n_within]))
    spread = int(within[-1] - within[0])
    # The window must be narrow against the timeout, or ages of any kind would fit into it.
    if n_within < 0.7 * len(ages) or n_moments < 2 or late_ns > within[0]:
        return None
    if n_moments >= _SURE_MOMENTS and spread <= late_ns // 10:
        return None
    confidence = Confidence.CONFIRMED if n_moments >= _SURE_MOMENTS else Confidence.LIKELY
    return int(within[0]), spread, n_within, confidence


def measure_lateness(ages_ns: Ints, closed_ts_ns: Ints) -> int:
    """[ns] Return how late a server of unknown make seems to be; 0 where its closings do not look like one late timer.

    Parameters
    ----------
    ages_ns, closed_ts_ns : ndarray of int64, shape (n,)
        [ns] As for `estimate_late_timeout`.
    """
    ages_ns, closed_ts_ns = _without_mass_closings(ages_ns, closed_ts_ns)
    if len(ages_ns) < _MIN_SWEPT:
        return 0
    order = np.argsort(ages_ns, kind="stable")
    ages, moments = ages_ns[order], _moments(closed_ts_ns)[order]
    first, n_wide = _densest(ages, np.maximum(6 * NS_PER_S // 5, ages * 3 // 10))
    wide = ages[first : first + n_wide]
    n_moments = len(np.unique(moments[first : first + n_wide]))
    if wide[0] < _MIN_SWEPT_NS or n_wide < max(_MIN_SWEPT, 0.8 * len(ages)) or n_moments < _SURE_MOMENTS:
        return 0
    _, n_tight = _densest(wide, np.maximum(_TIGHT_NS, wide // 64))
    # Most of them at one age: an exact timer, and some closings that were none of it.
    if n_tight > 0.6 * n_wide:
        return 0
    # Of times spread evenly over a range, so much of it is seen on average.
    return int(wide[-1] - wide[0]) * (n_wide + 1) // (n_wide - 1)


def enclose_idle_timeout(
    answered: int, longest_answered_ns: int, lost_gaps_ns: Ints, lost_ts_ns: Ints
) -> tuple[int, int, int, Confidence] | None:
    """Return the timeout that idle gaps enclose: all up to one length answered, all beyond it closed at once.

    Parameters
    ----------
    answered : int
        Requests after an idle gap that were answered.
    longest_answered_ns : int
        [ns] The longest gap among them; -1 if there is none.
    lost_gaps_ns : ndarray of int64, shape (n,)
        [ns] Idle gaps of the requests that the upstream took and closed on at once, all of them.
    lost_ts_ns : ndarray of int64, shape (n,)
        [ns] When it closed.

    Returns
    -------
    tuple of (int, int, int, Confidence) or None
        Longest answered gap [ns], how much longer the shortest lost one is [ns], samples, confidence; None where the
        gaps overlap, or are too few to exclude chance.
    """
    if longest_answered_ns < 0 or len(lost_gaps_ns) < _MIN_ENCLOSED:
        return None
    shortest = int(lost_gaps_ns.min())
    if shortest <= longest_answered_ns or shortest < _MIN_SWEPT_NS:
        return None
    # The end of one process closes many connections at once: that is one observation.
    n_lost = len(np.unique((lost_ts_ns - lost_ts_ns.min()) // NS_PER_S))
    n_all = min(answered, _MOST_GAPS) + min(n_lost, _MOST_GAPS)
    if n_lost < _MIN_ENCLOSED or comb(n_all, min(n_lost, _MOST_GAPS)) < _CHANCE:
        return None
    return longest_answered_ns, shortest - longest_answered_ns, len(lost_gaps_ns), Confidence.LIKELY


def _densest(ages: Ints, width: Ints) -> tuple[int, int]:
    """Return where the fullest window of sorted `ages` begins, and how many it holds."""
    counts = np.searchsorted(ages, ages + width, side="right") - np.arange(len(ages))
    first = int(np.argmax(counts))
    return first, int(counts[first])


def _swept(ages: Ints, moments: Ints) -> tuple[int, int, int, Confidence] | None:
    """Return the timeout of a server that looks for idle connections only now and then: the youngest it closed."""
    long_enough = ages >= _MIN_SWEPT_NS
    ages, moments = ages[long_enough], moments[long_enough]
    if len(ages) < _MIN_SWEPT:
        return None
    first, n_wide = _densest(ages, np.maximum(6 * NS_PER_S // 5, ages * 3 // 10))
    if n_wide < 0.7 * len(long_enough) or len(np.unique(moments[first : first + n_wide])) < _MIN_SWEPT:
        return None
    wide = ages[first : first + n_wide]
    return int(wide[0]), int(wide[-1] - wide[0]), n_wide, Confidence.LIKELY


def _moments(closed_ts: Ints) -> Ints:
    """Return the moment of each closing, counted from the first: the result must not depend on the clock."""
    moments: Ints = (closed_ts - closed_ts.min()) // MOMENT_NS
    return moments


def _without_mass_closings(ages: Ints, closed_ts: Ints) -> tuple[Ints, Ints]:
    """Leave out moments in which several connections of quite different ages were closed: a reload, not a timer."""
    if len(ages) < 3:
        return ages, closed_ts
    moment = _moments(closed_ts)
    order = np.lexsort((ages, moment))
    ages, closed_ts = ages[order], closed_ts[order]
    _, start, moment, size = np.unique(moment[order], return_index=True, return_inverse=True, return_counts=True)
    middle = ages[start + size // 2][moment]
    near = np.abs(ages - middle) * 20 <= middle * 7
    n_near = np.bincount(moment, weights=near, minlength=len(size))
    kept = ((size < 3) | (n_near >= 0.6 * size))[moment]
    return ages[kept], closed_ts[kept]
