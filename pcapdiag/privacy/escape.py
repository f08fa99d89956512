"""Text from a capture, made safe to show: no control, escape, bidirectional or invisible character survives.

A request target is chosen by whoever sent it. Printed raw it could move the cursor, recolour the report, reverse the
reading order or hide characters. `visible` is the only way such text reaches a terminal, a Markdown page or a table.
"""

from __future__ import annotations

import unicodedata

# Letters with marks stay; what has no glyph of its own or changes its neighbours does not (Unicode general categories).
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me"})
_MARKS = frozenset({"Mn", "Mc"})
_MAX_MARKS = 4
"""Combining marks in a row that a script may need; more are only stacked to overflow the line."""


def visible(text: str) -> str:
    r"""Return `text` with every character that is not plainly visible written as ``\xNN`` or ``\uNNNN``.

    Parameters
    ----------
    text : str
        Any text; lone surrogates (bytes that were no UTF-8) become the ``\xNN`` of the byte.

    Returns
    -------
    str
        One line without control, format, bidirectional, private or unassigned characters.
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in _MARKS else 0
        odd_space = category == "Zs" and char != " "
        out.append(_notation(char) if category in _UNSAFE or odd_space or marks > _MAX_MARKS else char)
    return "".join(out)


def _notation(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: a byte that was no UTF-8
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def storable(text: str) -> str:
    r"""Return `text` with lone surrogates written as ``\xNN``, so that it can be encoded as UTF-8.

    JSON escapes control characters itself; only what is no character at all must be replaced.
    """
    return "".join(_notation(c) if "\ud800" <= c <= "\udfff" else c for c in text) if not text.isascii() else text


def shorten(text: str, limit: int) -> str:
    """Return `text` cut to `limit` characters, the cut marked by an ellipsis."""
    return text if len(text) <= limit else text[: max(limit - 3, 0)] + "..."


def first_words(text: str, limit: int) -> str:
    """Return as much of `text` as stands in `limit` characters, cut where a reader stops.

    That is behind a sentence, if one ends in the second half of that; else between words and before what stands in
    brackets that would stay open, with an ellipsis.
    """
    if len(text) <= limit:
        return text
    sentence = text.rfind(". ", limit // 2, limit)
    if sentence >= 0:
        return text[: sentence + 1]
    kept = text[: max(limit - 3, 0)].rsplit(" ", 1)[0]
    bracket = kept.rfind("(")
    if bracket > 0 and ")" not in kept[bracket:]:
        kept = kept[:bracket]
    return f"{kept.rstrip(' ,;:')}..."
