"""The report for a chat: mrkdwn, the verdict, the impact, the first remedy, and where the whole of it is.

Slack's markup has no escape character: a word that could be markup, a mention, a link or an emoji becomes code, where
nothing is interpreted; a backtick in it becomes an apostrophe.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.base.units import count_of, format_ts_ns
from pcapdiag.privacy.escape import shorten, visible
from pcapdiag.report import summary
from pcapdiag.report.headline import headline
from pcapdiag.report.impact import impact_line
from pcapdiag.report.ladder import build_ladder, on_a_page
from pcapdiag.report.remedy import split_blocks, split_code
from pcapdiag.report.render.patch import changes_of, in_few_words, patch_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.report.ladder import Ladder
    from pcapdiag.report.model import Report

_MARKUP = re.compile(
    r"[*~`<>&@#]|(?<!\w)_|_(?!\w)|://|:(?:[\w+-]*[A-Za-z+_-][\w+-]*|100|1234):|\bwww\.|[A-Za-z]\.[A-Za-z]{2}"
)
_BROADCAST = re.compile(r"(?i)@(?=here|channel|everyone|group)")
_MAX_FINDINGS = 5
_MAX_LINES = 12


def render(report: Report, *, text_limit: int, whole: str, has_ladder: bool = True) -> str:
    """Return the short form of a report.

    Parameters
    ----------
    report : Report
        What to show.
    text_limit : int
        Characters of any one text: what is longer is cut.
    whole : str
        Where the whole report is.
    has_ladder : bool
        Whether there is room for the ladder of one request.

    Returns
    -------
    str
        Lines of mrkdwn, a newline at the end.
    """
    return "\n".join(_lines(report, text_limit, whole, has_ladder=has_ladder)) + "\n"


def mrkdwn_text(text: str) -> str:
    """Return `text` so that Slack shows it as it is, on one line; what stands between backticks as code."""
    out = ""
    for part, is_code in split_code(visible(text)):
        shown = _code_span(part) if is_code else " ".join(_word(word) for word in part.split(" "))
        # Two runs of code that touch would be none.
        out += f" {shown}" if out.endswith("`") and shown.startswith("`") else shown
    return out


def _code_span(text: str) -> str:
    return f"`{_entities(_BROADCAST.sub('@ ', text))}`"


def strong(text: str) -> str:
    """Return `text` in bold, but for what is code: a bold run that holds code is shown with its asterisks."""
    parts: list[str] = []
    for word in visible(text).split(" "):
        shown = _word(word)
        is_code = shown != word
        if not is_code and word and parts and parts[-1].endswith("*"):
            parts[-1] = f"{parts[-1][:-1]} {shown}*"
        else:
            parts.append(shown if is_code or not word else f"*{shown}*")
    return " ".join(parts)


def _word(word: str) -> str:
    if not _MARKUP.search(word):
        return word
    # Mentions of all are looked for in code too where a workspace asks for it; a space takes them apart.
    quiet = _BROADCAST.sub("@ ", word.replace("`", "'"))
    code = quiet.rstrip(",.;:") or quiet
    return f"`{_entities(code)}`{quiet[len(code) :]}"


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(lines: tuple[str, ...]) -> str:
    body = "\n".join(_entities(visible(line).replace("`", "'")) for line in lines)
    return f"```\n{_BROADCAST.sub('@ ', body)}\n```"


def _lines(report: Report, limit: int, whole: str, *, has_ladder: bool) -> Iterator[str]:
    yield strong(shorten(headline(report), limit))
    yield mrkdwn_text(shorten(impact_line(report.impact, has_truncated=report.totals.truncated > 0), limit))
    yield from (f"Where: {mrkdwn_text(shorten(line, limit))}" for line in _places(report))
    groups = summary.finding_groups(report)
    for group in groups[:_MAX_FINDINGS]:
        head = group.head
        facts = f"{head.severity.name.lower()}, {head.confidence.name.lower()}, {count_of(group.count, 'time')}"
        yield mrkdwn_text(f"{head.code} {head.name}: {facts}")
    if len(groups) > _MAX_FINDINGS:
        yield f"and {len(groups) - _MAX_FINDINGS:,} more causes"
    # The verdict names the cause of most failures first; the remedy is for that one.
    main = max((group for group in groups if group.remedies), key=lambda group: group.failures, default=None)
    if main is not None:
        yield from _remedy(main, limit)
    shown = next((o for g in ([main] if main is not None else []) for o in g.occurrences if o.evidence), None)
    if shown is not None and has_ladder:
        yield mrkdwn_text(summary.occurrence_title(shown))
        yield _code(tuple(_ladder(build_ladder(on_a_page(shown)))))
    yield f"Whole report: {mrkdwn_text(shorten(whole, limit))}"


def _places(report: Report) -> Iterator[str]:
    """Yield which upstreams were hit and when: what a chat wants to know before why."""
    hit = [u for u in report.upstreams if u.unanswered]
    causes = [f for f in report.findings if f.failures]
    if not hit or not causes:
        return
    first = min(f.first_ts_ns for f in causes)
    last = max(f.last_ts_ns for f in causes)
    n_lost = sum(u.unanswered for u in hit)
    upstreams = ", ".join(u.endpoint for u in hit[:3]) + (f" and {len(hit) - 3} more" if len(hit) > 3 else "")
    when = f", {summary.clock(format_ts_ns(first))} to {summary.clock(format_ts_ns(last))} UTC" if first >= 0 else ""
    yield f"{count_of(n_lost, 'request')} without an answer from {upstreams}{when}"


def _remedy(group: summary.FindingGroup, limit: int) -> Iterator[str]:
    """Yield what to change and the words that belong to it; the whole report has the rest."""
    changes = changes_of(group)
    blocks = in_few_words(group, split_blocks(group.remedies[0].text))
    words = next((block for block in blocks if not block.is_code), None)
    settings = next((block for block in blocks if block.is_code), None)
    yield f"Remedy for {mrkdwn_text(group.head.code)}:"
    for block in blocks:
        if block is words:
            yield mrkdwn_text(shorten(" ".join(words.lines), limit))
        elif block is settings:
            told = tuple(patch_lines(changes, more="whole report")) if changes else settings.lines
            lines = tuple(shorten(line, limit) for line in told[:_MAX_LINES])
            yield _code((*lines, *(["..."] if len(told) > _MAX_LINES else [])))


def _ladder(ladder: Ladder) -> Iterator[str]:
    """Yield the lines of a ladder without the words beside it: a chat is narrow."""
    width = max(len(line.time) for line in ladder.lines)
    yield f"{'':>{width}}  {ladder.header}  frame"
    yield from (f"{line.time:>{width}}  {line.arrow}  {line.frame}" for line in ladder.lines)
