"""Caddy's JSON logs: what its proxy says of each try (level DEBUG), of requests that failed, and of all requests.

Knows the fields of Caddy 2 ("How Logging Works", `http.log.access`, `http.log.error`, `http.handlers.reverse_proxy`)
and the words of Go's errors (net, net/http, crypto/tls), as Caddy 2.6 wrote them in the live lab. One failure may have
three lines: the try, the request that was given up, the request as it was answered; it is told once. Linear in the
length of a line.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.entries import (
    CONNECTING,
    HANDSHAKING,
    HEADER,
    SENDING,
    AccessEntry,
    LogKind,
)
from pcapdiag.proxy.logs.foreign_format import (
    CLIENT_LEFT,
    NOTICE,
    ForeignFormat,
    MessageKind,
    Record,
    failed_try,
    number,
    object_of,
    origin_form,
    with_request,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.proxy.logs.entries import ErrorEntry

_ACCESS: Final = "http.log.access"
_ERROR: Final = "http.log.error"
_TRY: Final = "http.handlers.reverse_proxy"
_WIDTH_NS: Final = 2_000_000
"""[ns] Between the end of a try and the line about it there are microseconds, on a busy machine more."""
_UNNAMED: Final = "reverse_proxy/upstream"
"""The server of a failure whose line names none: only lines of tries do, and words of errors now and then."""
_MOST_REMEMBERED: Final = 256
_FAILED: Final = frozenset({502, 503, 504})
_PEER: Final = re.compile(
    r"(?:dial tcp|->) ?(\[[0-9A-Fa-f:.%]{2,60}\]:\d{1,5}|\d{1,3}(?:\.\d{1,3}){3}:\d{1,5}):", re.ASCII
)
_ID_FIELDS: Final = ("X-Request-Id", "X-Request-ID", "X-Correlation-Id", "Traceparent")

_K: Final = LogKind
_PAIR: Final = "10.2.2.2:51818->10.1.1.1:80"


def _line(error: str, status: int = 502) -> str:
    request = {
        "remote_ip": "192.0.2.2",
        "remote_port": "42600",
        "proto": "HTTP/1.1",
        "method": "GET",
        "host": "app.example",
        "uri": "/api",
        "headers": {"X-Request-Id": ["c20b3cbc"]},
    }
    return json.dumps(
        {
            "level": "error",
            "ts": 1796186985.0221415,
            "logger": _ERROR,
            "msg": error,
            "request": request,
            "duration": 0.072707086,
            "status": status,
            "err_id": "21v8d86w9",
            "err_trace": "reverseproxy.statusError (reverseproxy.go:1272)",
        }
    )


class _Pattern(NamedTuple):
    """How one kind of Go's errors is told."""

    pattern: re.Pattern[str]
    kind: MessageKind
    errno: int
    errno_name: str


