"""HAProxy's log of requests (``option httplog``): a line for each request, with how its session ended.

Knows the format and the termination states of HAProxy's configuration manual (8.2.3 and 8.5). A line names backend and
server, not the address; a try that was repeated has no line of its own. Linear in the length of a line.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from pcapdiag.base.units import NS_PER_MS
from pcapdiag.proxy.logs.entries import (
    BODY,
    CONNECTING,
    CUT_OFF,
    HEADER,
    SENDING,
    AccessEntry,
    ErrorEntry,
    LogKind,
    Try,
)
from pcapdiag.proxy.logs.foreign_format import (
    NOTICE,
    ForeignFormat,
    MessageKind,
    Record,
    asked_for,
    failed_try,
    origin_form,
)
from pcapdiag.proxy.logs.times import parse_time

_HEAD: Final = re.compile(
    r"(?<!\S)(?P<client>unix|[0-9A-Fa-f.:\[\]]{2,48}):(?P<port>\d{1,5}) "
    r"\[(?P<date>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)\.(?P<ms>\d{3})\] ",
    re.ASCII,
)
_FIELDS: Final = re.compile(
    r"\S{1,256} (?P<backend>[^\s/]{1,256})/(?P<server>\S{1,256}) "
    r"-?\d{1,10}/-?\d{1,10}/-?\d{1,10}/(?P<tr>-?\d{1,10})/(?P<early>\+?)(?P<ta>-?\d{1,10}) (?P<status>-?\d{1,3}) "
    r"\+?(?P<sent>\d{1,20}) \S{1,8192} \S{1,8192} (?P<state>[A-Za-z-]{4}) "
    r"\d{1,10}/\d{1,10}/\d{1,10}/\d{1,10}/\+?(?P<retries>\d{1,10}) \d{1,10}/\d{1,10} ",
    re.ASCII,
)
_NOTICE: Final = re.compile(r"(?:Server|Proxy|Backup Server|Health check|Stopping|Starting|Connect from|backend) ")
_REQUEST_ID: Final = re.compile(
    r"(?<![\w-])(?:[0-9a-f]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?![\w-])"
)
_LONGEST_PREFIX: Final = 600
"""[characters] What stands before a line: a syslog head, names of pods."""
_MOST_RETRIES: Final = 16
_WIDTH_NS: Final = 2 * NS_PER_MS
"""[ns] The end is the sum of two times that are each cut off to milliseconds."""
_CLIENT_CLOSED: Final = 499
"""How access entries say that the client went away, whoever wrote them."""


def _line(server: str, timers: str, status: int, state: str, retries: str = "0", sent: int = 209) -> str:
    return (
        f"192.0.2.2:38016 [01/Dec/2026:03:47:16.927] f b/{server} {timers} {status} {sent} - - {state}"
        f' 5/5/2/0/{retries} 0/0 "GET /api HTTP/1.1"'
    )


_K: Final = LogKind
KINDS: Final = (
    MessageKind(
        *("SH", _K.BROKEN, HEADER, "the server closed or reset the connection before its response headers were whole"),
        _line("s1", "0/0/0/-1/72", 502, "SH--"),
    ),
    MessageKind(
        *("sH", _K.TIMED_OUT, HEADER, "timeout server ran out before the server's response headers were whole"),
        _line("s1", "0/0/0/-1/5001", 504, "sH--"),
    ),
    MessageKind(
        *("SD", _K.BROKEN, BODY, "the connection to the server was closed or reset during the response"),
        _line("s1", "0/0/0/12/72", 200, "SD--"),
    ),
    MessageKind(
        *("sD", _K.TIMED_OUT, BODY, "timeout server ran out during the response"),
        _line("s1", "0/0/0/12/5012", 200, "sD--"),
    ),
    MessageKind(
        *("SC", _K.NO_CONNECTION, CONNECTING, "no connection to the server came about"),
        _line("s1", "0/0/-1/-1/3004", 503, "SC--", "3"),
    ),
    MessageKind(
        *("sC", _K.TIMED_OUT, CONNECTING, "timeout connect ran out"),
        _line("s1", "0/0/-1/-1/12004", 503, "sC--", "3"),
    ),
    MessageKind(
        *(
            "PH",
            _K.INVALID_RESPONSE,
            HEADER,
            "HAProxy refused the server's response: it is invalid, or a rule denied it",
        ),
        _line("s1", "0/0/0/-1/72", 502, "PH--"),
    ),
    MessageKind(
        *("PD", _K.INVALID_RESPONSE, BODY, "HAProxy refused the rest of the server's response"),
        _line("s1", "0/0/0/12/72", 200, "PD--"),
    ),
    MessageKind(
        *("CC", _K.CLIENT_CLOSED, CONNECTING, "the client went away before a connection to the server came about"),
        _line("s1", "0/0/-1/-1/72", -1, "CC--"),
    ),
    MessageKind(
        *("CH", _K.CLIENT_CLOSED, HEADER, "the client went away before the server answered"),
        _line("s1", "0/0/0/-1/72", -1, "CH--"),
    ),
    MessageKind(
        *("cH", _K.CLIENT_CLOSED, HEADER, "timeout client ran out while the server was waited for"),
        _line("s1", "0/0/0/-1/75000", 408, "cH--"),
    ),
    MessageKind(
        *("CD", _K.CLIENT_CLOSED, BODY, "the client went away during the response"),
        _line("s1", "0/0/0/12/72", 200, "CD--"),
    ),
    MessageKind(
        *("cD", _K.CLIENT_CLOSED, BODY, "timeout client ran out during the response"),
        _line("s1", "0/0/0/12/75012", 200, "cD--"),
    ),
    MessageKind(
        *("sQ", _K.QUEUED, "", "timeout queue ran out before a server was free"),
        _line("<NOSRV>", "0/5000/-1/-1/5000", 503, "sQ--"),
    ),
    MessageKind(
        *("CQ", _K.QUEUED, "", "the client went away before a server was free"),
        _line("<NOSRV>", "0/72/-1/-1/72", -1, "CQ--"),
    ),
    MessageKind(
        *("RC", _K.NO_RESOURCES, CONNECTING, "HAProxy's machine had no port, socket or memory left to connect with"),
        _line("s1", "0/0/-1/-1/0", 503, "RC--"),
    ),
    MessageKind(
        *("PC", _K.NO_RESOURCES, CONNECTING, "HAProxy opens no more connections: a limit of the process is reached"),
        _line("s1", "0/0/-1/-1/0", 503, "PC--"),
    ),
)
"""By the first two characters of the termination state; every other state ended at no server."""
_BY_STATE: Final = {kind.sign: kind for kind in KINDS}
_WHILE_SENDING: Final = MessageKind(
    *("SD", _K.BROKEN, SENDING, "the connection to the server was closed or reset while the request was being sent"),
    _line("s1", "0/0/0/-1/2", -1, "SD--", sent=0),
)
"""The same state without an answer: both the data of a request and those of a response are its data phase (8.5)."""
_NO_SERVER: Final = MessageKind(
    *("SC", _K.NO_SERVER, "", "no server was available"), _line("<NOSRV>", "0/-1/-1/-1/0", 503, "SC--")
)
_OF_SERVERS: Final = frozenset({"SC", "sC"})


def _is_record(text: str) -> bool:
    head = _find_head(text)
    return head is not None and _FIELDS.match(text, head.end()) is not None


def _find_head(text: str) -> re.Match[str] | None:
    head = _HEAD.search(text, 0, _LONGEST_PREFIX)
    # Behind a quote stands what somebody sent; before a line only heads of collectors do.
    return head if head is not None and '"' not in text[: head.start()] else None


def _read(path: str, line: int, text: str) -> Record | None:
    head = _find_head(text)
    if head is None:
        return NOTICE if _NOTICE.match(text) else None
    fields = _FIELDS.match(text, head.end())
    if fields is None:
        # Sessions without requests (tcplog), failed handshakes of clients.
        return NOTICE
    began_ns = _began_ns(head["date"])
    if began_ns < 0:
        return None
    began_ns += int(head["ms"]) * NS_PER_MS
    opening = text.find('"', fields.end())
    closing = text.find('"', opening + 1) if opening >= 0 else -1
    request = text[opening + 1 : closing if closing >= 0 else len(text)] if opening >= 0 else ""
    captured = text[fields.end() : opening if opening >= 0 else len(text)]
    request_id = found[0] if (found := _REQUEST_ID.search(captured)) else ""
    lasted_ns = max(int(fields["ta"]), 0) * NS_PER_MS
    method, target, protocol = asked_for(request)
    client = f"{head['client']}:{head['port']}"
    access = AccessEntry(
        *(path, line, began_ns + lasted_ns, _WIDTH_NS, -1, request_id, method, target, protocol, "", client),
        *(_status(fields), lasted_ns, _tries(fields)),
    )
    if request == "<BADREQ>":
        # Nobody asked for anything: a probe of the port, or bytes that are no HTTP.
        return NOTICE
    if fields["early"]:
        # `option logasap`: written before the session ended, so that how it did is not known.
        return Record(None, access)
    kind = _kind(fields)
    if kind is None:
        return Record(None, access)
    name = f"{fields['backend']}/{fields['server']}"
    message = f"{fields['state']}: {kind.meaning} (status {fields['status']}, {name})"
    entry = failed_try(path, line, access.ts_ns, _WIDTH_NS, kind, name, message)
    # A line that is cut off (syslog, 1,024 bytes) ends anywhere.
    uri = origin_form(target) if closing >= 0 else ""
    return Record(_with_request(entry, request, access, uri), access)


def _with_request(entry: ErrorEntry, request: str, access: AccessEntry, uri: str) -> ErrorEntry:
    extra = (("request_id", access.request_id),) if access.request_id else ()
    return replace(
        entry,
        client=access.client,
        request=request,
        method=access.method,
        target=access.target,
        protocol=access.protocol,
        upstream_uri=uri,
        extra=extra,
    )


def _kind(fields: re.Match[str]) -> MessageKind | None:
    state = fields["state"][:2]
    if fields["server"].startswith("<"):
        if fields["server"] != "<NOSRV>":
            # Its own statistics, a cache or a program in Lua served it.
            return None
        if state in _OF_SERVERS:
            return _NO_SERVER
        return kind if (kind := _BY_STATE.get(state)) is not None and kind.kind is LogKind.QUEUED else None
    if state == _WHILE_SENDING.sign and int(fields["tr"]) < 0 and not int(fields["sent"]):
        return _WHILE_SENDING
    return _BY_STATE.get(state)


def _status(fields: re.Match[str]) -> int:
    """Return what the client got: without a status nothing, unless bytes were sent to it that were not looked at."""
    status = int(fields["status"])
    if status > 0:
        return status
    if fields["state"][0] == "C":
        return _CLIENT_CLOSED
    return -1 if int(fields["sent"]) else CUT_OFF


def _tries(fields: re.Match[str]) -> tuple[Try, ...]:
    if fields["server"].startswith("<"):
        return ()
    # Of tries that were repeated only the number is logged.
    repeated = (Try("", 502, -1, -1, -1, 0),) * min(int(fields["retries"]), _MOST_RETRIES)
    answered = int(fields["tr"])
    header_ns = answered * NS_PER_MS if answered >= 0 else -1
    name = f"{fields['backend']}/{fields['server']}"
    return (*repeated, Try(name, int(fields["status"]), -1, -1, header_ns, 0))


@lru_cache(maxsize=64)
def _began_ns(date: str) -> int:
    time = parse_time(date)
    return time[0] if time is not None else -1


HAPROXY_LOG: Final = ForeignFormat(
    proxy="HAProxy",
    log="option httplog, option httpslog",
    is_record=_is_record,
    read=_read,
    kinds=(*KINDS, _WHILE_SENDING, _NO_SERVER),
    has_accesses=True,
    has_zone=False,
    counts_retries=True,
)
