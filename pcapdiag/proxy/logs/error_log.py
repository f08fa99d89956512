"""The error log of nginx, OpenResty, APISIX, Kong and ingress-nginx: physical lines to entries.

Knows how records begin, continue over several lines, and stand glued together on one; the words of the messages are in
`catalogue`, those of the context in `context`.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pcapdiag.base.findings import Note
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.catalogue import concerns_upstream, meaning_of
from pcapdiag.proxy.logs.context import find_context, parse_context, split_request, split_upstream
from pcapdiag.proxy.logs.entries import ErrorEntry, Log, LogCounts, LogKind
from pcapdiag.proxy.logs.heads import (
    DATE,
    ERROR_HEAD,
    LEVELS,
    FoundHead,
    find_access_record,
    find_error_record,
    is_table_header,
    take_field,
    without_prefix,
)
from pcapdiag.proxy.logs.lines import must_be_readable, read_lines
from pcapdiag.proxy.logs.times import naive_seconds, parse_time
from pcapdiag.proxy.logs.unwrap import ISO_STAMP, Unwrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_ASKED: Final = 1000
_QUARTER_S: Final = 900
_LATE_S: Final = 60
"""[s] How much later than nginx a runtime may stamp a line."""
LONGEST_RECORD: Final = 1 << 16
"""[characters] Of a record over several lines; what follows is counted and left out."""

_HEAD: Final = ERROR_HEAD
_STAMP: Final = re.compile(ISO_STAMP)
# As quoted in tickets: date, level or process may be missing, but not the connection's number.
_QUOTED_HEAD: Final = re.compile(
    rf"(?:({DATE}) )?(?:\[({LEVELS})\] )?(?:(\d{{1,10}})#(\d{{1,10}}): )?\*(\d{{1,19}}) (?=[\w\[\\])", re.ASCII
)
_BARE_HEAD: Final = re.compile(rf"({DATE}) \[({LEVELS})\] ()()()(?=\S)", re.ASCII)
# What cannot continue a record: another log's line in the same stream.
_FOREIGN: Final = re.compile(
    r'\{|[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |\S+ - [^\[]{0,80}\[\d\d/[A-Z][a-z]{2}/\d{4}:|\d{10}\.\d{3} |"[A-Z]+ /',
    re.ASCII,
)
_LUA_END: Final = ", context: "

_LONGEST_MESSAGE: Final = 1000
"""[characters] Of a message that is quoted without date and process."""

_Record = tuple[int, str, tuple[str, ...]]


def read_error_log(path: str) -> Log[ErrorEntry]:
    """Open an error log; iterate over the result for its entries, in their order.

    Parameters
    ----------
    path : str
        The log, plain or compressed, as nginx wrote it or as Docker, Kubernetes or syslog wrapped it.

    Returns
    -------
    Log of ErrorEntry
        Every record, also those of no upstream (`ErrorEntry.concerns_upstream`).

    Raises
    ------
    LogError
        It cannot be opened.
    """
    must_be_readable(path)
    return Log(path, lambda counts: _read(path, counts))


def container_zone_s(path: str) -> int | None:
    """Return the zone of an error log that a container runtime wrapped: it stamps each line, and names its zone.

    Parameters
    ----------
    path : str
        The log.

    Returns
    -------
    int or None
        [s] The zone in which nginx stamps; None if nothing is wrapped around its lines, or the stamps disagree.

    Raises
    ------
    LogError
        It cannot be opened.
    """
    unwrapper = Unwrapper()
    zones: Counter[int] = Counter()
    for _, lines in read_lines(path, LogCounts()):
        for line in lines[:_MOST_ASKED]:
            text = unwrapper.unwrap(line)
            match = _HEAD.match(text) if text else None
            stamp = unwrapper.time
            if match is None and text and (found := find_error_record(text)) is not None:
                match = _HEAD.match(found.text)
                stamp = stamped[0] if (stamped := _STAMP.search(found.prefix)) else stamp
            wrapped = parse_time(stamp) if stamp else None
            if wrapped is not None and wrapped[2] and match is not None:
                ahead_s = _seconds(match[1]) - wrapped[0] // NS_PER_S
                zone_s = (ahead_s + _QUARTER_S // 2) // _QUARTER_S * _QUARTER_S
                zones[zone_s if abs(ahead_s - zone_s) <= _LATE_S else -1] += 1
        break
    ((zone_s, n),) = zones.most_common(1) or [(-1, 0)]
    return zone_s if zone_s != -1 and n > zones.total() // 2 else None


def parse_record(text: str, *, path: str = "", line: int = 1) -> list[ErrorEntry]:
    """Return the entries of one record, or of several glued together.

    Parameters
    ----------
    text : str
        Beginning with the head of a record; may span lines.
    path, line : str and int
        Where it comes from.

    Returns
    -------
    list of ErrorEntry
        Empty if it begins with no head.
    """
    match = _head_at(text, 0)
    return list(_entries(path, (line, text[match.end() :], match.groups(""))) if match else ())


def _read(path: str, counts: LogCounts) -> Iterator[ErrorEntry]:
    for record in _records(path, counts):
        for entry in _entries(path, record):
            counts.n_records += 1
            counts.n_other += entry.kind == LogKind.OTHER
            yield entry


class _Reader:
    """Puts the records of one log together: each with the lines that continue it."""

    def __init__(self, path: str, counts: LogCounts) -> None:
        self._path = path
        self._counts = counts
        self._unwrapper = Unwrapper()
        self._current: _Record | None = None
        self._more: list[str] = []
        self._n_chars = 0
        self._prefix = ""
        self._is_open = False
        self._columns = ""

    def take(self, number: int, line: str) -> Iterator[_Record]:
        """Take in a line; yield the records that end before it, or in it."""
        match = _HEAD.match(line)
        if match is not None and not _is_escaped(line):
            yield from self._begin(number, line[match.end() :], match)
            return
        text = self._unwrapper.unwrap(line) if line else line
        for one in text.split("\n") if text is not None else ():
            yield from self._take(number, one)

    def _take(self, number: int, text: str) -> Iterator[_Record]:
        """Take in a line without what is known to be wrapped around it."""
        if (match := _head_at(text, 0)) is not None:
            yield from self._begin(number, text[match.end() :], match)
            return
        if (found := self._find(text)) is not None and (match := _HEAD.match(found.text)) is not None:
            begun = self._begin(number, found.text[match.end() :], match, prefix=found.prefix, is_open=found.is_open)
            yield from begun
            return
        text = without_prefix(text, self._prefix)
        if self._is_open:
            text, self._is_open = take_field(text)
        self._go_on(number, text)

    def _find(self, text: str) -> FoundHead | None:
        """Return the record behind something else, unless it belongs to the one that is being read."""
        if not text or (not self._prefix and self._continues(text)):
            return None
        found = find_error_record(text)
        return None if found is not None and self._is_open and without_prefix(text, self._prefix) == text else found

    def end(self, number: int) -> Iterator[_Record]:
        """Yield the last record."""
        if rest := self._unwrapper.rest():
            self._counts.reject(number, rest)
        if self._columns and number == 1:
            # Names of columns without a table are none.
            self._counts.reject(number, self._columns)
        yield from self._finish()

    def _begin(
        self, number: int, text: str, match: re.Match[str], *, prefix: str = "", is_open: bool = False
    ) -> Iterator[_Record]:
        yield from self._finish()
        self._current = (number, text, match.groups(""))
        self._prefix, self._is_open = prefix, is_open

    def _finish(self) -> Iterator[_Record]:
        record, more = self._current, self._more
        self._current, self._more, self._n_chars = None, [], 0
        if record is not None:
            yield (record[0], "\n".join((record[1], *more)), record[2]) if more else record

    def _continues(self, text: str) -> bool:
        """Return whether the record that is being read goes on with this line."""
        if self._current is None or _FOREIGN.match(text):
            return False
        so_far = self._more[-1] if self._more else self._current[1]
        return find_context(so_far) < 0 and _LUA_END not in so_far

    def _go_on(self, number: int, text: str) -> None:
        """Take in a line that begins no record."""
        if not text:
            # An empty line may stand within a record, and says nothing between two.
            if self._current is not None and self._n_chars <= LONGEST_RECORD and self._continues(""):
                self._more.append("")
                self._n_chars += 1
        elif self._continues(text):
            is_too_long = self._n_chars > LONGEST_RECORD
            self._n_chars += len(text) + 1
            if self._n_chars <= LONGEST_RECORD:
                self._more.append(text)
            elif not is_too_long:
                note = f"line {number}: a record goes on for too long"
                self._counts.notes.append(Note("long-record", note, file=self._path))
        elif find_access_record(text) is not None:
            # kubectl logs and docker logs hold both logs of nginx.
            self._counts.n_foreign += 1
        elif number == 1 and is_table_header(text):
            self._columns = text
        else:
            self._counts.reject(number, text)


def _records(path: str, counts: LogCounts) -> Iterator[_Record]:
    """Yield line, text behind the head, and the head's parts of every record, with the lines that continue it."""
    reader = _Reader(path, counts)
    number = 0
    for first, lines in read_lines(path, counts):
        for number, line in enumerate(lines, first):
            yield from reader.take(number, line)
    yield from reader.end(number)


