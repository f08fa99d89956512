"""The access log of a proxy: by its ``log_format``, or by recognising one.

Knows which formats to try; how a line of one is taken apart is in `log_format`, `loose` and `variables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.logs.entries import AccessEntry, Log, LogCounts
from pcapdiag.proxy.logs.heads import ERROR_HEAD, find_access_record, find_error_record
from pcapdiag.proxy.logs.lines import Unwrapper, must_be_readable, read_lines
from pcapdiag.proxy.logs.log_format import KNOWN_FORMATS, compile_format
from pcapdiag.proxy.logs.loose import parse_json, parse_loose
from pcapdiag.proxy.logs.variables import access_entry

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
    unwrapper = Unwrapper()
    latest = parsers[0]
    number = 0
    for first, lines in read_lines(path, counts):
        for number, line in enumerate(lines, first):
            if not line:
                continue
            values = None if line.startswith(_WRAPPED) else latest(line)
            if values is None:
                text = line if line.startswith("{") else unwrapper.unwrap(line)
                if text is None:
                    continue
                values, latest = _first_match(text, parsers, latest)
                if values is None and line.startswith("{"):
                    # A line in JSON may be a record of its own, or be wrapped around one.
                    text = unwrapper.unwrap(line)
                    if text is None:
                        continue
                    if text != line:
                        values, latest = _first_match(text, parsers, latest)
                if values is None:
                    if text and _is_error(text):
                        counts.n_foreign += 1
                    elif text:
                        counts.reject(number, text)
                    continue
            if values is not None:
                yield number, values
    if rest := unwrapper.rest():
        counts.reject(number, rest)


def _is_error(text: str) -> bool:
    """Tell a record of the error log, whose request and time a loose reader would take for one of this log."""
    return ERROR_HEAD.match(text) is not None or find_error_record(text) is not None


def _parse_loose(line: str) -> list[str] | None:
    return None if _is_error(line) else parse_loose(line)


def _first_match(text: str, parsers: tuple[Parser, ...], latest: Parser) -> tuple[list[str] | None, Parser]:
    is_json = text.startswith("{")
    if not is_json and (record := find_access_record(text)) is not None:
        text = record
    for parser in (latest, *parsers):
        # Whatever it is, a JSON object says by its keys what a search in its text would guess.
        if not (is_json and parser in {parse_loose, _parse_loose}) and (values := parser(text)) is not None:
            return values, parser
    return (parse_json(text) if is_json else None), latest
