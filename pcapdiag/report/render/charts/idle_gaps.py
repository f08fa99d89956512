"""How close to an upstream's timer each request came: one row per upstream, the idle gap minus T on a linear axis.

Each lost request is drawn; beyond `MOST_LOST` they are counted in bins, so that none is left out. Below stands the
whole range of gaps. Reads the exchanges a chunk at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.units import count_of
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.gap_rows import ANSWERED, BINS, NEAR, add_answered, make_rows, span_of
from pcapdiag.report.render.charts.panel import (
    AXIS,
    NAME,
    ROW,
    Decades,
    GapAxis,
    boxes,
    layered,
    points,
    rows_frame,
    texts,
)
from pcapdiag.report.render.charts.scene import clock_text
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.gap_rows import GapRow
    from pcapdiag.report.render.charts.scene import DrawnFailure, Scene

MOST_LOST: Final = 1000
"""Lost requests that are drawn one by one."""
_LEAST_NS: Final = 1000
_WHOLE: Final = 62
"""[px] Height of the part that holds the whole range: lost requests above, answered ones below."""
_LOST_PART: Final = 24
_LOST = "lost"
_MARK: Final = 9
"""[px] Of a row, from its name to its first mark."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """The whole range: how many answered requests in each bin, and all lost ones."""

    axis: Decades
    answered: tuple[int, ...]
    lost: tuple[DrawnFailure, ...]


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
    reused = tuple(f for f in scene.failures if f.gap_ns >= 0)
    whole = _whole(scene, reused)
    if whole is None:
        return None
    rows, row_of = make_rows(scene, reused)
    span = span_of(rows)
    add_answered(scene, rows, row_of, span)
    n_lost = sum(f.number for f in reused)
    is_binned = n_lost > MOST_LOST
    top = len(rows) * ROW + AXIS if rows else 0
    height = top + _WHOLE
    n_near, n_answered = (sum(getattr(row, name) for row in rows) for name in ("n_near", "n_answered"))
    tips = [*_row_tips(rows, span, scene.span_ns, height, is_binned=is_binned)]
    drawn = {id(f) for row in rows for _, f in row.lost}
    tips += _whole_tips(whole, [f for f in reused if id(f) not in drawn], top, height)
    return Chart(
        name="idle-gaps",
        title="Idle gap of each request, and the race window" if rows else "Idle gap of each request",
        alt=_alt(rows, n_lost, sum(whole.answered)),
        caption=_caption(scene, rows, span, n_lost, is_binned=is_binned),
        height=height,
        table=_table(rows) if rows else Grid((), ()),
        x=Axis("parts"),
        build=lambda look: _spec(look, rows, span, whole, scene.span_ns, height, is_binned=is_binned),
        tips=tuple(tips),
        left=84,
        has_legend=bool(rows) and bool(n_lost or n_near or n_answered),
    )


def _alt(rows: Sequence[GapRow], n_lost: int, n_answered: int) -> str:
    text = f"Idle gaps of {count_of(n_answered + n_lost, 'request')}, {n_lost:,} of them lost."
    return text + "".join(
        f" {row.name}: {count_of(row.n_lost, 'lost request')}, {_where(row)}, race window from"
        f" {_signed(row.window[0])} to {_signed(row.window[1])} of T."
        for row in rows
    )


def _where(row: GapRow) -> str:
    """Return where the lost requests of a row lie."""
    if not row.lost:
        return "none"
    gaps = [d for d, _ in row.lost]
    low, high = min(gaps), max(gaps)
    return f"at T {_signed(low)}" if low == high else f"from T {_signed(low)} to T {_signed(high)}"


def _signed(ns: int) -> str:
    return f"{'-' if ns < 0 else '+'}{brief(abs(ns))}"


def _caption(scene: Scene, rows: Sequence[GapRow], span: GapAxis, n_lost: int, *, is_binned: bool) -> str:
    parts = []
    if rows:
        parts.append(
            "Above: a row for each upstream, its idle timeout T at 0; in a row, earlier requests stand higher. The band"
            " is the race window: a request after such a gap meets the upstream's closing on the way."
        )
        beyond = sum(f.number for row in rows for d, f in row.lost if not span.holds(d))
        if beyond:
            parts.append(f"{count_of(beyond, 'lost request')} beyond the axis stand{'s' * (beyond == 1)} at its end.")
        if is_binned:
            parts.append(f"Bars count the {n_lost:,} lost requests, too many for a mark each.")
        if any(row.n_answered + row.n_near > len(row.others) for row in rows):
            parts.append("Answered requests that share a dot are one dot.")
    parts.append(
        f"{'Below' if rows else 'Here'}: all gaps of requests on reused connections, on a logarithmic axis;"
        " bars are answered requests."
    )
    unknown = sum(f.number for f in scene.failures if f.gap_ns < 0)
    if unknown:
        is_ = "is" if unknown == 1 else "are"
        parts.append(f"{count_of(unknown, 'failure')} on a fresh connection had no idle gap and {is_} not here.")
    return " ".join(parts)


def _whole(scene: Scene, reused: Sequence[DrawnFailure]) -> _Whole | None:
    low, high = np.iinfo(np.int64).max, -1
    for requests in scene.requests():
        gaps = requests.gap_ns[requests.gap_ns >= 0]
        if len(gaps):
            low, high = min(low, int(gaps.min())), max(high, int(gaps.max()))
    low, high = min([low, *(f.gap_ns for f in reused)]), max([high, *(f.gap_ns for f in reused)])
    if high < 0:
        return None
    high = max([high, *(u.race_window_ns[1] for u in scene.report.upstreams)])
    axis = Decades.of(low, high, _LEAST_NS)
    edges = np.array(axis.edges(BINS)) * 1e9
    answered = np.zeros(BINS, dtype=np.int64)
    for requests in scene.requests():
        gaps = requests.gap_ns[(requests.gap_ns >= 0) & requests.is_answered]
        at = np.clip(np.searchsorted(edges, np.maximum(gaps, _LEAST_NS), side="right") - 1, 0, BINS - 1)
        answered += np.bincount(at, minlength=BINS)
    return _Whole(axis, tuple(answered.tolist()), tuple(reused))


def _y(ts_ns: int, time: tuple[int, int]) -> float:
    """[px] Return how far below the top of its row a request stands."""
    part = min(max((ts_ns - time[0]) / max(time[1] - time[0], 1), 0.0), 1.0)
    return NAME + _MARK + part * (ROW - NAME - 2 * _MARK)


def _words(failure: DrawnFailure) -> str:
    text = f"{clock_text(failure.ts_ns)}, lost ({failure.code} {failure.name}), {brief(failure.gap_ns)} idle"
    frame = failure.occurrence.request_frame
    text += f", frame {frame}" if frame > 0 else ""
    return f"{text}, one of {failure.number:,} alike" if failure.number > 1 else text


def _bins(row: GapRow, span: GapAxis) -> list[tuple[int, int]]:
    """Return how many lost requests lie in each bin that has any."""
    counts: dict[int, int] = {}
    for off, failure in row.lost:
        at = min(int(span.fraction(off) * BINS), BINS - 1)
        counts[at] = counts.get(at, 0) + failure.number
    return sorted(counts.items())


def _row_tips(
    rows: Sequence[GapRow], span: GapAxis, time: tuple[int, int], height: int, *, is_binned: bool
) -> Iterable[Tip]:
    for n, row in enumerate(rows):
        for off, ts_ns, _, text in row.others:
            yield Tip(round(span.fraction(off), 4), round((n * ROW + _y(ts_ns, time)) / height, 4), text)
        if is_binned:
            width = (span.high_ns - span.low_ns) // BINS
            for at, number in _bins(row, span):
                low = span.low_ns + at * width
                text = f"{number:,} lost, {_signed(low)} to {_signed(low + width)} of T"
                yield Tip(round((at + 0.5) / BINS, 4), round((n + 0.6) * ROW / height, 4), f"{row.name}, {text}")
            continue
        for off, failure in row.lost:
            y = (n * ROW + _y(failure.ts_ns, time)) / height
            text = f"{_words(failure)} (T {_signed(off)})"
            yield Tip(round(span.fraction(off), 4), round(y, 4), text, failure.anchor)


def _whole_tips(whole: _Whole, alone: Sequence[DrawnFailure], top: int, height: int) -> list[Tip]:
    """Return what is said of the whole range: each bin, and the lost requests that have no row."""
    edges = whole.axis.edges(BINS)
    tips = [
        Tip(
            round((n + 0.5) / BINS, 4),
            round((top + _WHOLE - 10) / height, 4),
            f"{count_of(number, 'answered request')} after {brief(round(edges[n] * 1e9))} to"
            f" {brief(round(edges[n + 1] * 1e9))} idle",
        )
        for n, number in enumerate(whole.answered)
        if number
    ]
    y = round((top + _LOST_PART / 2) / height, 4)
    return [*tips, *(Tip(round(whole.axis.fraction(f.gap_ns / 1e9), 4), y, _words(f), f.anchor) for f in alone)]


def _table(rows: Sequence[GapRow]) -> Grid:
    def parts(row: GapRow) -> tuple[int, int, int]:
        low, high = row.window
        before = sum(f.number for off, f in row.lost if off < low)
        after = sum(f.number for off, f in row.lost if off > high)
        return before, row.n_lost - before - after, after

    return Grid(
        ("upstream", "race window, from T", "lost before it", "lost in it", "lost after it", "near misses shown"),
        tuple(
            (
                row.name,
                f"{_signed(row.window[0])} to {_signed(row.window[1])}",
                *(f"{n:,}" for n in parts(row)),
                f"{row.n_near:,}",
            )
            for row in rows
        ),
        frozenset({2, 3, 4, 5}),
    )


def _spec(
    look: Look,
    rows: Sequence[GapRow],
    span: GapAxis,
    whole: _Whole,
    time: tuple[int, int],
    height: int,
    *,
    is_binned: bool,
) -> dict[str, Any]:
    palette = look.palette
    layers: list[dict[str, Any]] = []
    if rows:
        x = span.x("idle gap minus T", len(rows), height, look)
        scale, _ = span.unit
        windows = [
            {"a": row.window[0] / scale, "b": row.window[1] / scale, "top": n * ROW + NAME, "bottom": (n + 1) * ROW}
            for n, row in enumerate(rows)
        ]
        layers += [
            boxes(windows, x, palette.window, opacity=0.16),
            *rows_frame(len(rows), look, [_row_name(row, look) for row in rows]),
        ]
        bare = {**x, "axis": None}
        layers.append(
            {
                "data": {"values": [{"v": 0, "y": NAME, "y2": len(rows) * ROW}]},
                "mark": {"type": "rule", "stroke": palette.ink, "strokeDash": [4, 3], "aria": False},
                "encoding": {
                    "x": {"field": "v", **bare},
                    "y": {"field": "y", "type": "quantitative", "scale": None, "axis": None},
                    "y2": {"field": "y2"},
                },
            }
        )
        values = [
            {"v": off / scale, "y": n * ROW + _y(ts_ns, time), "k": kind}
            for n, row in enumerate(rows)
            for off, ts_ns, kind, _ in sorted(row.others, key=lambda o: o[2])
        ]
        if is_binned:
            layers.append(boxes(_bars(rows, span, scale), bare, palette.lost))
        else:
            values += [
                {"v": _clamped(off, span) / scale, "y": n * ROW + _y(f.ts_ns, time), "k": _LOST}
                for n, row in enumerate(rows)
                for off, f in row.lost
            ]
        if values:
            kinds = ((ANSWERED, palette.calm, "circle", 14), (NEAR, palette.near, "diamond", 50))
            looks = (*kinds, (_LOST, palette.lost, "cross", 90))
            layers.append(points(values, bare, [k for k in looks if any(v["k"] == k[0] for v in values)]))
    layers += _whole_layers(look, whole, height)
    return layered(layers)


def _row_name(row: GapRow, look: Look) -> str:
    if look.is_narrow:
        return f"{row.name}: {row.n_lost:,} lost"
    return f"{row.name}: {row.n_lost:,} lost, {row.n_near:,} near, {row.n_answered:,} answered on this axis"


def _clamped(off: int, span: GapAxis) -> int:
    return min(max(off, span.low_ns), span.high_ns)


def _bars(rows: Sequence[GapRow], span: GapAxis, scale: float) -> list[dict[str, float]]:
    width = (span.high_ns - span.low_ns) / BINS
    bins = [_bins(row, span) for row in rows]
    most = max([n for row in bins for _, n in row], default=1)
    return [
        {
            "a": (span.low_ns + at * width) / scale,
            "b": (span.low_ns + (at + 1) * width) / scale,
            # One lost request among thousands is still seen.
            "top": (n + 1) * ROW - max((ROW - NAME - 2) * number / most, 2.0),
            "bottom": (n + 1) * ROW,
        }
        for n, row in enumerate(bins)
        for at, number in row
    ]


def _whole_layers(look: Look, whole: _Whole, height: int) -> list[dict[str, Any]]:
    palette = look.palette
    x = whole.axis.x("idle gap of all requests")
    edges = whole.axis.edges(BINS)
    top = height - _WHOLE
    most = max([*whole.answered, 1])
    bars = [
        {
            "a": edges[n],
            "b": edges[n + 1],
            "top": height - max((_WHOLE - _LOST_PART) * number / most, 2.0),
            "bottom": height,
        }
        for n, number in enumerate(whole.answered)
        if number
    ]
    n_lost = sum(f.number for f in whole.lost)
    ticks = [{"v": max(f.gap_ns, _LEAST_NS) / 1e9, "y": top + 2, "y2": top + _LOST_PART - 2} for f in whole.lost]
    middle = {"y": {"field": "y", "type": "quantitative", "scale": None, "axis": None}, "y2": {"field": "y2"}}
    return [
        boxes(bars, x, palette.calm),
        *(
            [
                {
                    "data": {"values": _thinned(ticks)},
                    "mark": {"type": "rule", "stroke": palette.lost, "strokeWidth": 2, "aria": False},
                    "encoding": {"x": {"field": "v", **x, "axis": None}, **middle},
                }
            ]
            if ticks
            else []
        ),
        texts(
            look,
            [(-6, top + _LOST_PART / 2, f"{n_lost:,} lost"), (-6, height - 16, f"{sum(whole.answered):,} answered")],
            align="right",
        ),
    ]


def _thinned(ticks: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return one of the lines that would be painted over each other: less than a thousandth apart."""
    seen: dict[float, dict[str, float]] = {}
    for tick in ticks:
        seen.setdefault(round(float(np.log10(tick["v"])), 3), tick)
    return list(seen.values())
