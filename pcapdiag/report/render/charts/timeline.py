"""The incident over time: requests per moment above, and below a lane for each cause with a mark for each failure.

Counts are of the upstream leg, where each try of a request counts. Reads the exchanges a chunk at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.findings import Role
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, count_of, format_duration_ns
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.scene import clock_text, time_format
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.scene import Scene

BARS = 60
"""Most moments that the time is cut into."""
_WIDTHS_NS = (
    *(m * 10.0**n for n in range(3, 9) for m in (1, 2, 5)),
    *(s * NS_PER_S for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)),
)
"""[ns] How long a moment may be: numbers that one can say."""
MOST_LANES = 8
_BARS_HEIGHT = 110
_LANE_HEIGHT = 26
_GAP = 22
_PIXELS = 680
_LEFT, _LEFT_NARROW = 176, 62


@dataclass(frozen=True, slots=True)
class _Lane:
    code: str
    name: str
    times_ns: tuple[int, ...]
    texts: tuple[str, ...]
    is_calm: bool


@dataclass(frozen=True, slots=True)
class _Bars:
    start_ns: int
    width_ns: int
    answered: tuple[int, ...]
    lost: tuple[int, ...]

    @property
    def most(self) -> int:
        """Height of the highest bar."""
        return max([*(a + b for a, b in zip(self.answered, self.lost, strict=True)), 1])


def timeline(scene: Scene) -> Chart | None:
    """Return the chart; None where there was neither a request nor a failure.

    Parameters
    ----------
    scene : Scene
        Analysis and report.

    Returns
    -------
    Chart or None
    """
    first, last = scene.span_ns
    if first < 0:
        return None
    lanes = _lanes(scene)
    times = [t for lane in lanes for t in lane.times_ns]
    # The log's clock may put an entry a little beside the capture.
    margin = (last - first) // 10
    first = min([first, *(t for t in times if t >= first - margin)])
    last = max([last, *(t for t in times if t <= last + margin)])
    bars = _bars(scene, first, last)
    if not times and not any(bars.answered):
        return None
    shown = lanes[:MOST_LANES]
    per = format_duration_ns(bars.width_ns)
    caption = f"Above: requests to upstreams per {per}, every try counted. Below: one mark for each."
    if len(lanes) > len(shown):
        caption += f" {count_of(len(lanes) - len(shown), 'cause')} with fewer failures not drawn."
    alt = (
        f"Timeline of {brief(last - first)}: {count_of(sum(bars.answered), 'request')} answered,"
        f" {count_of(sum(bars.lost), 'try', 'tries')} failed. "
        + " ".join(
            f"{lane.code} {lane.name}: {count_of(len(lane.times_ns), 'time')}, first at {clock_text(lane.times_ns[0])},"
            f" last at {clock_text(lane.times_ns[-1])}."
            for lane in shown
        )
    )
    axis = Axis("time", first / NS_PER_MS, last / NS_PER_MS)
    lanes_height = len(shown) * _LANE_HEIGHT
    height = _BARS_HEIGHT + (_GAP + lanes_height if shown else 0)
    return Chart(
        name="timeline",
        title="Timeline of the incident",
        alt=alt,
        caption=caption,
        height=height,
        table=_table(bars),
        x=axis,
        y=Axis("lanes", 0, len(shown)),
        build=lambda look: _spec(look, bars, shown, axis),
        tips=tuple(_tips(bars, shown, first, last, height)),
        left=_LEFT,
        left_narrow=_LEFT_NARROW,
    )


def _lanes(scene: Scene) -> list[_Lane]:
    """Return a lane for each cause, those with most failures first, then retries and requests without a peer."""
    rows: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for failure in scene.failures:
        o = failure.occurrence
        where = f"frame {o.request_frame}" if o.request_frame > 0 else scene.label(o.resp)
        rows.setdefault((failure.code, failure.name), []).append((failure.ts_ns, where))
    lanes = [_lane(code, name, marks, is_calm=False) for (code, name), marks in rows.items()]
    lanes.sort(key=lambda lane: (-len(lane.times_ns), lane.code))
    for role in (Role.NO_PEER, Role.RETRIED):
        findings = scene.findings(role)
        marks = [
            (o.request_ts_ns - scene.log_ahead_ns * (role is Role.NO_PEER), ", ".join(o.log_lines[:1]))
            for f in findings
            for o in f.occurrences
            if o.request_ts_ns >= 0
        ]
        if marks:
            head = findings[0]
            lanes.insert(MOST_LANES - 2, _lane(head.code, head.name, marks, is_calm=role is Role.RETRIED))
    return lanes


def _lane(code: str, name: str, marks: list[tuple[int, str]], *, is_calm: bool) -> _Lane:
    marks.sort()
    texts = tuple(f"{clock_text(t)}, {code} {name}{', ' if where else ''}{where}" for t, where in marks)
    return _Lane(code, name, tuple(t for t, _ in marks), texts, is_calm)


def _bars(scene: Scene, first: int, last: int) -> _Bars:
    least = (last - first + 1) / BARS
    width = next((round(w) for w in _WIDTHS_NS if w >= least), -(-(last - first + 1) // BARS))
    answered, lost = (np.zeros(BARS, dtype=np.int64) for _ in range(2))
    for requests in scene.requests():
        inside = (requests.ts_ns >= first) & (requests.ts_ns <= last)
        number = (requests.ts_ns - first) // width
        answered += np.bincount(number[inside & requests.is_answered], minlength=BARS)
        lost += np.bincount(number[inside & ~requests.is_answered], minlength=BARS)
    attempts = [f.ts_ns for f in scene.failures if f.occurrence.depth < 0 and first <= f.ts_ns <= last]
    lost += np.bincount((np.array(attempts, dtype=np.int64) - first) // width, minlength=BARS)
    return _Bars(first, width, tuple(answered.tolist()), tuple(lost.tolist()))


def _table(bars: _Bars) -> Grid:
    rows = tuple(
        (clock_text(bars.start_ns + n * bars.width_ns), f"{answered:,}", f"{lost:,}")
        for n, (answered, lost) in enumerate(zip(bars.answered, bars.lost, strict=True))
        if answered or lost
    )
    return Grid(("from (UTC)", "answered", "failed"), rows, frozenset({1, 2}))


def _tips(bars: _Bars, lanes: Sequence[_Lane], first: int, last: int, height: int) -> list[Tip]:
    span = max(last - first, 1)
    tips = []
    for n, (answered, lost) in enumerate(zip(bars.answered, bars.lost, strict=True)):
        if answered or lost:
            start = bars.start_ns + n * bars.width_ns
            text = f"from {clock_text(start)}: {answered:,} answered, {lost:,} failed"
            y = _BARS_HEIGHT * (1 - (answered + lost) / bars.most) / height
            tips.append(Tip(round((start + bars.width_ns / 2 - first) / span, 4), round(y, 4), text))
    for row, lane in enumerate(lanes):
        y = (_BARS_HEIGHT + _GAP + (row + 0.5) * _LANE_HEIGHT) / height
        tips += [
            Tip(round((lane.times_ns[at] - first) / span, 4), round(y, 4), lane.texts[at])
            for at in _distinct(lane.times_ns, first, last)
        ]
    return tips


def _distinct(times_ns: Sequence[int], first: int, last: int) -> list[int]:
    """Return which times to draw: one per pixel."""
    span = max(last - first, 1)
    chosen: dict[int, int] = {}
    for at, ts_ns in enumerate(times_ns):
        if first <= ts_ns <= last:
            chosen.setdefault((ts_ns - first) * _PIXELS // span, at)
    return list(chosen.values())


def _spec(look: Look, bars: _Bars, lanes: Sequence[_Lane], axis: Axis) -> dict[str, Any]:
    palette = look.palette
    scale = {"type": "utc", "domain": [axis.low, axis.high], "nice": False}
    labels = {
        "title": "time (UTC)",
        "format": time_format(int((axis.high - axis.low) * NS_PER_MS)),
        "tickCount": 3 if look.is_narrow else 6,
        "grid": False,
    }
    values = [
        {
            "a": (bars.start_ns + n * bars.width_ns) / NS_PER_MS,
            "b": min((bars.start_ns + (n + 1) * bars.width_ns) / NS_PER_MS, axis.high),
            "k": kind,
            "low": low,
            "high": low + number,
        }
        for n, (answered, lost) in enumerate(zip(bars.answered, bars.lost, strict=True))
        for kind, low, number in (("answered", 0, answered), ("failed", answered, lost))
        if number
    ]
    x = {"type": "temporal", "scale": scale, "axis": labels}
    upper = {
        "data": {"values": values},
        "mark": {"type": "rect", "aria": False},
        "encoding": {
            "x": {"field": "a", **x},
            "x2": {"field": "b"},
            "y": {
                "field": "low",
                "type": "quantitative",
                # Two plots in one view, one above the other: they share the axis of time.
                "scale": {"domain": [0, bars.most], "nice": False, "range": [_BARS_HEIGHT, 0]},
                "axis": {"title": None, "tickCount": 3, "tickMinStep": 1, "orient": "left"},
            },
            "y2": {"field": "high"},
            "color": {
                "field": "k",
                "type": "nominal",
                "scale": {"domain": ["answered", "failed"], "range": [palette.calm, palette.lost]},
            },
        },
    }
    if not lanes:
        return {"layer": [upper]}
    first, last = round(axis.low * NS_PER_MS), round(axis.high * NS_PER_MS)
    marks = [
        {
            "t": lane.times_ns[at] / NS_PER_MS,
            "lane": _label(lane, look),
            "c": palette.calm if lane.is_calm else palette.lost,
        }
        for lane in lanes
        for at in _distinct(lane.times_ns, first, last)
    ]
    top = _BARS_HEIGHT + _GAP
    lower = {
        "data": {"values": marks},
        "mark": {"type": "tick", "thickness": 2, "bandSize": _LANE_HEIGHT - 8, "opacity": 1, "aria": False},
        "encoding": {
            "x": {"field": "t", **x},
            "y": {
                "field": "lane",
                "type": "nominal",
                "scale": {
                    "domain": [_label(lane, look) for lane in lanes],
                    "range": [top, top + len(lanes) * _LANE_HEIGHT],
                },
                "axis": {
                    "title": None,
                    "labelLimit": look.left - 8,
                    "ticks": False,
                    "grid": True,
                    "tickBand": "extent",
                    "orient": "left",
                },
            },
            "color": {"field": "c", "type": "nominal", "scale": None},
        },
    }
    return {"layer": [upper, lower], "resolve": {"scale": {"y": "independent", "color": "independent"}}}


def _label(lane: _Lane, look: Look) -> str:
    return lane.code if look.is_narrow else f"{lane.code} {lane.name}"
