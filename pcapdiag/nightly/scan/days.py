"""What one capture says of each upstream on each day: counts from the exchanges, T and RTT as measured.

Works on the tables of an `Analysis`, a chunk at a time. Days are in UTC: the same on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.analysis.density import DAY_NS, DailyTraffic, near_zone
from pcapdiag.analysis.upstreams import near_miss_above_ns
from pcapdiag.base.codes import Leg, Outcome
from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import format_address, format_ts_ns
from pcapdiag.nightly.store.model import UpstreamDay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.density import NearZone
    from pcapdiag.analysis.model import Analysis, Upstream

    Ints = NDArray[np.int64]

_ANSWERED: Final = (Outcome.ANSWERED, Outcome.TRUNCATED, Outcome.PENDING)


def day_of(ts_ns: int) -> str:
    """Return the date in UTC of a time, ``unknown`` where the calendar ends."""
    text = format_ts_ns(ts_ns)
    return text[:10] if ts_ns >= 0 and text[10:11] == "T" else "unknown"


@dataclass(slots=True)
class _Counts:
    gaps_near: int = 0
    lost_near: int = 0
    connections: int = 0
    opened: int = 0
    exchanges: int = 0
    reused: int = 0
    near_misses: int = 0
    lost: int = 0
    handshakes: list[Ints] = field(default_factory=list)


def upstream_days(analysis: Analysis, *, after_ns: int, until_ns: int) -> tuple[UpstreamDay, ...]:
    """Return what happened at each upstream on each day.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    after_ns, until_ns : int
        [ns] What counts lies after the one and not after the other; -1 for no bound.

    Returns
    -------
    tuple of UpstreamDay
        By upstream and day; T is that of the whole capture.
    """
    upstreams = analysis.upstreams
    groups = _groups(analysis)
    counts: dict[tuple[int, int], _Counts] = defaultdict(_Counts)
    bounds = after_ns, until_ns
    near = np.array([_near_above(u) for u in upstreams], dtype=np.int64)
    zones = [near_zone(u) for u in upstreams]
    ends = [zone.until_ns if zone is not None else -1 for zone in zones]

    rows = analysis.connections
    handshake = np.where(
        rows["handshake_orig_ns"] >= 0, rows["handshake_resp_ns"] + rows["handshake_orig_ns"], rows["handshake_resp_ns"]
    )
    seen = rows["handshake_resp_ns"] >= 0
    for key, index in _by_day(groups, rows["first_ts_ns"], bounds):
        counts[key].connections += len(index)
        samples = handshake[index][seen[index]]
        counts[key].opened += len(samples)
        counts[key].handshakes.append(samples)
    for chunk in analysis.exchanges.chunks():
        idle, outcome = chunk["idle_before_ns"], chunk["outcome"]
        for key, index in _by_day(groups[chunk["conn"]], chunk["request_ts_ns"], bounds):
            gaps = idle[index]
            count = counts[key]
            count.exchanges += len(index)
            count.reused += int(np.count_nonzero(gaps >= 0))
            answered = np.isin(outcome[index], _ANSWERED)
            is_near = (gaps > near[key[0]]) & answered & (gaps >= 0)
            count.near_misses += int(np.count_nonzero(is_near))
            count.gaps_near += int(np.count_nonzero(is_near & (gaps <= ends[key[0]])))
    for loss in analysis.losses:
        group = int(groups[loss.connection.conn])
        if group >= 0 and _is_within(loss.request_ts_ns, bounds):
            day = counts[group, loss.request_ts_ns // DAY_NS]
            day.lost += 1
            zone = zones[group]
            if zone is not None and zone.holds(loss.idle_before_ns):
                day.gaps_near += loss.stands_for
                day.lost_near += loss.stands_for
    watched = _Watched(analysis, bounds)
    return tuple(
        _row(upstreams[group], day, count, zones[group], watched.ppm(day))
        for (group, day), count in sorted(counts.items())
    )


def _groups(analysis: Analysis) -> Ints:
    """Return the upstream of each connection as an index, -1 for none."""
    rows = analysis.connections
    number = {u.endpoint: i for i, u in enumerate(analysis.upstreams)}
    by_name = {(e.address, e.port): i for e, i in number.items()}
    groups = np.full(len(rows), -1, dtype=np.int64)
    index = np.flatnonzero(analysis.legs == Leg.UPSTREAM)
    keys = np.stack([rows[name][index].astype(np.int64) for name in ("resp_hi", "resp_lo", "resp_port")], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    # Addresses are unsigned; the detour through int64 kept their bits.
    halves = unique[:, :2].view(np.uint64) if len(unique) else unique[:, :2]
    found = [
        by_name.get((format_address(int(hi), int(lo)), int(port)), -1)
        for (hi, lo), port in zip(halves.tolist(), unique[:, 2].tolist(), strict=True)
    ]
    groups[index] = np.array(found, dtype=np.int64)[inverse.reshape(-1)] if found else -1
    return groups


def _by_day(groups: Ints, ts_ns: Ints, bounds: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Ints]]:
    """Yield (upstream, day) and the rows of it."""
    after, until = bounds
    wanted = (groups >= 0) & (ts_ns >= 0) & (ts_ns > after)
    if until >= 0:
        wanted &= ts_ns <= until
    index = np.flatnonzero(wanted)
    group, day = groups[index], ts_ns[index] // DAY_NS
    order = np.lexsort((day, group))
    index, group, day = index[order], group[order], day[order]
    starts = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (day[1:] != day[:-1])][: len(index)])
    for start, stop in pairwise([*starts.tolist(), len(index)]):
        yield (int(group[start]), int(day[start])), index[start:stop]


def _is_within(ts_ns: int, bounds: tuple[int, int]) -> bool:
    return ts_ns >= 0 and ts_ns > bounds[0] and (bounds[1] < 0 or ts_ns <= bounds[1])


def _near_above(upstream: Upstream) -> int:
    if upstream.idle_timeout is None:
        return int(np.iinfo(np.int64).max)
    return near_miss_above_ns(upstream.idle_timeout.value_ns, max(upstream.rtt_p50_ns, 0))


class _Watched:
    """How much of a day a capture shows."""

    def __init__(self, analysis: Analysis, bounds: tuple[int, int]) -> None:
        self._traffic = DailyTraffic(analysis)
        self._first_ns = max(analysis.first_ts_ns, bounds[0] + 1)
        self._last_ns = analysis.last_ts_ns if bounds[1] < 0 else min(analysis.last_ts_ns, bounds[1])

    def ppm(self, day: int) -> int:
        """[millionths] Of a day."""
        first_ns, last_ns = max(self._first_ns, day * DAY_NS), min(self._last_ns, (day + 1) * DAY_NS)
        return round(self._traffic.days(first_ns, last_ns) * 1e6)


def _row(upstream: Upstream, day: int, count: _Counts, zone: NearZone | None, watched_ppm: int) -> UpstreamDay:
    rtt = -1, -1, -1
    handshakes = np.concatenate(count.handshakes) if count.handshakes else np.empty(0, dtype=np.int64)
    if len(handshakes):
        samples = np.sort(handshakes)
        rtt = int(samples[0]), int(samples[len(samples) // 2]), int(samples[len(samples) * 99 // 100])
    timeout = upstream.idle_timeout
    return UpstreamDay(
        endpoint=str(upstream.endpoint),
        day=day_of(day * DAY_NS),
        connections=count.connections,
        opened=count.opened,
        exchanges=count.exchanges,
        reused=count.reused,
        near_misses=count.near_misses,
        lost=count.lost,
        rtt_min_ns=rtt[0],
        rtt_p50_ns=rtt[1],
        rtt_p99_ns=rtt[2],
        idle_timeout_ns=timeout.value_ns if timeout else -1,
        idle_timeout_spread_ns=timeout.spread_ns if timeout else -1,
        idle_timeout_samples=timeout.samples if timeout else 0,
        idle_timeout_confidence=Confidence(timeout.confidence) if timeout else None,
        server_field=upstream.server_field,
        gaps_near=count.gaps_near if zone is not None else -1,
        lost_near=count.lost_near if zone is not None else -1,
        near_width_ns=zone.width_ns if zone is not None else -1,
        race_window_ns=zone.window_ns if zone is not None else -1,
        watched_ppm=watched_ppm,
    )
