"""The report for a terminal: the verdict first, the proof as a ladder, then what to do about it.

Text of captures and of rules goes through `safe_text`, which escapes it; rich never sees markup. Of this package only
this module and `blocks` know rich.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pcapdiag.base.findings import Severity
from pcapdiag.base.units import count_of
from pcapdiag.privacy.escape import visible
from pcapdiag.report import summary
from pcapdiag.report.far_end import both_ends_lines, far_filter, proof_line, proof_lines
from pcapdiag.report.impact import impact_line
from pcapdiag.report.incidents import incident_lines
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.ledger import entries_in_words, ledger_lines
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.render.blocks import MIN_WIDTH, WIDTH, make_console, safe_text
from pcapdiag.report.settings import settings_grid, settings_title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from pcapdiag.report.ladder import Ladder, LadderLine
    from pcapdiag.report.model import OccurrenceDetail, Report

_WIDE = 112
"""From this width on the words of a ladder stand beside its arrows, below it under them."""

_INDENT = 2

_LAST_COLUMN = 20
"""Least width of a last column that holds free text: before it becomes a chimney, the table becomes words."""

_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}


def render(report: Report, *, width: int = WIDTH, color: bool = False) -> str:
    """Return the report as text for a terminal.

    Parameters
    ----------
    report : Report
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
    width = max(width, MIN_WIDTH)
    buffer = StringIO()
    console = make_console(buffer, width, color=color)
    console.print(_report(report, width))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _report(report: Report, width: int) -> Group:
    parts: list[RenderableType] = [
        _headline(report),
        safe_text(impact_line(report.impact, has_truncated=report.totals.truncated > 0)),
    ]
    for group in summary.finding_groups(report):
        parts += ["", *_finding_group(group, report, width)]
    parts += _section("At one moment", incident_lines(report))
    parts += _upstreams(report, width)
    parts += _settings(report, width)
    parts += _section("Both ends", both_ends_lines(report.far_end))
    parts += _section("Ledger", ledger_lines(report.log))
    parts += _section("Notes on the input", summary.note_lines(report))
    parts += _verdicts(report)
    parts += _section("Input", summary.input_lines(report))
    return Group(*parts)


def _headline(report: Report) -> Text:
    worst = max((f.severity for f in report.findings), default=None)
    good = "bold green" if summary.is_judged(report) else "bold"
    style = good if worst is None else _SEVERITY_STYLES[worst]
    return safe_text(summary.headline(report), style)


def _heading(text: str) -> Text:
    return safe_text(text, "bold")


def _indented(item: RenderableType, by: int = _INDENT) -> Padding:
    return Padding(item, (0, 0, 0, by))


def _finding_group(group: summary.FindingGroup, report: Report, width: int) -> Iterable[RenderableType]:
    head = group.head
    title = Text.assemble(
        safe_text(f"{head.code} {head.name}", _SEVERITY_STYLES[head.severity]),
        safe_text(f"  {head.severity.name.lower()}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"),
    )
    yield title
    for message in summary.bounded([f.message for f in group.findings]):
        yield _indented(safe_text(message))
    for line in proof_lines(group.occurrences):
        yield _indented(safe_text(line))
    shown, *others = group.occurrences or (None,)
    if shown is not None and shown.evidence:
        yield ""
        yield _indented(safe_text(summary.occurrence_title(shown)))
        yield ""
        yield _indented(_ladder(build_ladder(shown), wide=width >= _WIDE))
        yield ""
        if shown.far_end is not None:
            yield _indented(safe_text(proof_line(shown)))
        for label, text in ((summary.filter_label(shown, report), shown.display_filter), far_filter(shown)):
            if text:
                yield _indented(_labelled(label, text))
        yield from (_indented(_labelled("Log entry", line)) for line in entries_in_words(report.log, shown.log_lines))
        if shown.upstream_log:
            yield _indented(_labelled("Application's log", shown.upstream_log))
    elif shown is not None:
        others = [shown, *others]
    if others:
        yield from _others(group, others, width)
    yield from _remedies(group)
    refutations = dict.fromkeys(f.refuted_by for f in group.findings if f.refuted_by)
    if refutations:
        yield ""
        yield _indented(_heading("What would have refuted it"))
    for refutation in refutations:
        yield _indented(safe_text(refutation), 4)


def _labelled(label: str, text: str) -> Text:
    return Text.assemble(safe_text(f"{label}: ", "bold"), safe_text(text))


def _others(group: summary.FindingGroup, others: list[OccurrenceDetail], width: int) -> Iterable[RenderableType]:
    n_drawn = len(group.occurrences) - len(others)
    yield ""
    yield _indented(_heading(count_of(summary.count_others(group, n_drawn), "more", "more") if n_drawn else "Where"))
    yield _indented(_grid(summary.occurrence_grid(others), width - _INDENT))
    left_out = summary.left_out(group, n_drawn)
    if left_out:
        yield _indented(safe_text(left_out, "dim"), 4)


def _remedies(group: summary.FindingGroup) -> Iterable[RenderableType]:
    for subjects, remedy, others in group.remedies:
        yield ""
        yield _indented(_heading(summary.remedy_title(subjects, len(group.remedies))))
        for block in split_blocks(remedy):
            if block.is_code:
                yield from (_indented(safe_text(line, "cyan"), 8) for line in block.lines)
            else:
                yield _indented(safe_text(" ".join(block.lines)), 4)
        if others:
            yield _indented(safe_text(others), 4)


def _ladder(ladder: Ladder, *, wide: bool) -> RenderableType:
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
        rows += [drawn, _indented(words, time_width + 4)] if line.text else [drawn]
    return table if wide else Group(*rows)


def _line_style(line: LadderLine) -> str:
    if line.is_closing:
        return "red"
    return "bold" if line.is_request else ""


def _grid(grid: summary.Grid, room: int) -> RenderableType:
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


def _upstreams(report: Report, width: int) -> list[RenderableType]:
    if not report.upstreams:
        return []
    parts: list[RenderableType] = [
        "",
        _heading(summary.upstreams_title(report)),
        _indented(_grid(summary.upstream_grid(report.upstreams, has_proxy=report.has_proxy), width - _INDENT)),
    ]
    parts += [_indented(safe_text(remark)) for remark in summary.upstream_remarks(report.upstreams)]
    return parts


def _settings(report: Report, width: int) -> list[RenderableType]:
    if not report.settings:
        return []
    return [
        "",
        _heading(settings_title(report.settings)),
        _indented(_grid(settings_grid(report.settings), width - _INDENT)),
    ]


def _verdicts(report: Report) -> list[RenderableType]:
    clean, skipped = summary.verdict_lines(report)
    parts: list[RenderableType] = []
    parts += _section("Not evaluated", (f"{code}: {reason}" for code, reason in skipped))
    parts += _section("Looked for and not found", [", ".join(clean)] if clean else [])
    return parts


def _section(heading: str, lines: Iterable[str]) -> list[RenderableType]:
    body = [_indented(safe_text(line)) for line in lines]
    return ["", _heading(heading), *body] if body else []
