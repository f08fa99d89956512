"""What the application's own log does to a cause: a line that is there, or missing, supports some and refutes others.

Packets decide which cause a request has; the log moves its confidence, and its sentence says what the log says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.correlate.arrivals import ArrivalVerdict
from pcapdiag.findings import Confidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcapdiag.correlate.arrivals import Arrival
    from pcapdiag.rules._rule import Claim

Key = tuple[int, int]

_NEVER_PROCESSED = {
    "PD101": Confidence.LIKELY,
    "PD102": Confidence.LIKELY,
    "PD103": Confidence.CONFIRMED,
    "PD104": Confidence.CONFIRMED,
    "PD105": Confidence.LIKELY,
    "PD106": Confidence.LIKELY,
}
"""Causes by which no application ever sees the request, and the most that a missing line makes of them.

A restart looks like PD101 with a lost FIN, and is no line in the log either: there the packets have to say more.
"""
_IN_HAND = ("PD201", "PD202", "PD203", "PD204", "PD206")
"""Causes by which the application had the request; a missing line refutes none, for it is written at the end."""


def weigh(code: str, claim: Claim, arrival: Arrival | None) -> Claim:
    """Return a claim as certain as the application's log leaves it.

    Parameters
    ----------
    code : str
        Of the cause.
    claim : Claim
        As packets have it.
    arrival : Arrival or None
        What the log says of the request.

    Returns
    -------
    Claim
    """
    if arrival is None:
        return claim
    confidence = claim.confidence
    if code in _NEVER_PROCESSED:
        if arrival.verdict is ArrivalVerdict.ARRIVED:
            confidence = Confidence.POSSIBLE
        elif arrival.verdict is ArrivalVerdict.NOT_IN_LOG:
            raised = Confidence(min(confidence + 1, _NEVER_PROCESSED[code]))
            confidence = max(confidence, raised)
    elif code in _IN_HAND and arrival.verdict is ArrivalVerdict.ARRIVED:
        confidence = Confidence(min(confidence + 1, Confidence.CONFIRMED))
    return replace(claim, confidence=confidence)


def arrival_text(code: str, arrival: Arrival | None) -> str:
    """Return what the log says of one request, in a sentence; empty if it says nothing."""
    if arrival is None:
        return ""
    if arrival.verdict is ArrivalVerdict.ARRIVED:
        status = f", status {arrival.status}" if arrival.status >= 0 else ""
        text = f"{arrival.path}:{arrival.line} has this request{status} (by {arrival.by})"
        return f"{text}: the application had it, which speaks against this cause" if code in _NEVER_PROCESSED else text
    if arrival.verdict is ArrivalVerdict.NOT_IN_LOG:
        before, after = arrival.around
        text = f"no line in {arrival.path} (by {arrival.by}), which has what came before (line {before}) and after"
        text += f" (line {after})"
        return f"{text}; a line is written at the end, so that work cut off leaves none" if code in _IN_HAND else text
    if arrival.verdict is ArrivalVerdict.NOT_COVERED:
        missing = " nor ".join(name for name, line in zip(("before", "after"), arrival.around, strict=True) if line < 0)
        why = f"nothing of this upstream {missing} it" if missing else "too many lines to hold them all"
        return f"no line in {arrival.path} (by {arrival.by}), but it has {why}: no proof"
    return f"{arrival.path} has lines that may be this request or others alike (by {arrival.by})"


def arrivals_message(code: str, keys: Sequence[Key], arrivals: Mapping[Key, Arrival]) -> str:
    """Return what the logs say of all requests of a finding, as a sentence that follows another; empty if nothing."""
    its = [arrivals[key] for key in keys if key in arrivals]
    arrived = sum(a.verdict is ArrivalVerdict.ARRIVED for a in its)
    absent = sum(a.verdict is ArrivalVerdict.NOT_IN_LOG for a in its)
    if not arrived and not absent:
        return ""
    by = next(a.by for a in its if a.verdict in (ArrivalVerdict.ARRIVED, ArrivalVerdict.NOT_IN_LOG))
    parts = []
    if absent:
        parts.append(f"has no line for {_share(absent, keys, 'any of the')}, though it has what came before and after")
    if arrived:
        against = ", which speaks against this cause" if code in _NEVER_PROCESSED else ""
        parts.append(f"has {_share(arrived, keys, 'all')}{against}")
    return f" The application's log {' and '.join(parts)} (by {by})."


def _share(n: int, keys: Sequence[Key], whole: str) -> str:
    if len(keys) == 1:
        return "it"
    return f"{whole} {len(keys):,}" if n == len(keys) else f"{n:,} of the {len(keys):,}"
