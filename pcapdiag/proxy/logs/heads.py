"""Where a record begins in a line before which something unknown was written: a tail of pods, grep -H, a table.

Knows how the beginnings of nginx's records look, and nothing of what follows. What a client chose may look like one; it
stands within quotes, so that nothing behind an open quote counts, unless that quote opens a field of a table. Nor does
what a sentence leads to: a program that quotes a record is no log.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

LEVELS: Final = "emerg|alert|crit|error|warn|notice|info|debug"
DATE: Final = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
ERROR_HEAD: Final = re.compile(rf"({DATE}) \[({LEVELS})\] (\d{{1,10}})#(\d{{1,10}}): (?:\*(\d{{1,19}}) )?", re.ASCII)

_LONGEST_PREFIX: Final = 300
"""[characters] Names of pods, files and hosts before a record are no longer, nor are labels of a query."""
CLIENT: Final = (
    r"(?:\d{1,3}(?:\.\d{1,3}){3}|unix:|(?=[0-9A-Fa-f:]{0,39}::|(?:[0-9A-Fa-f]{1,4}:){6})[0-9A-Fa-f:.]{2,45})"
)
ACCESS_HEAD: Final = re.compile(
    rf'(?<![^\s",;|:=\]}}>-]){CLIENT} - [^\s\[]{{0,80}} ?\[\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d [+-]\d{{4}}\] ',
    re.ASCII,
)
_REQUEST: Final = re.compile(r"\b[A-Z]{3,10} (?:/|https?://)|\[\d\d/[A-Z][a-z]{2}/\d{4}:")
_WORD: Final = r"(?<![\w./@-])[A-Za-z]{0,20}[a-z][A-Za-z']{0,20}"
_PROSE: Final = re.compile(
    rf"(?:{_WORD},? ){{2}}{_WORD}(?![\w./@-])|\b(?:ERROR|WARN(?:ING)?|INFO|DEBUG|FATAL|TRACE) (?:{_WORD} )+{_WORD}: $"
    rf"|^(?:{_WORD} )+{_WORD}: $"
)
"""Three words in a row, or two before a colon where no date stands first, as a host and a tag of syslog would."""
_DELIMITERS: Final = ",;\t"
_NUMBERED: Final = re.compile(r"\s*\d+\t", re.ASCII)
_COLUMN: Final = r'"{0,3}[@A-Za-z_][\w@ .\[\]()/-]{0,60}"{0,3}'
_TABLE_HEADER: Final = re.compile(rf"{_COLUMN}(?:[,;\t]{_COLUMN})+")
_DIGIT: Final = re.compile(r"\d", re.ASCII)
_CUT: Final = re.compile(r"[ \t:-](?![ \t])")


class FoundHead(NamedTuple):
    """A record, what stands before it, and whether it is the beginning of a field that goes on with the next line."""

    prefix: str
    text: str
    is_open: bool = False


def find_error_record(line: str) -> FoundHead | None:
    """Return the error record that a line ends with, if something else stands before it; None if there is none.

    Parameters
    ----------
    line : str
        Without what is known to be wrapped around lines.

    Returns
    -------
    FoundHead or None
        From its date on; a field of a table without its quotes and what follows.
    """
    return _find(ERROR_HEAD, line)


def find_access_record(line: str) -> FoundHead | None:
    """Return the same for a record of an access log that begins as nginx's own formats do."""
    return _find(ACCESS_HEAD, line)


def _find(head: re.Pattern[str], line: str) -> FoundHead | None:
    match = head.search(line, 0, len(line[:_LONGEST_PREFIX]) + 120)
    if match is None or match.start() > _LONGEST_PREFIX:
        return None
    before, text = line[: match.start()], line[match.start() :]
    if not is_prefix(before):
        return None
    # Labels hold quotes in pairs ({app="nginx"}); behind an odd one the text is somebody's value, or a field.
    if before.count('"') % 2:
        quote = before.rfind('"')
        if quote and before[quote - 1] not in _DELIMITERS:
            return None
        field, is_open = take_field(text)
        return FoundHead(before, field, is_open)
    if before[-1:] and before[-1] in _DELIMITERS and not _NUMBERED.fullmatch(before):
        # A field with a delimiter in it would have been quoted.
        text = text.split(before[-1], 1)[0]
    return FoundHead(before, text)


def is_prefix(text: str) -> bool:
    """Tell whether something may have been put before a record: names and stamps; no request, and no sentence."""
    return len(text) <= _LONGEST_PREFIX and not _REQUEST.search(text) and not _PROSE.search(text)


def starts_of_words(line: str, most: int) -> list[int]:
    """Return where a record may begin that looks like none: behind the first `most` blanks and colons."""
    ends = [match.end() for match in _CUT.finditer(line, 0, _LONGEST_PREFIX)]
    return [at for at in ends[:most] if is_prefix(line[:at]) and line.count('"', 0, at) % 2 == 0]


def take_field(text: str) -> tuple[str, bool]:
    """Return the text of a quoted field of a table, and whether it goes on behind the end of `text`.

    Parameters
    ----------
    text : str
        From behind the quote that opens it, or the next line of it.

    Returns
    -------
    tuple of str and bool
        Up to the quote that is no half of a pair.
    """
    parts = []
    at = 0
    while (end := text.find('"', at)) >= 0:
        parts.append(text[at:end])
        if text[end + 1 : end + 2] != '"':
            return "".join(parts), False
        parts.append('"')
        at = end + 2
    parts.append(text[at:])
    return "".join(parts), True


def without_prefix(line: str, prefix: str) -> str:
    """Return a line that continues a record without what stands before each: the same, but for its digits."""
    if not prefix:
        return line
    head = line[: len(prefix)]
    return line[len(prefix) :] if head == prefix or _shape(head) == _shape(prefix) else line


def _shape(text: str) -> str:
    return _DIGIT.sub("0", text).replace("-", ":")  # grep -n -C has either behind a number


def is_table_header(line: str) -> bool:
    """Tell whether a file's first line may be the names of a table's columns."""
    return len(line) <= _LONGEST_PREFIX and _TABLE_HEADER.fullmatch(line) is not None
