"""The report as blocks for a ticket: headings, paragraphs, tables, code; what is said, and what may be left out.

Every ticket dialect shows the same blocks; none of them decides what is worth saying. Text here is raw: a dialect
escapes it. A `Budget` says how much there may be; what it leaves out is counted, never silently dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.units import count_of
from pcapdiag.privacy.escape import shorten
from pcapdiag.report import summary
from pcapdiag.report.far_end import both_ends_lines, far_filter, proof_line, proof_lines
from pcapdiag.report.headline import headline, main_cause
from pcapdiag.report.impact import impact_line
from pcapdiag.report.incidents import incident_lines
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.ledger import entries_in_words, ledger_lines, span_of
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.render.patch import changes_of, in_few_words, patch_lines
from pcapdiag.report.settings import settings_grid, settings_title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.report.ladder import Ladder
    from pcapdiag.report.model import OccurrenceDetail, Report
    from pcapdiag.report.remedy import Block as RemedyBlock

MAX_FOLDED_ROWS = 200
"""Rows of occurrences that a closed table adds to those in sight."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; `level` 2 for findings and sections, 3 within them."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph; `style` is empty, ``strong`` or ``emphasis``."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label and, behind a colon, something to copy as it is."""

    label: str
    code: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines in a fixed-width font, shown as they are; `language` colours them where a dialect can: ``diff``.

    Where it `is_exact`, a program is to read them: no line is broken, and tabs and blanks at its end stay.
    """

    lines: tuple[str, ...]
    language: str = "text"
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table."""

    grid: summary.Grid


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a file beside the document; `text` says what it shows to whoever does not see it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks under one line, closed until somebody opens them, where the dialect can do so."""

    title: str
    blocks: tuple[Block, ...]


Block = Heading | Paragraph | Labelled | Code | TableBlock | Bullets | Image | Details

_ALL = 1 << 30


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of the report a document may hold, each counted from the beginning.

    `folded_rows` is for each finding, behind the table in sight; `text` are characters of any one text, and where it
    is given a finding says only the first of its messages and remedies.
    """

    rows: int = _ALL
    ladders: int = _ALL
    sections: int = _ALL
    findings: int = _ALL
    text: int = _ALL
    folded_rows: int = MAX_FOLDED_ROWS


@dataclass(slots=True)
class Document:
    """Blocks, and how much the budget kept out of them."""

    blocks: list[Block] = field(default_factory=list)
    hidden_rows: int = 0
    hidden_ladders: int = 0
    hidden_sections: int = 0
    hidden_findings: int = 0

    def omissions(self) -> str:
        """Return what was left out, in words; empty if nothing was."""
        counts = (
            (self.hidden_rows, "occurrence"),
            (self.hidden_ladders, "ladder"),
            (self.hidden_sections, "section"),
            (self.hidden_findings, "finding"),
        )
        return ", ".join(count_of(n, noun) for n, noun in counts if n)


def build_document(report: Report, budget: Budget | None = None, *, images: Sequence[Image] = ()) -> Document:
    """Return what a ticket says of a report, the verdict first.

    Parameters
    ----------
    report : Report
        What to show.
    budget : Budget, optional
        How much of it; all of it if not given.
    images : sequence of Image
        Charts in files beside the document.

    Returns
    -------
    Document
        Blocks in order, and what is missing. The verdict and the remedy for its cause are always there.
    """
    builder = _DocumentBuilder(report, budget or Budget())
    builder.build(images)
    return builder.document


def section(title: str, lines: Iterable[str]) -> tuple[Block, ...]:
    """Return a heading and a list; nothing where there is no line."""
    bullets = tuple(lines)
    return (Heading(title, 2), Bullets(bullets)) if bullets else ()


def sections(report: Report) -> Iterator[tuple[Block, ...]]:
    """Yield what stands behind the findings, section by section, the most useful first; empty ones too.

    A new part of the report joins the tickets here: one more line, made of its own module's words.
    """
    yield section("At one moment", incident_lines(report))
    if report.upstreams:
        grid = TableBlock(summary.upstream_grid(report.upstreams, has_proxy=report.has_proxy))
        remarks = summary.upstream_remarks(report.upstreams)
        yield (Heading(summary.upstreams_title(report), 2), grid, *([Bullets(remarks)] if remarks else []))
    if report.settings:
        yield (Heading(settings_title(report.settings), 2), TableBlock(settings_grid(report.settings)))
    yield section("Both ends", both_ends_lines(report.far_end))
    yield section("Ledger", ledger_lines(report.log, span_of(report)))
    yield section("Notes on the input", summary.note_lines(report))
    clean, skipped = summary.verdict_lines(report)
    yield section("Not evaluated", [f"{code}: {reason}" for code, reason in skipped])
    yield section("Looked for and not found", [", ".join(clean)] if clean else [])
    yield section("Input", summary.input_lines(report))


