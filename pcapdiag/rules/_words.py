"""Small words that several messages need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import about

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.analysis.model import Loss


def duration_range(values_ns: Iterable[int]) -> str:
    """Return the range of some durations in words; "unknown" if none is known."""
    known = sorted(v for v in values_ns if v >= 0)
    if not known:
        return "unknown"
    low, high = about(known[0]), about(known[-1])
    return low if low == high else f"{low} to {high}"


def idle_gaps(losses: Sequence[Loss]) -> str:
    """Return the range of the idle gaps of some requests in words."""
    return duration_range(loss.idle_before_ns for loss in losses)