def _errors() -> tuple[_Pattern, ...]:
    """Return the patterns, of which the first that is found counts."""

    def of(
        pattern: str,
        sign: str,
        kind: LogKind,
        action: str,
        meaning: str,
        sample: str,
        errno: tuple[int, str] = (-1, ""),
    ) -> _Pattern:
        status = 504 if kind is LogKind.TIMED_OUT else 502
        return _Pattern(re.compile(pattern), MessageKind(sign, kind, action, meaning, _line(sample, status)), *errno)

    dial = "dial tcp 10.1.1.1:80"
    return (
        of(
            *(r"no upstreams available", "no upstreams available", _K.NO_SERVER, "", "no upstream was available"),
            "no upstreams available",
        ),
        of(
            *(r"\blookup [^ ]+.*: (?:no such host|server misbehaving|i/o timeout)", "lookup", _K.RESOLVE_FAILED, ""),
            *("the upstream's name could not be resolved", "dial tcp: lookup app.internal: no such host"),
        ),
        of(
            *(r"cannot assign requested address|too many open files|no buffer space", "cannot assign", _K.NO_RESOURCES),
            *(CONNECTING, "Caddy's machine lacked a port, a file or memory to connect with"),
            f"{dial}: connect: cannot assign requested address",
        ),
        of(
            *(r"connect: connection refused", "connection refused", _K.CONNECT_FAILED, CONNECTING),
            *("the upstream refused the connection", f"{dial}: connect: connection refused", (111, "ECONNREFUSED")),
        ),
        of(
            *(r"connect: no route to host", "no route to host", _K.CONNECT_FAILED, CONNECTING),
            *("the upstream could not be reached", f"{dial}: connect: no route to host", (113, "EHOSTUNREACH")),
        ),
        of(
            *(r"connect: network is unreachable", "network is unreachable", _K.CONNECT_FAILED, CONNECTING),
            *("the upstream could not be reached", f"{dial}: connect: network is unreachable", (101, "ENETUNREACH")),
        ),
        of(
            *(r"dial .*(?:i/o timeout|connection timed out|deadline exceeded)", "dial timeout", _K.TIMED_OUT),
            *(CONNECTING, "no connection to the upstream came about in time", f"{dial}: i/o timeout"),
        ),
        of(
            *(r"TLS handshake timeout", "TLS handshake timeout", _K.TIMED_OUT, HANDSHAKING),
            *("the TLS handshake with the upstream took too long", "net/http: TLS handshake timeout"),
        ),
        of(
            *(r"\btls: |x509: |remote error: tls", "tls", _K.TLS_FAILED, HANDSHAKING),
            *("the TLS handshake with the upstream failed", "x509: certificate signed by unknown authority"),
        ),
        of(
            *(r"timeout awaiting response headers", "awaiting response headers", _K.TIMED_OUT, HEADER),
            *("the upstream did not answer in time", "net/http: timeout awaiting response headers"),
        ),
        of(
            *(r"read tcp .*i/o timeout|context deadline exceeded", "read timeout", _K.TIMED_OUT, HEADER),
            *("the upstream did not answer in time", f"read tcp {_PAIR}: i/o timeout"),
        ),
        of(
            *(r"write tcp .*i/o timeout", "write timeout", _K.TIMED_OUT, SENDING),
            *("the upstream did not take the request in time", f"write tcp {_PAIR}: i/o timeout"),
        ),
        of(
            *(r"read: connection reset by peer", "read: connection reset", _K.RECV_FAILED, HEADER),
            *("the upstream reset the connection", f"read tcp {_PAIR}: read: connection reset by peer"),
            (104, "ECONNRESET"),
        ),
        of(
            *(r"write: (?:connection reset by peer|broken pipe)", "write: broken pipe", _K.SEND_FAILED, SENDING),
            *("the connection was gone when the request was sent", f"write tcp {_PAIR}: write: broken pipe"),
            (32, "EPIPE"),
        ),
        of(
            *(r"response headers exceeded", "response headers exceeded", _K.TOO_BIG_HEADER, HEADER),
            "the head of the response is larger than Caddy takes",
            "net/http: server response headers exceeded 1048576 bytes; aborted",
        ),
        of(
            *(r"malformed HTTP|malformed MIME", "malformed HTTP", _K.NO_VALID_HEADER, HEADER),
            "the response is no valid HTTP",
            'net/http: HTTP/1.x transport connection broken: malformed HTTP response "hello"',
        ),
        of(
            *(r"server closed idle connection", "server closed idle connection", _K.PREMATURE_CLOSE, HEADER),
            *("the upstream closed the kept connection that the request was sent on",),
            "http: server closed idle connection",
        ),
        of(
            *(r"context canceled", "context canceled", _K.CLIENT_CLOSED, HEADER),
            *("the client went away before the upstream answered", "context canceled"),
        ),
        of(
            *(r"\bEOF\b", "EOF", _K.PREMATURE_CLOSE, HEADER),
            *("the upstream closed the connection before it had answered", "EOF"),
        ),
    )


_PATTERNS: Final = _errors()
_OTHER: Final = MessageKind(
    "status", _K.TRY_FAILED, "", "Caddy answered itself, and this line does not say of what the try failed", ""
)
_NO_REASON: Final = _OTHER._replace(
    sample=json.dumps(
        {
            "level": "error",
            "ts": 1796186985.0221612,
            "logger": _ACCESS,
            "msg": "handled request",
            "request": {
                "remote_ip": "192.0.2.2",
                "remote_port": "42600",
                "proto": "HTTP/1.1",
                "method": "GET",
                "host": "app.example",
                "uri": "/api",
                "headers": {},
            },
            "duration": 0.07,
            "size": 0,
            "status": 502,
            "resp_headers": {"Server": ["Caddy"]},
        }
    )
)
KINDS: Final = (*(known.kind for known in _PATTERNS), _NO_REASON)


def _is_record(text: str) -> bool:
    values = object_of(text)
    return values is not None and "level" in values and "ts" in values and ("logger" in values or "msg" in values)


def _read(path: str, line: int, text: str) -> Record | None:
    return _CaddyReader()(path, line, text)


