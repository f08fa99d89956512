"""Traefik's access log, in its Common Log Format and as JSON: a line for each request, with its server and status.

Knows the fields as Traefik documents them ("Access Logs"), and what Traefik answers where a try failed: the text of the
status alone (`http.StatusText`), whose length tells it from an answer of the server. Of what a try failed, a line does
not say; tries that were repeated are only counted. Linear in the length of a line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.units import NS_PER_MS, NS_PER_S
from pcapdiag.proxy.logs.entries import HEADER, AccessEntry, LogKind, Try
from pcapdiag.proxy.logs.foreign_format import (
    CLIENT_LEFT,
    ForeignFormat,
    MessageKind,
    Record,
    asked_for,
    failed_try,
    number,
    object_of,
    origin_form,
    with_request,
    word,
)
from pcapdiag.proxy.logs.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLF: Final = re.compile(
    r"(?P<client>\S{1,60}) - (?P<user>[^\[]{0,80}?) ?\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<request>[^"]*)" (?P<status>\d{3}|-) (?P<size>\d{1,18}|-) "[^"]*" "[^"]*" \d{1,18} '
    r'"(?P<router>[^"]*)" "(?P<server>[^"]*)" (?P<ms>\d{1,10})ms',
    re.ASCII,
)
_KEYS: Final = frozenset({"DownstreamStatus", "RouterName", "RequestMethod"}), frozenset({"StartUTC", "StartLocal"})
_JSON_WIDTH_NS: Final = 2 * NS_PER_MS
_MOST_RETRIES: Final = 100
_BODIES: Final = {502: len("Bad Gateway"), 504: len("Gateway Timeout"), CLIENT_LEFT: len("Client Closed Request")}
"""[bytes] What Traefik's own answers hold."""


def _line(status: int, size: int, server: str = "http://10.1.1.1:80") -> str:
    return (
        f'192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET /api HTTP/1.1" {status} {size} "-" "-" 17 "web@docker"'
        f' "{server}" 72ms'
    )


def _json(status: int, size: int, server: str = "10.1.1.1:80") -> str:
    return json.dumps(
        {
            "ClientAddr": "192.0.2.2:42600",
            "DownstreamContentSize": size,
            "DownstreamStatus": status,
            "Duration": 72_500_000,
            "OriginContentSize": size,
            "OriginStatus": status,
            "RequestHost": "app.example",
            "RequestMethod": "GET",
            "RequestPath": "/api",
            "RequestProtocol": "HTTP/1.1",
            "RetryAttempts": 0,
            "RouterName": "web@docker",
            "ServiceAddr": server,
            "StartUTC": "2026-11-20T23:56:28.123456789Z",
            "level": "info",
            "msg": "",
            "time": "2026-11-20T23:56:28Z",
        }
    )


_K: Final = LogKind
KINDS: Final = (
    MessageKind(
        *("502", _K.TRY_FAILED, "", "the server refused or broke the connection, or its answer could not be used"),
        _line(502, _BODIES[502]),
    ),
    MessageKind(
        *("504", _K.TIMED_OUT, "", "the server did not accept a connection, or did not answer, in time"),
        _json(504, _BODIES[504]),
    ),
    MessageKind(
        *("499", _K.CLIENT_CLOSED, HEADER, "the client went away before the server answered"),
        _json(CLIENT_LEFT, _BODIES[CLIENT_LEFT]),
    ),
    MessageKind(*("503", _K.NO_SERVER, "", "no server was available"), _line(503, 20, server="-")),
)
"""By the status of Traefik's own answers."""
_BY_STATUS: Final = {int(kind.sign): kind for kind in KINDS}


def _is_record(text: str) -> bool:
    return _CLF.match(text) is not None or _of_json(text) is not None


def _of_json(text: str) -> dict[str, Any] | None:
    values = object_of(text)
    wanted, one_of = _KEYS
    return values if values is not None and values.keys() >= wanted and values.keys() & one_of else None


def _read(path: str, line: int, text: str) -> Record | None:
    found = _CLF.match(text)
    if found is not None:
        return _clf(path, line, found)
    values = _of_json(text)
    return _object(path, line, values) if values is not None else None


def _clf(path: str, line: int, found: re.Match[str]) -> Record | None:
    time = parse_time(found["time"])
    if time is None:
        return None
    lasted_ns = int(found["ms"]) * NS_PER_MS
    method, target, protocol = asked_for(found["request"])
    status = _whole(found["status"])
    peer = _peer(found["server"])
    # Stamped with the second in which the request came.
    access = AccessEntry(
        *(path, line, time[0] + lasted_ns, NS_PER_S + NS_PER_MS, -1, "", method, target, protocol, ""),
        *(found["client"], status, lasted_ns, _tries(peer, status, _whole(found["size"]), lasted_ns, 0)),
    )
    return _record(access, peer, _whole(found["size"]))


def _object(path: str, line: int, values: Mapping[str, Any]) -> Record | None:
    time = parse_time(word(values, "StartUTC") or word(values, "StartLocal"))
    if time is None or not time[2]:
        return None
    lasted_ns = max(number(values, "Duration"), 0)
    status = number(values, "DownstreamStatus")
    size = number(values, "OriginContentSize")
    peer = word(values, "ServiceAddr") or _peer(word(values, "ServiceURL"))
    request_id = word(values, "request_X-Request-Id") or word(values, "request_X-Request-ID")
    retries = max(number(values, "RetryAttempts"), 0)
    access = AccessEntry(
        *(path, line, time[0] + lasted_ns, _JSON_WIDTH_NS, -1, request_id, word(values, "RequestMethod")),
        *(word(values, "RequestPath"), word(values, "RequestProtocol"), word(values, "RequestHost")),
        *(word(values, "ClientAddr") or word(values, "ClientHost"), status or -1, lasted_ns),
        _tries(peer, status, size, number(values, "OriginDuration"), retries),
    )
    return _record(access, peer, size)


def _record(access: AccessEntry, peer: str, size: int) -> Record:
    kind = _BY_STATUS.get(access.status)
    if kind is None:
        return Record(None, access)
    # Of a server that answered so itself the body is another; without a server only that there was none tells of it.
    is_own = not peer if kind.kind is LogKind.NO_SERVER else bool(peer) and size == _BODIES[access.status]
    if not is_own:
        return Record(None, access)
    message = f"{access.status}: {kind.meaning}"
    entry = failed_try(access.path, access.line, access.ts_ns, access.ts_width_ns, kind, peer, message)
    # Middlewares may strip or replace a path before it is sent on; a prefix that Traefik adds has no trace here.
    return Record(with_request(entry, access, uri=origin_form(access.target)), access)


def _tries(peer: str, status: int, size: int, answer_ns: int, retries: int) -> tuple[Try, ...]:
    if not peer:
        return ()
    repeated = (Try("", 502, -1, -1, -1, 0),) * min(retries, _MOST_RETRIES)
    is_own = size == _BODIES.get(status, -1)
    return (*repeated, Try(peer, status, -1, -1, -1 if is_own else max(answer_ns, 1), 0))


def _peer(url: str) -> str:
    """Return the address and port of a server's URL; the port of its scheme where it names none."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return ""
    host = rest.split("/", 1)[0].rpartition("@")[2]
    has_port = host.rpartition(":")[2].isdecimal() and not host.endswith("]")
    return host if has_port or not host else f"{host}:{443 if scheme == 'https' else 80}"


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else -1


TRAEFIK_LOG: Final = ForeignFormat(
    proxy="Traefik",
    log="access log, common format and JSON",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
)
