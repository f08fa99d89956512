"""How many a day, from few that were counted: Poisson limits, and the scale from what was watched to a day."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

RULE_OF_THREE: Final = 3.0
"""Upper limit of what is expected where none was seen: e^-3 is a twentieth (Hanley, Lippman-Hand, JAMA 1983)."""
LEAST_DAYS: Final = 1 / 24
"""A rate per day wants an hour watched, or as much of a day's traffic."""
LEAST_QUOTED: Final = 10.0
"""A sentence quotes what is expected per day from so many on; below, numbers stand in tables, with their interval."""


@dataclass(frozen=True, slots=True)
class PerDay:
    """Expected per day; with 95 % it lies between `low` and `high`, as far as counting goes."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class RaceDensity:
    """How many idle gaps came near an upstream's race window, so that it can be said how many will fall into it.

    Attributes
    ----------
    gaps : int
        Requests whose idle gap lay within `width_ns`, answered or lost.
    lost : int
        Those among them that were lost.
    window_ns : int
        [ns] Length of the race window: one round trip.
    width_ns : int
        [ns] Length of the idle gaps that were counted, the window's included.
    days : float
        What was watched, in days: of time, or of traffic where a log tells how much of a day's it was.
    """

    gaps: int
    lost: int
    window_ns: int
    width_ns: int
    days: float

    def per_day(self) -> PerDay | None:
        """Return the requests that will be lost to the race per day; None where too little was watched to say.

        The window's share of the gaps near it counts more of them than those that were lost, and so bears a narrower
        interval; it supposes that gaps have no rhythm. Where what was lost contradicts it, that alone counts.
        """
        if self.days < LEAST_DAYS or self.width_ns <= 0 or self.window_ns <= 0:
            return None
        share = min(self.window_ns / self.width_ns, 1.0)
        least, most = poisson_limits(self.lost)
        n = self.gaps
        if not least <= n * share <= most:
            n, share = self.lost, 1.0
        low, high = poisson_limits(n)
        scale = share / self.days
        return PerDay(low * scale, n * scale, high * scale)


def poisson_limits(n: int) -> tuple[float, float]:
    """Return the limits between which the mean lies of what was counted `n` times, with 95 %.

    Byar's approximation, within 1 % of the exact limits from five on; at none the rule of three, which is one-sided.
    """
    if n <= 0:
        return 0.0, RULE_OF_THREE
    low = n * (1 - 1 / (9 * n) - 1.96 / (3 * sqrt(n))) ** 3
    high = (n + 1) * (1 - 1 / (9 * (n + 1)) + 1.96 / (3 * sqrt(n + 1))) ** 3
    return max(low, 0.0), high


def spell_per_day(rate: PerDay) -> str:
    """Return a rate with its interval, in so many digits as it bears: ``12 (7 to 20) per day``."""
    return f"{_amount(rate.expected)} ({_amount(rate.low)} to {_amount(rate.high)}) per day"


def _amount(number: float) -> str:
    if number >= 10:
        return f"{number:,.0f}"
    if number >= 0.1 or number == 0:
        return f"{number:.1f}".removesuffix(".0")
    return "less than 0.1"
