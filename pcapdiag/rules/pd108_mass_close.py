"""PD108: many connections closed within a moment, at different idle ages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, Leg
from pcapdiag.base.findings import Confidence, RuleFacts, Severity
from pcapdiag.base.units import about, count_of, format_address, format_endpoint
from pcapdiag.rules._dialect import retries
from pcapdiag.rules._rule import GroupText, Rule
from pcapdiag.rules._wire import timeout_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Finding

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_MOMENT_NS = 200_000_000
_LEAST = 5
_LEAST_IDLE = 3
_AT_ONCE_NS = 100_000_000
"""A closing so soon after a response belongs to it."""
_MOST_MOMENTS = 50
_SIDES = ((Direction.RESP, ("resp_hi", "resp_lo", "resp_port")), (Direction.ORIG, ("orig_hi", "orig_lo")))
_COLUMNS = (
    *("first_ts_ns", "last_ts_ns", "closing_ts_ns", "idle_at_close_ns", "first_closer", "closing_kind"),
    *("closing_open_exchange", "n_exchanges", "resp_hi", "resp_lo", "resp_port", "orig_hi", "orig_lo"),
)


@dataclass(frozen=True, slots=True)
class _Closings:
    """Closings of one side, in order of time; ages in ns, -1 with an exchange open."""

    conn: Ints
    ts_ns: Ints
    age_ns: Ints


@dataclass(frozen=True, slots=True)
class _Moment:
    """Connections that were closed together, and how many of those that were open."""

    conns: Ints
    first_ns: int
    last_ns: int
    shortest_ns: int
    longest_ns: int
    n_open: int


class MassClose(Rule):
    """Many connections were closed within a moment, at different idle ages: a process ended, no timer.

    What it looks for
    -----------------
    At least five connections of an upstream, half of those that were open at least, that it closed within a fifth of a
    second, after idle times of which the longest is at least twice the shortest; none of them at the age of its idle
    timer. The same of a proxy, with all its connections.

    Why it matters
    --------------
    A reload, a deployment or a scale-in closes what is idle and, if it does not wait, what is in use. Each request lost
    to it has its own cause (PD101 where it crossed the closing, PD201 or PD202 where it was in hand); that all of them
    are one event says where to look.

    Evidence
    --------
    The times of the closings and the idle age of each connection.

    When it is wrong
    ----------------
    Where a device on the path ends all connections at once in the upstream's name.

    Remedy
    ------
    Take the upstream out of rotation before it is stopped, and let it finish what it has. Timeouts do not help.

    References
    ----------
    RFC 9112 section 9.6 (how a server should end a connection).
    """

    code = "PD108"
    name = "mass-close"
    title = "Many connections were closed at one moment"
    severity = Severity.WARNING
    needs = ("several connections that are open at one time",)
    since = "0.3"
    facts = RuleFacts()

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream that closed many connections at one moment, and per proxy that did."""
        of_upstream = np.flatnonzero(np.asarray(analysis.legs) == Leg.UPSTREAM)
        if len(of_upstream) < _LEAST:
            return
        columns = {name: analysis.connections[name][of_upstream] for name in _COLUMNS}
        lost: dict[int, list[Loss]] = {}
        for loss in (*analysis.losses, *analysis.truncated):
            lost.setdefault(loss.connection.conn, []).append(loss)
        ages = _ages(columns, of_upstream, lost)
        ranges = {str(u.endpoint): timeout_range(u, at_least=Confidence.POSSIBLE) for u in analysis.upstreams}
        for side, names in (
            (Direction.RESP, ("resp_hi", "resp_lo", "resp_port")),
            (Direction.ORIG, ("orig_hi", "orig_lo")),
        ):
            for rows in _groups(columns, names):
                if len(rows) < _LEAST:
                    continue
                first = rows[0]
                hi, lo = (int(columns[name][first]) for name in names[:2])
                is_upstream = side is Direction.RESP
                subject = (
                    format_endpoint(hi, lo, int(columns["resp_port"][first])) if is_upstream else format_address(hi, lo)
                )
                timer = ranges.get(subject, (-1, -1)) if is_upstream else (-1, -1)
                moments = _moments({n: c[rows] for n, c in columns.items()}, of_upstream[rows], ages[rows], side, timer)
                if moments:
                    yield self._finding(analysis, subject, moments, lost, is_upstream=is_upstream)

    def missing(self, analysis: Analysis) -> str:
        """Return why no moment could be looked for."""
        if (np.asarray(analysis.legs) == Leg.UPSTREAM).any():
            return ""
        return "the capture holds no connection to an upstream"

    def _finding(
        self,
        analysis: Analysis,
        subject: str,
        moments: list[_Moment],
        lost: dict[int, list[Loss]],
        *,
        is_upstream: bool,
    ) -> Finding:
        worst = max(moments, key=lambda m: len(m.conns))
        n_lost = sum(len(lost.get(conn, ())) for m in moments for conn in m.conns.tolist())
        n_closed = sum(len(m.conns) for m in moments)
        who = subject if is_upstream else f"The proxy {subject}"
        within = about(max(worst.last_ns - worst.first_ns, 1_000))
        n_worst = count_of(len(worst.conns), "connection")
        idle = f"{about(worst.shortest_ns)} to {about(worst.longest_ns)}"
        whose = "" if is_upstream else " of the proxy; no client went away"
        text = (
            f"{who} closed {n_worst} of {worst.n_open:,} open ones within {within}, idle for {idle}: no idle timer, but"
            f" a reload, a stop or a scale-in{whose}."
        )
        if len(moments) > 1:
            text += f" So it did at {len(moments):,} moments, {n_closed:,} connections together."
        if n_lost:
            were = "request was" if n_lost == 1 else "requests were"
            text += f" {n_lost:,} {were} on these connections; each is told under its own cause."
        else:
            text += " No request was lost to it."
        drain = (
            "Take the upstream out of rotation at the proxy before it is stopped or reloaded, and let it finish what it"
            " has: no timeout helps against a stop. Look in its log and in what deploys it for these times."
            if is_upstream
            else "Let the proxy finish its requests before it is stopped (a graceful stop or reload), and look in what"
            " deploys it for these times."
        )
        words = GroupText(
            message=text,
            refuted_by="A line in the log of this time that shows the process went on, or closings at one idle age.",
            remedy=f"{drain}\n\n{retries(analysis)}" if n_lost and is_upstream else drain,
            severity=Severity.WARNING if n_lost else Severity.INFO,
            details={
                "moments": len(moments),
                "connections_closed": n_closed,
                "lost_requests": n_lost,
                "shortest_idle_ns": worst.shortest_ns,
                "longest_idle_ns": worst.longest_ns,
            },
        )
        return replace(
            self.finding(subject, words, (), Confidence.LIKELY, "" if is_upstream else "proxy"),
            count=len(moments),
            first_ts_ns=min(m.first_ns for m in moments),
            last_ts_ns=max(m.last_ns for m in moments),
        )


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
) -> list[_Moment]:
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
    if len(index) < _LEAST:
        return []
    opened = np.sort(columns["first_ts_ns"])
    ended = np.sort(np.where(columns["closing_ts_ns"] >= 0, columns["closing_ts_ns"], columns["last_ts_ns"]))
    times = columns["closing_ts_ns"][index]
    moments: list[_Moment] = []
    at = 0
    while at <= len(index) - _LEAST and len(moments) < _MOST_MOMENTS:
        end = int(np.searchsorted(times, times[at] + _MOMENT_NS, side="right"))
        here = index[at:end]
        idle = ages[here][ages[here] >= 0]
        n_open = int(np.searchsorted(opened, times[at], side="right") - np.searchsorted(ended, times[at], side="left"))
        if len(here) >= _LEAST and _is_no_timer(idle) and 2 * len(here) >= n_open:
            moments.append(
                _Moment(
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
    if len(idle) < _LEAST_IDLE:
        return False
    shortest, longest = int(idle.min()), int(idle.max())
    return longest >= 2 * shortest and longest - shortest >= _AT_ONCE_NS
