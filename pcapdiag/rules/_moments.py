"""Moments at which one side closed many connections of quite different idle ages: a process ended, no timer.

Knows tables and losses; what such a moment means for a request is a rule's affair.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, Leg
from pcapdiag.base.findings import Confidence
from pcapdiag.base.tables import PickedRows, group_rows
from pcapdiag.base.units import format_address, format_endpoint
from pcapdiag.rules._wire import timeout_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss

    Ints = NDArray[np.int64]

_MOMENT_NS = 200_000_000
_LEAST = 5
_LEAST_ALL = 3
"""So few are many where they are all that were open."""
_AT_ONCE_NS = 100_000_000
"""A closing so soon after a response belongs to it."""
_MOST_MOMENTS = 50
_SIDES = ((Direction.RESP, ("resp_hi", "resp_lo", "resp_port")), (Direction.ORIG, ("orig_hi", "orig_lo")))


@dataclass(frozen=True, slots=True)
class ClosedTogether:
    """Connections that were closed together, and how many of those that were open."""

    conns: Ints
    first_ns: int
    last_ns: int
    shortest_ns: int
    longest_ns: int
    n_open: int


@dataclass(frozen=True, slots=True)
class MassClosing:
    """All such moments of one upstream, or of one proxy; `lost` are the requests that were on those connections."""

    subject: str
    is_upstream: bool
    moments: tuple[ClosedTogether, ...]
    lost: tuple[Loss, ...]


def mass_closings(analysis: Analysis) -> tuple[MassClosing, ...]:
    """Return who closed many connections at one moment: upstreams first, then proxies; worked out once."""
    if __name__ not in analysis.memo:
        analysis.memo[__name__] = tuple(_find(analysis))
    return cast("tuple[MassClosing, ...]", analysis.memo[__name__])


def is_in_mass_closing(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether the connection of a lost request was closed by its upstream together with many others."""
    conn = loss.connection.conn
    key = f"{__name__}:conns"
    if key not in analysis.memo:
        of_upstream = (m for closing in mass_closings(analysis) if closing.is_upstream for m in closing.moments)
        analysis.memo[key] = frozenset(conn for m in of_upstream for conn in m.conns.tolist())
    return conn in analysis.memo[key]


def _find(analysis: Analysis) -> Iterator[MassClosing]:
    of_upstream = np.flatnonzero(np.asarray(analysis.legs) == Leg.UPSTREAM)
    if len(of_upstream) < _LEAST_ALL:
        return
    columns = PickedRows(analysis.connections, of_upstream)
    lost: dict[int, list[Loss]] = {}
    for loss in (*analysis.losses, *analysis.truncated):
        lost.setdefault(loss.connection.conn, []).append(loss)
    ages = _ages(columns, of_upstream, lost)
    if np.count_nonzero(ages >= 0) < _LEAST_ALL:
        return
    ranges = {str(u.endpoint): timeout_range(u, at_least=Confidence.POSSIBLE) for u in analysis.upstreams}
    for side, names in _SIDES:
        is_upstream = side is Direction.RESP
        for rows in group_rows(columns, names):
            if np.count_nonzero(ages[rows] >= 0) < _LEAST_ALL:
                continue
            first = analysis.connections.rows[of_upstream[rows[0]]]
            hi, lo, port = int(first[names[0]]), int(first[names[1]]), int(first["resp_port"])
            subject = format_endpoint(hi, lo, port) if is_upstream else format_address(hi, lo)
            timer = ranges.get(subject, (-1, -1)) if is_upstream else (-1, -1)
            moments = _moments(columns.pick(rows), ages[rows], side, timer)
            if moments:
                on_them = (loss for m in moments for conn in m.conns.tolist() for loss in lost.get(conn, ()))
                yield MassClosing(subject, is_upstream, tuple(moments), tuple(on_them))


