"""The idle gap of each request over time, with the race window: whether the lost ones are those that came too late.

All failures and near misses are drawn as far as they can be told apart; of the other requests one per few pixels. How
many are not drawn is said. Reads the exchanges a chunk at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.upstreams import near_miss_above_ns
from pcapdiag.base.units import NS_PER_MS, count_of
from pcapdiag.report.frame_numbers import FrameNumbers
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.scene import clock_text, time_format
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.scene import Failure, Requests, Scene

HEIGHT = 290
MOST_CALM = 1200
"""Answered requests that are drawn."""
MOST_MARKED = 1500
"""Failures, and near misses, that are drawn."""
_MOST_WINDOWS = 6
_CELLS = 340, 145
"""Cells of the plot: of the answered requests in one, one is drawn."""
_FINE = 680, 290
"""The same for failures and near misses: what lies on one pixel is one mark."""
_LEAST_NS = 1000
_ANSWERED, _NEAR, _LOST = "answered", "near miss", "lost"
_SIZES = {_ANSWERED: 14, _NEAR: 60, _LOST: 110}
"""[px^2] Of the marks."""


@dataclass(frozen=True, slots=True)
class _Point:
    ts_ns: int
    gap_ns: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Plane:
    """Times and gaps as fractions of the plot."""

    first_ns: int
    last_ns: int
    low: float
    high: float

    def x(self, ts_ns: NDArray[np.int64] | int) -> Any:
        return (np.asarray(ts_ns) - self.first_ns) / max(self.last_ns - self.first_ns, 1)

    def y(self, gap_ns: NDArray[np.int64] | int) -> Any:
        return (np.log10(np.maximum(gap_ns, _LEAST_NS)) - self.low) / (self.high - self.low)

    def cells(self, ts_ns: NDArray[np.int64], gap_ns: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
        """Return the number of the cell of each point."""
        column = np.clip(self.x(ts_ns) * size[0], 0, size[0] - 1).astype(np.int64)
        row = np.clip(self.y(gap_ns) * size[1], 0, size[1] - 1).astype(np.int64)
        cells: NDArray[np.int64] = column * size[1] + row
        return cells


class _Thinner:
    """Keeps the first point of each cell."""

    def __init__(self, plane: _Plane, size: tuple[int, int]) -> None:
        self._plane, self._size = plane, size
        self._is_taken = np.zeros(size[0] * size[1], dtype=np.bool_)

    def first_of_cells(self, ts_ns: NDArray[np.int64], gap_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of the points lie in cells that were empty so far."""
        if not len(ts_ns):
            return np.empty(0, dtype=np.int64)
        cells, first = np.unique(self._plane.cells(ts_ns, gap_ns, self._size), return_index=True)
        is_new = ~self._is_taken[cells]
        self._is_taken[cells] = True
        chosen: NDArray[np.int64] = np.sort(first[is_new])
        return chosen


def idle_gaps(scene: Scene) -> Chart | None:
    """Return the chart; None where no request was sent on a reused connection.

    Parameters
    ----------
    scene : Scene
        Analysis and report.

    Returns
    -------
    Chart or None
    """
    if scene.span_ns[0] < 0:
        return None
    reused = [f for f in scene.failures if f.gap_ns >= 0]
    plane = _plane(scene, reused)
    if plane is None:
        return None
    windows = _windows(scene)
    points, n_answered, n_near = _collect(scene, plane, reused)
    if not points:
        return None
    drawn = {kind: sum(p.kind == kind for p in points) for kind in (_ANSWERED, _NEAR, _LOST)}
    hidden = [
        f"{count_of(n - drawn[kind], *words)}"
        for kind, n, words in (
            (_ANSWERED, n_answered, ("answered request", "answered requests")),
            (_NEAR, n_near, ("near miss", "near misses")),
            (_LOST, len(reused), ("failure", "failures")),
        )
        if n > drawn[kind]
    ]
    fresh = len(scene.failures) - len(reused)
    caption = "Each mark is a request on a reused connection: when it was sent, and how long the connection had idled."
    if windows:
        caption += " The band is the race window: a request after such a gap meets the upstream's closing on the way."
    if hidden:
        caption += f" Not drawn, because they lie close to others: {', '.join(hidden)}."
    if fresh:
        caption += f" {count_of(fresh, 'failure')} on a fresh connection had no idle gap and {_is(fresh)} not here."
    alt = (
        f"Idle gaps of {count_of(n_answered + n_near + len(reused), 'request')} over time on a logarithmic axis:"
        f" {count_of(len(reused), 'failure')}, {count_of(n_near, 'near miss', 'near misses')}."
        + "".join(f" Race window of {name}: {brief(max(low, 0))} to {brief(high)}." for name, low, high in windows)
    )
    axis = Axis("time", plane.first_ns / NS_PER_MS, plane.last_ns / NS_PER_MS)
    gaps = Axis("log", 10.0**plane.low / 1e9, 10.0**plane.high / 1e9, "s")
    return Chart(
        name="idle-gaps",
        title="Idle gap of each request, and the race window",
        alt=alt,
        caption=caption,
        height=HEIGHT,
        table=_table([p for p in points if p.kind != _ANSWERED]),
        x=axis,
        y=gaps,
        build=lambda look: _spec(look, points, windows, axis, gaps),
        tips=tuple(
            Tip(round(float(plane.x(p.ts_ns)), 4), round(1 - float(plane.y(p.gap_ns)), 4), p.text) for p in points
        ),
        left=70,
    )


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _plane(scene: Scene, reused: Sequence[Failure]) -> _Plane | None:
    low, high = np.iinfo(np.int64).max, -1
    for requests in scene.requests():
        gaps = requests.gap_ns[requests.gap_ns >= 0]
        if len(gaps):
            low, high = min(low, int(gaps.min())), max(high, int(gaps.max()))
    gaps_lost = [f.gap_ns for f in reused]
    low, high = min([low, *gaps_lost]), max([high, *gaps_lost])
    if high < 0:
        return None
    high = max([high, *(u.race_window_ns[1] for u in scene.analysis.upstreams)])
    decade_low = np.log10(max(low, _LEAST_NS)) - 0.15
    decade_high = np.log10(max(high, _LEAST_NS)) + 0.15
    decade_high += (decade_high - decade_low) * 0.08  # room for the words above the window
    if decade_high - decade_low < 1:  # less than a decade has no tick of its own
        decade_low = decade_high - 1
    return _Plane(*scene.span_ns, float(decade_low), float(decade_high))


