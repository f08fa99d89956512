"""The message about what is new or worse: short, plain text, and harmless wherever it is shown.

Knows findings; not who is told. Text from a capture can neither call people nor make links in a chat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import count_of
from pcapdiag.privacy.escape import shorten, visible

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_BYTES: Final = 1800
"""The smallest chat takes 2000."""
_MOST_TEXT: Final = 240
# A chat may read these as a call to everybody or as a link.
_HARMLESS: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "\uff20", "`": "'"})


@dataclass(frozen=True, slots=True)
class Message:
    """What to send."""

    title: str
    body: str


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
        "\n".join((harmless(f"NEW: {one.what}"), harmless(one.message), harmless(one.detail))) for one in news
    ]
    return Message(f"pcapdiag: {len(news):,} new ({when})", bounded(paragraphs, "incidents.jsonl lists them all"))


def bounded(paragraphs: Sequence[str], rest: str) -> str:
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


def harmless(text: str) -> str:
    """Return text that neither calls people nor makes links in a chat, shortened."""
    return shorten(visible(text), _MOST_TEXT).translate(_HARMLESS)
