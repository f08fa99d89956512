"""The incident over time: what became of requests above, and below a lane for each cause with a mark for each failure.

Marks, too: when peers were put out, and when the proxy was told to reload.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.findings import Role, Severity
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, count_of, format_duration_ns
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.outcomes import ANSWERED, FAILED, GONE, KINDS, NO_PEER, SAVED, outcomes
from pcapdiag.report.render.charts.scene import clock_text, time_format
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.report.render.charts.chart import Look, Palette
    from pcapdiag.report.render.charts.outcomes import Outcomes
    from pcapdiag.report.render.charts.scene import Scene

MOST_LANES: Final = 8
"""Of causes; events have lanes of their own."""
_BARS_HEIGHT = 130
_LANE_HEIGHT = 26
_GAP = 22
_PIXELS = 680
_LEFT, _LEFT_NARROW = 190, 84


@dataclass(frozen=True, slots=True)
class _Mark:
    ts_ns: int
    text: str
    anchor: str = ""
    number: int = 1
    clock: str = ""
    """The time as it is said: of a log by the log's own clock, in whole seconds."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """`tone` is what it means: ``lost``, ``near`` for signs and events, ``calm`` for what did no harm."""

    code: str
    name: str
    marks: tuple[_Mark, ...]
    tone: str

    @property
    def number(self) -> int:
        return sum(mark.number for mark in self.marks)


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
    events = _events(scene)
    times = [mark.ts_ns for lane in lanes for mark in lane.marks]
    # The log's clock may put an entry a little beside the capture.
    margin = (last - first) // 10
    first = min([first, *(t for t in times if t >= first - margin)])
    last = max([last, *(t for t in times if t <= last + margin)])
    bars = outcomes(scene, first, last)
    if not times and not bars.counts:
        return None
    first, last = bars.start_ns, max(last, bars.start_ns + bars.width_ns)
    shown = [*lanes[:MOST_LANES], *_within(events, first, last)]
    caption = (
        f"Above: {'requests of clients' if bars.of_clients else 'tries at upstreams'} per"
        f" {format_duration_ns(bars.width_ns)}, by what became of them."
        f"{' Below: one mark for each.' if shown else ''}"
    )
    if hidden := lanes[MOST_LANES:]:
        caption += f" {count_of(len(hidden), 'cause')} with fewer failures have no lane."
    axis = Axis("time", first / NS_PER_MS, last / NS_PER_MS)
    lanes_height = len(shown) * _LANE_HEIGHT
    height = _BARS_HEIGHT + (_GAP + lanes_height if shown else 0)
    return Chart(
        name="timeline",
        title=f"Timeline: {'requests of clients' if bars.of_clients else 'tries at upstreams'}, and what went wrong",
        alt=_alt(bars, shown, last - first),
        caption=caption,
        height=height,
        table=_table(bars),
        x=axis,
        build=lambda look: _spec(look, bars, shown, axis),
        tips=tuple(_tips(bars, shown, first, last, height)),
        left=_LEFT,
        left_narrow=_LEFT_NARROW,
        legend_lines=-(-len(bars.counts) // 2) or 1,
    )


def _alt(bars: Outcomes, lanes: Sequence[_Lane], span_ns: int) -> str:
    what = "client request" if bars.of_clients else "try at an upstream"
    many = "client requests" if bars.of_clients else "tries at upstreams"
    failed = bars.total(FAILED, NO_PEER)
    text = f"Timeline of {brief(span_ns)}: {count_of(bars.total(*KINDS), what, many)}, {failed:,} of them failed"
    if n := bars.total(NO_PEER):
        text += f", {n:,} without a live upstream"
    if n := bars.total(SAVED):
        text += f"; {n:,} saved by a retry"
    if n := bars.total(GONE):
        text += f"; {n:,} given up by clients"
    said = (
        f" {lane.code}{' ' * bool(lane.code)}{lane.name}: {count_of(lane.number, 'time')}, first at"
        f" {lane.marks[0].clock}, last at {lane.marks[-1].clock}."
        for lane in lanes
    )
    return f"{text}.{''.join(said)}"


def _within(lanes: Sequence[_Lane], first: int, last: int) -> Iterator[_Lane]:
    """Yield lanes with the marks of a span of time: a log goes beyond the capture."""
    for lane in lanes:
        marks = tuple(mark for mark in lane.marks if first <= mark.ts_ns <= last)
        if marks:
            yield _Lane(lane.code, lane.name, marks, lane.tone)


def _lanes(scene: Scene) -> list[_Lane]:
    """Return a lane for each cause, those with most failures first, then signs, requests without a peer and retries."""
    rows: dict[tuple[str, str], list[_Mark]] = {}
    for failure in scene.failures:
        o = failure.occurrence
        where = f"frame {o.request_frame}" if o.request_frame > 0 else scene.label(o.resp)
        rows.setdefault((failure.code, failure.name), []).append(
            _Mark(failure.ts_ns, where, failure.anchor, failure.number)
        )
    lanes = [_lane(code, name, marks, "lost") for (code, name), marks in rows.items()]
    lanes.sort(key=lambda lane: (-lane.number, lane.code))
    known = {lane.code for lane in lanes}
    signs = [f for f in scene.findings(Role.CAUSE) if not f.failures and f.severity >= Severity.WARNING]
    beside = [(code, [f for f in signs if f.code == code], "near", 0) for code in dict.fromkeys(f.code for f in signs)]
    no_peer, retried = scene.findings(Role.NO_PEER), scene.findings(Role.RETRIED)
    for code, findings, tone, ahead_ns in (
        *((code, found, tone, ahead) for code, found, tone, ahead in beside if code not in known),
        ("", no_peer, "lost", scene.log_ahead_ns),
        ("", retried, "calm", 0),
    ):
        marks = [
            _Mark(
                o.request_ts_ns - ahead_ns,
                ", ".join(o.log_lines[:1]),
                scene.anchors.of(o),
                o.stands_for,
                clock_text(o.request_ts_ns) if o.uid else _stamp(o.request_ts_ns),
            )
            for f in findings
            for o in f.occurrences
            if o.request_ts_ns >= 0
        ]
        if marks:
            lanes.insert(MOST_LANES - 2, _lane(code or findings[0].code, findings[0].name, marks, tone))
    return lanes


def _events(scene: Scene) -> list[_Lane]:
    """Return when peers were put out and when the proxy was told to reload, by the capture's clock."""
    ahead_ns = scene.log_ahead_ns
    out = [
        _Mark(
            e.ts_ns - ahead_ns,
            f"{scene.label(e.upstream.rpartition('://')[2].partition('/')[0])}, line {e.line} of the log",
            clock=_stamp(e.ts_ns),
        )
        for e in scene.report.log.entries
        if e.kind == "server_disabled" and e.ts_ns >= 0
    ]
    ledger = scene.analysis.log
    zone_s = (ledger.zone_s or 0) if ledger is not None else 0
    reloads = [
        _Mark((ts_s - zone_s) * NS_PER_S - ahead_ns, "", clock=_stamp((ts_s - zone_s) * NS_PER_S))
        for ts_s in (ledger.reloads if ledger is not None else ())
    ]
    found = (("peer put out", out), ("proxy reloaded", reloads))
    return [_lane("", name, marks, "near") for name, marks in found if marks]


def _stamp(ts_ns: int) -> str:
    return f"{clock_text(ts_ns)[:8]} (log)"


def _lane(code: str, name: str, marks: list[_Mark], tone: str) -> _Lane:
    marks.sort(key=lambda mark: mark.ts_ns)
    head = f"{code} {name}".strip()
    said = []
    for m in marks:
        clock = m.clock or clock_text(m.ts_ns)
        text = f"{clock}, {head}{', ' if m.text else ''}{m.text}{_alike(m)}"
        said.append(replace(m, text=text, clock=clock))
    return _Lane(code, name, tuple(said), tone)


def _alike(mark: _Mark) -> str:
    return f", one of {mark.number:,} alike" if mark.number > 1 else ""


def _table(bars: Outcomes) -> Grid:
    kinds = list(bars.counts)
    n_bar = len(next(iter(bars.counts.values()), ()))
    rows = tuple(
        (clock_text(bars.start_ns + n * bars.width_ns), *(f"{bars.counts[kind][n]:,}" for kind in kinds))
        for n in range(n_bar)
        if bars.at(n)
    )
    return Grid(("from (UTC)", *kinds), rows, frozenset(range(1, len(kinds) + 1)))


def _tips(bars: Outcomes, lanes: Sequence[_Lane], first: int, last: int, height: int) -> list[Tip]:
    span = max(last - first, 1)
    tips = []
    for n in range(len(next(iter(bars.counts.values()), ()))):
        if found := bars.at(n):
            start = bars.start_ns + n * bars.width_ns
            text = f"from {clock_text(start)}: {', '.join(f'{number:,} {kind}' for kind, number in found)}"
            y = _BARS_HEIGHT * (1 - sum(number for _, number in found) / bars.most) / height
            middle = min(start + bars.width_ns // 2, last)
            tips.append(Tip(round((middle - first) / span, 4), round(y, 4), text))
    for row, lane in enumerate(lanes):
        y = (_BARS_HEIGHT + _GAP + (row + 0.5) * _LANE_HEIGHT) / height
        tips += [
            Tip(round((mark.ts_ns - first) / span, 4), round(y, 4), mark.text, mark.anchor)
            for mark in _distinct(lane.marks, first, last)
        ]
    return tips


def _distinct(marks: Sequence[_Mark], first: int, last: int) -> list[_Mark]:
    """Return which marks to draw: one per pixel."""
    span = max(last - first, 1)
    chosen: dict[int, _Mark] = {}
    for mark in marks:
        if first <= mark.ts_ns <= last:
            chosen.setdefault((mark.ts_ns - first) * _PIXELS // span, mark)
    return list(chosen.values())


def _colors(palette: Palette) -> dict[str, str]:
    return {
        ANSWERED: palette.calm,
        SAVED: palette.near,
        GONE: palette.faint,
        FAILED: palette.lost,
        NO_PEER: palette.other,
    }


def _spec(look: Look, bars: Outcomes, lanes: Sequence[_Lane], axis: Axis) -> dict[str, Any]:
    palette = look.palette
    scale = {"type": "utc", "domain": [axis.low, axis.high], "nice": False}
    labels = {
        "title": "time (UTC)",
        "format": time_format(int((axis.high - axis.low) * NS_PER_MS)),
        "tickCount": 3 if look.is_narrow else 6,
        "grid": False,
    }
    values = []
    for n in range(len(next(iter(bars.counts.values()), ()))):
        low = 0
        for kind, number in bars.at(n):
            a = (bars.start_ns + n * bars.width_ns) / NS_PER_MS
            b = min((bars.start_ns + (n + 1) * bars.width_ns) / NS_PER_MS, axis.high)
            values.append({"a": a, "b": b, "k": kind, "low": low, "high": low + number})
            low += number
    x = {"type": "temporal", "scale": scale, "axis": labels}
    colors = _colors(palette)
    kinds = list(bars.counts)
    per = format_duration_ns(bars.width_ns)
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
                "scale": {"domain": [0, max(bars.most, 1)], "nice": False, "range": [_BARS_HEIGHT, 0]},
                "axis": {
                    "title": f"{'requests' if bars.of_clients else 'tries'} per {per}",
                    "titleY": _BARS_HEIGHT / 2,
                    "titlePadding": 4,
                    "values": _whole_numbers(bars.most),
                    "format": ",d",
                    "orient": "left",
                },
            },
            "y2": {"field": "high"},
            "color": {
                "field": "k",
                "type": "nominal",
                "scale": {"domain": kinds, "range": [colors[kind] for kind in kinds]},
                "legend": {"columns": 2 if look.is_narrow else len(KINDS)},
            },
        },
    }
    if not lanes:
        return {"layer": [upper]}
    first, last = round(axis.low * NS_PER_MS), round(axis.high * NS_PER_MS)
    marks = [
        {
            "t": mark.ts_ns / NS_PER_MS,
            "lane": _label(lane, look),
            "c": {"lost": palette.lost, "near": palette.near, "calm": palette.calm}[lane.tone],
        }
        for lane in lanes
        for mark in _distinct(lane.marks, first, last)
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
    if not lane.code:
        return lane.name
    return lane.code if look.is_narrow else f"{lane.code} {lane.name}"


def _whole_numbers(most: int) -> list[int]:
    """Return where the axis of numbers has its ticks."""
    step = next(m * 10**n for n in range(20) for m in (1, 2, 5) if m * 10**n * 4 >= most)
    return list(range(0, most + 1, step))
