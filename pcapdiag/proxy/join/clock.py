"""The log's clock against the capture's: the offset at which most entries have a try.

An entry stamped s happened within [s, s + 1) of the log's local time, so each pair of entry and try leaves an interval
of about a second for the offset. The offset that most entries agree on is the estimate, the intersection of their
intervals its width. Knows intervals only, neither logs nor packets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.ledger import LogClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

QUARTER_S = 900
"""[s] Zones are multiples of 15 minutes."""
MOST_OFFSET_S = 15 * 3600
"""[s] No zone is farther from UTC, a wrong clock included."""

STEP_NS = NS_PER_S // 10
_STEPS = NS_PER_S // STEP_NS
ALIKE = 0.97


class Interval(NamedTuple):
    """[ns] Offsets that a pair allows, both ends included."""

    low: int
    high: int


class Plateau(NamedTuple):
    """Offsets at which the same number of entries have a try."""

    pairs: int
    low: int
    high: int

    @property
    def middle(self) -> int:
        """[ns] The estimate."""
        return (self.low + self.high) // 2


def estimate_clock(
    intervals: Iterable[Sequence[Interval]],
    *,
    by_try: Iterable[Sequence[Interval]] = (),
    zone_s: int | None = None,
) -> LogClock | None:
    """Return the offset on which most entries agree.

    Parameters
    ----------
    intervals : iterable of sequence of Interval
        For each entry, the offsets that each of its possible tries allows.
    by_try : iterable of sequence of Interval
        The same for each try, so that entries which share one do not count more than it: in a log that is much longer
        than the capture some offset has more of them by chance.
    zone_s : int, optional
        [s] The log's zone, where the operator knows it.

    Returns
    -------
    LogClock or None
        None if no entry has a possible try within the offsets that make sense.
    """
    bound = MOST_OFFSET_S * NS_PER_S
    low, high = (
        (-bound, bound) if zone_s is None else (zone_s * NS_PER_S - bound // 15, zone_s * NS_PER_S + bound // 15)
    )

    def merge(rows: Iterable[Sequence[Interval]]) -> list[list[Interval]]:
        return [m for m in merge_rows(rows, low, high) if m]

    merged = merge(intervals)
    best = find_plateaus(merged, merge(by_try))
    if not best:
        return None

    def oddness(plateau: Plateau) -> tuple[int, int]:
        offset, zone = split_zone(plateau.middle, zone_s)
        return abs(offset), abs(zone)

    best.sort(key=oddness)
    first = best[0]
    offset, zone = split_zone(first.middle, zone_s)
    apart = [p for p in best[1:] if p.low > first.high + NS_PER_S or p.high < first.low - NS_PER_S]
    return LogClock(
        offset_ns=offset,
        width_ns=first.high - first.low,
        zone_s=zone,
        pairs=first.pairs,
        conflicts=len(merged) - first.pairs,
        # Clocks that agree need no better proof than one pair; an offset that is found by trying does.
        is_ambiguous=bool(apart) and abs(offset) > 2 * NS_PER_S,
    )


def settle_crowd(
    stamps: Sequence[tuple[str, int]], ends: Sequence[tuple[str, int]], offsets: Iterable[int]
) -> tuple[int, int, bool]:
    """Choose among offsets where failures are so many that each second has some: by how many fall on each second.

    Parameters
    ----------
    stamps : sequence of (str, int)
        Peer and stamp [s] of log entries.
    ends : sequence of (str, int)
        Peer and time [ns] of the ends of tries.
    offsets : iterable of int
        [ns] Those that are possible, `STEP_NS` apart.

    Returns
    -------
    offset, width, is_ambiguous : int, int, bool
        [ns] The best offset, how far others as good lie around it, and whether one is as good farther away.
    """
    logged: dict[str, Counter[int]] = defaultdict(Counter)
    for peer, second in stamps:
        logged[peer][second] += 1
    ended: dict[str, list[int]] = defaultdict(list)
    for peer, at in ends:
        ended[peer].append(at)
    tried = np.array([offset // STEP_NS for offset in offsets], dtype=np.int64)
    total = np.zeros(len(tried), dtype=np.int64)
    for peer, seconds in logged.items():
        # All offsets are whole steps: so are the edges of seconds, and which step an end lies in is all that counts.
        steps = np.sort(np.array(ended[peer], dtype=np.int64) // STEP_NS)
        for second, n in seconds.items():
            begins = second * _STEPS - tried
            seen = np.searchsorted(steps, begins + _STEPS) - np.searchsorted(steps, begins)
            total += np.minimum(seen, n)
    scores = {step * STEP_NS: score for step, score in zip(tried.tolist(), total.tolist(), strict=True)}
    most = max(scores.values())
    best = min((o for o, score in scores.items() if score == most), key=lambda o: abs(split_zone(o)[0]))
    near = [o for o, score in scores.items() if score >= ALIKE * most and abs(o - best) <= NS_PER_S]
    far = any(score >= ALIKE * most for o, score in scores.items() if abs(o - best) > NS_PER_S)
    return best, max(near) - min(near) + 2 * STEP_NS, far


def split_zone(offset_ns: int, zone_s: int | None = None) -> tuple[int, int]:
    """Return the clock offset [ns] and the zone [s] that an offset is made of."""
    if zone_s is None:
        zone_s = (offset_ns + QUARTER_S * NS_PER_S // 2) // (QUARTER_S * NS_PER_S) * QUARTER_S
    return offset_ns - zone_s * NS_PER_S, zone_s


def find_plateaus(intervals: Iterable[Sequence[Interval]], others: Iterable[Sequence[Interval]] = ()) -> list[Plateau]:
    """Return where most of the rows of disjoint intervals overlap.

    Parameters
    ----------
    intervals : iterable of sequence of Interval
        One row per entry; those of one row do not touch.
    others : iterable of sequence of Interval
        One row per try, if what counts is how many of both there are.

    Returns
    -------
    list of Plateau
        All with the same, greatest count, in order; empty if there is no interval.
    """
    columns = [
        np.array([(i.low, i.high) for row in rows for i in row], dtype=np.int64).reshape(-1, 2)
        for rows in (intervals, others)
    ]
    n_both = [len(its) for its in columns]
    if not n_both[0]:
        return []
    at = np.concatenate([its.T.ravel() for its in columns])
    is_end = np.concatenate([np.repeat([0, 1], n) for n in n_both])
    kind = np.repeat([0, 1], [2 * n for n in n_both])
    order = np.lexsort((is_end, at))
    steps = 1 - 2 * is_end[order]
    level = np.cumsum(steps * (kind[order] == 0))
    if n_both[1]:
        level = np.minimum(level, np.cumsum(steps * (kind[order] == 1)))
    most = int(level.max())
    if not most:
        return []
    is_most = np.concatenate([[False], level == most, [False]])
    began = np.flatnonzero(is_most[1:] & ~is_most[:-1])
    ended = np.flatnonzero(is_most[:-1] & ~is_most[1:])
    times = at[order]
    return [Plateau(most, low, high) for low, high in zip(times[began].tolist(), times[ended].tolist(), strict=True)]


def merge_rows(rows: Iterable[Sequence[Interval]], low: int, high: int) -> list[list[Interval]]:
    """Return the union of what each row has of [low, high], whole; entries that may be the same tries share a row."""
    listed = list(rows)
    merged = {id(row): merge_intervals(i for i in row if i.high >= low and i.low <= high) for row in _distinct(listed)}
    return [merged[id(row)] for row in listed]


def _distinct(rows: Iterable[Sequence[Interval]]) -> Iterable[Sequence[Interval]]:
    return {id(row): row for row in rows}.values()


def merge_intervals(row: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals as disjoint ones, in order."""
    merged: list[Interval] = []
    for interval in sorted(row):
        if merged and interval.low <= merged[-1].high:
            merged[-1] = Interval(merged[-1].low, max(merged[-1].high, interval.high))
        else:
            merged.append(interval)
    return merged


def merge_columns(low: NDArray[np.int64], high: NDArray[np.int64]) -> list[Interval]:
    """Return what `merge_intervals` does of intervals in columns, one or more of them."""
    order = np.argsort(low, kind="stable")
    low, reach = low[order], np.maximum.accumulate(high[order])
    first = np.flatnonzero(np.concatenate([[True], low[1:] > reach[:-1]]))
    last = np.append(first[1:], len(low)) - 1
    return list(map(Interval, low[first].tolist(), reach[last].tolist()))
