"""Connections that a proxy opens for regular checks of its servers: no client asked for what is on them.

A check keeps a pace. Of those on layer 4 the ones that opened carry no byte in either direction and are closed by who
opened them (HAProxy's `check`: SYN, SYN-ACK, ACK, RST); an attempt that failed one interval after another is the next.
Those of HTTP (HAProxy's `option httpchk`, httpd's mod_proxy_hcheck, nginx's `health_check`) have a connection each, on
which nothing but the same request comes. Clients that ask regularly have a pace, too: a request other than OPTIONS
counts only where its proxy reuses connections for others. Knows tables; what is said of checks is the rules' affair.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import ConnState, Direction, Leg, Method
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES
from pcapdiag.base.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

Rows = np.ndarray[Any, Any]
Times = np.ndarray[Any, np.dtype[np.int64]]

_PAIR = ["capture_idx", "orig_hi", "orig_lo", "resp_hi", "resp_lo", "resp_port"]
"""Who opens connections, and to whom."""
_NO_REQUESTS: Rows = np.empty(
    0,
    dtype=[
        *((name, CONNECTIONS.dtype[name]) for name in _PAIR),
        *((name, EXCHANGES.dtype[name]) for name in ("conn", "depth", "method", "target_len", "text_offset")),
    ],
)

FEWEST_CHECKS = 4
"""So many at one pace are no chance."""
_LONGEST_OPEN_NS = 2 * NS_PER_S
"""[ns] A check that has its SYN-ACK is over; what stays open without a byte is a connection held ready."""
_LEAST_SLACK_NS = 10 * NS_PER_MS
_SLACK = 20
"""A pace is kept to a twentieth: schedulers are late by a few milliseconds."""
_STEADY = 3, 4
"""So many of the gaps keep it: the server may have been away, or a check not captured."""
_FEWEST_REUSED = 2
_ASKING = (Method.OPTIONS, Method.GET, Method.HEAD)
_CHECKED_TARGETS = (b"/", b"*")
"""What HAProxy asks for unless told otherwise, and what OPTIONS of a browser hardly ever names."""


def check_intervals(analysis: Analysis) -> Times:
    """Return the pace of the checks that connections belong to.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Returns
    -------
    numpy.ndarray
        [ns] For each connection, the interval of the checks of which it is one; 0 for all others. Worked out once.
    """
    if __name__ not in analysis.memo:
        every = np.zeros(len(analysis.connections), dtype=np.int64)
        _mark_bare(analysis, every)
        _mark_asking(analysis, every)
        analysis.memo[__name__] = every
    found: Times = analysis.memo[__name__]
    return found


def _mark_bare(analysis: Analysis, every: Times) -> None:
    """Mark connections without a byte that keep a pace, and the failed attempts between, before and after them."""
    rows = analysis.connections.rows
    times = rows["first_ts_ns"]
    is_empty = _is_empty(rows) & (analysis.legs != Leg.CLIENT)
    took_ns = rows["closing_ts_ns"] - times
    is_bare = is_empty & (rows["syn_ack_frames"] > 0) & (rows["first_closer"] == Direction.ORIG)
    is_bare &= (took_ns >= 0) & (took_ns <= _LONGEST_OPEN_NS)
    if np.count_nonzero(is_bare) < FEWEST_CHECKS:
        return
    is_failed = is_empty & _is_failed(rows)
    for conns in _groups(rows[_PAIR], np.flatnonzero(is_bare | is_failed)):
        by_time = conns[np.argsort(times[conns], kind="stable")]
        bare, failed = by_time[is_bare[by_time]], by_time[is_failed[by_time]]
        interval_ns = _pace(times[bare])
        if not interval_ns or (took_ns[bare] >= interval_ns).any():
            continue
        kept = bare[_keeps(times[bare], interval_ns)]
        every[kept] = interval_ns
        every[_in_step(times, kept, failed, interval_ns)] = interval_ns


def _is_empty(rows: Rows) -> NDArray[np.bool_]:
    """Tell on which connections, seen from their SYN, no byte came in either direction."""
    empty: NDArray[np.bool_] = (rows["orig_bytes"] == 0) & (rows["resp_bytes"] == 0) & (rows["syn_frames"] > 0)
    return empty


def _is_failed(rows: Rows) -> NDArray[np.bool_]:
    """Tell which connections are attempts that nothing answered, or a RST."""
    failed: NDArray[np.bool_] = _is_empty(rows) & np.isin(rows["conn_state"], (ConnState.S0, ConnState.REJ))
    return failed


def _in_step(times: Times, known: Times, failed: Times, interval_ns: int) -> list[int]:
    """Return the failed attempts that stand one interval after a check before, or before one after, by number."""
    if not len(failed):
        return []
    found: set[int] = set()
    at = times[failed]
    for starts, step_ns in ((known, interval_ns), (known[::-1], -interval_ns)):
        for start in times[starts].tolist():
            expected = start + step_ns
            while (nearest := _nearest(at, expected, interval_ns)) >= 0 and int(failed[nearest]) not in found:
                found.add(int(failed[nearest]))
                expected = int(at[nearest]) + step_ns
    return sorted(found)


def _nearest(times: Times, expected: int, interval_ns: int) -> int:
    """Return which of these times, in order, is the expected one but for the slack of a pace; -1 if none is."""
    after = int(np.searchsorted(times, expected))
    near = [at for at in (after - 1, after) if 0 <= at < len(times)]
    nearest = min(near, key=lambda at: abs(int(times[at]) - expected))
    return nearest if abs(int(times[nearest]) - expected) <= _slack(interval_ns) else -1


def _mark_asking(analysis: Analysis, every: Times) -> None:
    """Mark connections that carry the same request each, and nothing else, at a pace."""
    connections = analysis.connections.rows
    times = connections["first_ts_ns"]
    # A pace is seldom: mostly only the requests that come alone are looked at.
    all_requests = cache(partial(_requests, analysis, analysis.legs != Leg.CLIENT))
    alone = _requests(analysis, (analysis.legs != Leg.CLIENT) & (connections["n_exchanges"] == 1))
    alone = alone[(alone["depth"] == 0) & np.isin(alone["method"], _ASKING)]
    if len(alone) < FEWEST_CHECKS:
        return
    for at in _groups(alone[[*_PAIR, "method", "target_len"]], np.arange(len(alone))):
        group = alone[at]
        group = group[np.argsort(times[group["conn"]], kind="stable")]
        interval_ns = _pace(times[group["conn"]])
        if interval_ns and _is_check(analysis, group, all_requests):
            kept = group["conn"][_keeps(times[group["conn"]], interval_ns)].astype(np.int64)
            every[kept] = interval_ns
            is_pair = np.logical_and.reduce([connections[name] == group[name][0] for name in _PAIR])
            failed = np.flatnonzero(is_pair & _is_failed(connections))
            failed = failed[np.argsort(times[failed], kind="stable")]
            every[_in_step(times, kept, failed, interval_ns)] = interval_ns


def _is_check(analysis: Analysis, group: Rows, all_requests: Callable[[], Rows]) -> bool:
    """Tell whether requests that keep a pace are a proxy's own, by what they ask for and how others are sent."""
    length = int(group["target_len"][0])
    starts = group["text_offset"].tolist()
    targets = {analysis.texts.read(start, length) if start >= 0 else b"" for start in starts}
    if len(targets) > 1:
        return False
    if group["method"][0] == Method.OPTIONS:
        return targets <= set(_CHECKED_TARGETS)
    asked = all_requests()
    is_same_pair = np.logical_and.reduce([asked[name] == group[name][0] for name in _PAIR])
    is_same = is_same_pair & (asked["method"] == group["method"][0]) & (asked["target_len"] == length)
    reused = asked["depth"] > 0
    is_reusing = np.count_nonzero(is_same_pair & reused) >= _FEWEST_REUSED
    return bool(is_reusing) and int(np.count_nonzero(is_same)) == len(group)


