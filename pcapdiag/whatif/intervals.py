"""From draws to what is said of them: a mean, and an interval that nine of ten draws lie in unless it grew too wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.scenarios import Quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE: Final = 0.9
"""Of the draws that an interval holds."""
_T_95: Final = {10: 1.833, 15: 1.761, 20: 1.729, 30: 1.699, 40: 1.685}
"""Student's t at 0.95 for so many draws at least."""
_ENOUGH_FOR_QUANTILES: Final = 40
_NARROW: Final = 6.0
_RARE: Final = 0.05
"""An event that fewer than one replay in twenty shows does not widen an interval of counts."""


def quantity(values: NDArray[Any], *, at_most: float = np.inf, room: float = np.inf) -> Quantity:
    """Return mean and interval of some draws: the shortest one that nine of ten lie in.

    With few draws the interval is that of the next draw from a normal distribution (Student's t). Of counts the
    interval reaches from whole number to whole number, and the mean lies in it but for what is rare (a mean of 0.04
    leaves it at 0).

    Parameters
    ----------
    values : ndarray, shape (n,)
        One per draw; integers are counts.
    at_most : float
        What no value can exceed.
    room : float
        Greatest width; an interval that would be wider is the one of that width with most draws in it.

    Returns
    -------
    Quantity
    """
    n = len(values)
    mean = float(values.mean())
    is_count = np.issubdtype(values.dtype, np.integer)
    ordered = np.sort(values)
    if n >= _ENOUGH_FOR_QUANTILES:
        low, high = _shortest(ordered, int(np.ceil(SHARE * n)))
    else:
        t = min((t for least, t in _T_95.items() if n >= least), default=6.314)
        half = t * float(values.std(ddof=1)) * (1 + 1 / n) ** 0.5 if n > 1 else 0.0
        low, high = mean - half, mean + half
    if is_count:
        low, high = np.floor(min(low, mean + _RARE)), np.ceil(max(high, mean - _RARE))
    else:
        low, high = min(low, mean), max(high, mean)
    low, high = max(float(low), 0.0), min(float(high), at_most)
    if high - low > room:
        low, high = _fullest(ordered, mean, room)
    return Quantity(low, mean, high)


def room_of(values: NDArray[Any]) -> float:
    """Return how wide the interval of a count of failures may be: what is expected, or six."""
    return max(_NARROW, float(values.mean()))


def share_within(values: NDArray[Any], told: Quantity) -> float:
    """Return the share of draws that lie in an interval."""
    return float(((values >= told.low) & (values <= told.high)).mean())


def _shortest(ordered: NDArray[Any], n: int) -> tuple[float, float]:
    """Return the shortest interval that holds `n` of some sorted values; of several the middle one."""
    widths = ordered[n - 1 :] - ordered[: len(ordered) - n + 1]
    shortest = np.flatnonzero(widths == widths.min())
    at = int(shortest[len(shortest) // 2])
    return float(ordered[at]), float(ordered[at + n - 1])


def _fullest(ordered: NDArray[Any], mean: float, room: float) -> tuple[float, float]:
    """Return the interval of a width around the mean that most counts lie in; of several the middle one."""
    width = np.floor(room)
    lows = np.arange(max(np.ceil(mean - width), 0.0), np.floor(mean) + 1)
    held = np.searchsorted(ordered, lows + width, side="right") - np.searchsorted(ordered, lows, side="left")
    fullest = np.flatnonzero(held == held.max())
    low = float(lows[fullest[len(fullest) // 2]])
    return low, low + float(width)
