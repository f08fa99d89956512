"""When failures happened: bursts, and whether they come back. Bounded memory, whatever a log holds. Knows no entry."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Final

MOST_BINS: Final = 50_000
"""Where more were needed, a bin gets twice as wide."""
GAP_S: Final = 10
"""[s] Failures further apart belong to two bursts."""
LEAST_BURST: Final = 5
LEAST_INTERVALS: Final = 4
_EXACT: Final = 0.1
"""How far intervals of one period may differ from it; part of it."""
_MOST_SHARE: Final = 0.8


class Timeline:
    """Counts moments in bins of equal width.

    Attributes
    ----------
    first_s, last_s : int
        [s] The first and the last moment; -1 without one.
    """

    def __init__(self) -> None:
        self.first_s = self.last_s = -1
        self._width_s = 1
        self._bins: dict[int, int] = {}

    def add(self, at_s: int) -> None:
        """Take in a moment [s]."""
        self.first_s = at_s if self.first_s < 0 else min(self.first_s, at_s)
        self.last_s = max(self.last_s, at_s)
        place = at_s // self._width_s
        self._bins[place] = self._bins.get(place, 0) + 1
        if len(self._bins) > MOST_BINS:
            self._width_s *= 2
            wider: dict[int, int] = {}
            for bin_, count in self._bins.items():
                wider[bin_ // 2] = wider.get(bin_ // 2, 0) + count
            self._bins = wider

    def runs(self) -> list[tuple[int, int, int]]:
        """Return begin [s], end [s] and number of moments of each run without a gap of `GAP_S`, in their order."""
        runs: list[tuple[int, int, int]] = []
        gap_s = max(GAP_S, self._width_s)
        for place in sorted(self._bins):
            begin, end = place * self._width_s, (place + 1) * self._width_s - 1
            if runs and begin - runs[-1][1] <= gap_s:
                runs[-1] = (runs[-1][0], end, runs[-1][2] + self._bins[place])
            else:
                runs.append((begin, end, self._bins[place]))
        return runs

    def recurrence(self) -> tuple[int, int, int] | None:
        """Return after how long [s] runs begin anew, how many intervals fit, and how many there are.

        Returns
        -------
        tuple of int or None
            None for fewer than `LEAST_INTERVALS`, or where they are not alike.
        """
        begins = [begin for begin, _, _ in self.runs()]
        intervals = [after - before for before, after in pairwise(begins)]
        if len(intervals) < LEAST_INTERVALS:
            return None
        period_s = median(intervals)
        most_off_s = max(_EXACT * period_s, 2 * self._width_s)
        fitting = sum(abs(interval - period_s) <= most_off_s for interval in intervals)
        return (round(period_s), fitting, len(intervals)) if fitting >= _MOST_SHARE * len(intervals) else None
