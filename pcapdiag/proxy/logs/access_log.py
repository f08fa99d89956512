"""The access log of a proxy: by its ``log_format``, or by recognising one.

Knows which formats to try; how a line of one is taken apart is in `log_format`, `loose` and `variables`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.logs.entries import AccessEntry, Log, LogCounts
from pcapdiag.proxy.logs.heads import (
    CLIENT,
    ERROR_HEAD,
    find_access_record,
    find_error_record,
    is_table_header,
    starts_of_words,
)
from pcapdiag.proxy.logs.lines import must_be_readable, read_lines
from pcapdiag.proxy.logs.log_format import KNOWN_FORMATS, compile_format
from pcapdiag.proxy.logs.loose import parse_json, parse_loose
from pcapdiag.proxy.logs.unwrap import Unwrapper, object_behind
from pcapdiag.proxy.logs.variables import SLOTS, access_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Parser = Callable[[str], list[str] | None]


def read_access_log(path: str, log_format: str | None = None) -> Log[AccessEntry]:
    """Open an access log; iterate over the result for its entries, in their order.

    Parameters
    ----------
    path : str
        The log, plain or compressed, as nginx wrote it or as a container runtime wrapped it.
    log_format : str, optional
        As in nginx's configuration (see `log_format.compile_format`); without it the format is recognised line by
        line.

    Returns
    -------
    Log of AccessEntry
        One entry per request.

    Raises
    ------
    LogError
        It cannot be opened.
    UsageError
        `log_format` holds no variable.
    """
    must_be_readable(path)
    if log_format is not None:
        parsers: tuple[Parser, ...] = (compile_format(log_format).match,)
    else:
        parsers = (*(compile_format(name).match for name in KNOWN_FORMATS), _parse_loose)
    return Log(path, lambda counts: _read(path, parsers, counts))


def _read(path: str, parsers: tuple[Parser, ...], counts: LogCounts) -> Iterator[AccessEntry]:
    for number, values in parsed_lines(path, parsers, counts):
        counts.n_records += 1
        yield access_entry(path, number, values)


_WRAPPED: Final = ("{", "[pod/", "\x1b", "<")
_OBJECT: Final = re.compile(r'\{\s*"')
_CLIENT: Final = re.compile(rf"(?:{CLIENT}(?::\d{{1,5}})?|-)?", re.ASCII)
_CLIENT_SLOT: Final = tuple(SLOTS).index("client")
_MOST_WORDS: Final = 16
"""Before a record of a format that was given there stand no more."""


def parsed_lines(path: str, parsers: tuple[Parser, ...], counts: LogCounts) -> Iterator[tuple[int, list[str]]]:
    """Yield number and values of every line that one of the parsers understands; count the others.

    Parameters
    ----------
    path : str
        The log.
    parsers : tuple of callable
        Tried in their order, that of the line before first.
    counts : LogCounts
        Gets what became of the lines.

    Yields
    ------
    tuple of int and list of str
        Number of the line and its values by slot.
    """
    reader = _LineReader(parsers)
    number, columns = 0, ""
    for first, lines in read_lines(path, counts):
        for number, line in enumerate(lines, first):
            if not line:
                continue
            values = reader.quickly(line)
            if values is not None:
                yield number, values
                continue
            for text, found in reader.take(line):
                if found is not None:
                    yield number, found
                elif text and _is_error(text):
                    counts.n_foreign += 1
                elif number == 1 and is_table_header(text):
                    columns = text
                elif text:
                    counts.reject(number, text)
    if columns and number == 1:
        # Names of columns without a table are none.
        counts.reject(number, columns)
    if rest := reader.rest():
        counts.reject(number, rest)


class _LineReader:
    """Tries what is wrapped around lines, and the parsers, that of the line before first."""

    def __init__(self, parsers: tuple[Parser, ...]) -> None:
        self._parsers = parsers
        self._latest = parsers[0]
        self._unwrapper = Unwrapper()

    def quickly(self, line: str) -> list[str] | None:
        """Return the values of a line like the one before it, with nothing around it."""
        # One that reads anything would take for values what stands before a record.
        if self._latest in _LOOSE or line.startswith(_WRAPPED):
            return None
        values = self._latest(line)
        # A name may be put before an address without a blank between them.
        return values if values is not None and _CLIENT.fullmatch(values[_CLIENT_SLOT]) else None

    def take(self, line: str) -> Iterator[tuple[str, list[str] | None]]:
        """Yield each record of a line with its values; None for what no parser understands."""
        if line.startswith("{") and (values := self._match(line)) is not None:
            # A line in JSON may be a record of its own, or be wrapped around one.
            yield line, values
            return
        text = self._unwrapper.unwrap(line)
        for one in text.split("\n") if text else ():
            yield one, self._match(one)

    def rest(self) -> str:
        """Return what waits for an end that did not come."""
        return self._unwrapper.rest()

    def _match(self, text: str) -> list[str] | None:
        is_json = _OBJECT.match(text) is not None
        if not is_json and (found := find_access_record(text)) is not None:
            text = found.text
        elif not is_json and (inner := object_behind(text)):
            text, is_json = inner, True
        for parser in dict.fromkeys((self._latest, *self._parsers)):
            # Whatever it is, a JSON object says by its keys what a search in its text would guess.
            if parser in _LOOSE:
                continue
            if (values := parser(text)) is not None:
                self._latest = parser
                return values
        if is_json:
            return parse_json(text)
        loose = next((parser for parser in self._parsers if parser in _LOOSE), None)
        if loose is not None:
            return loose(text)
        # A format that was given has no beginning that is known: it is tried behind the words before it.
        parser = self._parsers[0]
        return next((v for at in starts_of_words(text, _MOST_WORDS) if (v := parser(text[at:])) is not None), None)


def _is_error(text: str) -> bool:
    """Tell a record of the error log, whose request and time a loose reader would take for one of this log."""
    return ERROR_HEAD.match(text) is not None or find_error_record(text) is not None


def _parse_loose(line: str) -> list[str] | None:
    return None if _is_error(line) else parse_loose(line)


_LOOSE: Final = frozenset((parse_loose, _parse_loose))
"""Parsers that take any line with a request."""
