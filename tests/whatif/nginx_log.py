"""What nginx's debugging log tells of its choices, with the second that it took it for."""

import calendar
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache

LINE = re.compile(
    r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[\w+\] (\d+)#\d+: \*(\d+) "
    r"(?:get (?:rr|least conn|ip hash|hash|random|random2) peer, try: (?P<tries>\d+)"
    r"|get rr peer, current: [0-9A-F]+ (?P<weight>-?\d+)"
    r"|get keepalive peer: using (?P<cached>connection) [0-9A-F]+"
    r"|http client request body (?P<body>preread) [1-9]\d*"
    r"|http upstream connect: (?P<connect>-?\d+)"
    r"|http upstream send request (?P<sent>body)"
    r"|http next upstream, (?P<next>[0-9a-f]+)"
    r"|free rr peer \d+ (?P<state>\d+)"
    r"|free rr peer failed: [0-9A-F]+ (?P<effective>-?\d+))$"
)
BUSY = "-3"
FAILED = 4
CONDITIONS = {
    0x2: "error",
    0x4: "timeout",
    0x8: "invalid_header",
    0x10: "http_500",
    0x20: "http_502",
    0x40: "http_503",
    0x80: "http_504",
    0x100: "http_403",
    0x200: "http_404",
    0x400: "http_429",
}
UNSENT = {"error": "refused", "timeout": "connect_timeout"}


@dataclass(slots=True)
class LoggedTry:
    """One choice of a peer, and how it ended."""

    picked_order: int
    """Number of the line; smaller is earlier, for all requests of one worker."""
    picked_s: int
    tries: int
    """Tries that were left before."""
    weight: int | None = None
    """The peer's current weight after round robin chose it."""
    cached: bool = False
    is_busy: bool = False
    """No peer was live."""
    sent: bool = False
    condition: str | None = None
    """Why the next peer was thought of; ``None`` where the answer went to the client."""
    released_order: int = -1
    released_s: int = -1
    failed: bool = False
    effective_weight: int | None = None
    """After a failure."""


@dataclass(slots=True)
class LoggedRequest:
    """The tries of one connection of a client, which is one request here."""

    worker: int
    tries: list[LoggedTry] = field(default_factory=list)
    choosing: bool = False
    has_body: bool = False
    """Some of its body came together with its head."""


@lru_cache
def _seconds(stamp):
    return calendar.timegm(time.strptime(stamp, "%Y/%m/%d %H:%M:%S"))


def read_choices(path):
    """Read the error log of an nginx that runs with ``debug_http`` and ``TZ=UTC``.

    Returns
    -------
    dict of int to LoggedRequest
        By the number of the client's connection.
    """
    requests = {}
    with path.open(encoding="ascii", errors="replace") as lines:
        for order, line in enumerate(lines):
            if (match := LINE.match(line)) is not None:
                request = requests.setdefault(int(match[3]), LoggedRequest(int(match[2])))
                _note(request, match, order, _seconds(match[1]))
    return requests


def _note(request, match, order, second):
    what, value = match.lastgroup, match[match.lastgroup]
    if what == "body":
        request.has_body = True
        return
    if what == "tries":
        # Balancers that fall back on another one, and groups that fall back on backups, say it again.
        if not request.choosing:
            request.tries.append(LoggedTry(order, second, int(value)))
            request.choosing = True
        return
    current = request.tries[-1]
    if what == "weight":
        current.weight = int(value)
    elif what == "cached":
        current.cached = True
    elif what == "connect":
        current.is_busy = value == BUSY
        request.choosing = False
    elif what == "sent":
        current.sent = True
    elif what == "next":
        if not current.is_busy:
            condition = CONDITIONS[int(value, 16)]
            current.condition = condition if current.sent else UNSENT.get(condition, condition)
    elif what == "state":
        current.released_order, current.released_s = order, second
        current.failed = bool(int(value) & FAILED)
    elif what == "effective":
        # It is written before it is kept from sinking below nothing.
        current.effective_weight = max(0, int(value))
