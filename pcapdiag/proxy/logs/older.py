"""Rotated logs beside those that were given: read where a log begins only after the time that is looked at.

Knows logs and times; whose time it is and what is made of the entries is others' affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.copies import find_overlaps
from pcapdiag.proxy.logs.entries import OfLine
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.files import older_files
from pcapdiag.proxy.logs.foreign import read_failures, read_served, recognise_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry, Log
    from pcapdiag.proxy.logs.foreign import ForeignLog

T = TypeVar("T", bound=OfLine)

BESIDE_NS = 60 * 1_000_000_000
"""[ns] How much around the time is read, too: failures before it may have put peers out."""
ANY_ZONE_NS = 15 * 3600 * 1_000_000_000
"""[ns] The same where the log's zone is not known."""


@dataclass(slots=True)
class Within(Generic[T]):
    """The entries of a rotated log within a time [ns]; `n_entries` counts those that were handed out.

    `kind` says what the log is, `beside` which log it was rotated away from.
    """

    log: Log[T]
    kind: str
    beside: str
    time_ns: Callable[[T], int]
    low_ns: int
    high_ns: int
    n_entries: int = 0

    def __iter__(self) -> Iterator[T]:
        self.n_entries = 0
        for entry in self.log:
            if self.low_ns <= self.time_ns(entry) <= self.high_ns:
                self.n_entries += 1
                yield entry


@dataclass(frozen=True, slots=True)
class OlderLogs:
    """Rotated logs that may hold what the logs in use lack."""

    errors: tuple[Within[ErrorEntry], ...] = ()
    accesses: tuple[Within[AccessEntry], ...] = ()

    @property
    def used(self) -> tuple[Within[ErrorEntry] | Within[AccessEntry], ...]:
        """Those that held something, once they have been read; a file that tells of both stands there once."""
        used: list[Within[ErrorEntry] | Within[AccessEntry]] = [log for log in self.errors if log.n_entries]
        used += [log for log in self.accesses if log.n_entries]
        return tuple({log.log.path: log for log in reversed(used)}.values())[::-1]

    def remarks(self) -> Iterator[str]:
        """Yield a sentence for each log that was not enough."""
        for beside in dict.fromkeys(log.beside for log in self.used):
            names = ", ".join(log.log.path for log in self.used if log.beside == beside)
            yield f"{beside} begins after the capture does; of {names} what lies in the capture's time was read, too"


def find_older(
    error_logs: Sequence[str],
    access_logs: Sequence[str],
    log_format: str | None,
    first_ns: int,
    last_ns: int,
    offset_ns: int | None,
    *,
    given: Iterable[str],
    foreign: Mapping[str, ForeignLog] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> OlderLogs:
    """Return the rotated logs that are needed to cover a time.

    Parameters
    ----------
    error_logs, access_logs : sequence of str
        The logs in use.
    log_format : str or None
        Of the access logs.
    first_ns, last_ns : int
        [ns] The time, UTC.
    offset_ns : int or None
        [ns] The error log's local time minus UTC; None if it is not known.
    given : iterable of str
        Files that are read anyway.
    foreign : mapping of str to ForeignLog, optional
        Logs in use of other proxies, by their names; what was rotated away from one is looked for beside it.
    addresses : mapping of str to str, optional
        Addresses of servers that such a log only names.

    Returns
    -------
    OlderLogs
        Empty if the logs begin early enough.
    """
    read = {str(Path(path).resolve()) for path in given}
    around = ANY_ZONE_NS if offset_ns is None else BESIDE_NS
    low, high = first_ns + (offset_ns or 0) - around, last_ns + (offset_ns or 0) + around
    errors = tuple(
        Within(_cut(read_error_log(file), path), "error_log", path, _of_error, low, high)
        for path in error_logs
        for file in _needed(path, lambda p: _begin(read_error_log(p), _of_error), low, high, read)
    )
    first, last = first_ns - BESIDE_NS, last_ns + BESIDE_NS
    accesses = tuple(
        Within(_cut(read_access_log(file, log_format), path), "access_log", path, _of_access, first, last)
        for path in access_logs
        for file in _needed(path, lambda p: _begin(read_access_log(p, log_format), _of_access), first, last, read)
    )
    for path, log in (foreign or {}).items():
        span = (first, last) if log.format.has_zone else (low, high)
        more_errors, more_accesses = _of_foreign(path, log, span, read, addresses or {})
        errors, accesses = (*errors, *more_errors), (*accesses, *more_accesses)
    return OlderLogs(errors, accesses)


def _of_foreign(
    path: str, log: ForeignLog, span: tuple[int, int], read: set[str], addresses: Mapping[str, str]
) -> tuple[list[Within[ErrorEntry]], list[Within[AccessEntry]]]:
    """Return what was rotated away from the log of another proxy, as far as it is of that proxy, too."""

    def begin(file: str) -> int:
        of_file = log._replace(path=file)
        if log.format.has_accesses:
            return _begin(read_served(of_file, addresses), _of_access)
        return _begin(read_failures(of_file, addresses), _of_error)

    errors: list[Within[ErrorEntry]] = []
    accesses: list[Within[AccessEntry]] = []
    for file in _needed(path, begin, *span, read):
        older = recognise_log(file)
        if older is None or older.format is not log.format:
            continue
        # A line that tells of both is counted once, as an access.
        kind = "access_log" if log.format.has_accesses else "error_log"
        errors.append(Within(_cut(read_failures(older, addresses), path), kind, path, _of_error, *span))
        if log.format.has_accesses:
            accesses.append(Within(_cut(read_served(older, addresses), path), kind, path, _of_access, *span))
    return errors, accesses


def _cut(log: Log[T], newer: str) -> Log[T]:
    """Return a rotated log without the lines at its end that the log in use has, too: it was copied, then truncated."""
    overlaps, pieces = find_overlaps([log.path, newer])
    if log.path in pieces:
        log.before = 0
    elif log.path in overlaps:
        log.before = overlaps[log.path].line
    return log


def _needed(path: str, begin: Callable[[str], int], low_ns: int, high_ns: int, read: set[str]) -> Iterator[str]:
    """Yield the files rotated away from a log, the newest first, until the time is covered."""
    first = begin(path)
    for file in older_files(path):
        if 0 <= first <= low_ns:
            return
        begins = begin(file)
        if begins < 0:
            continue
        if begins <= high_ns and str(Path(file).resolve()) not in read:
            read.add(str(Path(file).resolve()))
            yield file
        first = begins


def _of_error(entry: ErrorEntry) -> int:
    return entry.ts_ns


def _of_access(entry: AccessEntry) -> int:
    return entry.ts_ns


def _begin(log: Log[T], time_ns: Callable[[T], int]) -> int:
    """Return the first time [ns] of a log, -1 if it has none."""
    return next((at for entry in log if (at := time_ns(entry)) >= 0), -1)
