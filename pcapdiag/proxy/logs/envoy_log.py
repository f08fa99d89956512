"""Envoy's access log, also as Istio has it written: a line for each request, as text or JSON, with response flags.

Knows Envoy's default format, Istio's, and the keys of Istio's JSON (Envoy "Access logging", Istio "Envoy access
logs"). Tries that were repeated have no line of their own. Linear in the length of a line.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Final, NamedTuple

from pcapdiag.base.units import NS_PER_MS
from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HEADER, AccessEntry, LogKind, Try
from pcapdiag.proxy.logs.foreign_format import (
    ForeignFormat,
    MessageKind,
    Record,
    asked_for,
    failed_try,
    origin_form,
)
from pcapdiag.proxy.logs.times import parse_time

_TEXT: Final = re.compile(
    r'\[(?P<start>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z)\] "(?P<request>[^"]*)" (?P<status>\d{1,3}) '
    r"(?P<flags>[A-Z][A-Z,]{0,60}|-) "
    # Istio's format has three more fields here.
    r'(?:(?P<details>\S{1,1000}) \S{1,1000} "(?P<reason>[^"]*)" )?'
    r'\d{1,20} \d{1,20} (?P<duration>\d{1,10}) (?P<service>\d{1,10}|-) "[^"]*" "[^"]*" "(?P<id>[^"]*)" '
    r'"[^"]*" "(?P<host>[^"]*)"(?P<rest>.*)',
    re.ASCII,
)
_KEYS: Final = frozenset({"response_flags", "start_time", "response_code"})
_MOST: Final = 1 << 40
_WIDTH_NS: Final = 2 * NS_PER_MS
"""[ns] The end is the sum of two times that are each cut off to milliseconds."""
_CLIENT_CLOSED: Final = 499
"""How access entries say that the client went away, whoever wrote them."""
_REMOTE_AT: Final = 3
"""Behind the upstream's address of Istio's text: its cluster, the local addresses, the client's address."""


class _Fields(NamedTuple):
    """What text and JSON have alike."""

    start: str
    method: str
    target: str
    protocol: str
    status: int
    flags: str
    details: str
    duration: int
    has_answer: bool
    request_id: str
    host: str
    client: str


def _line(flags: str, status: int, details: str, host: str = "10.1.1.1:80") -> str:
    return (
        f'[2026-12-01T03:47:16.927Z] "GET /api HTTP/1.1" {status} {flags} {details} - "-" 0 95 72 - "-" "curl/8"'
        f' "c20b3cbc-8a5e-47e1-b1aa-e962a335559d" "app.example" "{host}" outbound|80||app - 10.2.2.2:80 192.0.2.2:5 - -'
    )


_K: Final = LogKind
KINDS: Final = (
    MessageKind(
        *("UF", _K.NO_CONNECTION, CONNECTING, "no connection to the upstream came about"),
        _line("UF", 503, "upstream_reset_before_response_started{remote_connection_failure}"),
    ),
    MessageKind(
        *("UC", _K.BROKEN, HEADER, "the upstream closed or reset the connection"),
        _line("UC", 503, "upstream_reset_before_response_started{connection_termination}"),
    ),
    MessageKind(
        *("UR", _K.BROKEN, HEADER, "the upstream reset the request"),
        _line("UR", 503, "upstream_reset_before_response_started{remote_reset}"),
    ),
    MessageKind(
        *("UT", _K.TIMED_OUT, HEADER, "the upstream did not answer in time"),
        _line("UT", 504, "upstream_response_timeout"),
    ),
    MessageKind(
        *("UPE", _K.INVALID_RESPONSE, HEADER, "the upstream's answer breaks the protocol"),
        _line("UPE", 502, "upstream_reset_before_response_started{protocol_error}"),
    ),
    MessageKind(
        *("UH", _K.NO_SERVER, "", "no upstream was healthy"), _line("UH", 503, "no_healthy_upstream", host="-")
    ),
    MessageKind(
        *("UO", _K.NO_RESOURCES, "", "a circuit breaker was open: no more connections or requests were allowed"),
        _line("UO", 503, "upstream_reset_before_response_started{overflow}", host="-"),
    ),
    MessageKind(
        *("DC", _K.CLIENT_CLOSED, HEADER, "the client went away"), _line("DC", 0, "downstream_remote_disconnect")
    ),
    MessageKind(
        *("URX", _K.TRY_FAILED, "", "no try of those that were allowed succeeded"),
        _line("URX", 503, "via_upstream"),
    ),
)
"""The first that stands among the flags of a line counts; other flags tell of no try."""
_ENDED_INSIDE: Final = frozenset({LogKind.BROKEN, LogKind.CLIENT_CLOSED, LogKind.TIMED_OUT})


