"""The rows of the chart of idle gaps: which upstreams, how far each request was from their timers.

Each lost request is in its row; of the answered ones those that lie near, one for each dot. Reads the exchanges a chunk
at a time; draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.analysis.upstreams import near_miss_above_ns
from pcapdiag.report.frame_numbers import FrameNumbers
from pcapdiag.report.render.charts.panel import GapAxis, nice_step
from pcapdiag.report.render.charts.scene import clock_text
from pcapdiag.report.summary import brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.report.render.charts.scene import DrawnFailure, Scene

MOST_ROWS: Final = 12
MOST_CALM: Final = 600
"""Answered requests that are drawn, and near misses."""
BINS: Final = 60
ANSWERED, NEAR = "answered", "near miss"


@dataclass(slots=True)
class GapRow:
    """One upstream, or several that have no row of their own; differences are from the timer of each."""

    name: str
    window: tuple[int, int]
    lost: list[tuple[int, DrawnFailure]] = field(default_factory=list)
    others: list[tuple[int, int, str, str]] = field(default_factory=list)
    """Difference, time, kind and words of the answered requests that are drawn."""
    n_answered: int = 0
    n_near: int = 0

    @property
    def n_lost(self) -> int:
        """How many were lost, those that others stand for included."""
        return sum(f.number for _, f in self.lost)


def make_rows(scene: Scene, reused: Sequence[DrawnFailure]) -> tuple[list[GapRow], dict[int, int]]:
    """Return the rows with their lost requests, and the row of each upstream by its number."""
    timers = {n: _timer(u) for n, u in enumerate(scene.report.upstreams) if u.race_window_ns[1] > 0}
    number = {str(u.endpoint): n for n, u in enumerate(scene.analysis.upstreams)}
    number |= {u.endpoint: n for n, u in enumerate(scene.report.upstreams)}
    lost: dict[int, list[DrawnFailure]] = {n: [] for n in timers}
    for failure in reused:
        at = number.get(failure.occurrence.resp, -1)
        if at in lost:
            lost[at].append(failure)
    upstreams = scene.report.upstreams
    order = sorted(timers, key=lambda n: (-sum(f.number for f in lost[n]), -upstreams[n].exchanges, n))
    own = order if len(order) <= MOST_ROWS else order[: MOST_ROWS - 1]
    rows: list[GapRow] = []
    row_of: dict[int, int] = {}
    for n in own:
        row_of[n] = len(rows)
        name = scene.peer_labels[upstreams[n].endpoint]
        rows.append(GapRow(f"{name}, T {brief(timers[n])}", _window(upstreams[n], timers[n])))
    rest = order[len(own) :]
    if rest:
        windows = [_window(upstreams[n], timers[n]) for n in rest]
        row_of |= dict.fromkeys(rest, len(rows))
        bounds = min(w[0] for w in windows), max(w[1] for w in windows)
        rows.append(GapRow(f"{len(rest):,} more upstreams, each by its own T", bounds))
    for n, failures in lost.items():
        rows[row_of[n]].lost += [(f.gap_ns - timers[n], f) for f in failures]
    return rows, row_of


def _timer(upstream: Any) -> int:
    value: int = upstream.idle_timeout_ns.value
    return value if value > 0 else int(upstream.race_window_ns[1])


def _window(upstream: Any, timer_ns: int) -> tuple[int, int]:
    low, high = upstream.race_window_ns
    return max(low, 0) - timer_ns, high - timer_ns


def span_of(rows: Sequence[GapRow]) -> GapAxis:
    """Return the axis: the widest race window with room beside it, and the lost requests that lie near it."""
    if not rows:
        return GapAxis(-1, 1)
    low, high = min(row.window[0] for row in rows), max(row.window[1] for row in rows)
    room = max(high - low, 1000)
    near = [d for row in rows for d, _ in row.lost if low - 20 * room <= d <= high + 20 * room]
    low, high = min([low, *near]), max([high, *near])
    # A bin is a number that one can say, and 0 lies between two of them.
    step = nice_step((high - low + room) / (BINS - 4))
    first, last = (low - room // 2) // step, -(-(high + room // 2) // step)
    return GapAxis(int(first * step), int(last * step))


def add_answered(scene: Scene, rows: Sequence[GapRow], row_of: dict[int, int], span: GapAxis) -> None:
    """Give each row its answered requests that lie on the axis: counted all, drawn one for each dot."""
    if not rows:
        return
    upstreams = scene.analysis.upstreams
    timer, above, place = (np.full(max(len(upstreams), 1), -1, dtype=np.int64) for _ in range(3))
    for n, at in row_of.items():
        timer[n], place[n], above[n] = _timer(scene.report.upstreams[n]), at, _near_above(upstreams[n])
    numbers = FrameNumbers(scene.analysis.captures, redact=scene.report.redaction.redacted)
    capture_idx = scene.analysis.connections["capture_idx"]
    names = list(scene.peer_names.values())
    first, last = scene.span_ns
    taken: set[tuple[int, int, int]] = set()
    room = {ANSWERED: MOST_CALM, NEAR: MOST_CALM}
    for requests in scene.requests():
        off = requests.gap_ns - timer[requests.upstream]
        mine = requests.is_answered & (requests.gap_ns >= 0) & (place[requests.upstream] >= 0)
        mine &= (off >= span.low_ns) & (off <= span.high_ns)
        index = np.flatnonzero(mine)
        is_near = requests.gap_ns[index] > above[requests.upstream[index]]
        for at_row in range(len(rows)):
            here = place[requests.upstream[index]] == at_row
            rows[at_row].n_near += int((here & is_near).sum())
            rows[at_row].n_answered += int((here & ~is_near).sum())
        kept = _distinct(off[index], requests.ts_ns[index], place[requests.upstream[index]], span, (first, last), taken)
        _, frames = numbers.number(capture_idx[requests.conn[index[kept]]], requests.frame[index[kept]])
        for at, frame, near in zip(index[kept].tolist(), frames.tolist(), is_near[kept].tolist(), strict=True):
            kind = NEAR if near else ANSWERED
            if not room[kind]:
                continue
            room[kind] -= 1
            upstream, gap_ns = int(requests.upstream[at]), int(requests.gap_ns[at])
            text = f"{clock_text(int(requests.ts_ns[at]))}, {kind}, {brief(gap_ns)} idle, {names[upstream]}"
            spot = int(off[at]), int(requests.ts_ns[at])
            rows[int(place[upstream])].others.append((*spot, kind, f"{text}, frame {frame}"))


def _distinct(
    off: NDArray[np.int64],
    ts_ns: NDArray[np.int64],
    row: NDArray[np.int64],
    span: GapAxis,
    time: tuple[int, int],
    taken: set[tuple[int, int, int]],
) -> list[int]:
    """Return the first request of each dot that was empty so far."""
    x = (off - span.low_ns) * 200 // max(span.high_ns - span.low_ns, 1)
    y = (ts_ns - time[0]) * 8 // max(time[1] - time[0], 1)
    dots = np.stack([row, x, y], axis=1) if len(off) else np.empty((0, 3), dtype=np.int64)
    _, first = np.unique(dots, axis=0, return_index=True)
    kept = []
    for at in sorted(first.tolist()):
        dot = tuple(dots[at].tolist())
        if dot not in taken:
            taken.add(dot)
            kept.append(at)
    return kept


def _near_above(upstream: Any) -> int:
    timeout = upstream.idle_timeout
    if timeout is None:
        return int(np.iinfo(np.int64).max)
    return near_miss_above_ns(timeout.value_ns, max(upstream.rtt_p50_ns, 0))
