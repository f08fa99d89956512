"""A comparison for a terminal. Text goes through `visible`; rich never sees markup."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from pcapdiag.privacy.escape import visible
from pcapdiag.report.compare.model import Judgement
from pcapdiag.report.compare.render import build_blocks
from pcapdiag.report.render.document import Bullets, Heading, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from pcapdiag.report.compare.model import Comparison
    from pcapdiag.report.render.document import Block
    from pcapdiag.report.summary import Grid

WIDTH = 100
MIN_WIDTH = 60

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
    buffer = StringIO()
    console = Console(
        file=buffer,
        width=max(width, MIN_WIDTH),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        _environ={},
    )
    style = _STYLES[comparison.outcome]
    console.print(Group(*(part for block in build_blocks(comparison) for part in _parts(block, style))))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style, overflow="fold")


def _parts(block: Block, style: str) -> Iterator[RenderableType]:
    match block:
        case Heading(text):
            yield ""
            yield _text(text, "bold")
        case Paragraph(text, strength):
            yield _text(text, style if strength else "")
        case Bullets(lines):
            yield from (Padding(_text(line), (0, 0, 0, 2)) for line in lines)
        case Table(grid):
            yield ""
            yield Padding(_table(grid), (0, 0, 0, 2))


def _table(grid: Grid) -> RichTable:
    table = RichTable(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="")
    for idx, header in enumerate(grid.headers):
        table.add_column(_text(header), justify="right" if idx in grid.right else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table