class _CaddyReader:
    """Reads the lines of one log in their order: what was said of a request is not told again."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def __call__(self, path: str, line: int, text: str) -> Record | None:
        values = object_of(text)
        if values is None or not _is_record(text):
            return None
        logger = word(values, "logger")
        request = values.get("request")
        at_ns = _time_ns(values.get("ts"))
        if not isinstance(request, dict) or at_ns < 0:
            return NOTICE
        access = _access(path, line, at_ns, values, request)
        if logger.startswith(_TRY):
            return self._of_try(path, line, values, access)
        if logger.startswith(_ERROR):
            return self._of_error(path, line, values, access)
        if logger.startswith(_ACCESS):
            return self._of_access(path, line, values, access)
        return NOTICE

    def _of_try(self, path: str, line: int, values: Mapping[str, Any], access: AccessEntry) -> Record:
        error = word(values, "error")
        if not error:
            return NOTICE
        self._remember(access.client, error)
        return Record(_entry(path, line, access, error, _port_of(access), peer=word(values, "upstream")), None)

    def _of_error(self, path: str, line: int, values: Mapping[str, Any], access: AccessEntry) -> Record:
        error = word(values, "msg")
        if access.status not in _FAILED and access.status != CLIENT_LEFT and not _PEER.search(error):
            # A request that Caddy refused or answered itself.
            return NOTICE
        is_told = self._told.get(access.client) == error
        self._remember(access.client, error)
        entry = _entry(path, line, access, error, _port_of(access))
        # Without a server of its own: the try before it names that.
        return Record(replace(entry, kind=_K.GIVEN_UP, upstream="", upstream_peer="") if is_told else entry, None)

    def _of_access(self, path: str, line: int, values: Mapping[str, Any], access: AccessEntry) -> Record:
        is_told = self._told.pop(access.client, "") != ""
        fields = values.get("resp_headers")
        is_own = isinstance(fields, dict) and fields.keys() <= {"Server"} and number(values, "size") == 0
        if is_told or access.status not in _FAILED or not is_own:
            return Record(None, access)
        message = f"status {access.status}: {_OTHER.meaning}"
        entry = failed_try(path, line, access.ts_ns, _WIDTH_NS, _OTHER, _UNNAMED, message)
        return Record(with_request(entry, access), access)

    def _remember(self, client: str, error: str) -> None:
        self._told[client] = error
        if len(self._told) > _MOST_REMEMBERED:
            del self._told[next(iter(self._told))]


def _entry(path: str, line: int, access: AccessEntry, error: str, port: int, *, peer: str = "") -> ErrorEntry:
    known = next((known for known in _PATTERNS if known.pattern.search(error)), None)
    kind = known.kind if known is not None else _OTHER
    named = "" if kind.kind is _K.NO_SERVER else peer or _UNNAMED
    message = f"{error} ({kind.meaning})"
    entry = failed_try(path, line, access.ts_ns, _WIDTH_NS, kind, named, message)
    entry = with_request(entry, access, uri=origin_form(access.target))
    errno, name = (known.errno, known.errno_name) if known is not None else (-1, "")
    return replace(entry, tid=port, errno=errno, errno_name=name)


def _port_of(access: AccessEntry) -> int:
    port = access.client.rpartition(":")[2]
    return int(port) if port.isdecimal() else -1


def _access(path: str, line: int, at_ns: int, values: Mapping[str, Any], request: Mapping[str, Any]) -> AccessEntry:
    status = number(values, "status")
    address = word(request, "remote_ip") or word(request, "client_ip")
    port = word(request, "remote_port")
    shown = f"[{address}]" if ":" in address else address
    client = f"{shown}:{port}" if port.isascii() and port.isdecimal() else word(request, "remote_addr") or address
    lasted = values.get("duration")
    lasted_ns = _span_ns(lasted)
    return AccessEntry(
        *(path, line, at_ns, _WIDTH_NS, -1, _request_id(request.get("headers"))),
        *(word(request, "method"), word(request, "uri"), word(request, "proto"), word(request, "host")),
        *(client, status if status > 0 else -1, lasted_ns, ()),
    )


def _request_id(headers: object) -> str:
    if not isinstance(headers, dict):
        return ""
    for name in _ID_FIELDS:
        values = headers.get(name)
        if isinstance(values, list) and values and isinstance(values[0], str):
            return values[0][:200]
    return ""


def _time_ns(stamp: object) -> int:
    """[ns] Return a time in seconds since 1970, as Caddy writes it by default; -1 for none."""
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not 0 < stamp < 1e11:
        return -1
    return round(stamp * 1e6) * 1000


def _span_ns(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e6:
        return -1
    return round(seconds * NS_PER_S)


CADDY_LOG: Final = ForeignFormat(
    proxy="Caddy",
    log="JSON logs of http.log.access, http.log.error and, with level DEBUG, http.handlers.reverse_proxy, which alone"
    " names the server of each try",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
    begin=_CaddyReader,
)
