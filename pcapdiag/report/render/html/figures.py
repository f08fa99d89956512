"""Charts as parts of a page: their SVG, proved to be a drawing and nothing else, and the data that the script zooms.

The renderer escapes texts already; a page that people attach to tickets does not rest on that alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from pcapdiag.base.errors import PcapdiagError
from pcapdiag.report.render.charts import CSS, NARROW_PX, WIDE_PX

if TYPE_CHECKING:
    from pcapdiag.report.render.charts import Chart
    from pcapdiag.report.summary import Grid

_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = frozenset(
    f"{_SVG}{name}"
    for name in ("svg", "g", "path", "line", "rect", "text", "tspan", "title", "desc", "defs", "clipPath", "circle")
)
_ATTRIBUTES = frozenset(
    {
        *("version", "class", "width", "height", "viewBox", "fill", "stroke", "transform", "d", "x", "y", "x1", "x2"),
        *("y1", "y2", "cx", "cy", "r", "opacity", "role", "text-anchor", "id", "clip-path", "clip-rule", "font-size"),
        *("display", "font-family", "font-weight", "font-style", "pointer-events", "aria-hidden", "aria-label"),
        *("aria-roledescription", "dominant-baseline"),
    }
)
_PREFIXES = ("stroke-", "fill-")
_LABELS = re.compile(r' (?:role|aria-roledescription|aria-label)="[^"]*"')
_PLACES = re.compile(r' (?:transform|d)="[^"]*"')
_NOWHERE = re.compile(r"NaN|Infinity|e\+")
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_NAMESPACES = re.compile(r' (?:xmlns:xlink|version)="[^"]*"')


class DrawingError(PcapdiagError):
    """A chart came out as something other than a drawing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart ready for the template; `data` is what the script needs, JSON-ready."""

    name: str
    title: str
    alt: str
    caption: str
    table: Grid
    wide: Markup
    narrow: Markup
    data: dict[str, Any]


def build_figure(chart: Chart) -> Figure:
    """Return a chart as the page shows it.

    Parameters
    ----------
    chart : Chart
        What to show.

    Returns
    -------
    Figure
        With both of its widths drawn in colours of the style sheet.

    Raises
    ------
    DrawingError
        The renderer made something that is no plain drawing.
    """
    plots = []
    for width in (WIDE_PX, NARROW_PX):
        look = chart.look(width=width, palette=CSS)
        plots.append([look.left, look.top, look.plot_width, chart.height])
    return Figure(
        name=chart.name,
        title=chart.title,
        alt=chart.alt,
        caption=chart.caption,
        table=chart.table,
        wide=inline(chart.svg(width=WIDE_PX, palette=CSS)),
        narrow=inline(chart.svg(width=NARROW_PX, palette=CSS)),
        data={
            "plots": plots,
            "x": [chart.x.kind, chart.x.low, chart.x.high],
            "tips": [[tip.x, tip.y, tip.text, tip.anchor] for tip in chart.tips],
        },
    )


def inline(svg: str) -> Markup:
    """Return a drawing for a page: its own labels for readers taken out, for the figure around it has better ones.

    Parameters
    ----------
    svg : str
        As the renderer made it.

    Returns
    -------
    Markup

    Raises
    ------
    DrawingError
        It holds an element or attribute that no drawing needs.
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - our own output of a moment ago; expat refuses entity bombs
    except ET.ParseError as error:
        msg = f"a chart is not well-formed: {error}"
        raise DrawingError(msg) from error
    if any(_NOWHERE.search(e.get("d", "") + e.get("transform", "")) for e in root.iter()):
        msg = "a chart has marks without a place"
        raise DrawingError(msg)
    for element in root.iter():
        if element.tag not in _ELEMENTS:
            msg = f"a chart holds the element {element.tag}"
            raise DrawingError(msg)
        for name, value in element.attrib.items():
            is_known = name in _ATTRIBUTES or name.startswith(_PREFIXES)
            if not is_known or "url(" in value.replace("url(#", ""):
                msg = f"a chart holds the attribute {name}"
                raise DrawingError(msg)
    plain = _LABELS.sub("", _NAMESPACES.sub("", svg))
    # A hundredth of a pixel is enough, and a third of the file.
    plain = _PLACES.sub(lambda place: _DECIMALS.sub(r"\1", place[0]), plain)
    return Markup(plain.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))  # noqa: S704 - proved above
