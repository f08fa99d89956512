"""Upstreams as measured, for the replay: idle timeout, round trip, limits, closings and outages, out of an analysis.

What a finding calls its cause (a firewall that forgot connections) is taken from findings; no rule is asked.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Key, Leg, Outcome
from pcapdiag.base.units import NS_PER_S, parse_endpoint
from pcapdiag.whatif.group import Outage, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss, Upstream
    from pcapdiag.base.findings import Finding

RACES = ("PD101", "PD102", "PD103", "PD104", "PD105", "PD106")
"""Causes that the replay makes by itself: a kept connection that was used too late."""
_DROPPED, _RESET = ("PD104",), ("PD105", "PD106")
_MOMENT_NS = 200_000_000
_FEWEST_CLOSED = 3
_CONNECT_TIMEOUT_NS = 60 * NS_PER_S
_AT_MOST_APART_NS = 5 * NS_PER_S
_DEVIATIONS = 4
"""Standard deviations between the least and the greatest age at a closing."""


def measure_places(analysis: Analysis, findings: Sequence[Finding]) -> tuple[Place, ...]:
    """Return what was measured of each upstream that requests were sent to.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : sequence of Finding
        What was found.

    Returns
    -------
    tuple of Place
        In the order of `analysis.upstreams`.
    """
    numbers = connection_places(analysis)
    closings = _mass_closings(analysis, numbers)
    ended = _ended_ppm(analysis, numbers)
    return tuple(
        _measure(upstream, findings, closings.get(n, ()), ended.get(n, 0), analysis.losses)
        for n, upstream in enumerate(analysis.upstreams)
    )


def connection_places(analysis: Analysis) -> NDArray[np.int64]:
    """Return for each connection the position of its upstream in `analysis.upstreams`; -1 for others."""
    numbers = np.full(len(analysis.connections), -1, np.int64)
    c = analysis.connections
    mine = np.asarray(analysis.legs) == Leg.UPSTREAM
    for n, upstream in enumerate(analysis.upstreams):
        hi, lo, port = parse_endpoint(str(upstream.endpoint))
        numbers[mine & (c["resp_port"] == port) & (c["resp_lo"] == lo) & (c["resp_hi"] == hi)] = n
    return numbers


def _measure(
    upstream: Upstream, findings: Sequence[Finding], closings: tuple[int, ...], close_ppm: int, losses: Sequence[Loss]
) -> Place:
    subject = str(upstream.endpoint)
    rtt_ns = max(upstream.rtt_min_ns, 0)
    timeout_ns, spread_ns, late_ns, reset_ns = -1, 0, 0, _least_gap(findings, _RESET, subject)
    timer = upstream.idle_timeout
    if timer is not None and timer.is_enclosed:
        reset_ns = timer.value_ns + timer.spread_ns // 2
    elif timer is not None:
        timeout_ns, spread_ns, late_ns = timer.value_ns, timer.spread_ns, timer.late_ns
    elif upstream.keep_alive_s > 0:
        timeout_ns = upstream.keep_alive_s * NS_PER_S
    return Place(
        endpoint=subject,
        timeout_ns=timeout_ns,
        spread_ns=min(spread_ns, max(timeout_ns, 0) // 20) // _DEVIATIONS,
        late_ns=late_ns,
        rtt_ns=rtt_ns,
        rtt_tail_ns=round(max(upstream.rtt_p50_ns - rtt_ns, 0) / log(2)) if upstream.rtt_p50_ns >= 0 else 0,
        drop_ns=_least_gap(findings, _DROPPED, subject),
        reset_ns=reset_ns,
        limit=max(upstream.requests_per_connection_limit, 0),
        close_ppm=close_ppm,
        closings=closings,
        outages=_outages([loss for loss in losses if loss.is_connect and str(loss.connection.resp) == subject]),
    )


def _least_gap(findings: Sequence[Finding], codes: tuple[str, ...], subject: str) -> int:
    """[ns] Shortest idle gap that was lost for one of these causes; -1 if there is none."""
    gaps = [
        o.idle_before_ns
        for finding in findings
        if finding.code in codes
        for o in finding.occurrences
        if o.resp == subject and o.idle_before_ns > 0
    ]
    return min(gaps, default=-1)


def _ended_ppm(analysis: Analysis, numbers: NDArray[np.int64]) -> dict[int, int]:
    """Of a million responses of each place, how many announced the end of their connection (Connection: close)."""
    n_places = len(analysis.upstreams)
    answered, ended = np.zeros(n_places, np.int64), np.zeros(n_places, np.int64)
    for chunk in analysis.exchanges.chunks():
        place = numbers[chunk["conn"]]
        of_place = (place >= 0) & (chunk["outcome"] == Outcome.ANSWERED)
        answered += np.bincount(place[of_place], minlength=n_places)
        of_place &= (chunk["flags"] & ExchangeFlag.CONNECTION_CLOSE) != 0
        ended += np.bincount(place[of_place], minlength=n_places)
    limits = [u.requests_per_connection_limit for u in analysis.upstreams]
    # Those that a limit on requests ended are ended by the limit in the replay, too.
    return {n: int(ended[n] * 1_000_000 // max(answered[n], 1)) for n in range(n_places) if limits[n] <= 0}


def _mass_closings(analysis: Analysis, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    """Moments at which an upstream closed several connections of different idle ages at once."""
    c = analysis.connections
    closed = (numbers >= 0) & (c["first_closer"] == Direction.RESP) & (c["idle_at_close_ns"] >= 0)
    closed &= c["closing_kind"] != ClosingKind.NONE
    found: dict[int, tuple[int, ...]] = {}
    for n in np.unique(numbers[closed]).tolist():
        rows = np.flatnonzero(closed & (numbers == n))
        rows = rows[np.argsort(c["closing_ts_ns"][rows], kind="stable")]
        times, ages = c["closing_ts_ns"][rows], c["idle_at_close_ns"][rows]
        breaks = np.flatnonzero(np.diff(times) > _MOMENT_NS) + 1
        moments = []
        for part in np.split(np.arange(len(rows)), breaks):
            several = len(part) >= _FEWEST_CLOSED
            if several and ages[part].max() >= 2 * max(int(ages[part].min()), 1):
                moments.append(int(times[part[0]]))
        if moments:
            found[int(n)] = tuple(moments)
    return found


def _outages(attempts: Sequence[Loss]) -> tuple[Outage, ...]:
    """Return spans of time in which attempts failed, with none between that are far apart."""
    outages: list[Outage] = []
    for loss in sorted(attempts, key=lambda one: one.request_ts_ns):
        takes_ns = _takes_ns(loss)
        is_silent = takes_ns < 0
        if is_silent:
            takes_ns = _CONNECT_TIMEOUT_NS
        last = outages[-1] if outages else None
        if last is not None and last.is_silent == is_silent and loss.request_ts_ns - last.end_ns <= _AT_MOST_APART_NS:
            outages[-1] = Outage(last.start_ns, loss.request_ts_ns, takes_ns, is_silent)
        else:
            outages.append(Outage(loss.request_ts_ns, loss.request_ts_ns, takes_ns, is_silent))
    return tuple(outages)


def _takes_ns(loss: Loss) -> int:
    """[ns] From the SYN to its refusal; -1 where nothing came."""
    for key in (Key.RESP_RST, Key.RESP_FIN):
        if key in loss.keys:
            return max(loss.keys[key].ts_ns - loss.request_ts_ns, 0)
    return max(loss.icmp[0].ts_ns - loss.request_ts_ns, 0) if loss.icmp else -1