def _windows(scene: Scene) -> list[tuple[str, int, int]]:
    """Return name and race window of each upstream that has one; those with most requests first."""
    upstreams = sorted(scene.report.upstreams, key=lambda u: -u.exchanges)
    found = [(scene.peer_labels[u.endpoint], *u.race_window_ns) for u in upstreams if u.race_window_ns[1] > 0]
    return found[:_MOST_WINDOWS]


def _collect(scene: Scene, plane: _Plane, reused: Sequence[Failure]) -> tuple[list[_Point], int, int]:
    """Return the points to draw, failures last, and how many answered requests and near misses there are."""
    above = np.array([_near_above(u) for u in scene.analysis.upstreams], dtype=np.int64)
    numbers = FrameNumbers(scene.analysis.captures, redact=scene.report.redaction.redacted)
    capture_idx = scene.analysis.connections["capture_idx"]
    names = list(scene.peer_names.values())
    kept: dict[str, list[_Point]] = {_ANSWERED: [], _NEAR: []}
    thinners = {_ANSWERED: _Thinner(plane, _CELLS), _NEAR: _Thinner(plane, _FINE)}
    counts = dict.fromkeys(kept, 0)
    for requests in scene.requests():
        has_gap = (requests.gap_ns >= 0) & requests.is_answered
        is_near = has_gap & (requests.gap_ns > above[requests.upstream]) if len(above) else has_gap & False
        for kind, mask in ((_ANSWERED, has_gap & ~is_near), (_NEAR, is_near)):
            index = np.flatnonzero(mask)
            counts[kind] += len(index)
            chosen = index[thinners[kind].first_of_cells(requests.ts_ns[index], requests.gap_ns[index])]
            _, frames = numbers.number(capture_idx[requests.conn[chosen]], requests.frame[chosen])
            kept[kind] += [
                _point(requests, at, kind, frame, names)
                for at, frame in zip(chosen.tolist(), frames.tolist(), strict=True)
            ]
    ts_ns, gap_ns = (np.array([getattr(f, n) for f in reused], dtype=np.int64) for n in ("ts_ns", "gap_ns"))
    lost = [_lost_point(reused[at]) for at in _Thinner(plane, _FINE).first_of_cells(ts_ns, gap_ns).tolist()]
    points = [*_evenly(kept[_ANSWERED], MOST_CALM), *_evenly(kept[_NEAR], MOST_MARKED), *_evenly(lost, MOST_MARKED)]
    return points, counts[_ANSWERED], counts[_NEAR]


def _near_above(upstream: Any) -> int:
    timeout = upstream.idle_timeout
    if timeout is None:
        return int(np.iinfo(np.int64).max)
    return near_miss_above_ns(timeout.value_ns, max(upstream.rtt_p50_ns, 0))


def _evenly(points: list[_Point], most: int) -> list[_Point]:
    """Return at most so many of the points, evenly over their order."""
    if len(points) <= most:
        return points
    return [points[at] for at in np.linspace(0, len(points) - 1, most).astype(np.int64).tolist()]


def _point(requests: Requests, at: int, kind: str, frame: int, names: Sequence[str]) -> _Point:
    ts_ns, gap_ns = int(requests.ts_ns[at]), int(requests.gap_ns[at])
    text = f"{clock_text(ts_ns)}, {kind}, {brief(gap_ns)} idle, {names[int(requests.upstream[at])]}, frame {frame}"
    return _Point(ts_ns, gap_ns, kind, text)


