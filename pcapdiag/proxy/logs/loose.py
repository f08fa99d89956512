"""Reads what it can from a line of any format that holds a request: for logs whose format nobody stated.

Knows how requests, times, request ids and ``key=value`` pairs look; knows no format.
"""

from __future__ import annotations

import json
import re
from typing import Final

from pcapdiag.proxy.logs.times import EPOCH, ISO, LOCAL
from pcapdiag.proxy.logs.variables import SLOTS, plan_of, values_by

LONGEST: Final = 1 << 14
"""[characters] Of a longer line only the beginning is looked at."""

_METHODS: Final = (
    "GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|REPORT|QUERY"
)
_QUOTED: Final = re.compile(r'"(([A-Z]{2,20}) [^\s"]+(?: HTTP/[0-9.]+)?)"')
_BARE: Final = re.compile(rf'(?<![\w-])((?:{_METHODS}) (?:/|https?://|\*)[^\s"]*(?: HTTP/[0-9.]+)?)')
_TARGET: Final = re.compile(r"(?<= )(/[^\s\"]*)(?= |$)")
_STATUS: Final = re.compile(r'"?[ :>-]{1,4}"?([1-5][0-9]{2}|000)(?![\w.])')
_TIME: Final = re.compile(rf"(?<![\w.])(?:{LOCAL}|{ISO}|{EPOCH})(?![\w.])")
_REQUEST_ID: Final = re.compile(
    r"(?<![\w-])(?:[0-9a-f]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?![\w-])"
)
_PAIR: Final = re.compile(r"""(?<![\w-])([A-Za-z][\w-]{1,30})[=:] ?(?:"([^"]*)"|'([^']*)'|([^\s"',\]};]+))""")
_IPV4: Final = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_IPV6: Final = r"(?=[0-9a-fA-F:]{0,39}::|(?:[0-9a-fA-F]{1,4}:){7})[0-9a-fA-F:]{2,45}"
_ADDRESS: Final = rf"(\[?(?:{_IPV4}|{_IPV6})\]?(?::[0-9]{{1,5}})?)"
_FIRST_CLIENT: Final = re.compile(rf"{_ADDRESS}(?![\w.:])")
_LAST_CLIENT: Final = re.compile(rf"(?<![\w.:]){_ADDRESS}[ -]+$")
_CLIENT_NAMES: Final = frozenset(SLOTS["client"])
_PAIR_NAMES: Final = frozenset(name for names in SLOTS.values() for name in names)


def parse_json(line: str) -> list[str] | None:
    """Return the values of a JSON object by slot, None if the line is none or holds no request.

    Parameters
    ----------
    line : str
        A whole line.

    Returns
    -------
    list of str or None
        See `variables.SLOTS`.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    texts = [str(value) if isinstance(value, str | int | float) else "" for value in record.values()]
    values = values_by(plan_of(tuple(record)), texts)
    _, _, request_id, request, method, target, *_ = values
    return values if request or (target and (method or request_id)) else None


def parse_loose(line: str) -> list[str] | None:
    """Return the values of a line by slot, None if it holds no request.

    Parameters
    ----------
    line : str
        A whole line.

    Returns
    -------
    list of str or None
        See `variables.SLOTS`; without a time where it has none.
    """
    line = line[:LONGEST]
    found: dict[str, str] = {}
    request = _QUOTED.search(line) if '"' in line else None
    if request is None:
        request = _BARE.search(line)
    if request:
        found["request"] = request[1]
        if status := _STATUS.match(line, request.end()):
            found["status"] = status[1]
    outside = line[: request.start()] + " " + line[request.end() :] if request else line
    for match in _PAIR.finditer(outside):
        name = match[1].lower().replace("-", "_")
        if name in _PAIR_NAMES:
            found.setdefault(name, match[2] or match[3] or match[4] or "")
    if "request_id" not in found and (request_id := _REQUEST_ID.search(outside)):
        found["request_id"] = request_id[0]
    if request is None:
        target = _TARGET.search(line)
        if target is None or not found.get("request_id"):
            return None
        found.setdefault("target", target[1])
    if time := _TIME.search(outside):
        found["msec"] = time[0]
    if found.keys().isdisjoint(_CLIENT_NAMES):
        # An address elsewhere may be anybody's.
        before = line[: request.start()][-64:] if request else ""
        if client := _LAST_CLIENT.search(before) or _FIRST_CLIENT.match(line):
            found["remote_addr"] = client[1]
    return values_by(plan_of(tuple(found)), list(found.values()))
