"""PD110: no request was lost yet, but the proxy keeps connections into the race window."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.density import measure_density
from pcapdiag.base.codes import Leg, Protocol
from pcapdiag.base.findings import Confidence, Exposure, Finding, RuleFacts, Severity
from pcapdiag.base.rates import LEAST_QUOTED, spell_per_day
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._remedy import keepalive_remedy
from pcapdiag.rules._resets import is_reset_after_lost_fin
from pcapdiag.rules._rule import GroupText, Rule
from pcapdiag.rules._wire import is_idle_close_in_server, upstream_of
from pcapdiag.rules._words import timer_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Upstream
    from pcapdiag.base.rates import RaceDensity


class IdleCloseRisk(Rule):
    """The upstream closes idle connections before the proxy does: a request will be lost to it sooner or later.

    What it looks for
    -----------------
    An upstream whose idle timeout T was measured, that lost no request to the race, and whose idle connections the
    proxy still holds when T is up: the upstream closed some of them, or answered requests came near the race window
    (T - RTT, T).

    Why it matters
    --------------
    Whether a request falls into the window is a matter of chance and of traffic. What is a near miss in a quiet hour is
    a 502 in a busy one.

    Evidence
    --------
    The closings by the upstream, the near misses, the longest idle gap that was still answered. The expected losses
    per day are the density of idle gaps near T times the length of the window, with the interval that so few
    observations allow; up to 3 near misses may have been due where none was seen. They are worked out where an hour was
    watched, or as much of the traffic that the access log shows per day; a sentence quotes them from ten on.

    When it is wrong
    ----------------
    Where idle gaps have a rhythm (health checks, batch jobs) the density near T says little about the window itself.

    Remedy
    ------
    As for PD101, before it happens: the proxy's `keepalive_timeout` below T - RTT with a margin.

    References
    ----------
    RFC 9112 section 9.5.
    """

    code = "PD110"
    name = "idle-close-risk"
    title = "The proxy keeps idle connections longer than the upstream does"
    severity = Severity.WARNING
    needs = ("idle closings of the upstream",)
    helped_by = ("a longer capture", "the handshake")
    facts = RuleFacts(settings=POOL, exposure=Exposure.RACE, risk_of=("PD101",))

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream that is at risk."""
        if not _sees_requests(analysis):
            return
        raced = {
            loss.connection.resp
            for loss in analysis.losses
            if loss.crossing is not None
            or is_idle_close_in_server(loss, upstream_of(analysis, loss))
            or is_reset_after_lost_fin(analysis, loss, upstream_of(analysis, loss))
        }
        density = measure_density(analysis)
        for upstream in analysis.upstreams:
            if upstream.endpoint not in raced and _is_measured(upstream) and _is_exposed(upstream):
                yield self._finding(analysis, upstream, density.get(upstream.endpoint))

    def missing(self, analysis: Analysis) -> str:
        """Return why no idle timeout could be compared."""
        if not _sees_requests(analysis):
            return "the requests were not captured: nobody can say how close they came to the idle timeout"
        if any(_is_measured(u) for u in analysis.upstreams):
            return ""
        if any(u.idle_closes_by_proxy for u in analysis.upstreams) and not any(
            u.idle_closes_by_upstream for u in analysis.upstreams
        ):
            first = "the proxy closed every idle connection first"
            if bool((analysis.connections["protocol"][analysis.legs == Leg.UPSTREAM] == Protocol.TLS).any()):
                first = (
                    "on every idle connection the proxy's FIN came first, and a close_notify of the upstream before it"
                    " is not looked for"
                )
            return f"no upstream's idle timeout is known: {first}"
        return "no upstream's idle timeout is known: no upstream was seen to close idle connections at a constant age"

    def _finding(self, analysis: Analysis, upstream: Upstream, density: RaceDensity | None) -> Finding:
        timeout = upstream.idle_timeout
        value = timeout.value_ns if timeout is not None else -1
        per_day = density.per_day() if density is not None else None
        remedy = keepalive_remedy(analysis, upstream, ())
        near = count_of(upstream.near_misses, "answered request")
        came = (
            f"{near} came near the race window" if upstream.near_misses else "no request came near the race window yet"
        )
        closes = count_of(upstream.idle_closes_by_upstream, "idle connection")
        rate = ""
        details: dict[str, int | str | float] = {}
        if per_day is not None:
            if per_day.expected >= LEAST_QUOTED:
                rate = f"; at its traffic about {spell_per_day(per_day)} will be lost to this upstream"
            details = {
                "expected_losses_per_day": round(per_day.expected, 3),
                "expected_losses_per_day_low": round(per_day.low, 3),
                "expected_losses_per_day_high": round(per_day.high, 3),
            }
        words = GroupText(
            severity=Severity.WARNING if upstream.near_misses else Severity.INFO,
            message=(
                f"{upstream.endpoint} closed {closes} after {timer_words(upstream)} while the proxy still held"
                f" {'it' if upstream.idle_closes_by_upstream == 1 else 'them'}; {came}{rate}."
            ),
            refuted_by="Idle closings by the proxy before T - RTT throughout a longer capture.",
            remedy=remedy.text,
            changes=remedy.changes,
            details=remedy.details
            | {
                "idle_timeout_ns": value,
                "rtt_ns": upstream.rtt_p50_ns,
                "near_misses": upstream.near_misses,
                "longest_answered_gap_ns": upstream.longest_answered_gap_ns,
            }
            | details,
        )
        confidence = Confidence.LIKELY if upstream.near_misses else Confidence.POSSIBLE
        return replace(
            self.finding(str(upstream.endpoint), words, (), confidence),
            count=upstream.near_misses,
            first_ts_ns=analysis.first_ts_ns,
            last_ts_ns=analysis.last_ts_ns,
        )


def _sees_requests(analysis: Analysis) -> bool:
    on_upstream_leg = analysis.legs == Leg.UPSTREAM
    return bool((on_upstream_leg & (analysis.connections["orig_frames"] > 0)).any())


def _is_measured(upstream: Upstream) -> bool:
    return upstream.idle_timeout is not None and upstream.idle_timeout.confidence >= Confidence.LIKELY


def _is_exposed(upstream: Upstream) -> bool:
    """Tell whether the proxy still holds connections when the upstream's timer is up."""
    window_start = upstream.race_window_ns[0]
    closes_first = 0 <= upstream.proxy_idle_close_ns < window_start
    return upstream.near_misses > 0 or (upstream.idle_closes_by_upstream > 0 and not closes_first)
