"""What a secret is: a place in a text and a kind; and texts read as what they stand for, whatever wraps them.

Knows no grammar of anything that holds secrets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CREDENTIALS: Final = "credentials"
QUERY_VALUE: Final = "query value"
PATH_PARAMETER: Final = "path parameter"
PATH_SEGMENT: Final = "path segment"
FIELD_VALUE: Final = "field value"
LOG_VALUE: Final = "value in a log line"
TOKEN: Final = "token"  # noqa: S105 - the kind, in words
METHOD: Final = "method"
REASON: Final = "reason phrase"
CUT_PAYLOAD: Final = "payload bytes cut off"

# One escape, however often the per cent sign itself was escaped: %3D, %253D, %25253D; IIS's %u003D; logs' \x3D, \u003D.
_ESCAPE: Final = re.compile(
    r"%(?:25)*(?:[uU]00)?(?P<percent>[0-9A-Fa-f]{2})|\\{1,2}(?:x|[uU]00)(?P<slash>[0-9A-Fa-f]{2})"
)
BLANK: Final = "\0"
"""Stands for an escaped character that would end a word where it stands unescaped."""


class Secret(NamedTuple):
    """Where a secret stands in a text, and what it is."""

    start: int
    end: int
    kind: str
    name: str


class Decoded(NamedTuple):
    """A text without its escapes, and where each of its characters began before; one place more than characters."""

    text: str
    places: Sequence[int]


def decode(text: str) -> Decoded | None:
    r"""Return a text with its escapes undone, however often it was escaped; None if it has none.

    Parameters
    ----------
    text : str
        With ``%XX``, ``%25XX``, ``\xXX`` in it.

    Returns
    -------
    Decoded or None
        Bytes are characters; white space, quotes and control characters are `BLANK`.
    """
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        char = chr(int(match["percent"] or match["slash"], 16))
        parts += [text[at : match.start()], char if char.isprintable() and char not in " \"'<>" else BLANK]
        places += range(at, match.start() + 1)
        at = match.end()
    if not at:
        return None
    places += range(at, len(text) + 1)
    return Decoded("".join((*parts, text[at:])), places)


def find_decoded(text: str, find: Callable[[str], Iterable[Secret]]) -> list[Secret]:
    """Return what `find` finds in a text as it stands, and in what it stands for; in order, without overlaps."""
    found = list(find(text))
    decoded = decode(text)
    if decoded is not None:
        places = decoded.places
        found += (s._replace(start=places[s.start], end=places[s.end]) for s in find(decoded.text))
    return list(without_overlaps(found))


def without_overlaps(found: Iterable[Secret]) -> Iterator[Secret]:
    """Yield secrets in order, those that overlap as one."""
    last: Secret | None = None
    for secret in sorted((s for s in found if s.end > s.start), key=lambda s: (s.start, -s.end)):
        if last is None:
            last = secret
        elif secret.start < last.end:
            last = last._replace(end=max(last.end, secret.end))
        else:
            yield last
            last = secret
    if last is not None:
        yield last
