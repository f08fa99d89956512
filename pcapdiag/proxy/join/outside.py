"""Failures that the logs of the capture's time know and no packet of the capture shows, by why it cannot show them.

Unix sockets, other interfaces and addresses, what the proxy's machine refused before a packet left: a capture without a
loss does not mean that nothing failed. Whatever may be a failure that packets do show is none of these. Knows joined
entries and the access log, neither files nor findings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.ledger import EntryVerdict, OutsideFailure, OutsideKind, WireVerdict, first_of
from pcapdiag.proxy.join.pairs import is_name, normalize_peer
from pcapdiag.proxy.join.places import Place
from pcapdiag.proxy.join.services import LEAST_PAIRS
from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER, Symptom
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.proxy.join.access import AccessLinks
    from pcapdiag.proxy.join.attempts import AccessTry, LoggedTry
    from pcapdiag.proxy.join.ledger import JoinedEntry, JoinedTry, WireTry
    from pcapdiag.proxy.join.places import CaptureSpan, Span
    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry

MOST_OUTSIDE = 50_000
_QUARTER_NS = 900 * NS_PER_S
_MOST_ZONES_NS = 15 * 3600 * NS_PER_S
ID_MISSING = "no try of the capture carries its request id: its packets are missing"
"""Why an entry has no try, where that is certain."""
_NOT_TRIED = {LogKind.NO_SERVER: OutsideKind.NO_SERVER, LogKind.QUEUED: OutsideKind.NOT_TRIED}
SAME_REQUEST = "the same request failed then at "
"""Why an entry of an address without a packet may be of one that has some."""
_UPGRADED = "proxying upgraded"
_SERVER_ERROR = 500
_BESIDE_S = 2
"""[s] How far the entry of a request may be from its line in the access log."""


def mark_translated(
    logged: Sequence[LoggedTry],
    joined: Sequence[JoinedEntry],
    tries: Sequence[JoinedTry],
    peers: frozenset[str],
    time: Span,
) -> tuple[JoinedEntry, ...]:
    """Return the entries; one of a peer without a packet names the failure that its request had then elsewhere, if any.

    Where several services lead to the same endpoints no address of a log can be learned for one of the capture's.

    Parameters
    ----------
    logged : sequence of LoggedTry
        The tries of the error log; their positions are those of `joined`.
    joined : sequence of JoinedEntry
        Entries with their verdicts, placed.
    tries : sequence of JoinedTry
        Failed tries on the wire.
    peers : frozenset of str
        Those that the capture saw.
    time : Span
        The capture's time by the error log's clock.

    Returns
    -------
    tuple of JoinedEntry
        At the same positions; all as they were where fewer than `LEAST_PAIRS` requests failed at both.
    """
    same = _SameRequest(tries)
    entries = list(joined)
    n_found = 0
    for attempt in logged:
        entry = attempt.head
        peer = normalize_peer(entry.upstream_peer)
        if not peer or peer in peers or is_name(peer) or entry.upstream_peer.startswith("unix:"):
            continue
        if attempt.symptom in {Symptom.NO_PACKETS, Symptom.ABORTED}:
            continue
        wire = same.take(entry.method, entry.target, time.to_capture(entry.ts_s))
        if wire is None:
            continue
        n_found += 1
        reason = f"{SAME_REQUEST}{wire.peer}: this may be the address of a service"
        for position in attempt.entries:
            entries[position] = replace(
                entries[position], verdict=EntryVerdict.UNDETERMINED, reason=reason, candidates=(wire,)
            )
    return tuple(entries if n_found >= LEAST_PAIRS else joined)


class _SameRequest:
    """Failed tries that no entry tells of, by what they asked for: each is taken once."""

    def __init__(self, tries: Sequence[JoinedTry]) -> None:
        self._free: dict[tuple[str, str], list[WireTry]] = {}
        for t in tries:
            if t.verdict is not WireVerdict.LOGGED and t.access is None and t.wire.target:
                self._free.setdefault((t.wire.method, t.wire.target), []).append(t.wire)

    def take(self, method: str, target: str, at_ns: int) -> WireTry | None:
        """Return a try of this request that ended at this moment, the zone aside; None if there is none left."""
        mine = self._free.get((method, target), [])
        for number, wire in enumerate(mine):
            end_ns = first_of(wire.proxy_close_ns, wire.upstream_close_ns)
            end_ns = max(end_ns, wire.start_ns)
            if _is_same_moment(end_ns // NS_PER_S, at_ns // NS_PER_S):
                return mine.pop(number)
        return None


def list_outside(
    logged: Sequence[LoggedTry],
    joined: Sequence[JoinedEntry],
    tries: Sequence[JoinedTry],
    accesses: tuple[Sequence[AccessTry], Sequence[AccessEntry], AccessLinks],
    span: CaptureSpan,
    time: Span,
) -> tuple[OutsideFailure, ...]:
    """Return what only the logs tell of.

    Parameters
    ----------
    logged : sequence of LoggedTry
        The tries of the error log; their positions are those of `joined`.
    joined : sequence of JoinedEntry
        Entries with their verdicts, placed.
    tries : sequence of JoinedTry
        Failed tries on the wire.
    accesses : tuple
        Tries and lines of the access log that were kept, and what they were linked with.
    span : CaptureSpan
        What the capture covers.
    time : Span
        Its time by the error log's clock.

    Returns
    -------
    tuple of OutsideFailure
        As in the logs, entries of the error log first.
    """
    if span.first_ns < 0:
        return ()
    free = Counter(t.wire.peer for t in tries if t.verdict is not WireVerdict.LOGGED)
    lines = _FailedLines(accesses[1], accesses[2], span)
    found = [lines.place(failure) for failure in _of_entries(logged, joined, span, time)]
    found += _of_accesses(joined, *accesses, span)
    seen: list[OutsideFailure] = []
    taken = {w.key for j in joined for w in j.candidates}
    same = _SameRequest([t for t in tries if t.wire.key not in taken])
    unseen = Counter(f.peer for f in found if f.kind is OutsideKind.UNMATCHED)
    for failure in found[:MOST_OUTSIDE]:
        # Where the wire has as many failures that no entry tells of, these are likely those.
        if failure.kind is OutsideKind.UNMATCHED and free[failure.peer] >= unseen[failure.peer]:
            continue
        is_other = failure.kind is OutsideKind.OTHER_PEER
        if is_other and same.take(failure.method, failure.target, failure.ts_ns) is not None:
            continue
        seen.append(failure)
    return tuple(seen)


class _FailedLines:
    """Failed requests of the access log in the capture's time, whose stamps have a zone: they place what has none."""

    def __init__(self, lines: Sequence[AccessEntry], links: AccessLinks, span: CaptureSpan) -> None:
        ahead_ns = links.to_wire.offset_ns if links.to_wire is not None else 0
        self._at: dict[tuple[str, str, str], list[int]] = {}
        for line in lines:
            at_ns = line.ts_ns - ahead_ns
            if line.status >= _SERVER_ERROR and span.first_ns <= at_ns <= span.last_ns:
                self._at.setdefault((line.client, line.method, line.target), []).append(at_ns)

    def place(self, failure: OutsideFailure) -> OutsideFailure:
        """Return a failure of the error log with its time, where the line of its request has that."""
        mine = [] if failure.is_placed else self._at.get((failure.client, failure.method, failure.target), [])
        same = (n for n in mine if _is_same_moment(failure.ts_ns // NS_PER_S, n // NS_PER_S))
        at_ns = next(same, -1)
        return failure if at_ns < 0 else replace(failure, ts_ns=at_ns, is_placed=True, is_likely=True)


def _of_entries(
    logged: Sequence[LoggedTry], joined: Sequence[JoinedEntry], span: CaptureSpan, time: Span
) -> Iterator[OutsideFailure]:
    for attempt in logged:
        entry_at = next((p for p in attempt.entries if joined[p].entry == attempt.head), attempt.entries[0])
        j = joined[entry_at]
        kind = _kind(attempt, j, span)
        if kind is None:
            continue
        place = time.place(j.entry.ts_s)
        if place not in {Place.INSIDE, Place.UNKNOWN}:
            continue
        is_placed = place is Place.INSIDE
        if kind is OutsideKind.NO_PEER and is_placed:
            continue
        ts_ns = time.to_capture(j.entry.ts_s)
        fits, is_likely = (True, True) if is_placed else _may_be_inside(ts_ns, span)
        if fits:
            yield _failure(kind, j.entry, ts_ns, is_placed=is_placed, is_likely=is_likely)


def _kind(attempt: LoggedTry, j: JoinedEntry, span: CaptureSpan) -> OutsideKind | None:
    entry = j.entry
    peer = normalize_peer(entry.upstream_peer)
    if j.verdict is EntryVerdict.EXPLAINED or j.is_elsewhere or j.candidates:
        return None
    if entry.upstream_peer.startswith("unix:"):
        return OutsideKind.UNIX_SOCKET
    if attempt.symptom is Symptom.ABORTED or entry.action.startswith(_UPGRADED):
        # A client that went away is no failure of the upstream, and an upgraded connection that ended is no request.
        return None
    if attempt.symptom is Symptom.NO_PACKETS:
        if entry.kind in FOUND_NO_PEER:
            return OutsideKind.NO_PEER
        if entry.kind in _NOT_TRIED:
            return _NOT_TRIED[entry.kind]
        return OutsideKind.UNRESOLVED if entry.kind is LogKind.RESOLVE_FAILED else OutsideKind.NOTHING_SENT
    if not peer or (is_name(peer) and peer not in span.peers):
        return None
    if peer not in span.peers:
        return OutsideKind.OTHER_PEER
    if peer in span.unframed:
        return None
    return OutsideKind.NOT_SEEN if j.reason == ID_MISSING else OutsideKind.UNMATCHED


def _may_be_inside(ts_ns: int, span: CaptureSpan) -> tuple[bool, bool]:
    """Tell whether a stamp of unknown zone may be of the capture's time, and whether that is more than chance."""

    def is_inside(at_ns: int) -> bool:
        return span.first_ns - NS_PER_S < at_ns <= span.last_ns

    if is_inside(ts_ns):
        return True, True
    lasted = span.last_ns - span.first_ns
    if abs(ts_ns - span.first_ns) > _MOST_ZONES_NS + lasted:
        return False, False
    behind = (ts_ns - span.first_ns + NS_PER_S) % _QUARTER_NS
    return behind <= lasted + NS_PER_S, lasted * 10 <= _QUARTER_NS


def _failure(kind: OutsideKind, entry: ErrorEntry, ts_ns: int, *, is_placed: bool, is_likely: bool) -> OutsideFailure:
    return OutsideFailure(
        kind=kind,
        peer=normalize_peer(entry.upstream_peer),
        ts_ns=ts_ns,
        path=entry.path,
        line=entry.line,
        client=entry.client,
        method=entry.method,
        target=entry.target,
        host=entry.host,
        is_placed=is_placed,
        is_likely=is_likely,
    )


def _of_accesses(
    joined: Sequence[JoinedEntry],
    tries: Sequence[AccessTry],
    lines: Sequence[AccessEntry],
    links: AccessLinks,
    span: CaptureSpan,
) -> list[OutsideFailure]:
    """Return the requests of the access log that failed, and whose failure neither packets nor error log explain."""
    told = {(tries[p].access.path, tries[p].access.line) for p in (*links.of_logged.values(), *links.of_wire.values())}
    entries: dict[tuple[int, str, str], list[int]] = {}
    for j in joined:
        entries.setdefault((j.entry.log_conn, j.entry.method, j.entry.target), []).append(j.entry.ts_s)
        entries.setdefault((-1, j.entry.method, j.entry.target), []).append(j.entry.ts_s)
    clock = links.to_wire
    ahead_ns = clock.offset_ns if clock is not None else 0
    # The entry of a request stands in the zone of its own log; against the access log only seconds of an hour count.
    found = []
    for line in lines:
        at_ns = line.ts_ns - ahead_ns
        last = line.tries[-1] if line.tries else None
        if line.status < 500 or last is None or (line.path, line.line) in told:
            continue
        if not span.first_ns <= at_ns <= span.last_ns:
            continue
        stamps = entries.get((line.log_conn, line.method, line.target), ())
        if any(_is_same_moment(stamp, line.ts_ns // NS_PER_S) for stamp in stamps):
            continue
        peer = normalize_peer(last.addr)
        kind = _kind_of_line(line, peer, span)
        if kind is None:
            continue
        found.append(
            OutsideFailure(
                kind=kind,
                peer=peer,
                ts_ns=at_ns,
                path=line.path,
                line=line.line,
                client=line.client,
                method=line.method,
                target=line.target,
                host=line.host,
                status=line.status,
            )
        )
    return found


def _is_same_moment(stamp_s: int, at_s: int) -> bool:
    """Tell whether two stamps agree but for the zone."""
    apart = (stamp_s - at_s + _BESIDE_S) % 900
    return apart <= 2 * _BESIDE_S


def _kind_of_line(line: AccessEntry, peer: str, span: CaptureSpan) -> OutsideKind | None:
    last = line.tries[-1]
    if last.addr.startswith("unix:"):
        return OutsideKind.UNIX_SOCKET
    if ":" not in last.addr:
        # The name of a block: no peer was left, which only the error log tells more of.
        return None
    if peer not in span.peers:
        return OutsideKind.OTHER_PEER
    is_answer = last.status >= 500 and (last.header_time_ns >= 0 or last.status not in {502, 504})
    if is_answer:
        return OutsideKind.ANSWERED
    return None if peer in span.unframed else OutsideKind.UNMATCHED
