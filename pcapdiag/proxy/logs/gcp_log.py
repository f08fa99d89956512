"""Logs of Google Cloud's Application Load Balancers: a JSON object for each request, with `statusDetails`.

Knows the fields as Google documents them ("Global external Application Load Balancer logging and monitoring"):
`httpRequest`, and in `jsonPayload` why an answer has its status. The backend is named by its address without a port.
Linear in the length of a line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HEADER, AccessEntry, LogKind, Try
from pcapdiag.proxy.logs.foreign_format import (
    CLIENT_LEFT,
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
from pcapdiag.proxy.logs.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPE: Final = "loadbalancing.type.LoadBalancerLogEntry"
_LATENCY: Final = re.compile(r"(\d{1,6})(?:\.(\d{1,9}))?s", re.ASCII)
_WIDTH_NS: Final = 5_000_000
"""[ns] Between what a front end measures and what happens at the backend lie its own steps."""


def _line(details: str, status: int = 502, server: str = "10.31.9.40") -> str:
    request = {
        "requestMethod": "GET",
        "requestUrl": "https://app.example/api",
        "requestSize": "34",
        "status": status,
        "remoteIp": "198.51.100.9",
        "latency": "0.072311s",
        "protocol": "HTTP/1.1",
    }
    return json.dumps(
        {
            "httpRequest": request | ({"serverIp": server} if server else {}),
            "insertId": "1a",
            "jsonPayload": {"@type": f"type.googleapis.com/google.cloud.{_TYPE}", "statusDetails": details},
            "resource": {"type": "http_load_balancer"},
            "severity": "WARNING",
            "timestamp": "2026-11-20T23:56:28.101123Z",
        }
    )


_K: Final = LogKind


def _kind(
    sign: str, kind: LogKind, action: str, meaning: str, status: int = 502, server: str = "10.31.9.40"
) -> MessageKind:
    return MessageKind(sign, kind, action, meaning, _line(sign, status, server))


KINDS: Final = (
    _kind(
        *("backend_connection_closed_before_data_sent_to_client", _K.BROKEN, HEADER),
        "the backend closed the connection before anything of an answer was passed on",
    ),
    _kind(
        *("backend_connection_closed_after_partial_response_sent", _K.BROKEN, BODY),
        *("the backend closed the connection inside its answer", 200),
    ),
    _kind(
        *("backend_early_response_with_non_error_status", _K.INVALID_RESPONSE, HEADER),
        "the backend answered before the request was whole",
    ),
    _kind(*("backend_timeout", _K.TIMED_OUT, HEADER, "the backend did not answer in time", 504)),
    _kind(
        *("backend_response_corrupted", _K.INVALID_RESPONSE, BODY),
        "the body of the backend's answer is cut off, or is no valid one",
    ),
    _kind(
        *("backend_response_headers_too_long", _K.TOO_BIG_HEADER, HEADER),
        "the head of the backend's answer is larger than the load balancer takes",
    ),
    _kind(
        *("failed_to_connect_to_backend", _K.NO_CONNECTION, CONNECTING),
        "no connection to the backend came about",
    ),
    _kind(
        *("failed_to_pick_backend", _K.NO_SERVER, "", "no backend was healthy", 502, ""),
    ),
    _kind(
        *("client_disconnected_before_any_response", _K.CLIENT_CLOSED, HEADER),
        *("the client went away before the backend answered", 0),
    ),
    _kind(
        *("client_disconnected_after_partial_response", _K.CLIENT_CLOSED, BODY),
        *("the client went away inside the answer", 200),
    ),
)
"""By `statusDetails`; what else stands there ended at no backend, or well."""
_BY_DETAILS: Final = {kind.sign: kind for kind in KINDS}


def _is_record(text: str) -> bool:
    return _values(text) is not None


def _values(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the object, its request and its payload."""
    values = object_of(text)
    if values is None:
        return None
    request, payload, resource = (values.get(name) for name in ("httpRequest", "jsonPayload", "resource"))
    if not isinstance(request, dict) or not isinstance(payload, dict):
        return None
    is_typed = word(payload, "@type").endswith(_TYPE) or "statusDetails" in payload
    is_balancer = isinstance(resource, dict) and "load_balancer" in word(resource, "type")
    return (values, request, payload) if is_typed or is_balancer else None


def _read(path: str, line: int, text: str) -> Record | None:
    found = _values(text)
    time = parse_time(word(found[0], "timestamp")) if found is not None else None
    if found is None or time is None or not time[2]:
        return None
    _, request, payload = found
    kind = _BY_DETAILS.get(word(payload, "statusDetails"))
    server = word(request, "serverIp")
    # No port is logged: which one it is, only failures that agree with the capture tell.
    peer = f"{server}/backend" if server else ""
    lasted_ns = _span_ns(word(request, "latency"))
    status = number(request, "status")
    gave_up = kind is not None and kind.kind is LogKind.CLIENT_CLOSED and status <= 0
    tried = (Try(peer, status, -1, -1, -1 if kind is not None else 1, 0),) if peer else ()
    target = origin_form(word(request, "requestUrl"))
    access = AccessEntry(
        *(path, line, time[0] + max(lasted_ns, 0), _WIDTH_NS, -1, "", word(request, "requestMethod"), target),
        *(word(request, "protocol"), "", word(request, "remoteIp"), CLIENT_LEFT if gave_up else status or -1),
        *(lasted_ns, tried),
    )
    if kind is None or (kind.kind is not LogKind.NO_SERVER and not peer):
        return Record(None, access)
    message = f"{kind.sign}: {kind.meaning} (status {status})"
    named = "" if kind.kind is LogKind.NO_SERVER else peer
    entry = failed_try(path, line, access.ts_ns, _WIDTH_NS, kind, named, message)
    return Record(with_request(entry, access, uri=target), access)


def _span_ns(text: str) -> int:
    found = _LATENCY.fullmatch(text)
    return int(found[1]) * NS_PER_S + int((found[2] or "").ljust(9, "0")) if found is not None else -1


GCP_LOG: Final = ForeignFormat(
    proxy="GCP load balancer",
    log="Cloud Logging entries of Application Load Balancers, an object on each line or spread over lines",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
)