def _is_escaped(line: str) -> bool:
    """Tell a line that begins as a record does, but has its quotes in another notation."""
    return ("&" in line and '"' not in line) or '\\"' in line


def _head_at(text: str, at: int) -> re.Match[str] | None:
    """Return the head of a record that begins at `at`, also as tickets quote it."""
    if match := _HEAD.match(text, at) or _QUOTED_HEAD.match(text, at):
        # Without a date and a process it takes a known message to believe that a star begins a record.
        if match[1] or match[3] or _is_known(text, match.end()):
            return match
        return None
    return _BARE_HEAD.match(text, at)


def _is_known(text: str, at: int) -> bool:
    # No further than this, for a line may hold thousands of stars.
    end = text.find(", client: ", at, at + _LONGEST_MESSAGE)
    return meaning_of(text[at : end if end >= 0 else at + 300].rstrip()).kind != LogKind.OTHER


def _entries(path: str, record: _Record) -> Iterator[ErrorEntry]:
    line, text, head = record
    # Nearly no record has a second star or number sign: the look at every place is for those that have.
    at = 0
    if "#" in text or " *" in text or '"*' in text:
        while (match := _next_head(text, at)) is not None:
            yield _entry(path, line, text[at : match.start()].rstrip(), head)
            # A quoted record without date or process has those of the one before it.
            is_whole = match[1] is not None and match[3] is not None
            head = tuple(
                own or ("" if is_whole else before) for own, before in zip(match.groups(""), head, strict=True)
            )
            at = match.end()
    yield _entry(path, line, text[at:], head)


