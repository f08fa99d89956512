"""Where a record begins in a line that something unknown was written before: a tail of pods, grep -H, a console.

Knows how the beginnings of nginx's records look, and nothing of what follows. What a client chose may look like one; it
stands within quotes, so that nothing behind an open quote counts.
"""

from __future__ import annotations

import re
from typing import Final

LEVELS: Final = "emerg|alert|crit|error|warn|notice|info|debug"
DATE: Final = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
ERROR_HEAD: Final = re.compile(rf"({DATE}) \[({LEVELS})\] (\d{{1,10}})#(\d{{1,10}}): (?:\*(\d{{1,19}}) )?", re.ASCII)

_LONGEST_PREFIX: Final = 300
"""[characters] Names of pods, files and hosts before a record are no longer, nor are labels of a query."""
_ACCESS_HEAD: Final = re.compile(
    r'(?<![^\s",|:=\]}])[0-9A-Fa-f.:]{2,45} - [^\s\[]{0,80} ?\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] ',
    re.ASCII,
)
_REQUEST: Final = re.compile(r"\b[A-Z]{3,10} (?:/|https?://)|\[\d\d/[A-Z][a-z]{2}/\d{4}:")


def find_error_record(line: str) -> str | None:
    """Return the error record that a line ends with, if something else stands before it; None if there is none.

    Parameters
    ----------
    line : str
        Without what is known to be wrapped around lines.

    Returns
    -------
    str or None
        From its date on; a field of CSV without its quotes and what follows.
    """
    return _find(ERROR_HEAD, line)


def find_access_record(line: str) -> str | None:
    """Return the same for a record of an access log that begins as nginx's own formats do."""
    return _find(_ACCESS_HEAD, line)


def _find(head: re.Pattern[str], line: str) -> str | None:
    match = head.search(line, 0, len(line[:_LONGEST_PREFIX]) + 120)
    if match is None or match.start() > _LONGEST_PREFIX:
        return None
    before = line[: match.start()]
    if _REQUEST.search(before):
        return None
    if before.endswith('"') and (before == '"' or before[-2] in ",;\t"):
        return _unquote(line[match.start() :])
    # Labels hold quotes in pairs ({app="nginx"}); behind an odd one the text is somebody's value.
    return None if before.count('"') % 2 else line[match.start() :]


def _unquote(field: str) -> str:
    """Return the text of a quoted field of CSV: up to the quote that is no half of a pair."""
    parts = []
    at = 0
    while True:
        end = field.find('"', at)
        if end < 0:
            parts.append(field[at:])
            break
        parts.append(field[at:end])
        if field[end + 1 : end + 2] != '"':
            break
        parts.append('"')
        at = end + 2
    return "".join(parts)
