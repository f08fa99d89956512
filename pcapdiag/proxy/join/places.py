"""Whether what the log alone tells, because it sent no packets, belongs to this capture.

A log is often longer than a capture, and one log may serve many. So that nothing counts twice, what sent no packets
belongs to the capture that shows the last failure behind it; where there is none, to the one in whose time its second
began. Of two captures that follow each other only one can claim it. Knows the ledger and the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.ledger import Absence, EntryVerdict
from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.proxy.join.ledger import Chain, JoinedEntry, LogClock

_CAUSES = frozenset({Absence.TRIED, Absence.DISABLED})


class Place(Enum):
    """Where something lies as seen from the capture; the value is why, in words of a report."""

    INSIDE = ""
    BEFORE = "it was logged before the capture began"
    AFTER = "it was logged after the capture ended"
    CAUSED_BEFORE = "the failures behind it were logged before the capture began"
    UNKNOWN = "; whether during the capture is not known, because nothing ties the log's clock to the capture's"


class Span:
    """The time of the capture, by the clock of the log.

    Parameters
    ----------
    first_ns, last_ns : int
        [ns] First and last frame, by the capture's clock; -1 without frames.
    clock : LogClock or None
        The log's clock, as far as it is certain.
    zone_s : int or None
        [s] The zone where only that is known: clocks are then taken to agree.
    """

    def __init__(self, first_ns: int, last_ns: int, clock: LogClock | None, zone_s: int | None) -> None:
        ahead_ns = None if zone_s is None else zone_s * NS_PER_S
        if clock is not None:
            # An offset that may be none is none, and one that holds a timeout of unknown length says only the zone.
            differs = clock.is_measured and 2 * abs(clock.offset_ns) > clock.width_ns
            ahead_ns = clock.total_ns if differs else clock.zone_s * NS_PER_S
        self._ahead_ns = ahead_ns or 0
        self._bounds = (first_ns + ahead_ns, last_ns + ahead_ns) if ahead_ns is not None and first_ns >= 0 else None

    def place(self, ts_s: int) -> Place:
        """Return where the second `ts_s` of the log began."""
        if self._bounds is None:
            return Place.UNKNOWN
        first_ns, last_ns = self._bounds
        return (
            Place.BEFORE if ts_s * NS_PER_S < first_ns else Place.AFTER if ts_s * NS_PER_S > last_ns else Place.INSIDE
        )

    def to_capture(self, ts_s: int) -> int:
        """[ns] Return the time of the capture's clock at which the second `ts_s` of the log began, as far as known."""
        return ts_s * NS_PER_S - self._ahead_ns

    def place_chain(self, chain: Chain) -> Place:
        """Return where a request without a peer belongs: to the last failure that took a peer from it."""
        causes = [(link.entry, link.wire) for link in chain.links if link.entry and link.absence in _CAUSES]
        if not causes:
            return self.place(chain.entry.ts_s)
        last, wire = max(causes, key=lambda cause: (cause[0].ts_s, cause[0].line))
        if wire is not None:
            return Place.INSIDE
        # Of the second in which a capture ends, only what its packets show is its own: the next one may show the rest.
        place = self.place(last.ts_s)
        if place is Place.INSIDE:
            place = self.place(last.ts_s + 1)
        return Place.CAUSED_BEFORE if place is Place.BEFORE and self.place(chain.entry.ts_s) is Place.INSIDE else place


def keep_own(
    joined: Sequence[JoinedEntry], chains: Iterable[Chain], span: Span
) -> tuple[tuple[JoinedEntry, ...], tuple[Chain, ...], int]:
    """Return entries and chains with those that sent no packets held against the time of the capture.

    Parameters
    ----------
    joined : sequence of JoinedEntry
        All upstream entries with their verdicts.
    chains : iterable of Chain
        One per entry that found no peer, in their order.
    span : Span
        The time of the capture.

    Returns
    -------
    entries : tuple of JoinedEntry
        The same; those outside the capture are said to be.
    chains : tuple of Chain
        Those that belong to this capture.
    n_unplaced : int
        Chains of which that is not known.
    """
    rest = iter(chains)
    entries, own, n_unplaced = [], [], 0
    for j in joined:
        if j.verdict is not EntryVerdict.NO_PACKETS_EXPECTED:
            entries.append(j)
            continue
        chain = next(rest) if j.entry.kind in FOUND_NO_PEER else None
        place = span.place(j.entry.ts_s) if chain is None else span.place_chain(chain)
        if chain is not None:
            own += [chain] if place is Place.INSIDE else []
            n_unplaced += place is Place.UNKNOWN
        if place in {Place.INSIDE, Place.UNKNOWN}:
            entries.append(replace(j, reason=f"{j.reason}{place.value}"))
        else:
            entries.append(
                replace(
                    j,
                    verdict=EntryVerdict.NOT_CAPTURED,
                    reason=place.value,
                    confidence=Confidence.LIKELY,
                    is_elsewhere=True,
                )
            )
    return tuple(entries), tuple(own), n_unplaced


@dataclass(frozen=True, slots=True)
class CaptureSpan:
    """What the capture covers: its first and last time [ns], and the peers that it saw at all.

    Of `unframed` peers (HTTP/2 whose streams are not seen) it is not known what failed: it may be in the capture.
    """

    first_ns: int
    last_ns: int
    peers: frozenset[str]
    unframed: frozenset[str] = frozenset()
