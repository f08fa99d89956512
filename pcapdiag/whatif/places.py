"""Upstreams as measured, for the replay: idle timeout, round trip, limits, closings and outages, out of an analysis.

What a finding calls its cause (a firewall that forgot connections) is taken from findings; no rule is asked.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Key, Leg, Outcome
from pcapdiag.base.findings import Exposure
from pcapdiag.base.units import NS_PER_S, parse_endpoint
from pcapdiag.whatif.group import MeasuredUpstream, Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss, Upstream
    from pcapdiag.base.findings import Finding

RACES: Final = (Exposure.RACE, Exposure.FORGOTTEN, Exposure.REUSE)
"""Exposures of the causes that the replay makes by itself: a kept connection that was used too late."""
_FORGOTTEN: Final = (Exposure.FORGOTTEN, Exposure.REUSE)
_MOMENT_NS = 200_000_000
_FEWEST_CLOSED = 3
_DEVIATIONS = 4
"""Standard deviations between the least and the greatest age at a closing."""


def measure_places(analysis: Analysis, findings: Sequence[Finding]) -> tuple[MeasuredUpstream, ...]:
    """Return what was measured of each upstream that requests were sent to.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : sequence of Finding
        What was found.

    Returns
    -------
    tuple of MeasuredUpstream
        In the order of `analysis.upstreams`.
    """
    numbers = connection_places(analysis)
    closings = _mass_closings(analysis, numbers)
    ended = _ended_ppm(analysis, numbers)
    c = analysis.connections
    span = analysis.first_ts_ns, analysis.last_ts_ns
    places = []
    for n, upstream in enumerate(analysis.upstreams):
        failed = [loss for loss in analysis.losses if loss.is_connect and loss.connection.resp == upstream.endpoint]
        opened_ns = c["first_ts_ns"][(numbers == n) & (c["orig_isn"] >= 0) & (c["resp_isn"] >= 0)]
        outages = _outages(failed, opened_ns, span)
        places.append(_measure(upstream, findings, closings.get(n, ()), ended.get(n, 0), outages))
    return tuple(places)


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
    upstream: Upstream,
    findings: Sequence[Finding],
    closings: tuple[int, ...],
    close_ppm: int,
    outages: tuple[Outage, ...],
) -> MeasuredUpstream:
    subject = str(upstream.endpoint)
    rtt_ns = max(upstream.rtt_min_ns, 0)
    timeout_ns, spread_ns, late_ns, reset_ns = -1, 0, 0, _least_gap(findings, subject, is_reset=True)
    timer = upstream.idle_timeout
    if timer is not None and timer.is_enclosed:
        reset_ns = timer.value_ns + timer.spread_ns // 2
    elif timer is not None:
        timeout_ns, spread_ns, late_ns = timer.value_ns, timer.spread_ns, timer.late_ns
    elif upstream.keep_alive_s > 0:
        timeout_ns = upstream.keep_alive_s * NS_PER_S
    return MeasuredUpstream(
        endpoint=subject,
        timeout_ns=timeout_ns,
        spread_ns=min(spread_ns, max(timeout_ns, 0) // 20) // _DEVIATIONS,
        late_ns=late_ns,
        rtt_ns=rtt_ns,
        rtt_tail_ns=round(max(upstream.rtt_p50_ns - rtt_ns, 0) / log(2)) if upstream.rtt_p50_ns >= 0 else 0,
        drop_ns=_least_gap(findings, subject, is_reset=False),
        reset_ns=reset_ns,
        limit=max(upstream.requests_per_connection_limit, 0),
        close_ppm=close_ppm,
        closings=closings,
        outages=outages,
        answered_ns=upstream.longest_answered_gap_ns,
    )


def _least_gap(findings: Sequence[Finding], subject: str, *, is_reset: bool) -> int:
    """[ns] Shortest idle gap after which a connection was forgotten, with a RST or in silence; -1 if there is none."""
    gaps = [
        o.idle_before_ns
        for finding in findings
        if finding.facts.exposure in _FORGOTTEN
        for o in finding.occurrences
        if o.resp == subject and o.idle_before_ns > 0 and (o.closing_kind == "RST") is is_reset
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
    """Moments at which an upstream closed several connections of different idle ages at once.

    One that closed a single connection within such a moment of another upstream was reloaded with it.
    """
    c = analysis.connections
    closed = (numbers >= 0) & (c["first_closer"] == Direction.RESP) & (c["idle_at_close_ns"] >= 0)
    closed &= c["closing_kind"] != ClosingKind.NONE
    moments: dict[int, list[tuple[int, bool]]] = {}
    for n in np.unique(numbers[closed]).tolist():
        rows = np.flatnonzero(closed & (numbers == n))
        rows = rows[np.argsort(c["closing_ts_ns"][rows], kind="stable")]
        times, ages = c["closing_ts_ns"][rows], c["idle_at_close_ns"][rows]
        breaks = np.flatnonzero(np.diff(times) > _MOMENT_NS) + 1
        moments[int(n)] = [
            (int(times[part[0]]), _are_several(ages[part])) for part in np.split(np.arange(len(rows)), breaks)
        ]
    sure = [ts_ns for found in moments.values() for ts_ns, is_mass in found if is_mass]
    found: dict[int, tuple[int, ...]] = {}
    for n, its in moments.items():
        has_timer = analysis.upstreams[n].idle_timeout is not None
        found[n] = tuple(
            ts_ns
            for ts_ns, is_mass in its
            if is_mass or (not has_timer and any(abs(ts_ns - other) <= _MOMENT_NS for other in sure))
        )
    return found


def _are_several(ages: NDArray[np.int64]) -> bool:
    return bool(len(ages) >= _FEWEST_CLOSED and ages.max() >= 2 * max(int(ages.min()), 1))


def _outages(attempts: Sequence[Loss], opened_ns: NDArray[np.int64], span: tuple[int, int]) -> tuple[Outage, ...]:
    """Return the times in which every attempt failed, all in the same way.

    Parameters
    ----------
    attempts : sequence of Loss
        Those that failed.
    opened_ns : ndarray of int64
        [ns] When connections were opened.
    span : tuple of (int, int)
        [ns] First and last moment of the capture.
    """
    seen = [(int(ns), False, 0) for ns in opened_ns]
    for loss in attempts:
        takes_ns = _takes_ns(loss)
        seen.append((loss.request_ts_ns, True, takes_ns))
    seen.sort()
    outages: list[Outage] = []
    # Between a success and a failure nobody knows: half the way.
    edges = [span[0], *((a[0] + b[0]) // 2 for a, b in pairwise(seen)), span[1]]
    for (_, has_failed, takes_ns), start_ns, end_ns in zip(seen, edges, edges[1:], strict=False):
        if not has_failed:
            continue
        is_silent = takes_ns < 0
        last = outages[-1] if outages else None
        if last is not None and last.end_ns == start_ns and last.is_silent == is_silent:
            outages[-1] = replace(last, end_ns=end_ns)
        else:
            outages.append(Outage(start_ns, end_ns, takes_ns, is_silent))
    return tuple(outages)


def _takes_ns(loss: Loss) -> int:
    """[ns] From the SYN to its refusal; -1 where nothing came."""
    for key in (Key.RESP_RST, Key.RESP_FIN):
        if key in loss.keys:
            return max(loss.keys[key].ts_ns - loss.request_ts_ns, 0)
    return max(loss.icmp[0].ts_ns - loss.request_ts_ns, 0) if loss.icmp else -1
