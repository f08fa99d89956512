"""Access logs of AWS Application Load Balancers: a line for each request, with its target and both statuses.

Knows the fields as AWS documents them ("Access log entries" and "HTTP error codes" of the guide to Application Load
Balancers). What a target's connection failed of, a line does not say. Linear in the length of a line.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pcapdiag.proxy.logs.entries import HEADER, AccessEntry, LogKind, Try
from pcapdiag.proxy.logs.foreign_format import (
    ForeignFormat,
    MessageKind,
    Record,
    asked_for,
    failed_try,
    origin_form,
)
from pcapdiag.proxy.logs.times import parse_time

_LINE: Final = re.compile(
    r"(?:https?|h2|grpcs|wss?) (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z) \S{1,300} (?P<client>\S{1,60}) "
    r"(?P<target>\S{1,60}) (?P<before>-1|\d{1,9}(?:\.\d{1,9})?) (?P<answer>-1|\d{1,9}(?:\.\d{1,9})?) "
    r"(?P<after>-1|\d{1,9}(?:\.\d{1,9})?) (?P<status>\d{3}|-) (?P<of_target>\d{3}|-) \d{1,20} \d{1,20} "
    r'"(?P<request>[^"]*)',
    re.ASCII,
)
_CLIENT_CLOSED: Final = "460"
_GAVE_UP: Final = 499
"""How access entries say that the client went away, whoever wrote them."""


def _line(target: str, times: str, statuses: str) -> str:
    return (
        f"http 2026-11-03T09:00:05.905250Z app/lb/50dc6c495c0c9188 198.51.100.9:2817 {target} {times} {statuses} 34 366"
        ' "POST http://app.example:80/orders/9 HTTP/1.1" "curl/8" - -'
    )


_K: Final = LogKind
_PEER: Final = "10.31.9.40:3000"
KINDS: Final = (
    MessageKind(
        *("502", _K.TRY_FAILED, "", "the target refused or broke the connection, or its answer could not be used"),
        _line(_PEER, "0.000 0.001 -1", "502 -"),
    ),
    MessageKind(
        *("504", _K.TIMED_OUT, HEADER, "the target did not accept a connection, or did not answer, in time"),
        _line(_PEER, "0.000 -1 -1", "504 -"),
    ),
    MessageKind(
        *(_CLIENT_CLOSED, _K.CLIENT_CLOSED, HEADER, "the client went away before the target answered"),
        _line(_PEER, "0.000 -1 -1", "460 -"),
    ),
    MessageKind(
        *("503", _K.NO_SERVER, "", "the target group had no target to send it to"), _line("-", "-1 -1 -1", "503 -")
    ),
)
"""By the load balancer's status, where the target's is missing: it gave none."""
_BY_STATUS: Final = {kind.sign: kind for kind in KINDS}


def _is_record(text: str) -> bool:
    return _LINE.match(text) is not None


def _read(path: str, line: int, text: str) -> Record | None:
    found = _LINE.match(text)
    time = parse_time(found["time"]) if found is not None else None
    if found is None or time is None:
        return None
    ts_ns, width_ns, _ = time
    request = found["request"]
    method, target, protocol = asked_for(request)
    status = _number(found["status"])
    peer = "" if found["target"] == "-" else found["target"]
    answer_ns = _time_ns(found["answer"])
    tried = (Try(peer, _number(found["of_target"], status), -1, -1, answer_ns if found["of_target"] != "-" else -1, 0),)
    lasted_ns = sum(max(_time_ns(found[name]), 0) for name in ("before", "answer", "after"))
    access = AccessEntry(
        *(path, line, ts_ns, width_ns, -1, "", method, target, protocol, "", found["client"]),
        *(_GAVE_UP if found["status"] == _CLIENT_CLOSED else status, lasted_ns, tried if peer else ()),
    )
    kind = _BY_STATUS.get(found["status"]) if found["of_target"] == "-" else None
    # Without a target only that there was none tells of it; other answers are the load balancer's own.
    if kind is None or (kind.kind is LogKind.NO_SERVER) == bool(peer):
        return Record(None, access)
    message = f"{found['status']}: {kind.meaning}"
    entry = replace(
        failed_try(path, line, ts_ns, width_ns, kind, peer, message),
        client=found["client"],
        request=request,
        method=method,
        target=target,
        protocol=protocol,
        upstream_uri=origin_form(target),
    )
    return Record(entry, access)


def _number(text: str, otherwise: int = -1) -> int:
    return int(text) if text != "-" else otherwise


def _time_ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return -1 if seconds == "-1" else int(seconds) * 10**9 + int(fraction.ljust(9, "0") if fraction else 0)


ALB_LOG: Final = ForeignFormat(
    proxy="AWS ALB",
    log="access logs of Application Load Balancers",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
)
