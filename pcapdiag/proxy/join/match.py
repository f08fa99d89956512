"""Which offset the clocks have, and which try each entry is at that offset: the two questions that answer each other.

Knows entries, tries and the access log between them; what becomes of what fits nowhere is `join`'s affair.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.access import AGREES_NS
from pcapdiag.proxy.join.assign import EntryRow, align_rows
from pcapdiag.proxy.join.clock import (
    MOST_OFFSET_S,
    QUARTER_S,
    STEP_NS,
    Interval,
    estimate_clock,
    find_plateaus,
    merge_rows,
    settle_crowd,
    split_zone,
)
from pcapdiag.proxy.join.ledger import LogClock
from pcapdiag.proxy.join.pairs import LAG_NS, LEAD_NS, TOLERANCE_NS, Fits, Pairing, end_of, normalize_peer
from pcapdiag.proxy.join.symptoms import BREAKS, Symptom
from pcapdiag.proxy.logs.entries import HEADER

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from pcapdiag.proxy.join.access import AccessLinks
    from pcapdiag.proxy.join.assign import Alignment, Assigned
    from pcapdiag.proxy.join.attempts import AccessTry, LoggedTry

CROWDED_NS = NS_PER_S + NS_PER_S // 5
"""[ns] A plateau wider than the second that a stamp leaves open is several that run into each other."""
MOST_OFFSETS = 3000
MOST_COUNTED = 3000
MOST_PAIRS = 16_000_000
"""Pairs whose times are held against the access log's: beyond, what is so alike stays undecided without it."""

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
    bound = 2 * MOST_OFFSET_S * NS_PER_S
    plateaus = find_plateaus(merge_rows(rows, -bound, bound), merge_rows(by_try, -bound, bound))
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


def sharpen_clock(pairing: Pairing, choices: dict[int, Assigned], clock: LogClock, zone_s: int | None) -> LogClock:
    """Return the clock as the certain pairs have it: the intersection of their intervals alone."""
    rows = []
    for number, choice in choices.items():
        if choice.chosen < 0:
            continue
        fits = pairing.near(number, clock)
        at = int(np.searchsorted(fits.positions, choice.chosen))
        moments = fits.moments
        if bool(moments.is_open[at]) == clock.is_measured:
            continue
        head = pairing.logged[number].head
        low, high = int(moments.low[at]), int(moments.high[at])
        rows.append([Interval(head.ts_ns - high - LAG_NS, head.ts_ns + head.width_ns - low + LEAD_NS)])
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
) -> Alignment:
    """Return the best assignment at this offset."""
    ids = RequestIds(pairing, links, access_tries)
    rows: dict[int, EntryRow] = {}
    shared: dict[tuple[Hashable, ...], tuple[Fits, EntryRow]] = {}
    n_pairs = 0
    for number, attempt in enumerate(logged):
        # Entries of one second that ask for the same may be the same tries: of names only those count that tries have.
        head, request_id, tries = attempt.head, ids.of(number), pairing.of(number).tries
        named = tries.hosts.id_of(head.host), bool(head.host), tries.request_ids.id_of(request_id), bool(request_id)
        key = (*pairing.key(number), head.ts_ns, head.width_ns, *named, request_id in ids.on_wire)
        if key not in shared:
            shared[key] = _row(pairing.near(number, clock), attempt, request_id, ids, is_measured=clock.is_measured)
        fits, row = shared[key]
        if not len(row.tries):
            continue
        if number in links.of_logged and n_pairs < MOST_PAIRS:
            n_pairs += len(row.tries)
            distances = links.distances_ns(access_tries[links.of_logged[number]], fits)
            near = distances // 1_000_000 * 2
            row = EntryRow(row.tries, row.costs + np.where(distances > AGREES_NS, _OTHER_TIME, near).astype(np.int32))
        rows[number] = row
    return align_rows(rows)


def _row(
    fits: Fits, attempt: LoggedTry, request_id: str, ids: RequestIds, *, is_measured: bool
) -> tuple[Fits, EntryRow]:
    """Return what a logged try may be, and what each costs but for what the access log says of its time."""
    moments, tries, head = fits.moments, fits.tries, attempt.head
    if is_measured:
        moments = moments.take(~moments.is_open)
    its_ids, asked = tries.request_ids.ids, tries.request_ids.id_of(request_id)
    if ids.are_joined and request_id:
        moments = moments.take((its_ids[moments.at] == 0) | (its_ids[moments.at] == asked))
    at = moments.at
    costs = np.where(tries.has_target[at], 0, _UNKNOWN_TARGET)
    if head.host:
        hosts = tries.hosts.ids[at]
        costs += np.where((hosts > 0) & (hosts != tries.hosts.id_of(head.host)), _OTHER_HOST, 0)
    # A status line may be the whole of what came of a head.
    if head.action == HEADER and attempt.symptom is not Symptom.BAD_RESPONSE:
        costs += np.where(tries.has_head[at], _OTHER_STAGE, 0)
    if attempt.symptom in BREAKS:
        costs += np.where(tries.is_failure[at], 0, _SEEMS_WHOLE)
    if request_id in ids.on_wire:
        costs += np.where((its_ids[at] > 0) & ids.are_joined, 0, _OTHER_ID)
    fits = Fits(tries, moments)
    return fits, EntryRow(fits.positions, costs.astype(np.int32))


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
