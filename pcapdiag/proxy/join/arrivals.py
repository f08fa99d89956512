"""Whether a request arrived at the application: what the upstream's own log says of the requests that were lost.

By request id where the log has one, else by the proxy's address and port, else by method, target and time. That a line
is missing proves something only where the log holds the answered requests before and after it; which upstream a log
belongs to is found by the answered requests that are in it. Knows logs and tries, neither files nor tables.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.clock import Interval, estimate_clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.proxy.join.ledger import LogClock, WireTry
    from pcapdiag.proxy.logs.entries import UpstreamLogEntry

Key = tuple[str, ...]

MOST_LINES = 200_000
"""Lines of one log that are kept: those that may tell of a request in the capture."""
MOST_SAMPLED = 400
ENOUGH = 0.95
"""Share of an upstream's answered requests that its log must hold, so that a missing line says something."""
MOST_PAIRS = 1_000_000
LAG_NS = NS_PER_S // 10
"""[ns] How much later than the last byte of a response its line may be stamped."""
SLOW_NS = 65 * NS_PER_S
"""[ns] How much later than a request its line may come: it is written when the response is done."""


_BY_TIME = "method, target and time"


class ArrivalVerdict(Enum):
    """What an application's log says of a lost request; the value is how reports write it."""

    ARRIVED = "arrived"
    NOT_IN_LOG = "not_in_log"
    """The log covers the time and has no line for it."""
    NOT_COVERED = "not_covered"
    """The log begins after it, ends before it, or lacks requests that were answered."""
    UNCLEAR = "unclear"
    """Nothing in the line tells the request from others alike."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the application's log says of one lost request.

    Attributes
    ----------
    by : str
        What it was looked up by, in words.
    path : str
        The log.
    line : int
        Its line; -1 if there is none.
    around : tuple of int
        Lines of the answered requests before and after it, where its own is missing.
    status : int
        As logged; -1 without.
    """

    verdict: ArrivalVerdict
    by: str
    path: str
    line: int = -1
    around: tuple[int, int] = (-1, -1)
    status: int = -1


class AnsweredRequest(NamedTuple):
    """A request that was answered on the wire; times in ns of the capture's clock."""

    peer: str
    orig: str
    start_ns: int
    end_ns: int
    method: str
    target: str
    request_id: str


@dataclass(slots=True)
class _Kept:
    """The lines of one log that may tell of the capture's requests."""

    path: str
    lines: list[UpstreamLogEntry] = field(default_factory=list)
    is_full: bool = False
    first: UpstreamLogEntry | None = None
    last: UpstreamLogEntry | None = None
    """The first and the last line with a time, of whatever request."""


def judge_arrivals(
    lost: Iterable[WireTry],
    served: Sequence[AnsweredRequest],
    logs: Iterable[tuple[str, Iterable[UpstreamLogEntry]]],
    *,
    is_sampled: bool = False,
) -> dict[tuple[int, int], Arrival]:
    """Return what the logs of applications say of lost requests.

    Parameters
    ----------
    lost : iterable of WireTry
        Tries without a whole response; connection attempts carry no request and are passed over.
    served : sequence of AnsweredRequest
        Requests that were answered, those about the lost ones among them.
    logs : iterable of (str, iterable of UpstreamLogEntry)
        Path and lines of each log.
    is_sampled : bool
        Whether `served` lacks some; a line may then be that of a request that is not in it.

    Returns
    -------
    dict of (int, int) to Arrival
        By connection and depth; a request of whose upstream no log tells has none.
    """
    wires = [wire for wire in lost if wire.is_failure and not wire.is_connect]
    found: dict[tuple[int, int], Arrival] = {}
    for path, entries in logs:
        kept = _keep(path, entries, wires, served)
        for key, arrival in _judge_log(kept, wires, served, is_sampled=is_sampled):
            if key not in found or _RANK[arrival.verdict] < _RANK[found[key].verdict]:
                found[key] = arrival
    return found


