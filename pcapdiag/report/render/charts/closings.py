"""How long connections had idled when they were closed, and by whom: an idle timeout shows as a peak.

Counts closings by FIN on the upstream leg with no exchange open, as `upstreams.py` does when it infers the timeout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction
from pcapdiag.base.units import count_of
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.idle_gaps import GAP_LABEL, decades
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.scene import Scene

HEIGHT = 200
BINS = 48
_LEAST_NS = 1_000_000
_MOST_TIMEOUTS = 4
_CLOSERS = ("upstream", "proxy")


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
    ages = _ages(scene)
    everything = np.concatenate(list(ages.values()))
    if not len(everything):
        return None
    timeouts = _timeouts(scene)
    low = np.log10(max(int(everything.min()), _LEAST_NS)) - 0.1
    high = np.log10(max([int(everything.max()), _LEAST_NS, *(t for _, t in timeouts)])) + 0.1
    if high - low < 1:
        low, high = low - (1 - high + low) / 2, high + (1 - high + low) / 2
    edges = np.linspace(low, high, BINS + 1)
    counts = {
        who: np.histogram(np.log10(np.maximum(values, _LEAST_NS)), bins=edges)[0].tolist()
        for who, values in ages.items()
    }
    axis = Axis("log", float(10 ** (low - 9)), float(10 ** (high - 9)), "s")
    limits = [float(10 ** (e - 9)) for e in edges]
    said = "".join(f" {name}: idle timeout T {brief(t)}." for name, t in timeouts)
    n_by = {who: len(values) for who, values in ages.items()}
    return Chart(
        name="closings",
        title="Idle ages at which connections were closed",
        alt=(
            f"Histogram of {count_of(len(everything), 'closing')} of idle connections by age on a logarithmic axis:"
            f" {n_by['upstream']:,} by the upstream, {n_by['proxy']:,} by the proxy.{said}"
        ),
        caption=(
            "Closings by FIN while no request was open, by who closed first. A server's idle timeout is a narrow peak;"
            " a proxy that closes earlier than its upstream cannot lose the race." + said
        ),
        height=HEIGHT,
        table=_table(counts, limits),
        x=axis,
        y=Axis("linear", 0, max(map(sum, zip(*counts.values(), strict=True)))),
        build=lambda look: _spec(look, counts, limits, timeouts, axis),
        tips=tuple(_tips(counts, limits)),
        left=46,
    )


def _ages(scene: Scene) -> dict[str, NDArray[np.int64]]:
    rows = scene.analysis.connections
    idle = rows["idle_at_close_ns"]
    is_idle_fin = (
        (rows["closing_kind"] == ClosingKind.FIN)
        & (rows["closing_open_exchange"] == 0)
        & (idle >= _LEAST_NS)
        & (scene.upstream_of_conn >= 0)
    )
    closers = (Direction.RESP, Direction.ORIG)
    return {
        who: idle[is_idle_fin & (rows["first_closer"] == closer)] for who, closer in zip(_CLOSERS, closers, strict=True)
    }


def _timeouts(scene: Scene) -> list[tuple[str, int]]:
    upstreams = sorted(scene.report.upstreams, key=lambda u: -u.exchanges)
    found = [(scene.peer_labels[u.endpoint], u.idle_timeout_ns.value) for u in upstreams if u.idle_timeout_ns.value > 0]
    return found[:_MOST_TIMEOUTS]


def _age(seconds: float) -> str:
    return brief(round(seconds * 1e9))


def _table(counts: dict[str, list[int]], limits: Sequence[float]) -> Grid:
    rows = tuple(
        (_age(limits[n]), _age(limits[n + 1]), *(f"{counts[who][n]:,}" for who in _CLOSERS))
        for n in range(BINS)
        if any(counts[who][n] for who in _CLOSERS)
    )
    return Grid(("idle from", "to", "closed by the upstream", "closed by the proxy"), rows, frozenset({0, 1, 2, 3}))


def _tips(counts: dict[str, list[int]], limits: Sequence[float]) -> list[Tip]:
    sums = [sum(counts[who][n] for who in _CLOSERS) for n in range(BINS)]
    top = max(sums)
    return [
        Tip(
            round((n + 0.5) / BINS, 4),
            round(1 - total / top, 4),
            f"idle {_age(limits[n])} to {_age(limits[n + 1])}: "
            + ", ".join(f"{counts[who][n]:,} closed by the {who}" for who in _CLOSERS if counts[who][n]),
        )
        for n, total in enumerate(sums)
        if total
    ]


def _spec(
    look: Look,
    counts: dict[str, list[int]],
    limits: Sequence[float],
    timeouts: Sequence[tuple[str, int]],
    axis: Axis,
) -> dict[str, Any]:
    palette = look.palette
    upstream, proxy = (counts[who] for who in _CLOSERS)
    values = [
        {"a": limits[n], "b": limits[n + 1], "low": low, "high": low + number, "k": f"closed by the {who}"}
        for n in range(BINS)
        for who, low, number in (("upstream", 0, upstream[n]), ("proxy", upstream[n], proxy[n]))
        if number
    ]
    x = {"type": "quantitative", "scale": {"type": "log", "domain": [axis.low, axis.high], "nice": False}}
    labels = {"title": "idle age at the closing", "values": decades(axis), "labelExpr": GAP_LABEL, "grid": False}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": values},
            "mark": {"type": "rect", "aria": False},
            "encoding": {
                "x": {"field": "a", **x, "axis": labels},
                "x2": {"field": "b"},
                "y": {
                    "field": "low",
                    "type": "quantitative",
                    "scale": {"domainMin": 0, "nice": False},
                    "axis": {"title": None, "tickCount": 4, "tickMinStep": 1},
                },
                "y2": {"field": "high"},
                "color": {
                    "field": "k",
                    "type": "nominal",
                    "scale": {
                        "domain": [f"closed by the {who}" for who in _CLOSERS],
                        "range": [palette.calm, palette.other],
                    },
                },
            },
        }
    ]
    distinct = sorted({t for _, t in timeouts})
    if distinct:
        layers.append(
            {
                "data": {"values": [{"t": t / 1e9} for t in distinct]},
                "mark": {"type": "rule", "stroke": palette.ink, "strokeDash": [4, 3], "aria": False},
                "encoding": {"x": {"field": "t", **x, "axis": labels}},
            }
        )
        text = (
            f"T = {brief(distinct[-1])}" if len(distinct) == 1 else f"T = {brief(distinct[0])} .. {brief(distinct[-1])}"
        )
        is_right = np.log10(distinct[-1] / 1e9 / axis.low) / np.log10(axis.high / axis.low) > 0.6
        layers.append(
            {
                "data": {"values": [{"t": (distinct[0] if is_right else distinct[-1]) / 1e9, "text": text}]},
                "mark": {
                    "type": "text",
                    "align": "right" if is_right else "left",
                    "baseline": "top",
                    "dx": -5 if is_right else 5,
                    "dy": 2,
                    "aria": False,
                },
                "encoding": {"x": {"field": "t", **x, "axis": labels}, "y": {"value": 0}, "text": {"field": "text"}},
            }
        )
    return {"layer": layers}
