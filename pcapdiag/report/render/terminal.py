"""The report for a terminal: the verdict first, the proof as a ladder, then what to do about it.

Text of captures and of rules goes through `safe_text`, which escapes it; rich never sees markup. Of this package only
this module, `brief`, `parts` and `blocks` know rich.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from pcapdiag.base.units import count_of
from pcapdiag.report import summary
from pcapdiag.report.far_end import both_ends_lines, far_filter, proof_line, proof_lines
from pcapdiag.report.impact import impact_line
from pcapdiag.report.incidents import incident_lines
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.ledger import entries_in_words, ledger_lines, span_of
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.render.blocks import MIN_WIDTH, WIDTH, make_console, safe_text
from pcapdiag.report.render.brief import draw_brief
from pcapdiag.report.render.parts import (
    INDENT,
    SEVERITY_STYLES,
    WIDE,
    draw_grid,
    draw_headline,
    draw_ladder,
    heading,
    indented,
    labelled,
)
from pcapdiag.report.settings import settings_grid, settings_title

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from rich.console import RenderableType

    from pcapdiag.report.model import OccurrenceDetail, Report


def render(report: Report, *, width: int = WIDTH, color: bool = False, show: Collection[str] | None = None) -> str:
    """Return the report as text for a terminal.

    Parameters
    ----------
    report : Report
        What to show.
    width : int
        Columns; the smallest is `MIN_WIDTH`.
    color : bool
        Whether to write ANSI colours.
    show : collection of str, optional
        Names of `SECTIONS` that follow the answer on one page; the whole report if it is not given.

    Returns
    -------
    str
        Lines without trailing blanks.
    """
    width = max(width, MIN_WIDTH)
    buffer = StringIO()
    console = make_console(buffer, width, color=color)
    if show is None:
        told = [draw_headline(report), _impact(report)]
        console.print(Group(*told, *(part for draw in SECTIONS.values() for part in draw(report, width))))
    else:
        sections = (part for name, draw in SECTIONS.items() if name in show for part in draw(report, width))
        console.print(Group(*draw_brief(report), *sections))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _impact(report: Report) -> Text:
    return safe_text(impact_line(report.impact, has_truncated=report.totals.truncated > 0))


def _findings(report: Report, width: int) -> Iterable[RenderableType]:
    for group in summary.finding_groups(report):
        yield ""
        yield from _finding_group(group, report, width)


def _finding_group(group: summary.FindingGroup, report: Report, width: int) -> Iterable[RenderableType]:
    head = group.head
    title = Text.assemble(
        safe_text(f"{head.code} {head.name}", SEVERITY_STYLES[head.severity]),
        safe_text(f"  {head.severity.name.lower()}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"),
    )
    yield title
    for message in summary.bounded([f.message for f in group.findings]):
        yield indented(safe_text(message))
    for line in proof_lines(group.occurrences):
        yield indented(safe_text(line))
    shown, *others = group.occurrences or (None,)
    if shown is not None and shown.evidence:
        yield ""
        yield indented(safe_text(summary.occurrence_title(shown)))
        yield ""
        yield indented(draw_ladder(build_ladder(shown), wide=width >= WIDE))
        yield ""
        if shown.far_end is not None:
            yield indented(safe_text(proof_line(shown)))
        for label, text in ((summary.filter_label(shown, report), shown.display_filter), far_filter(shown)):
            if text:
                yield indented(labelled(label, text))
        yield from (indented(labelled("Log entry", line)) for line in entries_in_words(report.log, shown.log_lines))
        if shown.upstream_log:
            yield indented(labelled("Application's log", shown.upstream_log))
    elif shown is not None:
        others = [shown, *others]
    if others:
        yield from _others(group, others, width)
    yield from _remedies(group)
    refutations = dict.fromkeys(f.refuted_by for f in group.findings if f.refuted_by)
    if refutations:
        yield ""
        yield indented(heading("What would have refuted it"))
    for refutation in refutations:
        yield indented(safe_text(refutation), 4)


def _others(group: summary.FindingGroup, others: list[OccurrenceDetail], width: int) -> Iterable[RenderableType]:
    n_drawn = len(group.occurrences) - len(others)
    yield ""
    yield indented(heading(count_of(summary.count_others(group, n_drawn), "more", "more") if n_drawn else "Where"))
    yield indented(draw_grid(summary.occurrence_grid(others), width - INDENT))
    left_out = summary.left_out(group, n_drawn)
    if left_out:
        yield indented(safe_text(left_out, "dim"), 4)


def _remedies(group: summary.FindingGroup) -> Iterable[RenderableType]:
    for subjects, remedy, others in group.remedies:
        yield ""
        yield indented(heading(summary.remedy_title(subjects, len(group.remedies))))
        for block in split_blocks(remedy):
            if block.is_code:
                yield from (indented(safe_text(line, "cyan"), 8) for line in block.lines)
            else:
                yield indented(safe_text(" ".join(block.lines)), 4)
        if others:
            yield indented(safe_text(others), 4)


def _upstreams(report: Report, width: int) -> list[RenderableType]:
    if not report.upstreams:
        return []
    parts: list[RenderableType] = [
        "",
        heading(summary.upstreams_title(report)),
        indented(draw_grid(summary.upstream_grid(report.upstreams, has_proxy=report.has_proxy), width - INDENT)),
    ]
    parts += [indented(safe_text(remark)) for remark in summary.upstream_remarks(report.upstreams)]
    return parts


def _settings(report: Report, width: int) -> list[RenderableType]:
    if not report.settings:
        return []
    return [
        "",
        heading(settings_title(report.settings)),
        indented(draw_grid(settings_grid(report.settings), width - INDENT)),
    ]


def _verdicts(report: Report) -> list[RenderableType]:
    clean, skipped = summary.verdict_lines(report)
    parts: list[RenderableType] = []
    parts += _section("Not evaluated", (f"{code}: {reason}" for code, reason in skipped))
    parts += _section("Looked for and not found", [", ".join(clean)] if clean else [])
    return parts


def _section(title: str, lines: Iterable[str]) -> list[RenderableType]:
    body = [indented(safe_text(line)) for line in lines]
    return ["", heading(title), *body] if body else []


SECTIONS: Final[dict[str, Callable[[Report, int], Iterable[RenderableType]]]] = {
    "findings": _findings,
    "moments": lambda report, _width: _section("At one moment", incident_lines(report)),
    "upstreams": _upstreams,
    "settings": _settings,
    "ends": lambda report, _width: _section("Both ends", both_ends_lines(report.far_end)),
    "ledger": lambda report, _width: _section("Ledger", ledger_lines(report.log, span_of(report))),
    "notes": lambda report, _width: _section("Notes on the input", summary.note_lines(report)),
    "verdicts": lambda report, _width: _verdicts(report),
    "input": lambda report, _width: _section("Input", summary.input_lines(report)),
}
"""Parts of the whole report, in its order, by the names that ``--show`` takes."""