_RANK = {verdict: rank for rank, verdict in enumerate(ArrivalVerdict)}


def _keep(
    path: str, entries: Iterable[UpstreamLogEntry], wires: Sequence[WireTry], served: Sequence[AnsweredRequest]
) -> _Kept:
    ids = {w.request_id for w in wires if w.request_id} | {s.request_id for s in served if s.request_id}
    origs = {w.orig for w in wires} | {s.orig for s in served}
    targets = {w.target for w in wires} | {s.target for s in served}
    kept = _Kept(path)
    for entry in entries:
        if entry.ts_ns >= 0:
            kept.first = kept.first or entry
            kept.last = entry
        is_alike = not (ids and entry.request_id) and entry.target in targets
        known = entry.request_id in ids or entry.client in origs or is_alike
        if known and len(kept.lines) < MOST_LINES:
            kept.lines.append(entry)
        elif known:
            kept.is_full = True
    return kept


def _judge_log(
    kept: _Kept, wires: Sequence[WireTry], served: Sequence[AnsweredRequest], *, is_sampled: bool
) -> Iterator[tuple[tuple[int, int], Arrival]]:
    ids = {s.request_id for s in served if s.request_id} | {w.request_id for w in wires if w.request_id}
    origs = {s.orig for s in served} | {w.orig for w in wires}
    lines = [line for line in kept.lines if line.request_id in ids]
    has_id = bool(lines)
    lines = lines or [line for line in kept.lines if line.client in origs]
    if not lines:
        yield from _judge_by_time(kept, wires, served)
        return
    has_port = any(line.client in origs for line in lines)
    book = _Book(kept, lines, has_id=has_id, has_port=has_port, has_target=any(s.target for s in served))
    book.learn(served)
    counts = Counter(book.key_of(w) for w in wires if w.peer in book.peers)
    for wire in wires:
        arrival = book.judge(wire, counts[book.key_of(wire)], is_sampled=is_sampled)
        if arrival is not None:
            yield wire.key, arrival


