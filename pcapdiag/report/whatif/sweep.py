"""The sweep as a chart: lost tries and new connections against the value that was swept, the race window drawn in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pcapdiag.base.units import NS_PER_S, parse_duration
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.whatif.words import spell, sweep_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.scenarios import Quantity, Scenario, WhatIf
    from pcapdiag.report.render.charts.chart import Look

HEIGHT = 240


def sweep_chart(answer: WhatIf) -> Chart | None:
    """Return the chart; None where nothing was swept, or nothing can be said of it.

    Parameters
    ----------
    answer : WhatIf
        With the points of the sweep.

    Returns
    -------
    Chart or None
    """
    if answer.first_swept < 0 or answer.disagreement:
        return None
    points = answer.scenarios[answer.first_swept :]
    is_time = answer.sweep.endswith(("timeout", "time"))
    xs = [_value(s.settings[answer.sweep], is_time=is_time) for s in points]
    top = max(max(_high(s.lost_tries), _high(s.connections_opened)) for s in points)
    low, high = min(xs), max(xs) if len(xs) > 1 else min(xs) + 1
    window = _window(answer, low, high) if is_time and "keepalive_timeout" in answer.sweep else None
    axis = Axis("linear", low, high, "s" if is_time else "")
    tips = [
        Tip(
            round((x - low) / ((high - low) or 1), 4),
            round(1 - _mean(s.lost_tries) / max(top, 1), 4),
            f"{answer.sweep} {s.settings[answer.sweep]}: {spell(s.lost_tries)} lost, "
            f"{spell(s.connections_opened)} connections",
        )
        for x, s in zip(xs, points, strict=True)
    ]
    what = f"{answer.sweep} from {points[0].settings[answer.sweep]} to {points[-1].settings[answer.sweep]}"
    return Chart(
        name="sweep",
        title=f"What {answer.sweep} would have done",
        alt=f"Lost tries and connections opened for {what}, predicted by the replay.",
        caption="Lines are means, bands hold nine of ten replays."
        + (" Shaded: idle gaps after which a request may be lost." if window else ""),
        height=HEIGHT,
        table=sweep_grid(answer),
        x=axis,
        build=partial(_spec, xs=xs, points=points, axis=axis, title=answer.sweep, window=window),
        tips=tuple(tips),
    )


def _value(text: str, *, is_time: bool) -> float:
    return parse_duration(text) / NS_PER_S if is_time else float(text)


def _window(answer: WhatIf, low: float, high: float) -> tuple[float, float] | None:
    first, last = (ns / NS_PER_S for ns in answer.model.window_ns)
    if first < 0 or last < low or first > high:
        return None
    return max(first, low), min(last, high)


def _mean(value: Quantity | None) -> float:
    return value.expected if value is not None else 0.0


def _high(value: Quantity | None) -> float:
    return value.high if value is not None else 0.0


def _spec(
    look: Look,
    *,
    xs: Sequence[float],
    points: Sequence[Scenario],
    axis: Axis,
    title: str,
    window: tuple[float, float] | None,
) -> dict[str, Any]:
    palette = look.palette
    named = (("lost tries", palette.lost), ("connections opened", palette.calm))
    rows = [
        {"x": x, "k": name, "mean": value.expected, "low": value.low, "high": value.high}
        for x, s in zip(xs, points, strict=True)
        for name, value in (("lost tries", s.lost_tries), ("connections opened", s.connections_opened))
        if value is not None
    ]
    unit = " [s]" if axis.unit else ""
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": [axis.low, axis.high], "nice": False},
        "axis": {"title": title + unit, "grid": False, "tickCount": 5 if look.is_narrow else 10},
    }
    y_scale = {"domainMin": 0, "nice": True}
    colour = {
        "field": "k",
        "type": "nominal",
        "scale": {"domain": [name for name, _ in named], "range": [shade for _, shade in named]},
    }
    layers: list[dict[str, Any]] = []
    if window is not None:
        layers.append(
            {
                "data": {"values": [{"a": window[0], "b": window[1]}]},
                "mark": {"type": "rect", "fill": palette.window, "fillOpacity": 0.12, "aria": False},
                "encoding": {"x": {**x, "field": "a"}, "x2": {"field": "b"}},
            }
        )
    y = {"type": "quantitative", "scale": y_scale, "axis": {"title": None, "tickCount": 4, "tickMinStep": 1}}
    layers += [
        {
            "data": {"values": rows},
            "mark": {"type": "area", "fillOpacity": 0.18, "strokeWidth": 0, "aria": False},
            "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "line", "strokeWidth": 2, "aria": False},
            "encoding": {"x": x, "y": {"field": "mean", **y}, "color": colour},
        },
    ]
    return {"layer": layers}
