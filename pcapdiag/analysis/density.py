"""How close idle gaps came to each upstream's race window, and how much of a day was watched.

Reads upstreams, losses and the access log's counts; that a rate of lost requests follows is `base.rates`' affair.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pcapdiag.analysis.upstreams import near_miss_above_ns
from pcapdiag.base.rates import RaceDensity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.analysis.model import Analysis, Endpoint, Upstream

DAY_NS: Final = 86_400 * 10**9
_DAY_S: Final = 86_400
_LEAST_LOG_S: Final = 3_600
"""[s] An access log of less says nothing of a day."""


@dataclass(frozen=True, slots=True)
class NearZone:
    """Idle gaps that count as near the race: above the one, up to the other, and how much of that is the window.

    All in ns.
    """

    above_ns: int
    until_ns: int
    window_ns: int

    @property
    def width_ns(self) -> int:
        """[ns] From the one to the other."""
        return self.until_ns - self.above_ns

    def holds(self, gap_ns: int) -> bool:
        """Tell whether an idle gap is one of them."""
        return gap_ns >= 0 and self.above_ns < gap_ns <= self.until_ns


def near_zone(upstream: Upstream) -> NearZone | None:
    """Return where an upstream's near misses and races lie; None where its idle timeout was not measured."""
    timeout, (start, end) = upstream.idle_timeout, upstream.race_window_ns
    if timeout is None or timeout.is_enclosed or end <= start or upstream.rtt_p50_ns <= 0:
        return None
    above = near_miss_above_ns(timeout.value_ns, upstream.rtt_p50_ns)
    return NearZone(above, end, min(end - start, end - above))


class DailyTraffic:
    """How many requests go to each upstream per day, by the access log.

    Parameters
    ----------
    analysis : Analysis
        With the access log, if one was given.
    """

    def __init__(self, analysis: Analysis) -> None:
        log = analysis.log
        self._services = log.services if log is not None else {}
        self._n: Mapping[str, int] = {}
        self._days = 0.0
        self._captured: Counter[str] = Counter()
        if log is None or log.clients is None or log.clients.is_cut or not log.clients.seconds:
            return
        span_s = max(log.clients.seconds) - min(log.clients.seconds)
        if span_s < _LEAST_LOG_S:
            return
        self._days, self._n = span_s / _DAY_S, log.clients.peers
        for upstream in analysis.upstreams:
            self._captured[self._known_as(upstream)] += upstream.exchanges

    def requests(self, upstream: Upstream) -> float:
        """Return the requests to an upstream per day; -1 where the log does not say.

        Where the log names a service that stands for several addresses, those of this one by its share in the capture.
        """
        name = self._known_as(upstream)
        if not self._n.get(name, 0) or not self._captured[name]:
            return -1.0
        return self._n[name] / self._days * upstream.exchanges / self._captured[name]

    def _known_as(self, upstream: Upstream) -> str:
        endpoint = str(upstream.endpoint)
        return self._services.get(endpoint, endpoint)


def measure_density(analysis: Analysis) -> dict[Endpoint, RaceDensity]:
    """Return how close the requests of a capture came to each upstream's race window.

    Parameters
    ----------
    analysis : Analysis
        With the access log, if one was given: what was watched is then counted in requests.

    Returns
    -------
    dict of Endpoint to RaceDensity
        Without those whose idle timeout was not measured, or whose connections were never used again.
    """
    span_ns = analysis.last_ts_ns - analysis.first_ts_ns
    zones = {u.endpoint: zone for u in analysis.upstreams if u.reused and (zone := near_zone(u)) is not None}
    if span_ns <= 0 or not zones:
        return {}
    lost: Counter[Endpoint] = Counter()
    for loss in analysis.losses:
        zone = zones.get(loss.connection.resp)
        if zone is not None and zone.holds(loss.idle_before_ns):
            lost[loss.connection.resp] += loss.stands_for
    traffic = DailyTraffic(analysis)
    found = {}
    for upstream in analysis.upstreams:
        zone = zones.get(upstream.endpoint)
        if zone is None:
            continue
        a_day = traffic.requests(upstream)
        days = upstream.exchanges / a_day if a_day > 0 else span_ns / DAY_NS
        gaps = upstream.near_misses + lost[upstream.endpoint]
        found[upstream.endpoint] = RaceDensity(gaps, zone.window_ns, zone.width_ns, days)
    return found
