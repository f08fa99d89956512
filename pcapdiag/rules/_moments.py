"""Moments at which one side closed many connections of quite different idle ages: a process ended, no timer.

Knows tables and losses; what such a moment means for a request is a rule's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, Leg
from pcapdiag.base.findings import Confidence
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
_COLUMNS = (
    *("first_ts_ns", "last_ts_ns", "closing_ts_ns", "idle_at_close_ns", "first_closer", "closing_kind"),
    *("closing_open_exchange", "n_exchanges", "resp_hi", "resp_lo", "resp_port", "orig_hi", "orig_lo"),
)


@dataclass(frozen=True, slots=True)
class Moment:
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
    moments: tuple[Moment, ...]
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
    columns = {name: analysis.connections[name][of_upstream] for name in _COLUMNS}
    lost: dict[int, list[Loss]] = {}
    for loss in (*analysis.losses, *analysis.truncated):
        lost.setdefault(loss.connection.conn, []).append(loss)
    ages = _ages(columns, of_upstream, lost)
    ranges = {str(u.endpoint): timeout_range(u, at_least=Confidence.POSSIBLE) for u in analysis.upstreams}
    for side, names in _SIDES:
        is_upstream = side is Direction.RESP
        for rows in _groups(columns, names):
            if len(rows) < _LEAST_ALL:
                continue
            hi, lo = (int(columns[name][rows[0]]) for name in names[:2])
            port = int(columns["resp_port"][rows[0]])
            subject = format_endpoint(hi, lo, port) if is_upstream else format_address(hi, lo)
            timer = ranges.get(subject, (-1, -1)) if is_upstream else (-1, -1)
            moments = _moments({n: c[rows] for n, c in columns.items()}, of_upstream[rows], ages[rows], side, timer)
            if moments:
                on_them = (loss for m in moments for conn in m.conns.tolist() for loss in lost.get(conn, ()))
                yield MassClosing(subject, is_upstream, tuple(moments), tuple(on_them))


def _ages(columns: dict[str, Ints], conns: Ints, lost: dict[int, list[Loss]]) -> Ints:
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


def _groups(columns: dict[str, Ints], names: tuple[str, ...]) -> Iterator[Ints]:
    """Yield the rows that have equal values in some columns."""
    order = np.lexsort([columns[name] for name in names])
    if not len(order):
        return
    is_new = np.logical_or.reduce([columns[name][order][1:] != columns[name][order][:-1] for name in names])
    yield from np.split(order, np.flatnonzero(is_new) + 1)


def _moments(
    columns: dict[str, Ints], conns: Ints, ages: Ints, side: Direction, timer: tuple[int, int]
) -> list[Moment]:
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
    times = columns["closing_ts_ns"][index]
    moments: list[Moment] = []
    at = 0
    while at <= len(index) - _LEAST_ALL and len(moments) < _MOST_MOMENTS:
        end = int(np.searchsorted(times, times[at] + _MOMENT_NS, side="right"))
        here = index[at:end]
        idle = ages[here][ages[here] >= 0]
        n_open = int(np.searchsorted(opened, times[at], side="right") - np.searchsorted(ended, times[at], side="left"))
        is_many = len(here) >= (_LEAST if len(here) < n_open else _LEAST_ALL) and 2 * len(here) >= n_open
        if is_many and _is_no_timer(idle):
            moments.append(
                Moment(
                    conns[here],
                    int(times[at]),
                    int(times[end - 1]),
                    int(idle.min()),
                    int(idle.max()),
                    max(n_open, len(here)),
                )
            )
            at = end
        else:
            at += 1
    return moments


def _is_no_timer(idle: Ints) -> bool:
    """Tell whether idle ages at one moment are too different to be those of one timer, even of a late one."""
    if len(idle) < _LEAST_ALL:
        return False
    shortest, longest = int(idle.min()), int(idle.max())
    return longest >= 2 * shortest and longest - shortest >= _AT_ONCE_NS
