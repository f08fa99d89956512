"""How long connections had idled when they were closed, and by whom: an idle timeout shows as a peak.

Around each upstream's timer in bins that fit it, a row for each; below, the whole range. Counts closings by FIN on the
upstream leg with no exchange open, as `upstreams.py` does when it infers the timeout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction
from pcapdiag.base.units import count_of
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.panel import AXIS, NAME, ROW, Decades, GapAxis, boxes, layered, nice_step, rows_frame
from pcapdiag.report.render.charts.panel import texts as placed_texts
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.scene import Scene

    Ages = dict[str, NDArray[np.int64]]

MOST_ROWS: Final = 12
_WHOLE: Final = 70
"""[px] Height of the part that holds the whole range."""
_BINS: Final = 48
_LEAST_NS: Final = 1_000_000
_NEAR: Final = 50
"""A closing belongs to a timer if its age differs from it by less than one part in so many."""
_STEPS: Final = 16
"""Bins that a peak is cut into."""
_FEW: Final = 5
"""Closings of which each one counts for a peak."""
_CLOSERS: Final = ("upstream", "proxy")


@dataclass(frozen=True, slots=True)
class _Row:
    """One upstream: how much later than its timer its connections were closed, by whom."""

    name: str
    timer_ns: int
    off_ns: Ages


@dataclass(frozen=True, slots=True)
class _Bin:
    """Closings that lie together: `low` and `high` are the least and greatest age among them, in ns."""

    at: int
    low: int
    high: int
    counts: tuple[int, int]


def closings(scene: Scene) -> Chart | None:
    """Return the chart; None where no idle connection was closed.

    Parameters
    ----------
    scene : Scene
        Analysis and report.

    Returns
    -------
    Chart or None
    """
    ages, upstream = _ages(scene)
    everything = np.concatenate(list(ages.values()))
    if not len(everything):
        return None
    rows, n_hidden = _rows(scene, ages, upstream)
    span, step = _span(rows)
    timers = [row.timer_ns for row in rows]
    axis = Decades.of(int(everything.min()), max([int(everything.max()), *timers]), _LEAST_NS)
    whole = _binned(ages, np.array(axis.edges(_BINS)) * 1e9)
    near = [_binned(_on_axis(row, span), np.arange(span.low_ns, span.high_ns + step, step)) for row in rows]
    n_by = {who: len(values) for who, values in ages.items()}
    said = "".join(f" {_in_words(row)}." for row in rows)
    height = (len(rows) * ROW + AXIS if rows else 0) + _WHOLE
    hidden = f" {count_of(n_hidden, 'more upstream')} with a timer have no row." if n_hidden else ""
    return Chart(
        name="closings",
        title="Idle ages at which connections were closed",
        alt=(
            f"Histograms of {count_of(len(everything), 'closing')} of idle connections by age:"
            f" {n_by['upstream']:,} by the upstream, {n_by['proxy']:,} by the proxy.{said}"
        ),
        caption=(
            "Closings by FIN while no request was open, by who closed first."
            + (f" Above: around each upstream's idle timeout T, in bins of {brief(step)}." if rows else "")
            + f" {'Below' if rows else 'Here'}: all of them, on a logarithmic axis. A server's idle timeout is a narrow"
            " peak; a proxy that closes earlier than its upstream cannot lose the race." + hidden
        ),
        height=height,
        table=_table(whole),
        x=Axis("parts"),
        build=lambda look: _spec(look, rows, near, span, step, whole, axis, height),
        tips=tuple(_tips(rows, near, span, step, whole, height)),
        left=84,
    )


def _ages(scene: Scene) -> tuple[Ages, Ages]:
    """Return the ages by who closed, and the number of the upstream of each."""
    rows = scene.analysis.connections
    idle = rows["idle_at_close_ns"]
    is_idle_fin = (
        (rows["closing_kind"] == ClosingKind.FIN)
        & (rows["closing_open_exchange"] == 0)
        & (idle >= _LEAST_NS)
        & (scene.upstream_of_conn >= 0)
    )
    closers = (Direction.RESP, Direction.ORIG)
    masks = {who: is_idle_fin & (rows["first_closer"] == c) for who, c in zip(_CLOSERS, closers, strict=True)}
    return {w: idle[m] for w, m in masks.items()}, {w: scene.upstream_of_conn[m] for w, m in masks.items()}


def _rows(scene: Scene, ages: Ages, upstream: Ages) -> tuple[list[_Row], int]:
    """Return a row for each upstream with a timer, and how many have none because there are too many."""
    timed = [(n, u) for n, u in enumerate(scene.report.upstreams) if u.idle_timeout_ns.value > 0]
    timed.sort(key=lambda item: -item[1].exchanges)
    rows = []
    for n, u in timed:
        timer = u.idle_timeout_ns.value
        reach = max(timer // _NEAR, u.idle_timeout_ns.spread, 1)
        off = {who: ages[who][upstream[who] == n] - timer for who in _CLOSERS}
        near = {who: values[np.abs(values) <= reach] for who, values in off.items()}
        if sum(map(len, near.values())):
            rows.append(_Row(scene.peer_labels[u.endpoint], timer, near))
    return rows[:MOST_ROWS], max(len(rows) - MOST_ROWS, 0)


def _span(rows: Sequence[_Row]) -> tuple[GapAxis, int]:
    """Return the axis around the timers, and how wide a bin is: a number that one can say, that takes the peaks apart.

    The peaks choose it, not the few closings that lie apart from them: those are told, and stand in the whole range.
    """
    if not rows:
        return GapAxis(0, 1), 1
    peaks = [_peak(row) for row in rows]
    low, high = min(first for first, _ in peaks), max(last for _, last in peaks)
    least = min(row.timer_ns for row in rows) // 10_000
    step = nice_step(max((high - low) / _STEPS, least / _STEPS))
    margin = max((high - low) * 3 // 4, 8 * step)
    return GapAxis((low - margin) // step * step, -(-(high + margin) // step) * step), step


def _peak(row: _Row) -> tuple[int, int]:
    """[ns] Return where most of an upstream's closings lie."""
    values = row.off_ns["upstream"] if len(row.off_ns["upstream"]) else row.off_ns["proxy"]
    if len(values) < _FEW:
        return int(values.min()), int(values.max())
    low, high = np.percentile(values, (10, 90), method="nearest").tolist()
    return int(low), int(high)