def _is_record(text: str) -> bool:
    return _fields(text) is not None


def _fields(text: str) -> _Fields | None:
    if text.startswith("{"):
        return _of_json(text)
    found = _TEXT.match(text)
    if found is None:
        return None
    behind = found["rest"].split(" ")[1:6]
    client = behind[_REMOTE_AT] if found["details"] is not None and len(behind) > _REMOTE_AT else ""
    return _Fields(
        found["start"],
        *asked_for(found["request"]),
        int(found["status"]),
        found["flags"],
        f"{found['details'] or ''} {found['reason'] or ''}",
        int(found["duration"]),
        found["service"] != "-",
        _known(found["id"]),
        _known(found["host"]),
        client,
    )


def _of_json(text: str) -> _Fields | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not values.keys() >= _KEYS:
        return None

    def word(name: str) -> str:
        value = values.get(name)
        return _known(value) if isinstance(value, str) else ""

    def number(name: str) -> int:
        value = values.get(name)
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST)) else -1

    return _Fields(
        word("start_time"),
        word("method"),
        word("path") or word("x_envoy_original_path"),
        word("protocol"),
        number("response_code"),
        word("response_flags"),
        f"{word('response_code_details')} {word('upstream_transport_failure_reason')}",
        max(number("duration"), 0),
        bool(word("upstream_service_time")) or number("upstream_service_time") >= 0,
        word("request_id") or word("x_request_id"),
        word("upstream_host"),
        word("downstream_remote_address"),
    )


def _known(text: str) -> str:
    return "" if text == "-" else text


def _read(path: str, line: int, text: str) -> Record | None:
    found = _fields(text)
    time = parse_time(found.start) if found is not None else None
    if found is None or time is None:
        return None
    lasted_ns = found.duration * NS_PER_MS
    end_ns = time[0] + lasted_ns
    kind = _kind(found)
    gave_up = kind is not None and kind.kind is LogKind.CLIENT_CLOSED and found.status <= 0
    header_ns = 1 if found.has_answer else -1
    access = AccessEntry(
        *(path, line, end_ns, _WIDTH_NS, -1, found.request_id, found.method, found.target, found.protocol, ""),
        *(found.client, _CLIENT_CLOSED if gave_up else found.status or -1, lasted_ns),
        (Try(found.host, found.status, -1, -1, header_ns, 0),) if found.host else (),
    )
    if kind is None:
        return Record(None, access)
    message = f"{found.flags}: {kind.meaning} (status {found.status}{f', {d}' if (d := found.details.strip()) else ''})"
    entry = replace(
        failed_try(path, line, end_ns, _WIDTH_NS, kind, found.host, message),
        client=found.client,
        request=" ".join(filter(None, (found.method, found.target, found.protocol))),
        method=found.method,
        target=found.target,
        protocol=found.protocol,
        upstream_uri=origin_form(found.target),
        extra=(("request_id", found.request_id),) if found.request_id else (),
    )
    return Record(entry, access)


def _kind(found: _Fields) -> MessageKind | None:
    flags = found.flags.split(",")
    kind = next((kind for kind in KINDS if kind.sign in flags), None)
    if kind is None or (not found.host and kind.kind is LogKind.CLIENT_CLOSED):
        # A client that left before an upstream was picked concerns none.
        return None
    if kind.sign == "UF" and "timeout" in found.details:
        return kind._replace(kind=LogKind.TIMED_OUT)
    if found.has_answer and kind.kind in _ENDED_INSIDE:
        return kind._replace(action=BODY)
    return kind


ENVOY_LOG: Final = ForeignFormat(
    proxy="Envoy",
    log="access log in Envoy's or Istio's default format, and in Istio's JSON",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
)
