"""Parts of a chart, one below the other: rows of upstreams around their timers on a linear axis, and the whole range.

Places are pixels of the plot, so that several scales stand in one drawing. Knows numbers and texts; not what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.report.render.charts.chart import Look

ROW: Final = 46
"""[px] Height of a row; its name stands in the uppermost `NAME` of them."""
NAME: Final = 16
AXIS: Final = 52
"""[px] Between the rows and what stands below them: for the axis and its title."""
_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))

Y: Final = {"type": "quantitative", "scale": None, "axis": None}
"""A place in pixels."""


@dataclass(frozen=True, slots=True)
class GapAxis:
    """[ns] A linear axis of differences from a timer."""

    low_ns: int
    high_ns: int

    @property
    def unit(self) -> tuple[float, str]:
        """[ns] What the numbers on the axis count, and its name."""
        widest = max(abs(self.low_ns), abs(self.high_ns), 1)
        return next((u for u in _UNITS if widest >= 2 * u[0]), _UNITS[-1])

    def fraction(self, ns: int) -> float:
        """Return where a difference lies, from 0 to 1; what lies beyond the axis stands at its end."""
        return min(max((ns - self.low_ns) / max(self.high_ns - self.low_ns, 1), 0.0), 1.0)

    def holds(self, ns: int) -> bool:
        """Tell whether a difference lies on the axis."""
        return self.low_ns <= ns <= self.high_ns

    def x(self, title: str, n_row: int, height: int, look: Look) -> dict[str, Any]:
        """Return the channel whose axis stands below the last row of a plot of that height."""
        scale, name = self.unit
        return {
            "type": "quantitative",
            "scale": {"domain": [self.low_ns / scale, self.high_ns / scale], "nice": False, "zero": False},
            "axis": {
                "title": f"{title} [{name}]",
                "orient": "bottom",
                "offset": n_row * ROW - height,
                "tickCount": 4 if look.is_narrow else 9,
                "gridOpacity": 0.4,
                "grid": False,
            },
        }


def nice_step(least: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20 ... that is not below `least`, and at least 1."""
    power = 10 ** int(np.floor(np.log10(max(least, 1.0))))
    return next(int(n * power) for n in (1, 2, 5, 10) if n * power >= max(least, 1.0))


def rows_frame(n_row: int, look: Look, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines between rows, and the names in them."""
    lines = [{"y": n * ROW} for n in range(n_row + 1)]
    return [
        {
            "data": {"values": lines},
            "mark": {"type": "rule", "stroke": look.palette.line, "aria": False},
            "encoding": {
                "x": {"value": 0},
                "x2": {"value": look.plot_width},
                "y": {"field": "y", **Y},
            },
        },
        texts(look, [(4, n * ROW + 9, name) for n, name in enumerate(names)]),
    ]


def texts(look: Look, placed: Iterable[tuple[float, float, str]], *, align: str = "left") -> dict[str, Any]:
    """Return texts at places in pixels."""
    return {
        "data": {"values": [{"px": x, "y": y, "text": text} for x, y, text in placed]},
        "mark": {
            "type": "text",
            "align": align,
            "baseline": "middle",
            "limit": look.plot_width,
            "fontSize": 11,
            "aria": False,
        },
        "encoding": {
            "x": {"field": "px", "type": "quantitative", "scale": None, "axis": None},
            "y": {"field": "y", **Y},
            "text": {"field": "text"},
        },
    }


def boxes(values: Sequence[dict[str, Any]], x: dict[str, Any], color: str, *, opacity: float = 1.0) -> dict[str, Any]:
    """Return boxes from `a` to `b` and, in pixels, from `top` to `bottom`."""
    return {
        "data": {"values": list(values)},
        "mark": {"type": "rect", "fill": color, "fillOpacity": opacity, "aria": False},
        "encoding": {
            "x": {"field": "a", **x},
            "x2": {"field": "b"},
            "y": {"field": "top", **Y},
            "y2": {"field": "bottom"},
        },
    }


def points(
    values: Sequence[dict[str, Any]], x: dict[str, Any], looks: Sequence[tuple[str, str, str, int]]
) -> dict[str, Any]:
    """Return points at `v` and, in pixels, `y`; `looks` says name, colour, shape and size of each kind `k`."""
    sizes = {name: size for name, _, _, size in looks}
    domain = [name for name, *_ in looks]
    return {
        "data": {"values": [{**value, "s": sizes[value["k"]]} for value in values]},
        "mark": {"type": "point", "filled": True, "opacity": 1, "aria": False},
        "encoding": {
            "x": {"field": "v", **x},
            "y": {"field": "y", **Y},
            "color": {
                "field": "k",
                "type": "nominal",
                "scale": {"domain": domain, "range": [color for _, color, _, _ in looks]},
            },
            "shape": {
                "field": "k",
                "type": "nominal",
                "scale": {"domain": domain, "range": [shape for _, _, shape, _ in looks]},
            },
            "size": {"field": "s", "type": "quantitative", "scale": None},
        },
    }


def layered(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return layers that share no scale of place, and the colours of one legend."""
    apart = {"x": "independent", "y": "independent"}
    return {"layer": list(layers), "resolve": {"scale": apart, "axis": {"x": "independent"}}}


# A constant expression of Vega, which formats the numbers of an axis; no text of the input is in it.
SECONDS_LABEL: Final = (
    "datum.value >= 1 ? format(datum.value, ',') + ' s'"
    " : datum.value >= 0.001 ? format(datum.value * 1e3, '.0f') + ' ms'"
    " : format(datum.value * 1e6, '.0f') + ' us'"
)
_FEW_DECADES: Final = 2.5


@dataclass(frozen=True, slots=True)
class Decades:
    """[s] A logarithmic axis: the whole range."""

    low: float
    high: float

    @classmethod
    def of(cls, low_ns: int, high_ns: int, least_ns: int) -> Decades:
        """Return an axis that holds both ends, and a decade at least."""
        low, high = (float(np.log10(max(ns, least_ns) / 1e9)) for ns in (low_ns, high_ns))
        low, high = low - 0.1, high + 0.1
        missing = max(1.0 - (high - low), 0.0)
        return cls(10 ** (low - missing / 2), 10 ** (high + missing / 2))

    def fraction(self, seconds: float) -> float:
        """Return where a duration lies, from 0 to 1."""
        place = np.log10(max(seconds, self.low) / self.low) / np.log10(self.high / self.low)
        return float(min(place, 1.0))

    def edges(self, n: int) -> list[float]:
        """[s] Return the limits of `n` bins."""
        return [float(edge) for edge in np.geomspace(self.low, self.high, n + 1)]

    def x(self, title: str) -> dict[str, Any]:
        """Return the channel, with its axis below the plot."""
        return {
            "type": "quantitative",
            "scale": {"type": "log", "domain": [self.low, self.high], "nice": False},
            "axis": {
                "title": title,
                "orient": "bottom",
                "values": self._ticks(),
                "labelExpr": SECONDS_LABEL,
                "grid": False,
            },
        }

    def _ticks(self) -> list[float]:
        first, last = int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high)))
        steps = (1, 2, 5) if np.log10(self.high / self.low) < _FEW_DECADES else (1,)
        ticks = [float(f"{step}e{n}") for n in range(first, last + 1) for step in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high]
