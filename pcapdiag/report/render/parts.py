"""What reports for a terminal are put together of: headings, ladders, tables that fold into words where they must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pcapdiag.base.findings import Severity
from pcapdiag.privacy.escape import visible
from pcapdiag.report.headline import headline, is_judged
from pcapdiag.report.render.blocks import safe_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from pcapdiag.report.ladder import Ladder, LadderLine
    from pcapdiag.report.model import Report
    from pcapdiag.report.summary import Grid

WIDE = 112
"""From this width on the words of a ladder stand beside its arrows, below it under them."""

INDENT = 2

_LAST_COLUMN = 20
"""Least width of a last column that holds free text: before it becomes a chimney, the table becomes words."""

SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}


def draw_headline(report: Report) -> Text:
    """Return the first sentence in the colour of the worst that was found."""
    worst = max((f.severity for f in report.findings), default=None)
    good = "bold green" if is_judged(report) else "bold"
    style = good if worst is None else SEVERITY_STYLES[worst]
    return safe_text(headline(report), style)


def heading(text: str) -> Text:
    """Return a heading."""
    return safe_text(text, "bold")


def indented(item: RenderableType, by: int = INDENT) -> Padding:
    """Return something `by` columns further right."""
    return Padding(item, (0, 0, 0, by))


class Phrases:
    """Phrases with commas between them, which lines are broken at: a time of day stays whole, and can be searched for.

    Parameters
    ----------
    text : str
        As one line.
    """

    def __init__(self, text: str) -> None:
        self._phrases = [visible(phrase) for phrase in text.split(", ")]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield lines that are as full as they can be; a phrase that is longer than one is folded as any text."""
        line = ""
        for phrase, end in zip(self._phrases, [*[","] * (len(self._phrases) - 1), ""], strict=True):
            longer = f"{line} {phrase}{end}" if line else f"{phrase}{end}"
            if line and cell_len(longer) > options.max_width:
                yield Text(line, overflow="fold")
                longer = f"{phrase}{end}"
            line = longer
        yield Text(line, overflow="fold")


def labelled(label: str, text: str) -> Text:
    """Return something to copy, behind a label."""
    return Text.assemble(safe_text(f"{label}: ", "bold"), safe_text(text))


def draw_ladder(ladder: Ladder, *, wide: bool) -> RenderableType:
    """Return a ladder, the words of each frame below its arrow, or beside it (`wide`)."""
    time_width = max([len("time"), *(len(line.time) for line in ladder.lines)])
    frame_width = max([len("frame"), *(len(line.frame) for line in ladder.lines)])
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    rows: list[RenderableType] = []
    head = safe_text(f"{'time':>{time_width}}  {ladder.header}  {'frame':>{frame_width}}", "dim")
    table.add_row(head, "")
    rows.append(head)
    for line in ladder.lines:
        drawn = Text.assemble(
            safe_text(f"{line.time:>{time_width}}  "),
            safe_text(line.arrow, _line_style(line)),
            safe_text(f"  {line.frame:>{frame_width}}"),
        )
        words = safe_text(line.text, "italic")
        table.add_row(drawn, words)
        rows += [drawn, indented(words, time_width + 4)] if line.text else [drawn]
    return table if wide else Group(*rows)


def _line_style(line: LadderLine) -> str:
    if line.is_closing:
        return "red"
    return "bold" if line.is_request else ""


def draw_grid(grid: Grid, room: int) -> RenderableType:
    """Return a table if its columns fit into `room`, at most the last one folded, otherwise words for each row."""
    columns = zip(grid.headers, *grid.rows, strict=True)
    widths = [max(cell_len(visible(cell)) for cell in column) for column in columns]
    last = len(widths) - 1
    least = widths[last] if last in grid.right else min(widths[last], _LAST_COLUMN)
    if sum(widths[:last]) + least + 2 * last > room:
        return Group(*(safe_text(_row_in_words(grid.headers, row)) for row in grid.rows))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for idx, header in enumerate(grid.headers):
        justify: Literal["left", "right"] = "right" if idx in grid.right else "left"
        table.add_column(safe_text(header), justify=justify, overflow="fold", width=widths[idx] if idx < last else None)
    for row in grid.rows:
        table.add_row(*(safe_text(cell) for cell in row))
    return table


def _row_in_words(headers: tuple[str, ...], row: tuple[str, ...]) -> str:
    first, *others = (f"{header} {cell}" for header, cell in zip(headers, row, strict=True))
    return f"{first}: {', '.join(others)}"