def _lost_point(failure: Failure) -> _Point:
    o = failure.occurrence
    text = f"{clock_text(failure.ts_ns)}, lost ({failure.code} {failure.name}), {brief(failure.gap_ns)} idle"
    return _Point(failure.ts_ns, failure.gap_ns, _LOST, f"{text}, frame {o.request_frame}")


def _table(points: Sequence[_Point]) -> Grid:
    rows = tuple(tuple(p.text.split(", ", 3)) for p in points[-_MOST_ROWS:])
    return Grid(("time (UTC)", "what", "idle gap", "frame"), rows)


_MOST_ROWS = 200


def _spec(
    look: Look, points: Sequence[_Point], windows: Sequence[tuple[str, int, int]], axis: Axis, gaps: Axis
) -> dict[str, Any]:
    palette = look.palette
    shown = points
    if look.is_narrow:
        calm = [p for p in points if p.kind == _ANSWERED]
        shown = [*_evenly(calm, MOST_CALM // 3), *(p for p in points if p.kind != _ANSWERED)]
    kinds = [kind for kind in (_ANSWERED, _NEAR, _LOST) if any(p.kind == kind for p in points)]
    colors = {_ANSWERED: palette.calm, _NEAR: palette.near, _LOST: palette.lost}
    shapes = {_ANSWERED: "circle", _NEAR: "diamond", _LOST: "cross"}
    x = {
        "field": "t",
        "type": "temporal",
        "scale": {"type": "utc", "domain": [axis.low, axis.high], "nice": False},
        "axis": {
            "title": "time (UTC)",
            "format": time_format(int((axis.high - axis.low) * NS_PER_MS)),
            "tickCount": 3 if look.is_narrow else 7,
            "grid": False,
        },
    }
    y = {
        "type": "quantitative",
        "scale": {"type": "log", "domain": [gaps.low, gaps.high], "nice": False},
        "axis": {"title": None, "values": decades(gaps), "labelExpr": GAP_LABEL},
    }
    window_rows = [{"low": max(low / 1e9, gaps.low), "high": min(high / 1e9, gaps.high)} for _, low, high in windows]
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": window_rows},
            "mark": {
                "type": "rect",
                "fill": palette.window,
                "fillOpacity": 0.16,
                "stroke": palette.window,
                "aria": False,
            },
            "encoding": {
                "x": {"value": 0},
                "x2": {"value": look.plot_width},
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
            },
        },
        {
            "data": {
                "values": [
                    {"t": p.ts_ns / NS_PER_MS, "g": max(p.gap_ns, _LEAST_NS) / 1e9, "k": p.kind, "s": _SIZES[p.kind]}
                    for p in shown
                ]
            },
            "mark": {"type": "point", "filled": True, "opacity": 1, "aria": False, "clip": False},
            "encoding": {
                "x": x,
                "y": {"field": "g", **y},
                "color": {
                    "field": "k",
                    "type": "nominal",
                    "scale": {"domain": kinds, "range": [colors[k] for k in kinds]},
                },
                "shape": {
                    "field": "k",
                    "type": "nominal",
                    "scale": {"domain": kinds, "range": [shapes[k] for k in kinds]},
                },
                "size": {"field": "s", "type": "quantitative", "scale": None},
            },
        },
    ]
    if windows:
        layers.append(_window_label(windows[0], y, gaps))
    return {"layer": layers}


# A constant expression of Vega, which formats the numbers of an axis; no text of the input is in it.
GAP_LABEL = (
    "datum.value >= 1 ? format(datum.value, ',') + ' s'"
    " : datum.value >= 0.001 ? format(datum.value * 1e3, '.0f') + ' ms'"
    " : format(datum.value * 1e6, '.0f') + ' us'"
)


def decades(axis: Axis) -> list[float]:
    """Return where a logarithmic axis has its ticks: powers of ten, and between them 2 and 5 where there is room."""
    first, last = int(np.floor(np.log10(axis.low))), int(np.ceil(np.log10(axis.high)))
    steps = (1, 2, 5) if np.log10(axis.high / axis.low) < _FEW_DECADES else (1,)
    ticks = [float(f"{step}e{n}") for n in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if axis.low <= tick <= axis.high]


_FEW_DECADES = 2.5


def _window_label(window: tuple[str, int, int], y: dict[str, Any], gaps: Axis) -> dict[str, Any]:
    high = window[2]
    text = f"race window, T = {brief(high)}"
    return {
        "data": {"values": [{"g": min(high / 1e9, gaps.high), "text": text}]},
        "mark": {"type": "text", "align": "left", "baseline": "bottom", "dy": -4, "dx": 4, "aria": False},
        "encoding": {"x": {"value": 0}, "y": {"field": "g", **y}, "text": {"field": "text"}},
    }
