"""One chart: what it shows as plain data, and how that becomes SVG or PNG.

A chart is a Vega-Lite specification that holds data only: numbers, and texts that were made visible before. It is drawn
by vl-convert (Vega in a box of its own, without a network). What a chart is about is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pcapdiag.privacy.escape import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcapdiag.report.summary import Grid

FONT = "Liberation Sans"
"""Comes with vl-convert, so that labels are measured alike on every machine."""

WIDE_PX = 760
NARROW_PX = 340
"""Whole widths: of a page or a picture, and of a telephone."""

_VEGA_LITE = "6.4"
_PNG_SCALE = 2.0
_TITLE = 46
"""[px] For the title of a picture and the line below it."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by meaning; each is text that CSS and SVG understand."""

    paper: str
    ink: str
    faint: str
    line: str
    calm: str
    other: str
    near: str
    lost: str
    window: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1b1f24",
    faint="#57606a",
    line="#d0d7de",
    calm="#5b7fa6",
    other="#8250a8",
    near="#9a6700",
    lost="#c4141c",
    window="#c4141c",
)
"""Of pictures, which stand on white wherever they are shown; every colour has a contrast of 3:1 or more on it."""

CSS = Palette(**{name: f"var(--{name})" for name in Palette.__slots__})
"""Of a page, whose style sheet says what the colours are by day and by night."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a specification is to be drawn: width of the whole picture, colours, room left of the axis."""

    width: int
    palette: Palette
    left: int = 62
    right: int = 14
    top: int = 26
    bottom: int = 40

    @property
    def is_narrow(self) -> bool:
        """Whether there is room for few labels only."""
        return self.width < 500

    @property
    def plot_width(self) -> int:
        """[px] Between the axes."""
        return self.width - self.left - self.right


@dataclass(frozen=True, slots=True)
class Axis:
    """Scale of one axis: `kind` is ``time`` (ms since 1970; a page zooms into it), ``linear`` or ``parts``.

    A chart in ``parts`` has several scales, one below the other.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Tip:
    """What a mark says when one points at it: place as fractions of the plot, from the left and from the top.

    `anchor` is where the page says more of it; empty where it does not.
    """

    x: float
    y: float
    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, its words and its numbers.

    Attributes
    ----------
    name : str
        For file names and identifiers, such as ``idle-gaps``.
    title : str
        What it shows, in a few words.
    alt : str
        What one sees, for who does not see it.
    caption : str
        How to read it, and what is not drawn.
    height : int
        [px] Of the plot.
    table : Grid
        The numbers behind it.
    x : Axis
        Scale of the time, where there is one.
    build : callable
        Gives the specification for a look, without what all charts share.
    tips : tuple of Tip
        What to say where.
    left, left_narrow : int
        [px] Room left of the plot; 0 is the same on a telephone.
    has_legend : bool
        Whether the marks are explained above the plot.
    legend_lines : int
        Lines that the explanation takes on a telephone.
    """

    name: str
    title: str
    alt: str
    caption: str
    height: int
    table: Grid
    x: Axis
    build: Callable[[Look], dict[str, Any]] = field(repr=False)
    tips: tuple[Tip, ...] = field(default=(), repr=False)
    left: int = 62
    left_narrow: int = 0
    has_legend: bool = True
    legend_lines: int = 1

    def look(self, *, width: int = WIDE_PX, palette: Palette = LIGHT) -> Look:
        """Return how this chart is drawn at a width."""
        look = Look(width, palette, left=self.left, top=26 if self.has_legend else 6)
        if not look.is_narrow:
            return look
        return replace(look, left=self.left_narrow or self.left, top=look.top + 18 * (self.legend_lines - 1))

    def spec(self, look: Look, *, has_title: bool = False) -> dict[str, Any]:
        """Return the Vega-Lite specification: data only, nothing to be fetched, nothing to be run."""
        body: dict[str, Any] = _shown(self.build(look))
        if has_title:
            look = replace(look, top=look.top + _TITLE)
            # What one sees in the first place: a picture stands alone in a ticket or a chat.
            said = self.alt.partition(". ")[0].removesuffix(".")
            body["title"] = _shown({"text": self.title, "subtitle": said})
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "description": _plain(self.alt),
            "width": look.plot_width,
            "height": self.height,
            "autosize": {"type": "none"},
            "padding": {"left": look.left, "right": look.right, "top": look.top, "bottom": look.bottom},
            "background": look.palette.paper,
            **body,
            "config": _config(look),
        }

    def svg(self, *, width: int = WIDE_PX, palette: Palette = LIGHT) -> str:
        """Return the chart as SVG text.

        Parameters
        ----------
        width : int
            [px] Of the whole picture.
        palette : Palette
            Colours.

        Returns
        -------
        str
            One SVG element, the same for the same chart.
        """
        import vl_convert  # noqa: PLC0415 - loads a JavaScript engine, which only a picture needs

        svg: str = vl_convert.vegalite_to_svg(
            self.spec(self.look(width=width, palette=palette)), vl_version=_VEGA_LITE, allowed_base_urls=[]
        )
        return svg

    def png(self, *, width: int = WIDE_PX) -> bytes:
        """Return the chart as a PNG picture on white, two pixels for one, with its title and what one sees.

        Parameters
        ----------
        width : int
            [px] Of the whole picture, before it is doubled.

        Returns
        -------
        bytes
            The same for the same chart.
        """
        import vl_convert  # noqa: PLC0415 - as above

        png: bytes = vl_convert.vegalite_to_png(
            self.spec(self.look(width=width), has_title=True),
            vl_version=_VEGA_LITE,
            scale=_PNG_SCALE,
            allowed_base_urls=[],
        )
        return png


def _shown(value: Any) -> Any:
    """Return a part of a specification with every text made plain."""
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list) else value


def _plain(text: str) -> str:
    """Return a text in ASCII: control characters and letters without a font end the renderer, process and all."""
    return visible(text).encode("ascii", "backslashreplace").decode()


def _config(look: Look) -> dict[str, Any]:
    palette = look.palette
    return {
        "font": FONT,
        "view": {"stroke": palette.line},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "fontSize": 14,
            "subtitleFontSize": 12,
            "subtitlePadding": 4,
            "offset": 8,
            "color": palette.ink,
            "subtitleColor": palette.faint,
            "font": FONT,
            "subtitleFont": FONT,
            "limit": look.width - 20,
        },
        "aria": True,
        "axis": {
            "labelColor": palette.faint,
            "titleColor": palette.faint,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "gridColor": palette.line,
            "gridOpacity": 0.6,
            "domainColor": palette.line,
            "tickColor": palette.line,
            "labelOverlap": True,
        },
        "legend": {
            "orient": "top",
            "title": None,
            "offset": 6,
            "labelColor": palette.ink,
            "labelFontSize": 12,
            "symbolSize": 70,
            "columnPadding": 12,
        },
        "text": {"color": palette.ink, "fontSize": 12, "font": FONT},
    }