_GLUED: Final = re.compile(rf"(?={DATE} \[|\[(?:{LEVELS})\] \d+#\d+: |\d+#\d+: \*\d|\*\d+ \w)", re.ASCII)


def _next_head(text: str, start: int) -> re.Match[str] | None:
    """Return the head of a record glued to the end of the one that begins at `start`; never within quotes."""
    n_quotes, since = 0, start
    for candidate in _GLUED.finditer(text, start):
        at = candidate.start()
        n_quotes += text.count('"', since, at)
        since = at
        # A value that a client chose may look like a head; it is within quotes.
        if n_quotes % 2 == 0 and at > start and not text[at - 1].isalnum() and (match := _head_at(text, at)):
            return match
        if n_quotes % 2 == 0 and (match := _HEAD.match(text, at)):
            return match
    return None


@lru_cache(maxsize=64)
def _seconds(date: str) -> int:
    return naive_seconds(date) if date else -1


def _entry(path: str, line: int, text: str, head: tuple[str, ...]) -> ErrorEntry:
    at = find_context(text)
    if at < 0:
        at = len(text)
    meaning = meaning_of(text[:at].rstrip())
    client, server, request, subrequest, upstream, host, referrer, extra = parse_context(text[at:])
    method, target, protocol = split_request(request) if request else ("", "", "")
    schema, peer, uri = split_upstream(upstream) if upstream else ("", "", "")
    date, level, pid, tid, log_conn = head
    return ErrorEntry(
        path,
        line,
        _seconds(date),
        level,
        int(pid or -1),
        int(tid or -1),
        int(log_conn or -1),
        meaning.kind,
        meaning.action,
        meaning.errno,
        meaning.errno_name,
        meaning.message,
        client,
        server,
        request,
        method,
        target,
        protocol,
        subrequest,
        upstream,
        schema,
        peer,
        uri,
        host,
        referrer,
        extra,
        concerns_upstream(meaning, upstream),
    )
