"""The message about what is new or worse: short, plain text, and harmless wherever it is shown.

Knows findings; not who is told. Text from a capture can neither call people nor make links in a chat.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pcapdiag.report.escape import shorten, visible
from pcapdiag.report.words import count_of
from pcapdiag.store.model import FindingState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcapdiag.store.model import FindingRow

_MOST_BYTES: Final = 1800
"""The smallest chat takes 2000."""
_MOST_TEXT: Final = 240
# A chat may read these as a call to everybody or as a link.
_HARMLESS: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "\uff20", "`": "'"})
_ORDER: Final = (FindingState.NEW, FindingState.WORSE)


@dataclass(frozen=True, slots=True)
class Message:
    """What to send."""

    title: str
    body: str


def compose(findings: Sequence[FindingRow], link: Callable[[FindingRow], str]) -> Message:
    """Return the message about findings.

    Parameters
    ----------
    findings : sequence of FindingRow
        Those that are new or worse, and those that were when nobody could be told; at least one.
    link : callable
        Returns the address of a finding's page, empty if there is none.

    Returns
    -------
    Message
        In plain text.
    """
    states = Counter(_word(finding) for finding in findings)
    counts = ", ".join(f"{states[word]:,} {word}" for word in ("new", "worse", "not told before") if states[word])
    last = max(finding.state_day for finding in findings)
    paragraphs = [_paragraph(finding, link(finding)) for finding in findings]
    return Message(f"pcapdiag: {counts} ({last})", _bounded(paragraphs, "pcapdiag history lists them all"))


@dataclass(frozen=True, slots=True)
class News:
    """One new trouble, in the texts that a message has of it."""

    what: str
    message: str
    detail: str


def compose_news(news: Sequence[News], when: str) -> Message:
    """Return the message about what has just happened.

    Parameters
    ----------
    news : sequence of News
        At least one.
    when : str
        When it happened.

    Returns
    -------
    Message
        In plain text.
    """
    paragraphs = [
        "\n".join((_harmless(f"NEW: {one.what}"), _harmless(one.message), _harmless(one.detail))) for one in news
    ]
    return Message(f"pcapdiag: {len(news):,} new ({when})", _bounded(paragraphs, "incidents.jsonl lists them all"))


def _bounded(paragraphs: Sequence[str], rest: str) -> str:
    """Join paragraphs as far as there is space, and say where to find the rest."""
    parts: list[str] = []
    size = 0
    for i, part in enumerate(paragraphs):
        size += len(part.encode()) + 2
        if parts and size > _MOST_BYTES:
            parts.append(f"and {count_of(len(paragraphs) - i, 'more', 'more')}: {rest}")
            break
        parts.append(part)
    return "\n\n".join(parts)


def _paragraph(finding: FindingRow, link: str) -> str:
    lines = [
        _harmless(f"{_word(finding).upper()}: {finding.code} {finding.name} {finding.subject}".rstrip()),
        _harmless(finding.message),
        f"{count_of(finding.last_count, 'time')} on {finding.state_day}, {finding.count:,} in all",
    ]
    return "\n".join([*lines, link] if link else lines)


def _word(finding: FindingRow) -> str:
    return finding.state.value if finding.state in _ORDER else "not told before"


def _harmless(text: str) -> str:
    return shorten(visible(text), _MOST_TEXT).translate(_HARMLESS)
