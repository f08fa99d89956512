"""The seam between the join and the log of any proxy but nginx: what a module that reads one hands out.

A record is read in its own words and told in the join's: an entry like those of nginx's error log where a try failed, a
line like those of its access log where a request was served. Another proxy is one more module with a `ForeignFormat`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.context import split_request
from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry, LogKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class MessageKind(NamedTuple):
    """One way in which a proxy says that a try failed.

    Attributes
    ----------
    sign : str
        What tells it: a code, a termination state, a response flag.
    kind : LogKind
        The same in the join's words.
    action : str
        Step of the try, as `ErrorEntry.action` has it; empty where it does not tell.
    meaning : str
        In words of a report.
    sample : str
        A line that the proxy wrote, or as its documentation has it.
    """

    sign: str
    kind: LogKind
    action: str
    meaning: str
    sample: str


class Record(NamedTuple):
    """What one line says: of a try that failed, and of a request that was served; of neither where it is a notice."""

    entry: ErrorEntry | None
    access: AccessEntry | None


NOTICE: Final = Record(None, None)
CLIENT_LEFT: Final = 499
"""How access entries say that the client went away, whoever wrote them."""
_MOST_DIGITS: Final = 15


class ForeignFormat(NamedTuple):
    """The log of one proxy.

    Attributes
    ----------
    proxy : str
        As `ProxyKind` has it.
    log : str
        Which of its logs, for the documentation.
    is_record : callable
        Whether a line is of this log.
    read : callable
        From path, number and text of a line to what it says; None if it is no line of this log.
    kinds : tuple of MessageKind
        All that is told apart.
    has_accesses : bool
        Whether it has a line for each request that was served.
    has_zone : bool
        Whether its stamps name their zone.
    counts_retries : bool
        Whether a line says how often its request was tried.
    begin : callable or None
        Returns what reads the lines of one file in their order, where one line says again what another has said.
    """

    proxy: str
    log: str
    is_record: Callable[[str], bool]
    read: Callable[[str, int, str], Record | None]
    kinds: tuple[MessageKind, ...]
    has_accesses: bool
    has_zone: bool
    counts_retries: bool = False
    begin: Callable[[], Callable[[str, int, str], Record | None]] | None = None


_BLANK: Final = ErrorEntry(
    path="",
    line=0,
    ts_s=-1,
    level="",
    pid=-1,
    tid=-1,
    log_conn=-1,
    kind=LogKind.OTHER,
    action="",
    errno=-1,
    errno_name="",
    message="",
    client="",
    server="",
    request="",
    method="",
    target="",
    protocol="",
    subrequest="",
    upstream="",
    upstream_schema="",
    upstream_peer="",
    upstream_uri="",
    host="",
    referrer="",
    extra=(),
    concerns_upstream=True,
)


def failed_try(
    path: str, line: int, stamp_ns: int, width_ns: int, found: MessageKind, peer: str, message: str
) -> ErrorEntry:
    """Return the entry of a failed try; what else a line says is put in by `dataclasses.replace`.

    Parameters
    ----------
    path, line : str and int
        Where it stands.
    stamp_ns, width_ns : int
        [ns] When it failed, as logged, and what that leaves open.
    found : MessageKind
        How it failed.
    peer : str
        Address and port of the server, or its name; empty where the line has neither.
    message : str
        In words of the log.

    Returns
    -------
    ErrorEntry
    """
    return replace(
        _BLANK,
        path=path,
        line=line,
        ts_s=stamp_ns // NS_PER_S,
        fraction_ns=stamp_ns % NS_PER_S,
        width_ns=width_ns,
        kind=found.kind,
        action=found.action,
        message=message,
        upstream=peer,
        upstream_peer=peer,
    )


def object_of(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a line is; None if it is none."""
    if not text.startswith("{"):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def word(values: Mapping[str, Any], name: str) -> str:
    """Return a text of a JSON object; empty for none, a dash or anything else."""
    value = values.get(name)
    return value if isinstance(value, str) and value != "-" else ""


def number(values: Mapping[str, Any], name: str) -> int:
    """Return a whole number that is not negative, also one that is written as text; -1 for anything else."""
    value = values.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else -1


def with_request(entry: ErrorEntry, access: AccessEntry, *, uri: str = "") -> ErrorEntry:
    """Return the entry of a failed try with what its line says of the request.

    Parameters
    ----------
    entry : ErrorEntry
        From `failed_try`.
    access : AccessEntry
        Of the same line.
    uri : str
        The target as it was sent on; empty where that may be another.

    Returns
    -------
    ErrorEntry
    """
    return replace(
        entry,
        client=access.client,
        request=" ".join(filter(None, (access.method, access.target, access.protocol))),
        method=access.method,
        target=access.target,
        protocol=access.protocol,
        upstream_uri=uri,
        extra=(("request_id", access.request_id),) if access.request_id else (),
    )


def asked_for(request: str) -> tuple[str, str, str]:
    """Return method, target and protocol of a logged request line; empty for what was no request (``<BADREQ>``)."""
    return ("", "", "") if request.startswith("<") else split_request(request)


def origin_form(target: str) -> str:
    """Return a target as a proxy sends it on: without scheme and authority (RFC 9112, 3.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        return target
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"