def _requests(analysis: Analysis, is_wanted: NDArray[np.bool_]) -> Rows:
    """Return the requests on some connections, each with the ends of its connection."""
    parts = [_NO_REQUESTS]
    for chunk in analysis.exchanges.chunks():
        at = np.flatnonzero(is_wanted[chunk["conn"]] & (chunk["request_ts_ns"] >= 0))
        made: Rows = np.empty(len(at), dtype=_NO_REQUESTS.dtype)
        for name in ("conn", "depth", "method", "target_len", "text_offset"):
            made[name] = chunk[name][at]
        for name in _PAIR:
            made[name] = analysis.connections.rows[name][made["conn"]]
        parts.append(made)
    return np.concatenate(parts)


def _groups(keys: Rows, of: Times) -> Iterator[Times]:
    """Yield the numbers in `of` whose keys are equal, group by group, where a group is large enough for a pace."""
    _, at = np.unique(keys[of] if len(keys) != len(of) else keys, return_inverse=True)
    order = np.argsort(at, kind="stable")
    for part in np.split(of[order], np.flatnonzero(np.diff(at[order])) + 1):
        if len(part) >= FEWEST_CHECKS:
            yield part


def _slack(interval_ns: int) -> int:
    return max(interval_ns // _SLACK, _LEAST_SLACK_NS)


def _pace(times: Times) -> int:
    """Return the interval [ns] at which most of these times follow each other; 0 without one. They are in order."""
    if len(times) < FEWEST_CHECKS:
        return 0
    gaps = np.diff(times)
    interval_ns = int(np.median(gaps))
    if interval_ns <= 2 * _LEAST_SLACK_NS:
        return 0
    n_steady = np.count_nonzero(np.abs(gaps - interval_ns) <= _slack(interval_ns))
    return interval_ns if n_steady * _STEADY[1] >= len(gaps) * _STEADY[0] else 0


def _keeps(times: Times, interval_ns: int) -> NDArray[np.bool_]:
    """Tell which of these times, in order, have a neighbour one interval away."""
    is_steady = np.abs(np.diff(times) - interval_ns) <= _slack(interval_ns)
    kept = np.zeros(len(times), dtype=np.bool_)
    kept[1:] |= is_steady
    kept[:-1] |= is_steady
    return kept
