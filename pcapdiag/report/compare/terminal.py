"""A comparison for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.report.compare.model import Judgement
from pcapdiag.report.compare.render import build_blocks
from pcapdiag.report.render.blocks import WIDTH, render_blocks

if TYPE_CHECKING:
    from pcapdiag.report.compare.model import Comparison

_STYLES = {
    Judgement.NOT_EXPOSED: "bold green",
    Judgement.FIXED: "bold green",
    Judgement.CANNOT_TELL: "bold yellow",
    Judgement.STILL_EXPOSED: "bold red",
    Judgement.NEWLY_EXPOSED: "bold red",
}


def render(comparison: Comparison, *, width: int = WIDTH, color: bool = False) -> str:
    """Return the comparison as text for a terminal.

    Parameters
    ----------
    comparison : Comparison
        What to show.
    width : int
        Columns; the smallest is `MIN_WIDTH`.
    color : bool
        Whether to write ANSI colours.

    Returns
    -------
    str
        Lines without trailing blanks.
    """
    return render_blocks(build_blocks(comparison), style=_STYLES[comparison.outcome], width=width, color=color)
