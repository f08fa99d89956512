"""What somebody who mistyped a word may have meant: the nearest of those that exist."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_NAMES = 10_000
_LEAST_LIKE = 0.6


def nearest(word: str, known: Iterable[str]) -> str:
    """Return which of the known words is most like `word`; empty if none is.

    One that `word` is a part of, between underscores or hyphens, is nearer than one that only looks like it.

    Parameters
    ----------
    word : str
        As typed.
    known : iterable of str
        What there is.

    Returns
    -------
    str
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only for who mistyped

    by_lower = {name.lower(): name for name in known}
    if word:
        part = re.compile(rf"(?:^|[_-]){re.escape(word.lower())}(?:$|[_-])")
        if whole := next(filter(part.search, by_lower), ""):
            return by_lower[whole]
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=_LEAST_LIKE)
    return by_lower[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the question after the nearest of the known words, as the end of a sentence; empty if none is near."""
    found = nearest(word, known)
    return f"; did you mean {found}?" if found else ""


def cannot_open(path: str, error: OSError | ValueError) -> str:
    """Return why a file cannot be opened; of one that is not there, with the nearest name in the same folder.

    Parameters
    ----------
    path : str
        As given.
    error : OSError or ValueError
        What opening it raised.

    Returns
    -------
    str
        A sentence without its full stop.
    """
    text = f"cannot open {path}: {getattr(error, 'strerror', None) or error}"
    if getattr(error, "errno", 0) != errno.ENOENT:
        return text
    meant = Path(path)
    try:
        beside = [entry.name for _, entry in zip(range(_MOST_NAMES), meant.parent.iterdir(), strict=False)]
    except OSError:
        # The folder is not there either, or may not be listed: the reason above is all there is to say.
        return text
    found = nearest(meant.name, beside)
    return f"{text}; did you mean {meant.with_name(found)}?" if found else text
