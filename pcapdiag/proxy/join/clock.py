"""The log's clock against the capture's: the offset at which most entries have a try.

An entry stamped s happened within [s, s + 1) of the log's local time, so each pair of entry and try leaves an interval
of about a second for the offset. The offset that most entries agree on is the estimate, the intersection of their
intervals its width. Knows intervals only, neither logs nor packets.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.ledger import LogClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUARTER_S = 900
"""[s] Zones are multiples of 15 minutes."""
MOST_OFFSET_S = 15 * 3600
"""[s] No zone is farther from UTC, a wrong clock included."""

STEP_NS = NS_PER_S // 10
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
        return [m for its in rows if (m := merge_intervals([i for i in its if i.high >= low and i.low <= high]))]

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
    logged = Counter(stamps)
    scores = {}
    for offset in offsets:
        seen = Counter((peer, (at + offset) // NS_PER_S) for peer, at in ends)
        scores[offset] = sum(min(n, seen[key]) for key, n in logged.items())
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
    kinds = [list(intervals), list(others)]
    edges = sorted(
        (at, step, kind)
        for kind, rows in enumerate(kinds)
        for row in rows
        for i in row
        for at, step in ((i.low, 0), (i.high, 1))
    )
    counts = [0, 0 if kinds[1] else len(edges)]
    best: list[Plateau] = []
    level = most = began = 0
    for at, is_end, kind in edges:
        counts[kind] += -1 if is_end else 1
        before, level = level, min(counts)
        if level > before and level >= most:
            best, most, began = best if level == most else [], level, at
        elif level < before == most:
            best.append(Plateau(before, began, at))
    return best


def merge_intervals(row: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals as disjoint ones, in order."""
    merged: list[Interval] = []
    for interval in sorted(row):
        if merged and interval.low <= merged[-1].high:
            merged[-1] = Interval(merged[-1].low, max(merged[-1].high, interval.high))
        else:
            merged.append(interval)
    return merged
