"""Which offset the clocks have, and which try each entry is at that offset: the two questions that answer each other.

Knows entries, tries and the access log between them; what becomes of what fits nowhere is `join`'s affair.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.access import AGREES_NS
from pcapdiag.proxy.join.assign import Choice, align
from pcapdiag.proxy.join.clock import (
    QUARTER_S,
    STEP_NS,
    Interval,
    estimate_clock,
    find_plateaus,
    merge_intervals,
    settle_crowd,
    split_zone,
)
from pcapdiag.proxy.join.ledger import LogClock
from pcapdiag.proxy.join.pairs import LAG_NS, LEAD_NS, Pairing, end_of, normalize_peer
from pcapdiag.proxy.join.symptoms import HEADER, Symptom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.proxy.join.access import AccessLinks
    from pcapdiag.proxy.join.attempts import AccessTry, LoggedTry

CROWDED_NS = NS_PER_S + NS_PER_S // 5
"""[ns] A plateau wider than the second that a stamp leaves open is several that run into each other."""
MOST_OFFSETS = 3000
MOST_COUNTED = 3000
TOLERANCE_NS = 30_000_000
"""[ns] How far a pair may lie beside the estimated offset: clocks are slewed while a capture runs."""

_UNKNOWN_TARGET = 10
_OTHER_HOST = 20
_OTHER_STAGE = 50
_SEEMS_WHOLE = 60
_OTHER_TIME = 400
_OTHER_ID = 2000


def find_clock(pairing: Pairing, links: AccessLinks, zone_s: int | None = None) -> LogClock | None:
    """Return the offset of the error log's clock to the capture's.

    Parameters
    ----------
    pairing : Pairing
        All pairs that are possible.
    links : AccessLinks
        Offsets by way of the access log.
    zone_s : int, optional
        [s] The zone, if it is known.

    Returns
    -------
    LogClock or None
        None if nothing joins the two.
    """
    rows, by_try = pairing.intervals()
    if links.to_log is not None and links.to_wire is not None:
        # The way over the access log is known to the millisecond on one side: what lies on it counts first.
        total = links.to_log.total_ns + links.to_wire.total_ns
        half = (links.to_log.width_ns + links.to_wire.width_ns) // 2 + TOLERANCE_NS
        near = [[i for i in row if i.low <= total + half and i.high >= total - half] for row in rows]
        clipped = [[Interval(max(i.low, total - half), min(i.high, total + half)) for i in row] for row in near if row]
        clock = estimate_clock(clipped, zone_s=zone_s)
        if clock is not None:
            return clock
        offset, zone = split_zone(total, zone_s)
        return LogClock(offset, 2 * half, zone, min(links.to_log.pairs, links.to_wire.pairs))
    clock = estimate_clock(rows, by_try=by_try, zone_s=zone_s)
    if clock is not None:
        return _settle(pairing, clock, rows, by_try) if clock.width_ns > CROWDED_NS else clock
    rows, by_try = pairing.intervals(is_open=True)
    clock = estimate_clock(rows, by_try=by_try, zone_s=zone_s)
    if clock is None:
        return None
    return replace(clock, is_measured=False)


def _settle(
    pairing: Pairing, clock: LogClock, rows: Sequence[Sequence[Interval]], by_try: Sequence[Sequence[Interval]]
) -> LogClock:
    """Return the clock where every second has failures at every peer and any offset has pairs: by their numbers."""
    plateaus = find_plateaus(map(merge_intervals, rows), map(merge_intervals, by_try))
    offsets = {
        at // STEP_NS * STEP_NS
        for p in plateaus
        for at in range(p.low, p.high + STEP_NS, STEP_NS)
        if abs(at - clock.zone_s * NS_PER_S) <= QUARTER_S * NS_PER_S
    }
    nearest = sorted(offsets, key=lambda o: abs(o - clock.zone_s * NS_PER_S))[:MOST_OFFSETS]
    logged = [a for a in pairing.logged if a.symptom is not Symptom.NO_PACKETS][:MOST_COUNTED]
    wires = [w for w in pairing.wires if w.is_failure]
    last_ns = max(a.head.ts_s for a in logged) * NS_PER_S - min(nearest) + NS_PER_S
    best, width, is_ambiguous = settle_crowd(
        [(normalize_peer(a.head.upstream_peer), a.head.ts_s) for a in logged],
        [(w.peer, end_of(w)) for w in wires if end_of(w) <= last_ns],
        nearest,
    )
    offset, zone = split_zone(best, clock.zone_s)
    return replace(clock, offset_ns=offset, zone_s=zone, width_ns=width, is_ambiguous=is_ambiguous)


def sharpen_clock(pairing: Pairing, choices: dict[int, Choice], clock: LogClock, zone_s: int | None) -> LogClock:
    """Return the clock as the certain pairs have it: the intersection of their intervals alone."""
    rows = []
    n_possible = 0
    for number, choice in choices.items():
        n_possible += bool(choice.candidates)
        if choice.chosen < 0:
            continue
        moment = next(m for _, w, m in pairing.near(number, clock) if w == choice.chosen)
        if moment.is_open == clock.is_measured:
            continue
        ts_ns = pairing.logged[number].head.ts_s * NS_PER_S
        rows.append([Interval(ts_ns - moment.high - LAG_NS, ts_ns + NS_PER_S - moment.low + LEAD_NS)])
    best = find_plateaus(rows)
    if not best:
        return clock
    plateau = min(best, key=lambda p: abs(p.middle - clock.total_ns))
    offset, zone = split_zone(plateau.middle, clock.zone_s if zone_s is None else zone_s)
    return LogClock(
        offset_ns=offset,
        width_ns=plateau.high - plateau.low,
        zone_s=zone,
        pairs=plateau.pairs,
        conflicts=len(rows) - plateau.pairs,
        is_measured=clock.is_measured,
        is_ambiguous=clock.is_ambiguous,
    )


def choose_tries(
    pairing: Pairing,
    logged: Sequence[LoggedTry],
    links: AccessLinks,
    access_tries: Sequence[AccessTry],
    clock: LogClock,
) -> dict[int, Choice]:
    """Return the best assignment at this offset."""
    ids = RequestIds(pairing, links, access_tries)
    half = clock.width_ns // 2 + TOLERANCE_NS
    costs: dict[tuple[int, int], int] = {}
    for number, attempt in enumerate(logged):
        ts_ns = attempt.head.ts_s * NS_PER_S
        access = access_tries[links.of_logged[number]] if number in links.of_logged else None
        request_id = ids.of(number)
        for _, position, moment in pairing.near(number, clock):
            if moment.is_open and clock.is_measured:
                continue
            low, high = ts_ns - moment.high - LAG_NS, ts_ns + NS_PER_S - moment.low + LEAD_NS
            if low > clock.total_ns + half or high < clock.total_ns - half:
                continue
            wire = pairing.wires[position]
            cost = 0 if wire.target else _UNKNOWN_TARGET
            if wire.host and attempt.head.host and wire.host != attempt.head.host:
                cost += _OTHER_HOST
            # A status line may be the whole of what came of a head.
            if wire.has_head and attempt.head.action == HEADER and attempt.symptom is not Symptom.BAD_RESPONSE:
                cost += _OTHER_STAGE
            if attempt.symptom in (Symptom.CLOSED, Symptom.RESET) and not wire.is_failure:
                cost += _SEEMS_WHOLE
            if ids.are_joined and request_id and wire.request_id:
                if wire.request_id != request_id:
                    continue
            elif request_id in ids.on_wire:
                cost += _OTHER_ID
            if access is not None:
                distance = links.distance_ns(access, wire)
                if distance > AGREES_NS:
                    cost += _OTHER_TIME
                elif distance > 0:
                    cost += distance // 1_000_000 * 2
            costs[number, position] = cost
    return align(costs)


class RequestIds:
    """Request ids of the logs and of the packets; `are_joined` if they are of one kind, so that others are others."""

    def __init__(self, pairing: Pairing, links: AccessLinks, access_tries: Sequence[AccessTry]) -> None:
        self._logged, self._links, self._access_tries = pairing.logged, links, access_tries
        self.on_wire = {wire.request_id for wire in pairing.wires if wire.request_id}
        self._failed: dict[tuple[str, str], list[int]] = {}
        for position, wire in enumerate(pairing.wires):
            if wire.is_failure and wire.request_id:
                self._failed.setdefault((wire.peer, wire.request_id), []).append(position)
        self.are_joined = any(self.of(number) in self.on_wire for number in range(len(self._logged)))

    def of(self, number: int) -> str:
        """Return the request id of a logged try, its own or by way of the access log; empty without."""
        linked = self._links.of_logged.get(number, -1)
        of_access = self._access_tries[linked].access.request_id if linked >= 0 else ""
        return self._logged[number].request_id or of_access

    def tries_of(self, number: int) -> list[int]:
        """Return the failed tries at the same peer that carry the request id of a logged one, whatever ended them."""
        request_id, peer = self.of(number), normalize_peer(self._logged[number].head.upstream_peer)
        return self._failed.get((peer, request_id), []) if self.are_joined and request_id else []

    def is_missing(self, number: int) -> bool:
        """Whether no try of the capture carries the request id of this one, although they carry such ids."""
        request_id = self.of(number)
        return self.are_joined and bool(request_id) and request_id not in self.on_wire
