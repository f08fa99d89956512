"""The report as GitHub-flavoured Markdown, for tickets: the same words in the same order as on a terminal.

Text of captures and rules is escaped for Markdown: it forms no link, no HTML, no mention, no table cell of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.report import summary
from pcapdiag.report.escape import visible
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.ledger import ledger_lines
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.words import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.report.ladder import Ladder
    from pcapdiag.report.model import Report

# As little as possible, because people read the source in tickets too: an underscore within a word is no emphasis, a
# parenthesis is a link only behind a bracket.
_PUNCTUATION = re.compile(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))")
_LINE_START = re.compile(r"^(\s*)([-+=#>]|\d+[.)](?=\s|$))")
# GitHub makes links of these after rendering, so that a backslash does not help; an empty comment splits them.
_AUTOLINK = re.compile(r"(?i)(@|#|://|\bwww\.|\bGH-)(?=\S)")


def render(report: Report) -> str:
    """Return the report as one Markdown document.

    Parameters
    ----------
    report : Report
        What to show.

    Returns
    -------
    str
        Blocks separated by blank lines, a newline at the end.
    """
    return "\n\n".join(block for block in _blocks(report) if block) + "\n"


def prose(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line."""
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;")
    escaped = _PUNCTUATION.sub(r"\\\1", escaped)
    escaped = _LINE_START.sub(_escape_line_start, escaped)
    return _AUTOLINK.sub(_split_autolink, escaped)


def _escape_line_start(match: re.Match[str]) -> str:
    blank, marker = match.groups()
    return f"{blank}{marker[:-1]}\\{marker[-1]}"


def _split_autolink(match: re.Match[str]) -> str:
    found = match[1]
    return f":<!-- -->{found[1:]}" if found == "://" else f"{found}<!-- -->"


def code_span(text: str) -> str:
    """Return `text` as a code span whose fence is longer than any run of backticks in it."""
    text = visible(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or text != text.strip() or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(text: str) -> str:
    """Return `text` as a code span for a table; GitHub splits cells before it looks for code."""
    return code_span(text).replace("|", "\\|") if text not in {"", "-"} else text


def code_block(lines: Iterable[str]) -> str:
    """Return `lines` as a fenced block whose fence no line can close."""
    body = [visible(line).rstrip() for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *body, fence])


def _blocks(report: Report) -> Iterator[str]:
    yield f"**{prose(summary.headline(report))}**"
    for group in summary.finding_groups(report):
        yield from _finding_group(group, report)
    if report.upstreams:
        yield "## Upstreams"
        yield _grid(summary.upstream_grid(report.upstreams))
        yield _bullets(summary.upstream_remarks(report.upstreams))
    yield from _section("Ledger", ledger_lines(report.log))
    yield from _section("Notes on the input", summary.note_lines(report))
    clean, skipped = summary.verdict_lines(report)
    yield from _section("Not evaluated", [f"{code}: {reason}" for code, reason in skipped])
    yield from _section("Looked for and not found", [", ".join(clean)] if clean else [])
    yield from _section("Input", summary.input_lines(report))


def _finding_group(group: summary.FindingGroup, report: Report) -> Iterator[str]:
    head = group.head
    yield f"## {prose(f'{head.code} {head.name}')}"
    facts = f"{head.severity.name.lower()}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"
    yield f"*{facts}*"
    yield from (prose(message) for message in summary.bounded([f.message for f in group.findings]))
    shown, *others = group.occurrences or (None,)
    if shown is not None and shown.evidence:
        yield f"### Evidence\n\n{prose(summary.occurrence_title(shown))}"
        yield code_block(_ladder_lines(build_ladder(shown)))
        yield f"{prose(summary.filter_label(shown, report))}: {code_span(shown.display_filter)}"
    elif shown is not None:
        others = [shown, *others]
    if others:
        yield f"### {count_of(len(others), 'more', 'more')}" if shown is not others[0] else "### Where"
        yield _grid(summary.occurrence_grid(others))
        hidden = len(others) - summary.MAX_OCCURRENCES
        yield f"and {hidden:,} more: `--format json` lists them all" if hidden > 0 else ""
    for subjects, remedy in group.remedies:
        yield f"### {prose(summary.remedy_title(subjects, len(group.remedies)))}"
        for block in split_blocks(remedy):
            yield code_block(block.lines) if block.is_code else prose(" ".join(block.lines))
        yield prose(summary.remedy_of_others(subjects))
    refutations = list(dict.fromkeys(f.refuted_by for f in group.findings if f.refuted_by))
    yield from (f"### What would have refuted it\n\n{prose(text)}" for text in refutations[:1])
    yield from (prose(text) for text in refutations[1:])


def _ladder_lines(ladder: Ladder) -> Iterator[str]:
    time_width = max([len("time"), *(len(line.time) for line in ladder.lines)])
    frame_width = max([len("frame"), *(len(line.frame) for line in ladder.lines)])
    yield f"{'time':>{time_width}}  {ladder.header}  {'frame':>{frame_width}}"
    for line in ladder.lines:
        yield f"{line.time:>{time_width}}  {line.arrow}  {line.frame:>{frame_width}}  {line.text}"


def _grid(grid: summary.Grid) -> str:
    rule = ["---:" if idx in grid.right else "---" for idx in range(len(grid.headers))]
    rows = [grid.headers, tuple(rule), *(tuple(_cell(c) for c in row) for row in grid.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _section(heading: str, lines: Iterable[str]) -> Iterator[str]:
    body = _bullets(lines)
    if body:
        yield f"## {heading}"
        yield body


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {prose(line)}" for line in lines)
