"""Small words that several messages need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import about
from pcapdiag.rules._wire import known_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.analysis.model import Loss, Upstream


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


def timer_words(upstream: Upstream | None) -> str:
    """Return the upstream's idle timeout in words: one time, or the range in which its closings lie."""
    timeout, _ = known_timeout(upstream, at_least=Confidence.POSSIBLE)
    measured = upstream.idle_timeout if upstream is not None else None
    if measured is None or measured.value_ns != timeout:
        return about(timeout)
    if measured.is_enclosed:
        return f"more than {about(timeout)} to {about(measured.latest_ns)}"
    return f"{about(timeout)} to {about(timeout + measured.spread_ns)}" if is_late(upstream) else about(timeout)


def is_late(upstream: Upstream | None) -> bool:
    """Tell whether the upstream's closings are spread because its server looks at them only now and then."""
    measured = upstream.idle_timeout if upstream is not None else None
    return (
        measured is not None
        and not measured.is_enclosed
        and measured.spread_ns > max(measured.value_ns // 50, 60_000_000)
    )
