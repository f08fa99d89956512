"""What the application's own log does to a cause: a line that is there, or missing, supports some and refutes others.

Packets decide which cause a request has; the log moves its confidence, and its sentence says what the log says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence
from pcapdiag.proxy.join.arrivals import ArrivalVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcapdiag.proxy.join.arrivals import Arrival
    from pcapdiag.rules._claim import Claim, Proofs

Key = tuple[int, int]


def weigh(proofs: Proofs, claim: Claim, arrival: Arrival | None) -> Claim:
    """Return a claim as certain as the application's log leaves it.

    Parameters
    ----------
    proofs : Proofs
        What the cause's rule declares.
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
    if proofs.without_line is not None:
        if arrival.verdict is ArrivalVerdict.ARRIVED:
            confidence = Confidence.POSSIBLE
        elif arrival.verdict is ArrivalVerdict.NOT_IN_LOG:
            raised = Confidence(min(confidence + 1, proofs.without_line))
            confidence = max(confidence, raised)
    elif proofs.has_arrived and arrival.verdict is ArrivalVerdict.ARRIVED:
        confidence = Confidence(min(confidence + 1, Confidence.CONFIRMED))
    return replace(claim, confidence=confidence)


def arrival_text(proofs: Proofs, arrival: Arrival | None) -> str:
    """Return what the log says of one request, in a sentence; empty if it says nothing."""
    if arrival is None:
        return ""
    if arrival.verdict is ArrivalVerdict.ARRIVED:
        status = f", status {arrival.status}" if arrival.status >= 0 else ""
        text = f"{arrival.path}:{arrival.line} has this request{status} (by {arrival.by})"
        against = ": the application had it, which speaks against this cause"
        return text if proofs.without_line is None else f"{text}{against}"
    if arrival.verdict is ArrivalVerdict.NOT_IN_LOG:
        before, after = arrival.around
        text = f"no line in {arrival.path} (by {arrival.by}), which has what came before (line {before}) and after"
        text += f" (line {after})"
        return f"{text}; a line is written at the end, so that work cut off leaves none" if proofs.has_arrived else text
    if arrival.verdict is ArrivalVerdict.NOT_COVERED:
        missing = " nor ".join(name for name, line in zip(("before", "after"), arrival.around, strict=True) if line < 0)
        why = f"nothing of this upstream {missing} it" if missing else "too many lines to hold them all"
        return f"no line in {arrival.path} (by {arrival.by}), but it has {why}: no proof"
    return f"{arrival.path} has lines that may be this request or others alike (by {arrival.by})"


def arrivals_message(proofs: Proofs, keys: Sequence[Key], arrivals: Mapping[Key, Arrival]) -> str:
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
        against = "" if proofs.without_line is None else ", which speaks against this cause"
        parts.append(f"has {_share(arrived, keys, 'all')}{against}")
    return f" The application's log {' and '.join(parts)} (by {by})."


def _share(n: int, keys: Sequence[Key], whole: str) -> str:
    if len(keys) == 1:
        return "it"
    return f"{whole} {len(keys):,}" if n == len(keys) else f"{n:,} of the {len(keys):,}"
