"""The join: logs, configuration and tries on the wire in, the two-sided ledger out.

Every entry gets one verdict and every failed try one; what cannot be decided is left undetermined, with its candidates.
Knows nothing of files, tables or reports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_S, about, format_zone
from pcapdiag.proxy.join.access import AGREES_NS, keep_accesses, link_access
from pcapdiag.proxy.join.assign import Alignment
from pcapdiag.proxy.join.attempts import group_entries, list_access_tries
from pcapdiag.proxy.join.cascade import build_chains
from pcapdiag.proxy.join.credible import is_credible
from pcapdiag.proxy.join.ledger import (
    EntryVerdict,
    JoinedEntry,
    JoinedTry,
    Ledger,
    LogClock,
    Retry,
    WireVerdict,
    first_of,
)
from pcapdiag.proxy.join.match import RequestIds, choose_tries, find_clock, sharpen_clock
from pcapdiag.proxy.join.outside import ID_MISSING, list_outside, mark_translated
from pcapdiag.proxy.join.pairs import Pairing, is_name, normalize_peer
from pcapdiag.proxy.join.places import CaptureSpan, Span, keep_own
from pcapdiag.proxy.join.services import behind_services, learn_services, with_own_peers
from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.proxy.join.access import AccessLinks
    from pcapdiag.proxy.join.assign import Assigned
    from pcapdiag.proxy.join.attempts import AccessTry, LoggedTry
    from pcapdiag.proxy.join.ledger import WireTry
    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry

MOST_CHECKS = 100_000
MOST_RELOADS = 1000
"""Entries of health checks that are kept."""
MOST_ENTRIES = 500_000
"""Entries about upstreams that are joined: a gigabyte of them."""
JUST_BEGUN_NS = 65 * NS_PER_S
"""[ns] A request that timed out so soon after the capture began may have been sent before."""

_EARLY_NS, _LATE_NS = 2_000_000, 22_000_000
"""[ns] How much sooner or later than whole seconds an event loop gives up."""

_BEFORE = "it was logged before the capture began"
_AFTER = "it was logged after the capture ended"
_SENT_BEFORE = "no try fits it, and it may have begun before the capture did"
_LAST_SECOND = "the capture ended in the second in which it was logged"
_NO_OFFSET = "no failed try of the capture fits it at any clock offset"
_OTHER_ZONE = "no failed try of the capture fits it in the zone that was given (--log-zone), but one does at another: "
_NOT_NAMED = "it names no upstream, and no entry of its thread before it does"
_NOTHING_SENT = {
    LogKind.NO_SERVER: "no server was there to be tried: nothing was sent for this",
    LogKind.QUEUED: "it waited for a free server and left the queue unserved: nothing was sent for this",
    LogKind.NO_RESOURCES: "the proxy had no room for another connection: nothing was sent for this",
}
_NO_TRY = "no failed try at this peer fits kind and time"
_UNFRAMED = "its upstream speaks HTTP/2 whose streams are not seen: its packets may be in the capture"
_NO_TRY_FITS = frozenset({ID_MISSING, _NO_OFFSET, _NO_TRY})
_NOT_ALL = "very many tries failed, and only some of them were held against the log (--all takes all)"
_ELSEWHERE = frozenset({_BEFORE, _AFTER, _SENT_BEFORE, _LAST_SECOND})


def join_logs(
    wires: Sequence[WireTry],
    span: CaptureSpan,
    entries: Iterable[ErrorEntry],
    accesses: Iterable[AccessEntry] = (),
    settings: ProxySettings | None = None,
    *,
    zone_s: int | None = None,
    covers: Callable[[], tuple[int, int]] | None = None,
) -> Ledger:
    """Join the error log with what the capture shows.

    Parameters
    ----------
    wires : sequence of WireTry
        Failed tries of the upstream leg, and the last exchange of each connection.
    span : CaptureSpan
        What the capture covers.
    entries : iterable of ErrorEntry
        The error log; entries that concern no upstream are passed over.
    accesses : iterable of AccessEntry
        The access log; lines of a single try that was answered are passed over.
    settings : ProxySettings, optional
        The proxy's configuration.
    zone_s : int, optional
        [s] The error log's zone; found by itself if not given.
    covers : callable, optional
        Where entries of failures and of requests are lines of one log: its first and last second [s], asked once it was
        read. Without it a log reaches from its first entry about an upstream to its last.

    Returns
    -------
    Ledger
    """
    concerned: list[ErrorEntry] = []
    checks: list[ErrorEntry] = []
    reloads: dict[int, None] = {}
    n_left_out = n_read = 0
    read_s = (0, -1)
    for entry in entries:
        read_s = (min(read_s[0], entry.ts_s), max(read_s[1], entry.ts_s)) if n_read else (entry.ts_s, entry.ts_s)
        n_read += 1
        if entry.concerns_upstream:
            if len(concerned) < MOST_ENTRIES:
                concerned.append(entry)
            else:
                n_left_out += 1
        elif entry.kind is LogKind.HEALTH_CHECK and len(checks) < MOST_CHECKS:
            checks.append(entry)
        elif entry.kind is LogKind.PROCESS and "SIGHUP" in entry.message and len(reloads) < MOST_RELOADS:
            reloads[entry.ts_s] = None
    checks.sort(key=lambda entry: entry.ts_s)
    order = sorted(range(len(concerned)), key=lambda n: concerned[n].ts_ns)
    concerned = [concerned[n] for n in order]
    logged = group_entries(concerned)
    conns = {entry.log_conn for entry in concerned if entry.log_conn >= 0}
    kept, n_accesses_left_out = keep_accesses(accesses, conns)
    access_tries = list_access_tries(kept)
    services = learn_services(logged, access_tries, wires, span, zone_s)
    captured = wires
    if services:
        wires = behind_services(captured, services)
        span = replace(span, peers=span.peers | frozenset(services.values()))
    pairing = Pairing(logged, wires, settings)
    links = link_access(access_tries, logged, pairing.wires)
    clock = find_clock(pairing, links, zone_s)
    found = Alignment({}, set())
    if clock is not None:
        if clock.is_measured:
            pairing.learn_timeouts(clock.total_ns, clock.width_ns)
        found = choose_tries(pairing, logged, links, access_tries, clock)
        clock = sharpen_clock(pairing, found.choices, clock, zone_s)
        found = choose_tries(pairing, logged, links, access_tries, clock)
        if not is_credible(clock, pairing, found.choices, span):
            clock = replace(clock, is_ambiguous=True)
            links.forget_wires()
    judge = _Judge(span, clock, pairing, links, access_tries, found, has_errors=n_read > 0)
    if clock is None and zone_s is not None:
        judge.at_any_offset = find_clock(pairing, links, None)
    judge.covers = covers() if covers is not None else None
    joined: list[JoinedEntry | None] = [None] * len(concerned)
    for number, attempt in enumerate(logged):
        for position in attempt.entries:
            joined[position] = judge.entry(concerned[position], number, attempt, found.choices.get(number))
    results = tuple(j for j in joined if j is not None)
    chains = build_chains(results, accesses=kept, settings=settings, checks=checks)
    is_guess = clock is not None and clock.is_ambiguous and links.to_wire is None
    time = Span(span.first_ns, span.last_ns, None if is_guess else clock, None if is_guess else zone_s)
    placed, own_chains, n_unplaced = keep_own(results, chains, time)
    failures = judge.tries(results)
    placed = mark_translated(logged, placed, failures, span.peers, time)
    ledger = Ledger(
        clock=clock,
        zone_s=clock.zone_s if clock is not None else zone_s,
        entries=placed,
        tries=failures,
        chains=own_chains,
        chains_unplaced=n_unplaced,
        retries=tuple(_retries(pairing, links, access_tries)),
        reloads=tuple(sorted(reloads)),
        entries_left_out=n_left_out,
        accesses_left_out=n_accesses_left_out,
        errors_read=n_read or -1,
        errors_span_s=read_s,
        outside=list_outside(logged, placed, failures, (access_tries, kept, links), span, time),
    )
    return with_own_peers(ledger, captured, services) if services else ledger


class _Judge:
    """Gives every entry and every failed try its verdict."""

    def __init__(
        self,
        span: CaptureSpan,
        clock: LogClock | None,
        pairing: Pairing,
        links: AccessLinks,
        access_tries: Sequence[AccessTry],
        found: Alignment,
        *,
        has_errors: bool,
    ) -> None:
        self._has_errors = has_errors
        self.covers: tuple[int, int] | None = None
        self.at_any_offset: LogClock | None = None
        self._chosen = {choice.chosen for choice in found.choices.values()}
        self._doubtful = found.doubtful
        self._span = span
        self._clock = clock
        self._pairing = pairing
        self._links = links
        self._access_tries = access_tries
        self._ids = RequestIds(pairing, links, access_tries)

    def entry(self, entry: ErrorEntry, number: int, attempt: LoggedTry, choice: Assigned | None) -> JoinedEntry:
        linked = self._links.of_logged.get(number, -1)
        access = self._access_tries[linked].access if linked >= 0 else None
        wires = self._pairing.wires
        if attempt.symptom is Symptom.NO_PACKETS:
            reason = "it failed before anything was sent"
            if entry.kind in _NOTHING_SENT:
                reason = _NOTHING_SENT[entry.kind]
            elif entry.upstream_peer.startswith("unix:"):
                reason = "it went over a unix socket: no capture shows that"
            elif entry.kind is LogKind.RESOLVE_FAILED:
                reason = "the upstream's name could not be resolved: nothing was sent to it"
            elif entry.kind is LogKind.BALANCER_NO_PEER:
                reason = "the balancer had no further peer: nothing was sent for this"
            elif ":" not in entry.upstream_peer:
                reason = "no peer was left: this request sent nothing"
            return JoinedEntry(entry, EntryVerdict.NO_PACKETS_EXPECTED, reason, Confidence.CONFIRMED)
        if choice is not None and choice.chosen >= 0 and self._is_guess(linked):
            reason = "the clocks are not certain: too little fits at their offset, or as much at another"
            return JoinedEntry(
                entry,
                EntryVerdict.UNDETERMINED,
                reason,
                Confidence.POSSIBLE,
                candidates=(wires[choice.chosen],),
                access=access,
            )
        if choice is not None and choice.chosen >= 0:
            confidence, reason = self._certainty(choice, linked, number)
            return JoinedEntry(entry, EntryVerdict.EXPLAINED, reason, confidence, wires[choice.chosen], access=access)
        if choice is not None:
            candidates = tuple(wires[c] for c in choice.candidates)
            reason = (
                f"{choice.n_candidates} tries at this peer fit alike"
                if choice.n_candidates > 1
                else ("another entry fits the same try as well")
            )
            return JoinedEntry(
                entry, EntryVerdict.UNDETERMINED, reason, Confidence.POSSIBLE, candidates=candidates, access=access
            )
        named = self._ids.tries_of(number)
        if len(named) == 1 and named[0] not in self._chosen:
            reason = "peer and request id; the segment that ended it is missing"
            return JoinedEntry(entry, EntryVerdict.EXPLAINED, reason, Confidence.LIKELY, wires[named[0]], access=access)
        verdict, reason = self._unmatched(entry, attempt, number)
        is_elsewhere = reason in _ELSEWHERE
        return JoinedEntry(entry, verdict, reason, Confidence.LIKELY, access=access, is_elsewhere=is_elsewhere)

    def _is_guess(self, linked: int) -> bool:
        """Whether nothing but an offset that is one of several joins the log with the capture."""
        return self._clock is not None and self._clock.is_ambiguous and (linked < 0 or self._links.to_wire is None)

    def _certainty(self, choice: Assigned, linked: int, number: int) -> tuple[Confidence, str]:
        wire = self._pairing.wires[choice.chosen]
        if linked >= 0:
            access = self._access_tries[linked]
            if wire.request_id and wire.request_id == access.access.request_id:
                return Confidence.CONFIRMED, "peer, kind, time and request id, by way of the access log"
            if 0 <= self._links.distance_ns(access, wire) <= AGREES_NS:
                return Confidence.CONFIRMED, "peer, kind and time, by way of the access log to the millisecond"
        n_possible = 0
        if self._clock is not None:
            n_possible = len(self._pairing.near(number, self._clock).positions)
        if n_possible == 1:
            return Confidence.CONFIRMED, "the only try at this peer that fits kind and time"
        return Confidence.LIKELY, "peer, kind, time and order"

    def _unmatched(self, entry: ErrorEntry, attempt: LoggedTry, number: int) -> tuple[EntryVerdict, str]:
        peer = normalize_peer(entry.upstream_peer)
        if entry.kind is LogKind.GIVEN_UP or (not peer and entry.log_conn < 0):
            return EntryVerdict.UNDETERMINED, _NOT_NAMED
        if peer not in self._span.peers and is_name(peer):
            hint = " (--proxy-conf may)" if "/" in peer else ""
            return EntryVerdict.UNDETERMINED, f"nothing tells which address {peer} has{hint}"
        if peer not in self._span.peers:
            return EntryVerdict.NOT_CAPTURED, f"the capture holds no packet of {peer or 'its upstream'}"
        is_unframed = peer in self._span.unframed
        if self._clock is None:
            return (EntryVerdict.UNDETERMINED, _UNFRAMED) if is_unframed else self._of_another_zone(number)
        at = entry.ts_ns - self._clock.total_ns
        half = self._clock.width_ns // 2
        if at + entry.width_ns + half < self._span.first_ns:
            return EntryVerdict.NOT_CAPTURED, _BEFORE
        if at - half > self._span.last_ns:
            return EntryVerdict.NOT_CAPTURED, _AFTER
        is_timeout = attempt.symptom in (Symptom.TIMEOUT, Symptom.CONNECT_TIMEOUT)
        lead = JUST_BEGUN_NS if is_timeout else NS_PER_S
        if at - half < self._span.first_ns + lead:
            return EntryVerdict.NOT_CAPTURED, _SENT_BEFORE
        if at + entry.width_ns + half > self._span.last_ns:
            return EntryVerdict.NOT_CAPTURED, _LAST_SECOND
        if is_unframed:
            return EntryVerdict.UNDETERMINED, _UNFRAMED
        if self._ids.is_missing(number):
            return EntryVerdict.NOT_CAPTURED, ID_MISSING
        return EntryVerdict.UNDETERMINED, _NO_TRY

    def _of_another_zone(self, number: int) -> tuple[EntryVerdict, str]:
        """Return that nothing fits in the zone that the operator gave, or that something would in another."""
        clock = self.at_any_offset
        if clock is None or not clock.is_measured or not len(self._pairing.near(number, clock).positions):
            return EntryVerdict.NOT_CAPTURED, _NO_OFFSET
        apart = "" if clock.agrees else f", with clocks {about(abs(clock.offset_ns))} apart"
        return EntryVerdict.UNDETERMINED, f"{_OTHER_ZONE}{format_zone(clock.zone_s)}{apart}"

    def tries(self, joined: Collection[JoinedEntry]) -> tuple[JoinedTry, ...]:
        told: dict[tuple[int, int], list[ErrorEntry]] = {}
        doubtful = {wire.key for j in joined for wire in j.candidates}
        doubtful |= {self._pairing.wires[position].key for position in self._doubtful}
        for j in joined:
            if j.wire is not None:
                told.setdefault(j.wire.key, []).append(j.entry)
        stamps = [j.entry.ts_s for j in joined]
        if stamps and self.covers is not None:
            stamps = [min(stamps[0], self.covers[0]), max(stamps[-1], self.covers[1])]
        results = []
        for position, wire in enumerate(self._pairing.wires):
            if not wire.is_failure:
                continue
            entries = tuple(told.get(wire.key, ()))
            linked = self._links.of_wire.get(position, -1)
            access = self._access_tries[linked].access if linked >= 0 else None
            verdict = (
                WireVerdict.LOGGED
                if entries
                else (WireVerdict.UNDETERMINED if wire.key in doubtful else self._unlogged(wire, stamps))
            )
            results.append(JoinedTry(wire, verdict, entries, access))
        results.sort(key=lambda t: (t.wire.start_ns, t.wire.request_frame))
        return tuple(results)

    def _unlogged(self, wire: WireTry, stamps: Sequence[int]) -> WireVerdict:
        other = first_of(wire.resp_fin_ns, wire.resp_rst_ns, wire.alert_ns)
        closed = wire.proxy_close_ns
        if other < 0 or 0 <= closed < other:
            if not _may_have_timed_out(wire):
                return WireVerdict.NOTHING_LOGGED
            # A read timeout is logged ("upstream timed out"), a client that went away need not be.
            other = closed
        if not stamps:
            return WireVerdict.NOT_IN_LOG if self._has_errors else WireVerdict.UNDETERMINED
        if self._clock is None:
            return WireVerdict.UNDETERMINED
        at = other + self._clock.total_ns
        if at < (stamps[0] - 1) * NS_PER_S or at > (stamps[-1] + 2) * NS_PER_S:
            return WireVerdict.OUTSIDE_LOG
        return WireVerdict.NOT_IN_LOG


def _fits_none(reason: str) -> bool:
    return reason in _NO_TRY_FITS or reason.startswith(_OTHER_ZONE)


def _may_have_timed_out(wire: WireTry) -> bool:
    """Tell whether the proxy closed after whole seconds of waiting, as its own timeouts are."""
    waited = wire.proxy_close_ns - max(wire.last_sent_ns, wire.start_ns)
    return wire.proxy_close_ns >= 0 and waited >= NS_PER_S - _EARLY_NS and (waited + _EARLY_NS) % NS_PER_S <= _LATE_NS


def without_absence(ledger: Ledger) -> Ledger:
    """Return a ledger that calls nothing absent because no try fits it: not all tries were held against the log.

    Parameters
    ----------
    ledger : Ledger
        Joined with some of very many failures.

    Returns
    -------
    Ledger
        What was logged outside the capture, or about other upstreams, stays so.
    """
    return replace(
        ledger,
        entries=tuple(
            replace(j, verdict=EntryVerdict.UNDETERMINED, reason=_NOT_ALL) if _fits_none(j.reason) else j
            for j in ledger.entries
        ),
        tries=tuple(
            replace(t, verdict=WireVerdict.UNDETERMINED) if t.verdict is WireVerdict.NOT_IN_LOG else t
            for t in ledger.tries
        ),
    )


def _retries(pairing: Pairing, links: AccessLinks, access_tries: Sequence[AccessTry]) -> Iterable[Retry]:
    found = []
    for position, linked in links.of_wire.items():
        attempt = access_tries[linked]
        if attempt.number + 1 < len(attempt.access.tries):
            delay = attempt.access.tries[attempt.number].response_time_ns
            found.append(Retry(pairing.wires[position], attempt.access, attempt.number, max(delay, 0)))
    return sorted(found, key=lambda r: (r.wire.start_ns, r.wire.request_frame))
