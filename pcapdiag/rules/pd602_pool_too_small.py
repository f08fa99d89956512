"""PD602: the proxy closes idle connections because it keeps no more of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import CapturePoint, ClosingKind, Direction, Outcome
from pcapdiag.base.findings import Confidence, Finding, RuleFacts, Severity
from pcapdiag.base.tables import PickedRows, group_rows
from pcapdiag.base.units import NS_PER_MS, about, count_of, format_address, format_endpoint
from pcapdiag.rules._dialect import is_tcp_mode
from pcapdiag.rules._kept import (
    announced_ends,
    is_readable,
    is_seen_at_proxy,
    mean_handshake_ns,
    most_open,
    to_upstreams,
)
from pcapdiag.rules._reuse_words import TCP_MODE, pool_size_advice
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

    Ints = NDArray[np.int64]

_FEWEST = 5
_NEVER = np.iinfo(np.int64).max
_WITHIN_NS = (NS_PER_MS, 10 * NS_PER_MS)
"""[ns] A proxy that puts a connection into a full pool closes another in the same turn of its event loop; on a busy
machine such a turn takes longer."""
_MOMENT_NS = 50 * NS_PER_MS
_FEWEST_MOMENTS = 3
_MOST_BY_CHANCE = 0.3
"""Where responses end so often that closings at random would look the same, nothing is said."""
_SAME = 0.9
_LEAST_REUSED = 10
"""One request in so many was sent on a kept connection: there is a pool."""


@dataclass(frozen=True, slots=True)
class _Traffic:
    """What the exchanges of one proxy say at the times of its closings."""

    since_end_ns: Ints
    """How long before the closing a response on another connection ended; very long if none did."""
    ends_per_ns: float
    n_reused: int
    n_exchanges: int


class PoolTooSmall(Rule):
    """The proxy closes connections that it could have kept, because its pool of idle ones is full.

    What it looks for
    -----------------
    At least five connections that the proxy closed idle at different ages, nine in ten of them within ten milliseconds
    of the end of a response on another connection of its own: it put that one into the pool, and another had to go. In
    a capture at the proxy, of readable requests, of which one in ten at least went out on a kept connection.

    Why it matters
    --------------
    The next burst opens new connections: a handshake for each, and a port of the proxy for a minute (TIME_WAIT). No
    request is lost to it.

    Evidence
    --------
    The ages at those closings, the responses that ended with them, how many connections were open at once.

    When it is wrong
    ----------------
    Where responses end so often that any closing falls beside one nothing is said. A timer, a limit of requests per
    connection and an announced end (`Connection: close`) close at constant ages, counts or after their own response:
    such closings do not count.

    Remedy
    ------
    nginx: `keepalive` of the upstream block at least as large as the connections that are open at once, per worker.

    References
    ----------
    nginx ngx_http_upstream_keepalive_module.c (`ngx_http_upstream_free_keepalive_peer` closes the least recently used).
    """

    code = "PD602"
    name = "pool-too-small"
    title = "The proxy closes idle connections because its pool is full"
    severity = Severity.INFO
    needs = ("a capture at the proxy", "both directions")
    helped_by = ("the proxy's configuration",)
    facts = RuleFacts(settings=("keepalive",))

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per proxy address that closed idle connections as others became idle."""
        if self.missing(analysis):
            return
        columns = _connections(analysis)
        for rows in group_rows(columns, ("capture_idx", "orig_lo", "orig_hi")):
            yield from self._judge(analysis, columns.pick(rows))

    def missing(self, analysis: Analysis) -> str:
        """Return why no pool could be judged."""
        if CapturePoint.PROXY not in analysis.capture_points:
            return "the capture was not made at the proxy, or nothing tells: what it closed together cannot be seen"
        if not analysis.has_proxy:
            return "nothing says that what opens these connections keeps some"
        return TCP_MODE if is_tcp_mode(analysis) else ""

    def _judge(self, analysis: Analysis, columns: PickedRows) -> Iterator[Finding]:
        is_closed = (
            (columns["first_closer"] == Direction.ORIG)
            & (columns["closing_kind"] == ClosingKind.FIN)
            & (columns["closing_open_exchange"] == 0)
            & (columns["idle_at_close_ns"] > 0)
            & (columns["n_exchanges"] > 0)
        )
        if is_closed.sum() < _FEWEST:
            return
        rows = np.flatnonzero(is_closed & ~announced_ends(analysis)[columns.index])
        if len(rows) < _FEWEST:
            return
        traffic = _traffic(analysis, columns, rows)
        if not _is_coincident(traffic):
            return
        ages, depths = columns["idle_at_close_ns"][rows], columns["n_exchanges"][rows]
        if traffic.n_reused * _LEAST_REUSED < traffic.n_exchanges:
            return
        if _is_one_value(ages) or (depths.min() > 1 and _is_one_value(depths)):
            return
        if np.count_nonzero(np.diff(np.sort(columns["closing_ts_ns"][rows])) > _MOMENT_NS) + 1 < _FEWEST_MOMENTS:
            return  # a proxy that stops closes all it has at one moment
        n_open = most_open(columns)
        peers = sorted({str(u.endpoint) for u in analysis.upstreams} & _peers(columns))
        size = _configured(analysis, peers)
        if size == 0 or size >= n_open:
            return  # the configuration says that it keeps none, or all of them
        yield self._finding(analysis, columns, rows, n_open, size, peers, traffic)

    def _finding(
        self,
        analysis: Analysis,
        columns: PickedRows,
        rows: Ints,
        n_open: int,
        size: int,
        peers: list[str],
        traffic: _Traffic,
    ) -> Finding:
        first = analysis.connections.rows[columns.index[0]]
        proxy = format_address(int(first["orig_hi"]), int(first["orig_lo"]))
        ages, times = columns["idle_at_close_ns"][rows], columns["closing_ts_ns"][rows]
        mean = mean_handshake_ns(columns)
        n_opened = int((columns["orig_isn"] >= 0).sum())
        holds = f" (keepalive {size} in its configuration)" if size > 0 else ""
        cost = f", {about(mean)} of handshake each" if mean >= 0 else ""
        words = GroupText(
            message=(
                f"The proxy {proxy} closed {count_of(len(rows), 'connection')} that were idle for"
                f" {about(int(ages.min()))} to {about(int(ages.max()))}, each just as another became idle: its pool was"
                f" full{holds}. Up to {n_open:,} were open at once; {n_opened:,} were opened for"
                f" {traffic.n_exchanges:,} requests{cost}."
            ),
            refuted_by="Closings at one age (a timer), or apart from the ends of responses.",
            remedy=pool_size_advice(analysis, " and ".join(peers[:3]) or "the upstreams", n_open),
            details={
                "connections_closed": len(rows),
                "shortest_idle_ns": int(ages.min()),
                "longest_idle_ns": int(ages.max()),
                "most_open": n_open,
                "connections_opened": n_opened,
                "handshake_mean_ns": mean,
                "exchanges": traffic.n_exchanges,
                "reused": traffic.n_reused,
            },
        )
        return replace(
            self.finding(proxy, words, (), Confidence.LIKELY),
            count=len(rows),
            first_ts_ns=int(times.min()),
            last_ts_ns=int(times.max()),
        )