class _Book:
    """The lines of one log by what identifies a request, and the upstreams whose requests are in it."""

    def __init__(
        self, kept: _Kept, lines: Sequence[UpstreamLogEntry], *, has_id: bool, has_port: bool, has_target: bool
    ) -> None:
        self._kept = kept
        self._by = "request id" if has_id else "the proxy's address and port"
        self._has_id, self._has_port, self._has_target = has_id, has_port, has_target
        self._has_method = any(line.method for line in lines)
        self._lines: dict[Key, list[UpstreamLogEntry]] = defaultdict(list)
        for line in lines:
            self._lines[self._key(line.request_id, line.client, line.method, line.target)].append(line)
        self._answered: dict[Key, list[int]] = defaultdict(list)
        self._n_repeated = 1
        self._offset_ns: int | None = None
        self.peers: dict[str, tuple[list[int], list[int]]] = {}
        """For each upstream in the log, the beginnings of its answered requests that are in it, and their lines."""

    def _key(self, request_id: str, orig: str, method: str, target: str) -> Key:
        if self._has_id:
            return (request_id, orig) if self._has_port else (request_id,)
        # Of what is no HTTP in the clear only the connection is known.
        return (orig, method if self._has_method else "", target) if self._has_target else (orig,)

    def key_of(self, wire: WireTry | AnsweredRequest) -> Key:
        """Return what the line of a request would be found by."""
        return self._key(wire.request_id, wire.orig, wire.method, wire.target)

    def learn(self, served: Sequence[AnsweredRequest]) -> None:
        """Find out whose log this is: the upstreams whose answered requests are in it, nearly all of them."""
        known: dict[str, list[tuple[int, int]]] = defaultdict(list)
        starts: dict[str, list[int]] = defaultdict(list)
        taken: Counter[Key] = Counter()
        offsets: list[int] = []
        for request in sorted(served, key=lambda s: s.start_ns):
            if self._has_id and not request.request_id:
                continue
            key = self.key_of(request)
            starts[request.peer].append(request.start_ns)
            lines = self._lines.get(key, ())
            if taken[key] < len(lines):
                line = lines[taken[key]]
                known[request.peer].append((request.start_ns, line.line))
                offsets += [line.ts_ns - request.end_ns] if line.ts_ns >= 0 else []
            taken[key] += 1
        for peer, found in known.items():
            first, last = found[0][0], found[-1][0]
            its = starts[peer]
            n_within = bisect_right(its, last) - bisect_left(its, first)
            if len(found) >= ENOUGH * n_within:
                self.peers[peer] = [at for at, _ in found], [line for _, line in found]
        for request in served:
            if request.peer in self.peers:
                self._answered[self.key_of(request)].append(request.start_ns)
        # An application may write two lines for each request.
        shares = Counter(len(self._lines.get(key, ())) // len(its) for key, its in self._answered.items())
        self._offset_ns = sorted(offsets)[len(offsets) // 2] if offsets else None
        self._n_repeated = max(shares.most_common(1)[0][0], 1) if shares else 1

    def judge(self, wire: WireTry, n_alike: int, *, is_sampled: bool) -> Arrival | None:
        """Return what the log says of a lost request; None if it is of another upstream.

        Parameters
        ----------
        wire : WireTry
            The request.
        n_alike : int
            Lost requests that the same lines may tell of, this one included.
        is_sampled : bool
            Whether requests were answered that are not known here.
        """
        if (self._has_id and not wire.request_id) or wire.peer not in self.peers:
            return None
        key, path = self.key_of(wire), self._kept.path
        lines, answered = self._lines.get(key, []), self._answered.get(key, [])
        n_more = -(-len(lines) // self._n_repeated) - len(answered)
        if n_more >= n_alike and not (is_sampled and not (self._has_id and self._has_port)):
            at = bisect_left(sorted(answered), wire.start_ns) * self._n_repeated
            line = lines[min(at, len(lines) - 1)]
            return Arrival(ArrivalVerdict.ARRIVED, self._by, path, line.line, status=line.status)
        if n_more > 0:
            return Arrival(ArrivalVerdict.UNCLEAR, self._by, path)
        around = self._around(wire)
        is_covered = not self._kept.is_full and min(around) >= 0
        verdict = ArrivalVerdict.NOT_IN_LOG if is_covered else ArrivalVerdict.NOT_COVERED
        return Arrival(verdict, self._by, path, around=around)

    def _around(self, wire: WireTry) -> tuple[int, int]:
        """Return the lines before and after a request: of answered ones, else the log's ends by their times."""
        starts, numbers = self.peers[wire.peer]
        at = bisect_left(starts, wire.start_ns)
        before, after = numbers[at - 1] if at else -1, numbers[at] if at < len(numbers) else -1
        if self._offset_ns is not None:
            first, last, then = self._kept.first, self._kept.last, wire.start_ns + self._offset_ns
            if before < 0 and first is not None and first.ts_ns < then - NS_PER_S:
                before = first.line
            if after < 0 and last is not None and last.ts_ns > then + NS_PER_S:
                after = last.line
        return before, after


def _judge_by_time(
    kept: _Kept, wires: Sequence[WireTry], served: Sequence[AnsweredRequest]
) -> Iterator[tuple[tuple[int, int], Arrival]]:
    """Yield what a log says that has neither ids nor ports: by method, target and time, of a single upstream only."""
    lines = [line for line in kept.lines if line.ts_ns >= 0]
    clock = _clock_of(lines, served)
    if clock is None or clock.is_ambiguous or len({s.peer for s in served}) > 1:
        return
    slack = clock.width_ns // 2 + max(line.ts_width_ns for line in lines) + LAG_NS
    stamps = sorted((line.ts_ns - clock.total_ns, line.line, line) for line in lines)
    times = [at for at, _, _ in stamps]
    by_target: dict[str, list[tuple[int, int, UpstreamLogEntry]]] = defaultdict(list)
    for stamp in stamps:
        by_target[stamp[2].target].append(stamp)
    # Both are in the order of time, so that each count is two looks.
    starts, ends = _times_by_request(served)
    lost: dict[Key, list[int]] = defaultdict(list)
    for wire in sorted(wires, key=lambda w: w.start_ns):
        lost[wire.method, wire.target].append(wire.start_ns)
    n_covered = sum(times[0] - slack <= s.end_ns and s.start_ns <= times[-1] + slack for s in served)
    is_whole = not kept.is_full and len(lines) >= ENOUGH * n_covered > 0
    for wire in wires:
        if wire.peer != served[0].peer:
            continue
        low, high = wire.start_ns - slack, wire.start_ns + SLOW_NS
        alike = by_target.get(wire.target, [])
        near = [
            line
            for _, _, line in alike[bisect_left(alike, (low,)) : bisect_right(alike, (high + 1,))]
            if not line.method or line.method == wire.method
        ]
        key = wire.method, wire.target
        began, ended = starts.get(key, []), ends.get(key, [])
        # Of requests that overlap the edges of the time it is open on which side their lines fell.
        maybe = bisect_right(began, high + slack) - bisect_left(ended, low - slack)
        surely = max(bisect_right(ended, high - slack) - bisect_left(began, low + slack), 0)
        alike_lost = lost.get(key, [])
        n_lost = bisect_right(alike_lost, high + SLOW_NS) - bisect_left(alike_lost, low - SLOW_NS)
        if len(near) - maybe >= n_lost:
            yield wire.key, Arrival(ArrivalVerdict.ARRIVED, _BY_TIME, kept.path, near[0].line, status=near[0].status)
        elif len(near) > surely:
            yield wire.key, Arrival(ArrivalVerdict.UNCLEAR, _BY_TIME, kept.path)
        else:
            before, after = bisect_left(times, low) - 1, bisect_right(times, wire.start_ns + slack)
            around = (stamps[before][1] if before >= 0 else -1, stamps[after][1] if after < len(stamps) else -1)
            covered = is_whole and min(around) >= 0
            verdict = ArrivalVerdict.NOT_IN_LOG if covered else ArrivalVerdict.NOT_COVERED
            yield wire.key, Arrival(verdict, _BY_TIME, kept.path, around=around)


def _clock_of(lines: Sequence[UpstreamLogEntry], served: Sequence[AnsweredRequest]) -> LogClock | None:
    """Return the log's clock against the capture's: a line is stamped between a request and its response's end."""
    by_request: dict[str, list[AnsweredRequest]] = defaultdict(list)
    for request in served:
        by_request[request.target].append(request)
    n_sampled = min(MOST_SAMPLED, max(MOST_PAIRS // max(len(served), 1), 20))
    return estimate_clock(
        [
            Interval(line.ts_ns - s.end_ns - LAG_NS, line.ts_ns + line.ts_width_ns - s.start_ns)
            for s in by_request.get(line.target, ())
            if not line.method or s.method == line.method
        ]
        for line in lines[:: max(len(lines) // n_sampled, 1)]
    )


def _times_by_request(served: Sequence[AnsweredRequest]) -> tuple[dict[Key, list[int]], dict[Key, list[int]]]:
    starts: dict[Key, list[int]] = defaultdict(list)
    ends: dict[Key, list[int]] = defaultdict(list)
    for request in served:
        starts[request.method, request.target].append(request.start_ns)
        ends[request.method, request.target].append(request.end_ns)
    return {key: sorted(times) for key, times in starts.items()}, {key: sorted(times) for key, times in ends.items()}
