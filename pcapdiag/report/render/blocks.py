"""Blocks for a terminal, as of a comparison or a what-if. Text goes through `visible`; rich sees no markup."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from pcapdiag.privacy.escape import visible
from pcapdiag.report.render.document import Bullets, Code, Heading, Paragraph, TableBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType

    from pcapdiag.report.render.document import Block
    from pcapdiag.report.summary import Grid

WIDTH = 100
"""Columns where nobody says how wide the terminal is: reports in files and pipes look the same everywhere."""

MIN_WIDTH = 60


def render_blocks(blocks: Iterable[Block], *, style: str, width: int = WIDTH, color: bool = False) -> str:
    """Return blocks as text for a terminal.

    Parameters
    ----------
    blocks : iterable of Block
        What to show.
    style : str
        Of what is said with emphasis.
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
    console = make_console(buffer, max(width, MIN_WIDTH), color=color)
    blocks = tuple(blocks)
    console.print(Group(*(part for block in blocks for part in _parts(block, style))), crop=False)
    exact = {line for block in blocks if isinstance(block, Code) for line in _exact(block)}
    return "\n".join(line if line in exact else line.rstrip() for line in buffer.getvalue().split("\n"))


def make_console(buffer: StringIO, width: int, *, color: bool) -> Console:
    """Return a console that writes the same everywhere: no markup, no guess at what the terminal can do."""
    return Console(
        file=buffer,
        width=width,
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


def safe_text(text: str, style: str = "") -> Text:
    """Return text of which every character is visible; it breaks where it has to."""
    return Text(visible(text), style=style, overflow="fold")


class _Exact:
    """Lines that rich must not touch."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._lines = lines

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> Iterator[Segment]:
        for line in self._lines:
            yield Segment(f"{line}\n")


def _exact(code: Code) -> tuple[str, ...]:
    """Return lines that a program is to read, letter by letter; of others nothing."""
    if not code.is_exact:
        return ()
    return tuple("    " + "\t".join(map(visible, line.split("\t"))) for line in code.lines)


def _parts(block: Block, style: str) -> Iterator[RenderableType]:
    match block:
        case Heading(text):
            yield ""
            yield safe_text(text, "bold")
        case Paragraph(text, strength):
            yield safe_text(text, style if strength else "")
        case Bullets(lines):
            yield from (Padding(safe_text(line), (0, 0, 0, 2)) for line in lines)
        case Code(is_exact=True):
            # No line is broken, and no tab becomes blanks: `patch` takes what is indented, and nothing else.
            yield _Exact(_exact(block))
        case Code(lines):
            yield from (Padding(safe_text(line), (0, 0, 0, 4)) for line in lines)
        case TableBlock(grid):
            yield ""
            yield Padding(_table(grid), (0, 0, 0, 2))


def _table(grid: Grid) -> RichTable:
    table = RichTable(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="")
    for idx, header in enumerate(grid.headers):
        is_number = idx in grid.right
        table.add_column(
            safe_text(header), justify="right" if is_number else "left", overflow="fold", no_wrap=is_number
        )
    for row in grid.rows:
        table.add_row(*(safe_text(cell) for cell in row))
    return table
