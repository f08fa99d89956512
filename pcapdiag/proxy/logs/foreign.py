"""Logs of proxies that are not nginx: whose a file is, and its lines as entries.

Knows the list of them and how a file is gone through; what a line says, each module of its own knows.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.base.errors import LogError
from pcapdiag.proxy.logs.alb_log import ALB_LOG
from pcapdiag.proxy.logs.caddy_log import CADDY_LOG
from pcapdiag.proxy.logs.clb_log import CLB_LOG
from pcapdiag.proxy.logs.entries import Log, LogCounts
from pcapdiag.proxy.logs.envoy_log import ENVOY_LOG
from pcapdiag.proxy.logs.gcp_log import GCP_LOG
from pcapdiag.proxy.logs.haproxy_log import HAPROXY_LOG
from pcapdiag.proxy.logs.httpd_log import HTTPD_LOG
from pcapdiag.proxy.logs.lines import read_lines
from pcapdiag.proxy.logs.traefik_log import TRAEFIK_LOG
from pcapdiag.proxy.logs.unwrap import Unwrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry
    from pcapdiag.proxy.logs.foreign_format import ForeignFormat, Record

FOREIGN_LOGS: Final[tuple[ForeignFormat, ...]] = (
    HTTPD_LOG,
    HAPROXY_LOG,
    ALB_LOG,
    CLB_LOG,
    ENVOY_LOG,
    CADDY_LOG,
    TRAEFIK_LOG,
    GCP_LOG,
)
_SAMPLE: Final = 50
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"')
_LONGEST: Final = 1 << 16
"""[characters] Of a longer line only the beginning is read."""


class ForeignLog(NamedTuple):
    """A log, and whose it is."""

    path: str
    format: ForeignFormat


def recognise_log(path: str) -> ForeignLog | None:
    """Return whose log a file is; None for one of nginx or of nobody who is known here.

    Parameters
    ----------
    path : str
        A log that was given, compressed or not.

    Returns
    -------
    ForeignLog or None
        Most of its first lines are of one proxy.
    """
    try:
        lines = _texts(path, LogCounts(), lambda text: any(known.is_record(text) for known in FOREIGN_LOGS))
        first = [text for _, (_, text) in zip(range(_SAMPLE), lines, strict=False)]
    except (LogError, OSError):
        # Whoever opens it to read it says why that cannot be.
        return None
    for known in FOREIGN_LOGS:
        if 2 * sum(map(known.is_record, first)) > len(first):
            return ForeignLog(path, known)
    return None


def _texts(path: str, counts: LogCounts, is_own: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that holds something, as the proxy wrote it."""
    unwrapper = Unwrapper(is_own)
    number = 0
    lines = ((n, line[:_LONGEST]) for start, run in read_lines(path, counts) for n, line in enumerate(run, start))
    for number, line in _whole_objects(lines, is_own):
        text = unwrapper.unwrap(line) if line else None
        for one in text.split("\n") if text else ():
            yield number, one
    if rest := unwrapper.rest():
        yield number, rest


def _whole_objects(lines: Iterable[tuple[int, str]], is_own: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Yield lines, and in place of those over which an export has spread a record, as jq and gcloud do, the record.

    It has the number of the line that it begins with.
    """
    held: list[tuple[int, str]] = []
    depth = n_chars = 0
    for number, line in lines:
        if not held and line.strip() != "{":
            yield number, line
            continue
        held.append((number, line))
        n_chars += len(line)
        bare = _QUOTED.sub("", line)
        depth += bare.count("{") - bare.count("}")
        if depth > 0 and n_chars < _LONGEST:
            continue
        text = " ".join(part.strip() for _, part in held).rstrip(", ")
        yield from [(held[0][0], text)] if depth == 0 and is_own(text) else held
        held.clear()
        depth = n_chars = 0
    yield from held


def read_failures(log: ForeignLog, addresses: Mapping[str, str], *, rewrites: bool = False) -> Log[ErrorEntry]:
    """Open a log for what it says of tries that failed.

    Parameters
    ----------
    log : ForeignLog
        From `recognise_log`.
    addresses : mapping of str to str
        Addresses of servers that the log only names, as the configuration has them.
    rewrites : bool
        Whether requests may be sent on with another target than the log has: then any fits.

    Returns
    -------
    Log of ErrorEntry
        Its lines about tries, in their order.
    """
    return Log(log.path, lambda counts: _failures(log, addresses, counts, rewrites=rewrites))


def read_served(log: ForeignLog, addresses: Mapping[str, str]) -> Log[AccessEntry]:
    """Open a log for what it says of requests of clients.

    Parameters
    ----------
    log : ForeignLog
        From `recognise_log`; one that has them (`ForeignFormat.has_accesses`).
    addresses : mapping of str to str
        Addresses of servers that the log only names.

    Returns
    -------
    Log of AccessEntry
        Its lines about requests, in their order.
    """
    return Log(log.path, lambda counts: _served(log, addresses, counts))


def _records(log: ForeignLog, counts: LogCounts) -> Iterator[Record]:
    read = log.format.begin() if log.format.begin is not None else log.format.read
    for number, text in _texts(log.path, counts, log.format.is_record):
        record = read(log.path, number, text)
        if record is None:
            counts.reject(number, text)
            continue
        counts.n_records += 1
        yield record


def _failures(
    log: ForeignLog, addresses: Mapping[str, str], counts: LogCounts, *, rewrites: bool
) -> Iterator[ErrorEntry]:
    for record in _records(log, counts):
        entry = record.entry
        if entry is not None:
            peer = addresses.get(entry.upstream_peer, entry.upstream_peer)
            yield replace(entry, upstream_peer=peer, upstream_uri="" if rewrites else entry.upstream_uri)


def _served(log: ForeignLog, addresses: Mapping[str, str], counts: LogCounts) -> Iterator[AccessEntry]:
    for record in _records(log, counts):
        access = record.access
        if access is not None:
            named = tuple(t._replace(addr=addresses.get(t.addr, t.addr)) for t in access.tries)
            yield access._replace(tries=named)
