"""Small words that several messages need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import ExchangeFlag
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


def probed_words(losses: Sequence[Loss]) -> str:
    """Return until when keep-alive probes were answered in the idle gaps of some requests; empty where none was."""
    quiet = [loss.path_gap_ns for loss in losses if loss.flags & ExchangeFlag.PROBED]
    if not quiet:
        return ""
    whose = "" if len(quiet) == len(losses) else "On some of them, "
    return (
        f" {whose}{'keep' if whose else 'Keep'}-alive probes were still answered {duration_range(quiet)} before the"
        " request: until then nothing had forgotten the connection."
    )


def without_probe(upstream: Upstream) -> str:
    """Return which answered idle gaps are spoken of, where keep-alive probes lay in longer ones; else nothing."""
    is_probed = upstream.longest_answered_gap_ns > upstream.longest_path_gap_ns
    return " without a keep-alive probe" if is_probed else ""


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
