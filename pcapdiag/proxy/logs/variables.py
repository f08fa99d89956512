"""The names under which logs hold what an entry needs, and the entry made of the values.

Knows nginx's variables, the keys that JSON formats give them, and the lists that nginx writes for several tries.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.logs.context import split_request
from pcapdiag.proxy.logs.entries import CUT_OFF, AccessEntry, Try, UpstreamLogEntry
from pcapdiag.proxy.logs.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

# Slot of an entry: names from the most to the least exact, in lower case, `-` and `.` as `_`.
SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "time": ("msec", "time_iso8601", "time_local", "@timestamp", "timestamp", "time", "ts", "date", "datetime"),
    "log_conn": ("connection", "connection_id", "conn"),
    "request_id": (
        *("request_id", "req_id", "reqid", "requestid", "rid", "kong_request_id", "http_x_request_id", "x_request_id"),
        *("sent_http_x_request_id", "upstream_http_x_request_id", "correlation_id", "trace_id"),
    ),
    "request": ("request", "request_line", "http_request"),
    "method": ("request_method", "method", "http_method", "verb"),
    "target": ("request_uri", "target", "uri", "path", "url", "document_uri"),
    "protocol": ("server_protocol", "protocol", "http_version"),
    "host": ("http_host", "host", "server_name", "vhost", "domain"),
    "client": (
        "remote_addr",
        "client",
        "client_ip",
        "clientip",
        "remote_ip",
        "peer",
        "realip_remote_addr",
        "client_addr",
    ),
    "client_port": ("remote_port", "client_port"),
    "status": ("status", "status_code", "code", "response", "http_status"),
    "request_time": ("request_time", "rt", "duration", "response_time", "latency"),
    "tries_addr": ("upstream_addr", "upstream", "upstreamaddr", "ua", "uaddr"),
    "tries_status": ("upstream_status", "upstreamstatus", "us", "ustatus"),
    "tries_response_time": ("upstream_response_time", "upstreamresponsetime", "urt"),
    "tries_connect_time": ("upstream_connect_time", "upstreamconnecttime", "uct"),
    "tries_header_time": ("upstream_header_time", "upstreamheadertime", "uht"),
}

Plan = tuple[int, ...]
"""For every slot the index of its value, -1 for none."""

_MOST_TRIES: Final = 1024


@lru_cache(maxsize=64)
def plan_of(names: tuple[str, ...]) -> Plan:
    """Return where the value of each slot stands.

    Parameters
    ----------
    names : tuple of str
        Names of the values of a record, in their order.

    Returns
    -------
    tuple of int
        One index per slot, -1 for a slot without a value.
    """
    places: dict[str, int] = {}
    for n, name in enumerate(names):
        places.setdefault(name.lower().replace("-", "_").replace(".", "_"), n)
    return tuple(next((places[name] for name in known if name in places), -1) for known in SLOTS.values())


def values_by(plan: Plan, values: Sequence[str]) -> list[str]:
    """Return the values of the slots in their order; empty for none and for nginx's ``-``."""
    return ["" if n < 0 or values[n] == "-" else values[n] for n in plan]


def access_entry(path: str, line: int, values: Sequence[str]) -> AccessEntry:
    """Return the entry that these values make.

    Parameters
    ----------
    path, line : str and int
        Where they come from.
    values : sequence of str
        One per slot, empty for none.

    Returns
    -------
    AccessEntry
        With -1 for every number that is none.
    """
    time, log_conn, request_id, request, method, target, protocol, host, client, port, status, *times = values
    if request:
        method, target, protocol = split_request(request)
    ts_ns, width_ns, _ = parse_time(time) or (-1, 0, False)
    return AccessEntry(
        path,
        line,
        ts_ns,
        width_ns,
        _number(log_conn),
        request_id,
        method,
        target,
        protocol,
        host,
        f"{client}:{port}" if port else client,
        _final_status(status),
        _duration_ns(times[0]),
        _tries(*times[1:]),
    )


def upstream_entry(path: str, line: int, values: Sequence[str]) -> UpstreamLogEntry:
    """Return what these values say of a request that arrived.

    Parameters
    ----------
    path, line : str and int
        Where they come from.
    values : sequence of str
        One per slot, empty for none.

    Returns
    -------
    UpstreamLogEntry
        With -1 for every number that is none.
    """
    time, _, request_id, request, method, target, _, _, client, port, status, *_ = values
    if request:
        method, target, _ = split_request(request)
    ts_ns, width_ns, has_zone = parse_time(time) or (-1, 0, False)
    client = f"{client}:{port}" if port else client
    return UpstreamLogEntry(
        path, line, ts_ns, width_ns, has_zone, request_id, method, target, _final_status(status), client
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _final_status(text: str) -> int:
    """Return what a client got; nginx writes three digits where it closed without an answer, 0 of others is none."""
    return CUT_OFF if text == "000" else _number(text) or -1


_status = lru_cache(maxsize=1024)(_number)


@lru_cache(maxsize=8192)
def _duration_ns(text: str) -> int:
    """Return a number of seconds with a fraction, as nginx writes durations, in nanoseconds."""
    seconds, _, fraction = text.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
        return -1
    fraction = fraction[:9].ljust(9, "0")
    return int(seconds) * 10**9 + int(fraction) if fraction.isascii() and fraction.isdigit() else -1


def _tries(addr: str, status: str, response: str, connect: str, header: str) -> tuple[Try, ...]:
    """Return the tries of parallel lists: ``, `` between tries, `` : `` between internal redirects."""
    if not (addr or status or response):
        return ()
    if ", " not in addr and " : " not in addr and ", " not in status:
        return (Try(addr, _status(status), _duration_ns(response), _duration_ns(connect), _duration_ns(header), 0),)
    columns = [[part.split(", ") for part in text.split(" : ")] for text in (addr, status, response, connect, header)]
    if len(columns[0]) == 1:
        lists = [column[0] for column in columns]
        n_tries = len(lists[0])
        if all(len(column) == 1 and len(column[0]) in {n_tries, 1} for column in columns) and n_tries <= _MOST_TRIES:
            # A variable that the format lacks gives one empty value.
            addrs, statuses, responses, connects, headers = (
                values if len(values) == n_tries else [""] * n_tries for values in lists
            )
            return tuple(
                Try(a if a != "-" else "", _status(s), _duration_ns(r), _duration_ns(c), _duration_ns(h), 0)
                for a, s, r, c, h in zip(addrs, statuses, responses, connects, headers, strict=True)
            )
    # All lists have the shape of the first that the format holds.
    shape = next(column for column, text in zip(columns, (addr, status, response), strict=False) if text)
    tries: list[Try] = []
    for redirect, group in enumerate(shape):
        for n in range(len(group)):
            cells = [
                column[redirect][n].strip() if redirect < len(column) and n < len(column[redirect]) else ""
                for column in columns
            ]
            name = "" if cells[0] == "-" else cells[0]
            times = _duration_ns(cells[2]), _duration_ns(cells[3]), _duration_ns(cells[4])
            tries.append(Try(name, _number(cells[1]), *times, redirect))
    return tuple(tries[:_MOST_TRIES])