def _on_axis(row: _Row, span: GapAxis) -> Ages:
    return {who: values[(values >= span.low_ns) & (values <= span.high_ns)] for who, values in row.off_ns.items()}


def _binned(ages: Ages, edges: NDArray[Any]) -> list[_Bin]:
    """Return the bins that hold any closing, with the ages that are really in them."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for k, who in enumerate(_CLOSERS):
        at = np.clip(np.searchsorted(edges, ages[who], side="right") - 1, 0, len(edges) - 2)
        for n in np.unique(at).tolist():
            found.setdefault(n, ([], []))[k].extend(ages[who][at == n].tolist())
    return [_Bin(n, min(a + b), max(a + b), (len(a), len(b))) for n, (a, b) in sorted(found.items())]


def _in_words(row: _Row) -> str:
    values = row.off_ns["upstream"]
    text = f"{row.name}: idle timeout T {brief(row.timer_ns)}"
    if not len(values):
        return text
    where = _from_to(row, int(values.min()), int(values.max()))
    return f"{text}, {count_of(len(values), 'closing')} by the upstream {where}"


def _from_to(row: _Row, low: int, high: int) -> str:
    first, last = brief(row.timer_ns + low), brief(row.timer_ns + high)
    return f"at {first}" if first == last else f"from {first} to {last}"


def _counts(item: _Bin) -> str:
    return ", ".join(f"{n:,} closed by the {who}" for n, who in zip(item.counts, _CLOSERS, strict=True) if n)


def _range(item: _Bin) -> str:
    first, last = brief(item.low), brief(item.high)
    return first if first == last else f"{first} to {last}"


def _table(whole: Sequence[_Bin]) -> Grid:
    rows = tuple((brief(b.low), brief(b.high), *(f"{n:,}" for n in b.counts)) for b in whole)
    return Grid(("idle from", "to", "closed by the upstream", "closed by the proxy"), rows, frozenset({0, 1, 2, 3}))


def _tips(
    rows: Sequence[_Row], near: Sequence[Sequence[_Bin]], span: GapAxis, step: int, whole: Sequence[_Bin], height: int
) -> list[Tip]:
    tips = [
        Tip(
            round(span.fraction(span.low_ns + item.at * step + step // 2), 4),
            round((n * ROW + NAME + 12) / height, 4),
            f"{row.name}: {_counts(item)} {_from_to(row, item.low, item.high)}",
        )
        for n, (row, bins) in enumerate(zip(rows, near, strict=True))
        for item in bins
    ]
    y = round((height - _WHOLE / 2) / height, 4)
    return [*tips, *(Tip(round((b.at + 0.5) / _BINS, 4), y, f"idle {_range(b)}: {_counts(b)}") for b in whole)]


def _spec(
    look: Look,
    rows: Sequence[_Row],
    near: Sequence[Sequence[_Bin]],
    span: GapAxis,
    step: int,
    whole: Sequence[_Bin],
    axis: Decades,
    height: int,
) -> dict[str, Any]:
    palette = look.palette
    colors = dict(zip(_CLOSERS, (palette.calm, palette.other), strict=True))
    layers: list[dict[str, Any]] = []
    if rows:
        x = span.x("idle age at the closing minus T", len(rows), height, look)
        scale, _ = span.unit
        most = max([sum(item.counts) for bins in near for item in bins], default=1)
        bars = [
            (
                (span.low_ns + item.at * step) / scale,
                (span.low_ns + (item.at + 1) * step) / scale,
                (n + 1) * ROW,
                (ROW - NAME - 2) / most,
                item.counts,
            )
            for n, bins in enumerate(near)
            for item in bins
        ]
        layers += [
            _stacked(bars, x, colors),
            *rows_frame(len(rows), look, [_row_name(row, span, look) for row in rows]),
            placed_texts(
                look,
                [
                    (-6, n * ROW + y, text)
                    for n in range(len(rows))
                    for y, text in ((NAME + 4, count_of(most, "closing")), (ROW - 2, "0"))
                ],
                align="right",
            ),
        ]
    edges = axis.edges(_BINS)
    most = max(sum(b.counts) for b in whole)
    bars = [(edges[b.at], edges[b.at + 1], height, (_WHOLE - 8) / most, b.counts) for b in whole]
    layers.append(_stacked(bars, axis.x("idle age at the closing, all upstreams"), colors))
    layers.append(
        placed_texts(look, [(-6, height - _WHOLE + 8, count_of(most, "closing")), (-6, height - 2, "0")], align="right")
    )
    return layered(layers)


def _row_name(row: _Row, span: GapAxis, look: Look) -> str:
    if look.is_narrow:
        return f"{row.name}, T {brief(row.timer_ns)}"
    n_off = sum(map(len, row.off_ns.values())) - sum(map(len, _on_axis(row, span).values()))
    return f"{_in_words(row)}{f', {n_off:,} off this axis' if n_off else ''}"


def _stacked(
    bars: Sequence[tuple[float, float, float, float, tuple[int, int]]], x: dict[str, Any], colors: dict[str, str]
) -> dict[str, Any]:
    """Return bars from a to b that stand at a bottom, so many pixels for each closing, by who closed."""
    values = []
    for a, b, bottom, scale, counts in bars:
        low = bottom
        for who, number in zip(_CLOSERS, counts, strict=True):
            if number:
                high = low - max(number * scale, 1.5)
                values.append({"a": a, "b": b, "top": high, "bottom": low, "k": f"by the {who}"})
                low = high
    layer = boxes(values, x, "")
    layer["mark"].pop("fill")
    layer["encoding"]["color"] = {
        "field": "k",
        "type": "nominal",
        "scale": {"domain": [f"by the {who}" for who in _CLOSERS], "range": [colors[who] for who in _CLOSERS]},
    }
    return layer
