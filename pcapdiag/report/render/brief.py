"""The report on one page of a terminal: the verdict, one request as proof, what else there is, and what to do.

Everything else is a section of the whole report (`terminal.SECTIONS`); what is left out here is named here.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pcapdiag.base.findings import Severity
from pcapdiag.base.units import count_of
from pcapdiag.privacy.escape import first_words
from pcapdiag.report import summary
from pcapdiag.report.headline import change_to_make, clients_words, headline, main_cause
from pcapdiag.report.impact import impact_line, is_least
from pcapdiag.report.incidents import incident_lines
from pcapdiag.report.ladder import build_ladder, on_a_page
from pcapdiag.report.ledger import beyond_line, entries_in_words, span_of
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.render.blocks import safe_text
from pcapdiag.report.render.parts import (
    SEVERITY_STYLES,
    Phrases,
    draw_headline,
    draw_ladder,
    heading,
    indented,
    labelled,
)
from pcapdiag.report.render.patch import MOST_LINES, changes_of, in_few_words, patch_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from pcapdiag.report.model import Report

_MOST_OTHERS: Final = 5
_MOST_NOTES: Final = 3
_MESSAGE: Final = 110
"""[characters] Of what else there is."""


def draw_brief(report: Report) -> Iterator[RenderableType]:
    """Yield the page.

    Parameters
    ----------
    report : Report
        What to show.

    Yields
    ------
    RenderableType
        The answer first, what to do last: that is what a terminal leaves in sight.
    """
    yield draw_headline(report)
    clients = clients_words(report)
    if not clients or clients not in headline(report) or is_least(report.impact):
        yield safe_text(impact_line(report.impact, has_truncated=report.totals.truncated > 0))
    groups = summary.finding_groups(report)
    main = main_cause(report) or next(iter(groups), None)
    if main is not None:
        yield from _proof(main, report)
    yield from _others([group for group in groups if main is None or group.findings != main.findings])
    yield from _left_open(report)
    if main is not None:
        yield from _remedy(main)
    yield from _next(main)


def _proof(group: summary.FindingGroup, report: Report) -> Iterator[RenderableType]:
    shown = next((o for o in group.occurrences if o.evidence), None)
    if shown is None:
        if group.failures or group.head.code not in headline(report):  # else the first sentence has said it
            yield ""
            yield from (indented(safe_text(text)) for text in summary.told_once(group.findings)[:_MOST_OTHERS])
        return
    yield ""
    yield indented(Phrases(summary.occurrence_title(shown)))
    for line in entries_in_words(report.log, shown.log_lines)[:1]:
        # The name of the log will do: the whole path stands in its section.
        path, colon, rest = line.partition(": ")
        yield indented(safe_text(f"Log entry: {PurePath(path).name}{colon}{rest}"))
    if shown.display_filter:
        yield indented(safe_text(f"{summary.filter_label(shown, report)}: {shown.display_filter}"))
    yield indented(draw_ladder(build_ladder(on_a_page(shown)), wide=False))


def _others(groups: Sequence[summary.FindingGroup]) -> Iterator[RenderableType]:
    """Yield a line for each other finding that asks for something, and one for those that only inform."""
    acting = [group for group in groups if group.head.severity >= Severity.WARNING]
    if not groups:
        return
    yield ""
    yield indented(heading("Also found"))
    for group in acting[:_MOST_OTHERS]:
        head = group.head
        name = f"{head.code} {head.name}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"
        text = f"{name}: {first_words(head.message, _MESSAGE)}{change_to_make(group)}"
        yield indented(safe_text(text, SEVERITY_STYLES[head.severity]), 4)
    rest = [*acting[_MOST_OTHERS:], *(group for group in groups if group.head.severity < Severity.WARNING)]
    if rest:
        counts = (f" ({group.count:,})" if group.count else "" for group in rest)
        names = ", ".join(f"{g.head.code} {g.head.name}{n}" for g, n in zip(rest, counts, strict=True))
        kind = "And" if len(acting) > _MOST_OTHERS else "For information"
        yield indented(safe_text(f"{kind}: {names}"), 4)


def _left_open(report: Report) -> Iterator[RenderableType]:
    """Yield what was not looked for, and what is odd about the input: it limits all that is said."""
    _, skipped = summary.verdict_lines(report)
    n_skipped = sum(len(codes.split(", ")) for codes, _ in skipped)
    moments, notes = incident_lines(report), summary.note_lines(report)
    lines = [*moments[:1], *_beyond(report), *notes[:_MOST_NOTES]]
    if len(moments) > 1:
        lines.append(f"{count_of(len(moments) - 1, 'more such moment')}: --show moments")
    if len(notes) > _MOST_NOTES:
        lines.append(f"{count_of(len(notes) - _MOST_NOTES, 'more note')} on the input: --show notes")
    if n_skipped:
        lines.append(f"{count_of(n_skipped, 'cause')} could not be looked for: --show verdicts says which, and why")
    if len(lines) == 1:
        yield ""
        yield indented(labelled("Mind", lines[0]))
    elif lines:
        yield ""
        yield indented(heading("Mind"))
        yield from (indented(safe_text(line), 4) for line in lines)


def _beyond(report: Report) -> Iterator[str]:
    """Yield what the logs have of a time that the capture does not cover: nothing said above is about it."""
    if line := beyond_line(report.log, span_of(report)):
        yield line.rstrip(".")
    # Where what clients saw is told in full, it is said there.
    if (n := report.impact.failures_beyond) and clients_words(report):
        yield f"{count_of(n, 'failure')} in the access log came before or after the capture: not counted here"


def _remedy(group: summary.FindingGroup) -> Iterator[RenderableType]:
    remedy = next(iter(group.remedies), None)
    if remedy is None:
        return
    head = group.head
    yield ""
    title = f"{head.code} {head.name}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}: what to do"
    yield safe_text(title, SEVERITY_STYLES[head.severity])
    changes = changes_of(group)
    for block in in_few_words(group, split_blocks(remedy.text)):
        if not block.is_code:
            yield indented(safe_text(" ".join(block.lines)))
        else:
            lines = patch_lines(changes, more="-v") if changes else block.lines[:MOST_LINES]
            yield from (indented(safe_text(line, "cyan"), 4) for line in lines)
    yield from (indented(safe_text(text)) for text in dict.fromkeys(c.caution for c in changes if c.caution))
    # A patch is for all upstreams; words are for one, and say for whom else.
    if remedy.others and not changes:
        yield indented(safe_text(remedy.others))
    if n_more := len(group.remedies) - 1:
        more = count_of(n_more, "more remedy", "more remedies")
        yield indented(safe_text(f"That is for {remedy.subjects[0]}; -v has {more}."))


def _next(main: summary.FindingGroup | None) -> Iterator[RenderableType]:
    more = f"; --bundle incident.zip: for a ticket; pcapdiag rule {main.head.code}: why" if main is not None else ""
    yield ""
    yield safe_text(f"-v: all of it{more}", "dim")
