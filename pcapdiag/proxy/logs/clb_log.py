"""Access logs of AWS Classic Load Balancers: a line for each request, with its instance and both statuses.

Knows the fields as AWS documents them ("Access log entries" of the guide to Classic Load Balancers). A line is stamped
with the time when the request came; where a time of its parts is missing (-1), its end is not known but for the longest
that the load balancer waits. Linear in the length of a line.
"""

from __future__ import annotations

import re
from typing import Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.entries import AccessEntry, LogKind, Try
from pcapdiag.proxy.logs.foreign_format import (
    ForeignFormat,
    MessageKind,
    Record,
    asked_for,
    failed_try,
    origin_form,
    with_request,
)
from pcapdiag.proxy.logs.times import parse_time

_LINE: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z) (?P<name>[A-Za-z0-9-]{1,64}) (?P<client>\S{1,60}) "
    r"(?P<instance>\S{1,60}) (?P<before>-1|\d{1,9}(?:\.\d{1,9})?) (?P<answer>-1|\d{1,9}(?:\.\d{1,9})?) "
    r"(?P<after>-1|\d{1,9}(?:\.\d{1,9})?) (?P<status>\d{1,3}|-) (?P<of_instance>\d{1,3}|-) \d{1,20} \d{1,20} "
    r'"(?P<request>[^"]*)"',
    re.ASCII,
)
_LONGEST_NS: Final = 61 * NS_PER_S
"""[ns] What the end of a request leaves open where its times are missing: the idle timeout as shipped, and a second."""


def _line(instance: str, times: str, statuses: str) -> str:
    return (
        f"2026-11-03T09:00:05.905250Z my-lb 198.51.100.9:2817 {instance} {times} {statuses} 0 0"
        ' "GET http://app.example:80/orders/9 HTTP/1.1" "curl/8" - -'
    )


_K: Final = LogKind
_PEER: Final = "10.31.9.40:3000"
KINDS: Final = (
    MessageKind(
        *("502", _K.TRY_FAILED, "", "the instance refused or broke the connection, or its answer could not be used"),
        _line(_PEER, "0.000028 -1 -1", "502 0"),
    ),
    MessageKind(
        *("504", _K.TRY_FAILED, "", "the instance did not answer in time, or closed the connection"),
        _line(_PEER, "0.000028 -1 -1", "504 0"),
    ),
    MessageKind(
        *("503", _K.NO_SERVER, "", "no registered instance was healthy, or none had room"),
        _line("-", "-1 -1 -1", "503 0"),
    ),
)
"""By the load balancer's status, where the instance's is missing: it gave none."""
_BY_STATUS: Final = {kind.sign: kind for kind in KINDS}
_NONE: Final = frozenset({"-", "0"})


def _is_record(text: str) -> bool:
    return _LINE.match(text) is not None


def _read(path: str, line: int, text: str) -> Record | None:
    found = _LINE.match(text)
    time = parse_time(found["time"]) if found is not None else None
    if found is None or time is None:
        return None
    # "- - - " stands for what was no request.
    method, target, protocol = ("", "", "") if found["request"].startswith("- ") else asked_for(found["request"])
    peer = "" if found["instance"] == "-" else found["instance"]
    times_ns = [_time_ns(found[name]) for name in ("before", "answer", "after")]
    is_whole = min(times_ns) >= 0
    lasted_ns = sum(max(ns, 0) for ns in times_ns)
    width_ns = time[1] if is_whole else _LONGEST_NS
    has_answer = found["of_instance"] not in _NONE
    status = int(found["status"]) if found["status"] != "-" else -1
    of_instance = int(found["of_instance"]) if has_answer else status
    tried = (Try(peer, of_instance, -1, -1, times_ns[1] if has_answer else -1, 0),) if peer else ()
    access = AccessEntry(
        *(path, line, time[0] + lasted_ns, width_ns, -1, "", method, target, protocol, "", found["client"]),
        *(status, lasted_ns if is_whole else -1, tried),
    )
    kind = None if has_answer else _BY_STATUS.get(found["status"])
    # Without an instance only that there was none tells of it; other answers are the load balancer's own.
    if kind is None or (kind.kind is LogKind.NO_SERVER) == bool(peer):
        return Record(None, access)
    entry = failed_try(path, line, access.ts_ns, width_ns, kind, peer, f"{found['status']}: {kind.meaning}")
    return Record(with_request(entry, access, uri=origin_form(target)), access)


def _time_ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return -1 if seconds == "-1" else int(seconds) * NS_PER_S + int(fraction.ljust(9, "0") if fraction else 0)


CLB_LOG: Final = ForeignFormat(
    proxy="AWS CLB",
    log="access logs of Classic Load Balancers",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=True,
    has_zone=True,
)