def _connections(analysis: Analysis) -> PickedRows:
    is_told = to_upstreams(analysis) & is_seen_at_proxy(analysis) & is_readable(analysis)
    return PickedRows(analysis.connections, np.flatnonzero(is_told))


def _traffic(analysis: Analysis, columns: PickedRows, closed: Ints) -> _Traffic:
    """Hold closings against the ends of the responses of the same proxy; the exchanges are read a chunk at a time."""
    is_own = np.zeros(len(analysis.connections), dtype=np.bool_)
    is_own[columns.index] = True
    times, conns = columns["closing_ts_ns"][closed], columns.index[closed]
    since_end = np.full(len(closed), _NEVER, dtype=np.int64)
    n_ends = n_reused = n_exchanges = 0
    for chunk in analysis.exchanges.chunks():
        mine = np.flatnonzero(is_own[chunk["conn"]])
        n_exchanges += len(mine)
        n_reused += int((chunk["depth"][mine] > 0).sum())
        mine = mine[(chunk["outcome"][mine] == Outcome.ANSWERED) & (chunk["duration_ns"][mine] >= 0)]
        ends = chunk["request_ts_ns"][mine] + chunk["duration_ns"][mine]
        n_ends += len(ends)
        by_time = np.argsort(ends, kind="stable")
        ends, ended = ends[by_time], chunk["conn"][mine][by_time]
        latest = np.searchsorted(ends, times, side="right") - 1
        for before in (latest, latest - 1):  # the latest may be its own response
            is_there = before >= 0
            at = np.maximum(before, 0)
            if len(ends):
                since = np.where(is_there & (ended[at] != conns), times - ends[at], _NEVER)
                since_end = np.minimum(since_end, since)
    span = int(columns["last_ts_ns"].max() - columns["first_ts_ns"].min())
    return _Traffic(since_end, n_ends / span if span > 0 else 1.0, n_reused, n_exchanges)


def _is_coincident(traffic: _Traffic) -> bool:
    """Tell whether closings come just behind the ends of responses, more often than they would by chance."""
    return any(
        np.count_nonzero(traffic.since_end_ns <= within) >= max(_FEWEST, _SAME * len(traffic.since_end_ns))
        and 1.0 - float(np.exp(-traffic.ends_per_ns * within)) <= _MOST_BY_CHANCE
        for within in _WITHIN_NS
    )


def _is_one_value(values: Ints) -> bool:
    """Tell whether nine in ten of some values lie within a fiftieth of their median: a timer, or a limit."""
    middle = float(np.median(values))
    return bool((np.abs(values - middle) <= max(middle / 50, 0.5)).mean() >= _SAME)


def _peers(columns: PickedRows) -> set[str]:
    keys = zip(*(columns[name].tolist() for name in ("resp_hi", "resp_lo", "resp_port")), strict=True)
    return {format_endpoint(*key) for key in set(keys)}


def _configured(analysis: Analysis, peers: list[str]) -> int:
    """Return how many idle connections the configuration keeps to these peers; -1 where it does not tell."""
    if analysis.settings is None:
        return -1
    blocks = {block.name: block for peer in peers for block in analysis.settings.blocks_of_peer(peer)}
    sizes = [block.keepalive.value for block in blocks.values()]
    return min(sizes) if sizes else -1
