"""How much a count without losses proves: the chance that it is luck, in numbers and in words.

If nothing had changed, every loss would have been as likely to fall into one of AFTER's requests as into one of
BEFORE's. That none of n did has the chance (N_before / (N_before + N_after)) ** n: the exact conditional test of two
Poisson rates, which needs no estimate of either rate. It wants losses that have nothing to do with each other: whoever
calls counts those of one moment as one.
"""

from __future__ import annotations

from math import ceil, comb, erfc, sqrt

CERTAIN = 0.05
"""A chance at or below this is taken for no luck."""

_EXACT = 1000


def chance_of_none(losses: int, chances_before: int, chances_after: int) -> float:
    """Return the chance that AFTER has no loss although nothing changed.

    Parameters
    ----------
    losses : int
        How many BEFORE had.
    chances_before, chances_after : int
        Among how many requests that could have been lost.

    Returns
    -------
    float
        1 where there is nothing to learn from.
    """
    if losses <= 0 or chances_after <= 0:
        return 1.0
    before = max(chances_before, losses)
    return float((before / (before + chances_after)) ** losses)


def requests_needed(losses: int, chances_before: int) -> int:
    """Return how many requests AFTER must have without a loss to be certain; -1 where no number is enough."""
    if losses <= 0:
        return -1
    before = max(chances_before, losses)
    return ceil(before * (float(CERTAIN ** (-1 / losses)) - 1))


def is_fewer(before: int, chances_before: int, after: int, chances_after: int) -> bool:
    """Return whether AFTER's rate is lower than BEFORE's beyond doubt (95 %, one-sided)."""
    n = before + after
    if n == 0 or chances_before <= 0 or chances_after <= 0:
        return False
    share = chances_after / (chances_before + chances_after)
    if n > _EXACT:
        spread = sqrt(n * share * (1 - share))
        return spread > 0 and erfc((n * share - after) / spread / sqrt(2)) / 2 <= CERTAIN
    tail = sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(after + 1))
    return tail <= CERTAIN


def highest_rate(chances: int) -> float:
    """Return the share of requests that may still be lost when none of `chances` was (95 %)."""
    return float(1 - CERTAIN ** (1 / chances)) if chances > 0 else 1.0


def in_words(chance: float) -> str:
    """Return a chance as people say it: ``1 in 40``."""
    if chance <= 1e-6:
        return "less than 1 in a million"
    if chance > 0.5:
        return f"{100 * chance:.0f} %"
    times = round(1 / chance)
    digits = 10 ** max(len(str(times)) - 2, 0)
    return f"1 in {times // digits * digits:,}"
