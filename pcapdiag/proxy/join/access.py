"""The access log between the error log and the packets: it knows the client connection and, to the ms, the times.

Its clock is the error log's without the zone, but neither is taken for granted: both offsets are found by agreement.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.proxy.join.assign import align
from pcapdiag.proxy.join.attempts import tries_by_connection
from pcapdiag.proxy.join.clock import Interval, estimate_clock
from pcapdiag.proxy.join.pairs import (
    LAG_NS,
    LEAD_NS,
    LEAST_SAMPLED,
    MOST_SAMPLED,
    normalize_peer,
)
from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.entries import CONNECTING, HEADER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.proxy.join.attempts import AccessTry, LoggedTry
    from pcapdiag.proxy.join.ledger import LogClock, WireTry
    from pcapdiag.proxy.join.pairs import Fits
    from pcapdiag.proxy.logs.entries import AccessEntry

ROUNDING_NS = 4_000_000
"""[ns] Times of an access log are whole milliseconds, and several of them are added up."""
AGREES_NS = 15_000_000
"""[ns] A try that begins this close to what the access log says is the one it tells of."""
SURE_PAIRS = 3
_MOST_SAMPLED_PAIRS = 100_000
MOST_ACCESSES = 200_000
"""Lines of the access log that are kept."""


@dataclass(slots=True)
class AccessLinks:
    """What the access log adds.

    Attributes
    ----------
    of_logged : dict of int to int
        Position of the access try for a position of a logged try.
    of_wire : dict of int to int
        Position of the access try for a position of a try on the wire.
    to_log, to_wire : LogClock or None
        Error log minus access log; access log minus capture.
    """

    of_logged: dict[int, int] = field(default_factory=dict)
    of_wire: dict[int, int] = field(default_factory=dict)
    to_log: LogClock | None = None
    to_wire: LogClock | None = None

    def forget_wires(self) -> None:
        """Take back what ties the access log to the capture: the clocks are not believed."""
        self.of_wire.clear()
        self.to_wire = None

    def distance_ns(self, attempt: AccessTry, wire: WireTry) -> int:
        """[ns] How far the beginning of a try on the wire is from what the access log says; -1 if it cannot say."""
        if self.to_wire is None:
            return -1
        low, high = _window(attempt, wire)
        at = wire.start_ns + self.to_wire.total_ns
        return max(low - at, at - high, 0)

    def distances_ns(self, attempt: AccessTry, fits: Fits) -> NDArray[np.int64]:
        """[ns] The same of several tries, but 0 where it cannot say; shape (n_try,)."""
        at = fits.moments.at
        if self.to_wire is None:
            return np.zeros(len(at), dtype=np.int64)
        (low, high), connect = attempt.start_ns, np.where(fits.tries.is_connect[at], 0, attempt.connect_ns)
        starts = fits.tries.starts[at] + self.to_wire.total_ns - connect
        return np.maximum(np.maximum(low - starts, starts - high), 0)


def keep_accesses(accesses: Iterable[AccessEntry], conns: Collection[int]) -> tuple[list[AccessEntry], int]:
    """Return the lines that tell of failures, and how many of them are too many to be kept.

    Parameters
    ----------
    accesses : iterable of AccessEntry
        The access log; lines of a single try that was answered are passed over.
    conns : collection of int
        Connections of clients that the error log names: their lines come first.

    Returns
    -------
    tuple of (list of AccessEntry, int)
    """
    named: list[AccessEntry] = []
    others: list[AccessEntry] = []
    n_left_out = 0
    for access in accesses:
        if access.log_conn in conns:
            if len(named) < MOST_ACCESSES:
                named.append(access)
            else:
                n_left_out += 1
        elif len(access.tries) > 1 or access.status >= 500:
            if len(others) < MOST_ACCESSES:
                others.append(access)
            else:
                n_left_out += 1
    room = MOST_ACCESSES - len(named)
    return [*named, *others[:room]], n_left_out + max(len(others) - room, 0)


def link_access(tries: Sequence[AccessTry], logged: Sequence[LoggedTry], wires: Sequence[WireTry]) -> AccessLinks:
    """Return which access-log try each logged try and each try on the wire is.

    Parameters
    ----------
    tries : sequence of AccessTry
        By the time they began.
    logged : sequence of LoggedTry
        In the order of the log.
    wires : sequence of WireTry
        Failed tries count only.

    Returns
    -------
    AccessLinks
        Only links that are certain.
    """
    links = AccessLinks()
    _link_logged(links, tries, logged)
    _link_wires(links, tries, wires)
    return links


def _link_logged(links: AccessLinks, tries: Sequence[AccessTry], logged: Sequence[LoggedTry]) -> None:
    of_conn = tries_by_connection(tries)
    groups: dict[tuple[int, str], list[tuple[int, int, Interval]]] = defaultdict(list)
    for number, attempt in enumerate(logged):
        head = attempt.head
        if head.log_conn < 0 or attempt.symptom is Symptom.NO_PACKETS:
            continue
        ts_ns = head.ts_ns
        key = head.log_conn, head.upstream_peer
        for position in of_conn.get(key, ()):
            access = tries[position]
            if head.action in (HEADER, CONNECTING) and not access.has_failed:
                continue
            if access.access.method and head.method and access.access.method != head.method:
                continue
            if access.access.target and head.target and access.access.target != head.target:
                continue
            low, high = access.end_ns
            groups[key].append(
                (number, position, Interval(ts_ns - high - LAG_NS - ROUNDING_NS, ts_ns + head.width_ns - low + LEAD_NS))
            )
    rows: dict[int, list[Interval]] = defaultdict(list)
    for members in groups.values():
        for number, _, interval in members:
            rows[number].append(interval)
    links.to_log = clock = estimate_clock(_sample(list(rows.values())))
    if clock is None:
        return
    for members in groups.values():
        costs = {(number, position): 0 for number, position, interval in members if _is_inside(clock, interval)}
        links.of_logged.update({number: c.chosen for number, c in align(costs).choices.items() if c.chosen >= 0})


def _link_wires(links: AccessLinks, tries: Sequence[AccessTry], wires: Sequence[WireTry]) -> None:
    told = set(links.of_logged.values())
    of_peer: dict[str, list[int]] = defaultdict(list)
    for position, wire in enumerate(wires):
        if wire.is_failure:
            of_peer[wire.peer].append(position)
    peers = {p: normalize_peer(t.peer) for p, t in enumerate(tries) if t.has_failed or p in told}
    failed = [p for p, peer in peers.items() if peer in of_peer]
    n_sampled = min(MOST_SAMPLED, max(_MOST_SAMPLED_PAIRS // max(len(wires), 1), LEAST_SAMPLED))
    rows = [
        [
            Interval(low - wires[w].start_ns - ROUNDING_NS, high - wires[w].start_ns + ROUNDING_NS)
            for w in of_peer[peers[p]]
            for low, high in [_window(tries[p], wires[w])]
        ]
        for p in failed[:: max(len(failed) // n_sampled, 1)]
    ]
    links.to_wire = clock = estimate_clock(rows)
    if clock is None or (clock.is_ambiguous and clock.pairs < SURE_PAIRS):
        links.to_wire = None
        return
    costs: dict[str, dict[tuple[int, int], int]] = defaultdict(dict)
    by_order = sorted(range(len(wires)), key=lambda w: wires[w].start_ns)
    order = {w: n for n, w in enumerate(by_order)}
    for its in of_peer.values():
        its.sort(key=order.__getitem__)
    starts = {peer: [wires[w].start_ns for w in its] for peer, its in of_peer.items()}
    for p in failed:
        (low, high), peer = tries[p].start_ns, peers[p]
        first = bisect_left(starts[peer], low - AGREES_NS - clock.total_ns)
        last = bisect_right(starts[peer], high + tries[p].connect_ns + AGREES_NS - clock.total_ns)
        for w in of_peer[peer][first:last]:
            distance = links.distance_ns(tries[p], wires[w])
            if distance <= AGREES_NS and _is_same(tries[p], wires[w]):
                costs[peer][p, order[w]] = distance // 1_000_000 * 2
    for table in costs.values():
        links.of_wire.update({by_order[c.chosen]: p for p, c in align(table).choices.items() if c.chosen >= 0})


def _is_same(attempt: AccessTry, wire: WireTry) -> bool:
    method = attempt.access.method
    return not method or not wire.method or method == wire.method


def _window(attempt: AccessTry, wire: WireTry) -> tuple[int, int]:
    low, high = attempt.start_ns
    connect = 0 if wire.is_connect else attempt.connect_ns
    return low + connect, high + connect


def _sample(rows: list[list[Interval]]) -> list[list[Interval]]:
    return rows[:: max(len(rows) // MOST_SAMPLED, 1)]


def _is_inside(clock: LogClock, interval: Interval) -> bool:
    half = clock.width_ns // 2
    return interval.low <= clock.total_ns + half and interval.high >= clock.total_ns - half
