"""What clients were served, second by second, from the access log: counted while the log is read for the join.

Knows entries of the access log; neither the capture nor what any of it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.entries import CUT_OFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.proxy.logs.entries import AccessEntry

MOST_SECONDS = 400_000
"""More than four days with a request in every second; beyond, the log is too long to be kept by the second."""
MOST_PEERS = 10_000
ROUNDING_NS = 2_000_000
"""[ns] The time of a line and the time that its request took are cut off to milliseconds."""
CLIENT_CLOSED = 499
"""nginx's status for a client that went away."""


@dataclass(slots=True)
class Served:
    """What became of requests of clients.

    Attributes
    ----------
    requests : int
        All of them.
    failures : int
        Those that got a status of 500 or above, or no answer at all.
    gave_up : int
        Those whose client went away before the answer (499).
    retried : int
        Those that were answered after at least one try had failed.
    cut_off : int
        Those among the failures that the proxy closed without any answer (000): it stopped, or was told to.
    unread : int
        Those whose status the log does not tell, or not in a way that was understood.
    with_tries : int
        Those of which the log names the upstreams.
    """

    requests: int = 0
    failures: int = 0
    gave_up: int = 0
    retried: int = 0
    unread: int = 0
    with_tries: int = 0
    cut_off: int = 0

    def count(self, entry: AccessEntry) -> None:
        """Count one request more."""
        self.requests += 1
        self.unread += entry.status < 0
        self.with_tries += bool(entry.tries)
        self.failures += entry.status >= 500 or entry.status == CUT_OFF
        self.cut_off += entry.status == CUT_OFF
        self.gave_up += entry.status == CLIENT_CLOSED
        is_answered = 0 < entry.status < 500 and entry.status != CLIENT_CLOSED
        self.retried += is_answered and any(t.status >= 500 for t in entry.tries[:-1])

    def add(self, other: Served) -> None:
        """Add the requests of another one."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class ClientTally:
    """Requests of clients by the second in which they ended, by the access log's own clock.

    Attributes
    ----------
    seconds : dict of int to Served
        By seconds since 1970, UTC.
    crossing : dict of (int, int) to Served
        Those among them that began in an earlier second, by both seconds: a line is written when its request is over,
        which may be after the last packet. Of more than `MOST_SECONDS` kinds the rest is not kept.
    is_cut : bool
        Whether the log had more seconds than are kept.
    peers : set of str
        Upstreams that the log names, some of them where they are many.
    has_zone : bool
        Whether the log names its zone; where it does not, its seconds are local time as if it were UTC.
    counts_retries : bool
        Whether the log tells of tries that were repeated.
    """

    seconds: dict[int, Served] = field(default_factory=dict)
    crossing: dict[tuple[int, int], Served] = field(default_factory=dict)
    is_cut: bool = False
    peers: set[str] = field(default_factory=set)
    has_zone: bool = True
    counts_retries: bool = True

    def watch(self, entries: Iterable[AccessEntry]) -> Iterator[AccessEntry]:
        """Yield the entries as they are, and count them."""
        for entry in entries:
            self._count(entry)
            yield entry

    def covers(self) -> tuple[int, int]:
        """[s] Return the first and last second of the log; (0, -1) without any."""
        return min(self.seconds, default=0), max(self.seconds, default=-1)

    def _count(self, entry: AccessEntry) -> None:
        second = entry.ts_ns // NS_PER_S
        served = self.seconds.get(second)
        if served is None:
            if len(self.seconds) >= MOST_SECONDS:
                self.is_cut = True
                return
            served = self.seconds[second] = Served()
        served.count(entry)
        if len(self.peers) < MOST_PEERS:
            self.peers.update(t.addr for t in entry.tries if t.addr)
        began = (entry.ts_ns - max(entry.request_time_ns, 0) - ROUNDING_NS) // NS_PER_S
        if began < second and (len(self.crossing) < MOST_SECONDS or (began, second) in self.crossing):
            self.crossing.setdefault((began, second), Served()).count(entry)

    def within(self, first_s: int, last_s: int) -> dict[int, Served]:
        """Return the requests that ended within [first_s, last_s] or began within it, by the second of their end."""
        found = {second: served for second, served in self.seconds.items() if first_s <= second <= last_s}
        for (began, ended), served in self.crossing.items():
            if first_s <= began <= last_s < ended:
                found.setdefault(ended, Served()).add(served)
        return found