_LEAST_TEXT = 80
"""Letters of a paragraph below which the verdict stands alone."""


class _DocumentBuilder:
    """Spends a budget from the top of the report to its end."""

    def __init__(self, report: Report, budget: Budget) -> None:
        self._report = report
        self._rows, self._ladders, self._sections = budget.rows, budget.ladders, budget.sections
        self._findings, self._text, self._folded_rows = budget.findings, budget.text, budget.folded_rows
        self._is_brief = budget.text < _ALL
        self.document = Document()

    def build(self, images: Sequence[Image]) -> None:
        """Say first what everybody reads: verdict, impact, one picture, the patch, one ladder; the rest is folded."""
        # The verdict is the last thing to be shortened.
        self._add(Paragraph(shorten(headline(self._report), 4 * self._text), "strong"))
        if self._text >= _LEAST_TEXT:
            line = impact_line(self._report.impact, has_truncated=self._report.totals.truncated > 0)
            self._add(Paragraph(self._cut(line)))
        self._add(*images[:1])
        groups = summary.finding_groups(self._report)
        main = main_cause(self._report) or next(iter(groups), None)
        # A document without the remedy for what its verdict names would help nobody, so that this always stays.
        drawn = self._main(main) if main is not None else None
        shown = groups[: max(self._findings, 0)]
        for group in shown:
            is_main = main is not None and group.findings == main.findings
            self._group(group, drawn if is_main else None, is_main=is_main)
        hidden = [g for g in groups if g not in shown and (main is None or g.findings != main.findings)]
        self.document.hidden_findings = sum(len(g.findings) for g in hidden)
        if images[1:]:
            self._add(Details("Charts", tuple(images[1:])))
        for blocks in sections(self._report):
            if blocks and self._sections > 0:
                self._sections -= 1
                title, *rest = blocks
                self._add(Details(title.text, tuple(rest)) if isinstance(title, Heading) else title)
            elif blocks:
                self.document.hidden_sections += 1

    def _add(self, *blocks: Block) -> None:
        self.document.blocks += blocks

    def _cut(self, text: str) -> str:
        return shorten(text, self._text)

    def _main(self, group: summary.FindingGroup) -> OccurrenceDetail | None:
        """Say what to do about the cause that the verdict names, and show one request of it, which is returned."""
        self._add(Heading(_named(group), 2))
        remedy = next(iter(group.remedies), None)
        if remedy is not None:
            self._patch(group, remedy)
        shown = next((o for o in group.occurrences if o.evidence), None)
        if shown is None:
            if not self._is_brief and self._findings <= 0:
                self._add(*(Paragraph(self._cut(m)) for m in summary.told_once(group.findings)[:1]))
            return None
        if self._ladders <= 0:
            self.document.hidden_ladders += 1
            return None
        self._ladders -= 1
        self._add(
            Paragraph(summary.occurrence_title(shown)),
            Code(tuple(_ladder_lines(build_ladder(shown)))),
            Labelled(summary.filter_label(shown, self._report), shown.display_filter),
        )
        return shown

    def _patch(self, group: summary.FindingGroup, remedy: summary.GroupRemedy) -> None:
        changes = changes_of(group)
        for block in in_few_words(group, split_blocks(remedy.text)):
            if not block.is_code:
                self._add(Paragraph(self._cut(" ".join(block.lines))))
                continue
            lines = tuple(patch_lines(changes, more="below")) if changes else block.lines
            if self._is_brief:
                lines = lines[: max(self._text // 40, 3)]
            self._add(Code(tuple(self._cut(line) for line in lines), "diff" if changes else "text"))
        cautions = dict.fromkeys(c.caution for c in changes if c.caution)
        self._add(*(Paragraph(self._cut(text)) for text in cautions if not self._is_brief))
        if remedy.others and not changes:
            self._add(Paragraph(self._cut(remedy.others)))

    def _group(self, group: summary.FindingGroup, drawn: OccurrenceDetail | None, *, is_main: bool) -> None:
        """Add all of a cause as one folded part; `drawn` is the occurrence that stands above it already."""
        outer, self.document.blocks = self.document.blocks, []
        messages = summary.told_once(group.findings)[: 1 if self._is_brief else None]
        self._add(*(Paragraph(self._cut(m)) for m in messages))
        self._add(*(Paragraph(line) for line in proof_lines(group.occurrences)))
        shown, *others = group.occurrences or (None,)
        if shown is not None and shown.evidence:
            self._ladder(shown, is_drawn=shown is drawn)
        elif shown is not None:
            others = [shown, *others]
        self._table(group, others)
        self._remedies(group, is_main=is_main)
        if not self._is_brief:
            refutations = list(dict.fromkeys(f.refuted_by for f in group.findings if f.refuted_by))
            self._add(*([Heading("What would have refuted it", 3)] if refutations else []))
            self._add(*(Paragraph(text) for text in refutations))
        inner, self.document.blocks = self.document.blocks, outer
        self._add(Details(_named(group), tuple(inner)))

    def _ladder(self, shown: OccurrenceDetail, *, is_drawn: bool) -> None:
        if self._ladders <= 0 and not is_drawn:
            self.document.hidden_ladders += 1
            return
        if not is_drawn:
            self._ladders -= 1
            self._add(
                Paragraph(summary.occurrence_title(shown)),
                Code(tuple(_ladder_lines(build_ladder(shown)))),
                Labelled(summary.filter_label(shown, self._report), shown.display_filter),
            )
        elif any((shown.far_end, shown.display_filter, shown.log_lines, shown.upstream_log)):
            self._add(Paragraph("Of the request above:"))
        self._add(
            *([Paragraph(proof_line(shown))] if shown.far_end is not None else []),
            *([Labelled(summary.IN_EVIDENCE, summary.evidence_filter(shown))] if shown.display_filter else []),
            *([Labelled(*far_filter(shown))] if far_filter(shown)[1] else []),
            *(Paragraph(f"Log entry: {line}") for line in entries_in_words(self._report.log, shown.log_lines)),
            *([Paragraph(f"Application's log: {shown.upstream_log}")] if shown.upstream_log else []),
        )

    def _table(self, group: summary.FindingGroup, others: Sequence[OccurrenceDetail]) -> None:
        n_drawn = len(group.occurrences) - len(others)
        n_others = summary.count_others(group, n_drawn)
        n_rows = min(len(others), summary.MAX_OCCURRENCES + self._folded_rows)
        n_shown = min(n_rows, max(self._rows, 0))
        self._rows -= n_shown
        if n_shown < n_rows:
            self.document.hidden_rows += n_others - n_shown
        if n_shown:
            self._add(Heading(count_of(n_others, "more", "more") if n_drawn else "Where", 3))
            in_sight = summary.MAX_OCCURRENCES
            self._add(TableBlock(summary.occurrence_grid(others[: min(in_sight, n_shown)])))
            rest = others[in_sight:n_shown]
            if rest:
                table = TableBlock(summary.occurrence_grid(rest, limit=MAX_FOLDED_ROWS))
                self._add(Details(f"The next {len(rest):,}", (table,)))
        left_out = summary.left_out(group, n_drawn, n_rows)
        if n_shown == n_rows and left_out:
            self._add(Paragraph(left_out))

    def _remedies(self, group: summary.FindingGroup, *, is_main: bool) -> None:
        for number, (subjects, remedy, others) in enumerate(group.remedies[: 1 if self._is_brief else None]):
            blocks = split_blocks(remedy)
            if is_main and number == 0:
                blocks = _unsaid(blocks, in_few_words(group, blocks))
            if not blocks:
                continue
            title = summary.remedy_title(subjects, len(group.remedies))
            self._add(Heading(self._cut(f"More on the {title[0].lower()}{title[1:]}" if is_main else title), 3))
            for block in blocks[: 2 if self._is_brief else None]:
                if block.is_code:
                    lines = block.lines[: self._text // 40] if self._is_brief else block.lines
                    self._add(Code(tuple(self._cut(line) for line in lines)))
                else:
                    self._add(Paragraph(self._cut(" ".join(block.lines))))
            self._add(*([Paragraph(self._cut(others))] if others else []))


def _unsaid(blocks: Sequence[RemedyBlock], said: Sequence[RemedyBlock]) -> tuple[RemedyBlock, ...]:
    """Return the blocks of a remedy that do not stand above already, nor lead up to one that does."""
    rest = []
    for block, after in zip(blocks, (*blocks[1:], None), strict=True):
        leads = after is not None and after in said and block.lines[-1].endswith(":")
        if block not in said and not leads:
            rest.append(block)
    return tuple(rest)


def _named(group: summary.FindingGroup) -> str:
    head = group.head
    facts = f"{head.severity.name.lower()}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"
    return f"{head.code} {head.name}: {facts}"


def _ladder_lines(ladder: Ladder) -> Iterator[str]:
    time_width = max([len("time"), *(len(line.time) for line in ladder.lines)])
    frame_width = max([len("frame"), *(len(line.frame) for line in ladder.lines)])
    yield f"{'time':>{time_width}}  {ladder.header}  {'frame':>{frame_width}}"
    for line in ladder.lines:
        yield f"{line.time:>{time_width}}  {line.arrow}  {line.frame:>{frame_width}}  {line.text}"
