"""Logs of the applications behind a proxy: which requests arrived there.

Knows that such a log may have any format; what a line with a request looks like is in `loose`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.logs.access_log import parsed_lines
from pcapdiag.proxy.logs.entries import Log, LogCounts, UpstreamLogEntry
from pcapdiag.proxy.logs.lines import must_be_readable
from pcapdiag.proxy.logs.log_format import KNOWN_FORMATS, compile_format
from pcapdiag.proxy.logs.loose import parse_loose
from pcapdiag.proxy.logs.variables import SLOTS, plan_of, upstream_entry, values_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.logs.access_log import Parser


def read_upstream_log(path: str, pattern: str | None = None) -> Log[UpstreamLogEntry]:
    """Open the log of an application; iterate over the result for the requests that it served, in its order.

    Parameters
    ----------
    path : str
        The log of gunicorn, uvicorn, nginx or anything else that writes a line per request.
    pattern : str, optional
        A regular expression with groups such as ``(?P<time>...)``, ``(?P<request_id>...)``, ``(?P<request>...)`` or
        ``(?P<method>...)`` and ``(?P<target>...)``, ``(?P<status>...)``; or a format with nginx's variables. Without
        it, what looks like a request is taken for one.

    Returns
    -------
    Log of UpstreamLogEntry
        One entry per request; other lines (starts, stops, warnings) are counted.

    Raises
    ------
    LogError
        It cannot be opened.
    UsageError
        `pattern` is neither.
    """
    must_be_readable(path)
    parser = parse_loose if pattern is None else _parser_of(pattern)
    return Log(path, lambda counts: _read(path, parser, counts))


def _read(path: str, parser: Parser, counts: LogCounts) -> Iterator[UpstreamLogEntry]:
    for number, values in parsed_lines(path, (parser,), counts):
        counts.n_records += 1
        yield upstream_entry(path, number, values)


def _parser_of(pattern: str) -> Parser:
    if "(?P<" not in pattern:
        if "$" in pattern or pattern in KNOWN_FORMATS:
            return compile_format(pattern).match
        msg = f"a pattern for a log wants named groups, (?P<time>...), or variables, $time_local: {pattern!r}"
        raise UsageError(msg)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        msg = f"the pattern for a log is no regular expression ({error}): {pattern!r}"
        raise UsageError(msg) from error
    names = tuple(sorted(compiled.groupindex, key=compiled.groupindex.__getitem__))
    plan = plan_of(names)
    if max(plan) < 0:
        msg = f"no group of the pattern for a log has a known name: {', '.join(SLOTS)}"
        raise UsageError(msg)

    def parse(line: str) -> list[str] | None:
        match = compiled.search(line)
        return None if match is None else values_by(plan, [match[name] or "" for name in names])

    return parse