def _ages(columns: PickedRows, conns: Ints, lost: dict[int, list[Loss]]) -> Ints:
    """Return how long each connection had been idle when it was closed; -1 with an exchange open.

    A request that crossed the closing, or came just then, does not make the connection a busy one.
    """
    ages = np.where(columns["closing_open_exchange"] == 0, columns["idle_at_close_ns"], -1)
    row_of = {conn: row for row, conn in enumerate(conns.tolist()) if conn in lost}
    for conn, row in row_of.items():
        last = max(lost[conn], key=lambda loss: loss.request_ts_ns)
        crossing = last.crossing
        if crossing is not None and last.idle_before_ns >= 0:
            ages[row] = crossing.ts_ns - (last.request_ts_ns - last.idle_before_ns)
    return ages


def _moments(columns: PickedRows, ages: Ints, side: Direction, timer: tuple[int, int]) -> list[ClosedTogether]:
    """Return the moments at which one side closed many connections of one group."""
    is_closing = (
        (columns["first_closer"] == side)
        & (columns["closing_kind"] != ClosingKind.NONE)
        & (columns["closing_ts_ns"] >= 0)
        & (columns["n_exchanges"] > 0)
        & ((ages < 0) | (ages >= _AT_ONCE_NS))
    )
    earliest, latest = timer
    if earliest >= 0:
        tolerance = max(earliest // 50, _AT_ONCE_NS)
        is_closing &= ~((ages >= earliest - tolerance) & (ages <= latest + tolerance))
    index = np.flatnonzero(is_closing)
    index = index[np.argsort(columns["closing_ts_ns"][index], kind="stable")]
    if len(index) < _LEAST_ALL:
        return []
    opened = np.sort(columns["first_ts_ns"])
    ended = np.sort(np.where(columns["closing_ts_ns"] >= 0, columns["closing_ts_ns"], columns["last_ts_ns"]))
    times, idle = columns["closing_ts_ns"][index], ages[index]
    ends = np.searchsorted(times, times + _MOMENT_NS, side="right")
    n_here = ends - np.arange(len(index))
    n_open = np.searchsorted(opened, times, side="right") - np.searchsorted(ended, times, side="left")
    n_least = np.where(n_here < n_open, _LEAST, _LEAST_ALL)
    n_idle = np.concatenate(([0], np.cumsum(idle >= 0)))
    may_be = (n_here >= n_least) & (2 * n_here >= n_open) & (n_idle[ends] - n_idle[:-1] >= _LEAST_ALL)
    if not may_be.any():
        return []
    shortest, longest = _extremes(idle, ends)
    # Too different to be ages of one timer, even of a late one.
    is_one = may_be & (longest >= 2 * shortest) & (longest - shortest >= _AT_ONCE_NS)
    moments: list[ClosedTogether] = []
    end = 0
    for at in np.flatnonzero(is_one).tolist():
        if at < end or len(moments) == _MOST_MOMENTS:
            continue
        end = int(ends[at])
        n_most = max(int(n_open[at]), end - at)
        first, last = int(times[at]), int(times[end - 1])
        moments.append(
            ClosedTogether(columns.index[index[at:end]], first, last, int(shortest[at]), int(longest[at]), n_most)
        )
    return moments


def _extremes(idle: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return the least and the greatest age from each place to its end, -1 left out; ends do not decrease."""
    ages = idle.tolist()
    least, greatest = (np.zeros(len(ages), dtype=np.int64) for _ in range(2))
    # Places whose age may yet be an extreme, the present one first: each enters and leaves once.
    low, high = deque[int](), deque[int]()
    start = 0
    for at, end in enumerate(ends.tolist()):
        for place in range(start, end):
            age = ages[place]
            if age >= 0:
                while low and ages[low[-1]] >= age:
                    low.pop()
                while high and ages[high[-1]] <= age:
                    high.pop()
                low.append(place)
                high.append(place)
        start = end
        while low and low[0] < at:
            low.popleft()
        while high and high[0] < at:
            high.popleft()
        if low:
            least[at], greatest[at] = ages[low[0]], ages[high[0]]
    return least, greatest
