"""What clients were served, second by second, from the access log: counted while the log is read for the join.

Knows entries of the access log; neither the capture nor what any of it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.proxy.logs.entries import AccessEntry

MOST_SECONDS = 400_000
"""More than four days with a request in every second; beyond, the log is too long to be kept by the second."""
MOST_PEERS = 10_000
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


@dataclass(slots=True)
class ClientTally:
    """Requests of clients by the second in which they ended, by the access log's own clock.

    Attributes
    ----------
    seconds : dict of int to Served
        By seconds since 1970, UTC.
    is_cut : bool
        Whether the log had more seconds than are kept.
    peers : set of str
        Upstreams that the log names, some of them where they are many.
    """

    seconds: dict[int, Served] = field(default_factory=dict)
    is_cut: bool = False
    peers: set[str] = field(default_factory=set)

    def watch(self, entries: Iterable[AccessEntry]) -> Iterator[AccessEntry]:
        """Yield the entries as they are, and count them."""
        for entry in entries:
            self._count(entry)
            yield entry

    def _count(self, entry: AccessEntry) -> None:
        second = entry.ts_ns // NS_PER_S
        served = self.seconds.get(second)
        if served is None:
            if len(self.seconds) >= MOST_SECONDS:
                self.is_cut = True
                return
            served = self.seconds[second] = Served()
        served.requests += 1
        served.unread += entry.status <= 0
        served.with_tries += bool(entry.tries)
        if len(self.peers) < MOST_PEERS:
            self.peers.update(t.addr for t in entry.tries)
        served.failures += entry.status >= 500
        served.gave_up += entry.status == CLIENT_CLOSED
        is_answered = 0 < entry.status < 500 and entry.status != CLIENT_CLOSED
        served.retried += is_answered and any(t.status >= 500 for t in entry.tries[:-1])
