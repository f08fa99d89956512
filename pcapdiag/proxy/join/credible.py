"""Whether a clock that differs is believed: a log of another proxy fits some failures at some offset, too.

Two clocks that agree need no proof. Where an offset was found by trying, most entries of the capture's time must have
their try, and of the failures that the log covers more than a chance would give must have an entry. Knows the join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.pairs import end_of, normalize_peer
from pcapdiag.proxy.join.symptoms import SHARP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.proxy.join.assign import Assigned
    from pcapdiag.proxy.join.ledger import LogClock
    from pcapdiag.proxy.join.pairs import Pairing
    from pcapdiag.proxy.join.places import CaptureSpan

_AGREES_NS = 2 * NS_PER_S
_SHARE_OF_ENTRIES = 0.75
_SHARE_OF_FAILURES = 0.4
"""Half of a log may be missing."""


def is_credible(clock: LogClock, pairing: Pairing, choices: Mapping[int, Assigned], span: CaptureSpan) -> bool:
    """Tell whether clocks agree, or enough fits at their offset.

    Parameters
    ----------
    clock : LogClock
        As it was found.
    pairing : Pairing
        Entries and tries.
    choices : mapping of int to Assigned
        The try of each entry at this offset.
    span : CaptureSpan
        What the capture covers.

    Returns
    -------
    bool
    """
    if abs(clock.offset_ns) <= _AGREES_NS or not clock.is_measured:
        return True
    inside = [
        number in choices and choices[number].chosen >= 0
        for number, attempt in enumerate(pairing.logged)
        if attempt.symptom in SHARP
        and normalize_peer(attempt.head.upstream_peer) in span.peers
        and span.first_ns <= attempt.head.ts_ns - clock.total_ns <= span.last_ns
    ]
    stamps = [attempt.head.ts_ns for attempt in pairing.logged]
    chosen = {choice.chosen for choice in choices.values()}
    covered = [
        position in chosen
        for position, wire in enumerate(pairing.wires)
        if wire.is_failure
        and 0 <= wire.upstream_close_ns == min(end_of(wire), wire.upstream_close_ns)
        and min(stamps) <= wire.upstream_close_ns + clock.total_ns <= max(stamps) + NS_PER_S
    ]
    return sum(inside) >= _SHARE_OF_ENTRIES * len(inside) and sum(covered) >= _SHARE_OF_FAILURES * len(covered)
