"""The clocks of both ends: no segment arrives before it is sent, and that bounds the offset from both sides.

As in NTP, the quickest segment in each direction gives the bounds; nothing is assumed of the delays but that they are
not negative. Only the middle of the interval, and the one-way delays, rest on equal ways in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.far_end import Delay, EndClock
from pcapdiag.base.codes import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pcapdiag.analysis.ends.segments import Samples

_RESOLUTION_NS = 1_000
"""Most captures cut their times to microseconds."""

_MOST_DRIFT = 500e-6
"""Crystals differ by 50 ppm, an NTP daemon slews by 500 ppm."""

_LEAST_SPAN_NS = 60_000_000_000
_LEAST_PAIRS = 8
"""A line through few points, or a short capture, would find a drift in any noise."""


@dataclass(frozen=True, slots=True)
class Path:
    """What a clock is measured for: two captures and one upstream between them."""

    near_idx: int
    far_idx: int
    address: str


def measure_clock(path: Path, number: int, samples: Mapping[tuple[int, Direction], Samples]) -> EndClock:
    """Return the clock of one path.

    Parameters
    ----------
    path : Path
        Whose clock it is.
    number : int
        The path's number in `samples`.
    samples : mapping of (int, Direction) to Samples
        By path and direction.

    Returns
    -------
    EndClock
        Without offset if only one direction was seen, or if none fits.
    """
    up, down = samples.get((number, Direction.ORIG)), samples.get((number, Direction.RESP))
    pairs = sum(s.pairs for s in (up, down) if s is not None)
    if up is None or down is None:
        return _unmeasured(path, pairs, is_consistent=True)
    up_ts, down_ts = np.concatenate(up.ts_ns), np.concatenate(down.ts_ns)
    # In floating point only differences to a round number are kept: nanoseconds since 1970 do not fit.
    ceiling, floor = np.concatenate(up.apart_ns), -np.concatenate(down.apart_ns)
    origin, base = int(min(up_ts.min(), down_ts.min())), int(ceiling.min())
    high, low = base + _RESOLUTION_NS, int(floor.max()) - _RESOLUTION_NS
    drift = 0
    if high < low and _may_drift(up_ts, down_ts, pairs):
        slope = _best_slope(up_ts - origin, ceiling - base, down_ts - origin, floor - base)
        drift = round(slope * 1e9)
        high = int((ceiling - (up_ts - origin) * drift // 1_000_000_000).min()) + _RESOLUTION_NS
        low = int((floor - (down_ts - origin) * drift // 1_000_000_000).max()) - _RESOLUTION_NS
    if high < low:
        return _unmeasured(path, pairs, is_consistent=False)
    offset = (high + low) // 2
    return EndClock(
        near_idx=path.near_idx,
        far_idx=path.far_idx,
        address=path.address,
        offset_ns=offset,
        width_ns=high - low,
        drift_ppb=drift,
        origin_ns=origin,
        pairs=pairs,
        is_consistent=True,
        to_upstream=_delay(np.concatenate(up.delays), origin, offset, drift, sign=-1),
        to_proxy=_delay(np.concatenate(down.delays), origin, offset, drift, sign=1),
    )


def _unmeasured(path: Path, pairs: int, *, is_consistent: bool) -> EndClock:
    return EndClock(
        near_idx=path.near_idx,
        far_idx=path.far_idx,
        address=path.address,
        offset_ns=None,
        width_ns=None,
        drift_ppb=0,
        origin_ns=-1,
        pairs=pairs,
        is_consistent=is_consistent,
        to_upstream=None,
        to_proxy=None,
    )


def _may_drift(up_ts: NDArray[np.int64], down_ts: NDArray[np.int64], pairs: int) -> bool:
    span = max(up_ts.max(), down_ts.max()) - min(up_ts.min(), down_ts.min())
    return bool(span >= _LEAST_SPAN_NS and pairs >= _LEAST_PAIRS)


def _best_slope(
    up_ns: NDArray[np.int64], ceiling: NDArray[np.int64], down_ns: NDArray[np.int64], floor: NDArray[np.int64]
) -> float:
    """Return the drift with the most room between the bounds: that room is a concave function of the drift."""

    def room(slope: float) -> float:
        return float((ceiling - slope * up_ns).min() - (floor - slope * down_ns).max())

    low, high = -_MOST_DRIFT, _MOST_DRIFT
    for _ in range(80):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if room(a) < room(b):
            low = a
        else:
            high = b
    return (low + high) / 2


def _delay(delays: NDArray[np.int64], origin: int, offset: int, drift: int, *, sign: int) -> Delay:
    """Return the one-way delays of samples (proxy's time, receiver's minus sender's time)."""
    at = offset + (delays[:, 0] - origin) * drift // 1_000_000_000
    one_way = np.sort(delays[:, 1] + sign * at)
    return Delay(
        int(one_way[0]), int(one_way[len(one_way) // 2]), int(one_way[min(len(one_way) * 99 // 100, len(one_way) - 1)])
    )
