"""How close idle gaps came to each upstream's race window, and how much of a day was watched.

Reads upstreams, losses and the access log's counts by the second; that a rate follows is `base.rates`' affair.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.analysis.upstreams import near_miss_above_ns
from pcapdiag.base.rates import RaceDensity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Endpoint, Upstream

DAY_NS: Final = 86_400 * 10**9
_DAY_S: Final = 86_400
_NS: Final = 10**9
_LEAST_LOG_S: Final = 3_600
"""[s] An access log of less says nothing of a day."""
_PAUSE_S: Final = 12 * 3_600


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
    """How much of a day a time was: of its traffic where the access log tells that, else of its hours.

    Parameters
    ----------
    analysis : Analysis
        With the access log, if one was given. Of it the stretch counts that the capture lies in, from and to a pause of
        half a day: a line of another time, or a log of another week, makes no day longer.
    """

    def __init__(self, analysis: Analysis) -> None:
        log = analysis.log
        self._seconds: NDArray[np.int64] = np.zeros(0, np.int64)
        self._requests: NDArray[np.int64] = np.zeros(0, np.int64)
        self._ahead_ns = 0
        if log is None or log.clients is None or log.clients.is_cut or not log.clients.seconds:
            return
        self._ahead_ns = log.ahead_ns
        found = log.clients.seconds
        seconds = np.array(sorted(found), np.int64)
        first, last = ((ns + self._ahead_ns) // _NS for ns in (analysis.first_ts_ns, analysis.last_ts_ns))
        ends = np.flatnonzero(np.diff(seconds) > _PAUSE_S) + 1
        for part in np.split(seconds, ends):
            is_of_capture = part[0] <= last and part[-1] >= first
            if is_of_capture and part[-1] - part[0] >= _LEAST_LOG_S and len(part) > len(self._seconds):
                self._seconds = part
        self._requests = np.array([found[int(second)].requests for second in self._seconds], np.int64)

    def days(self, first_ns: int, last_ns: int) -> float:
        """Return how much of a day a time was.

        Parameters
        ----------
        first_ns, last_ns : int
            [ns] By the capture's clock.
        """
        by_time = max(last_ns - first_ns, 0) / DAY_NS
        if not len(self._seconds):
            return by_time
        first, last = ((ns + self._ahead_ns) // _NS for ns in (first_ns, last_ns))
        within = (self._seconds >= first) & (self._seconds <= last)
        a_day = self._requests.sum() / (int(self._seconds[-1]) - int(self._seconds[0])) * _DAY_S
        n = int(self._requests[within].sum())
        return float(n / a_day) if n else by_time


def measure_density(analysis: Analysis) -> dict[Endpoint, RaceDensity]:
    """Return how close the requests of a capture came to each upstream's race window.

    Parameters
    ----------
    analysis : Analysis
        With the access log, if one was given: what was watched is then counted in its requests.

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
    days = DailyTraffic(analysis).days(analysis.first_ts_ns, analysis.last_ts_ns)
    found = {}
    for upstream in analysis.upstreams:
        zone = zones.get(upstream.endpoint)
        if zone is None:
            continue
        n_lost = lost[upstream.endpoint]
        gaps = upstream.near_in_zone + n_lost
        found[upstream.endpoint] = RaceDensity(gaps, n_lost, zone.window_ns, zone.width_ns, days)
    return found
