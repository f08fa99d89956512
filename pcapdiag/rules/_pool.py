"""How long the proxy may keep idle connections: one plan for all upstreams, held against the capture.

Two findings never give two values for one line of the configuration, for both take them from here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from pcapdiag.analysis.model import count_losses
from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_MS, NS_PER_S
from pcapdiag.proxy.conf import remedy as conf
from pcapdiag.rules._resets import is_lone_rst, is_reset_after_lost_fin
from pcapdiag.rules._wire import (
    has_unseen_fin,
    is_acknowledged,
    is_closed_at_age,
    is_closed_at_once,
    is_failed_in_upstream,
    is_idle_close_in_server,
    is_partly_acknowledged,
    timeout_range,
    upstream_closing,
    upstream_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss, Upstream
    from pcapdiag.base.findings import Change

SHORTEST_NS = NS_PER_S
"""A pool that keeps connections for less than this keeps none: such a value is never advised."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What the proxy may keep.

    Attributes
    ----------
    limits : mapping of Endpoint to int
        [ns] The longest idle time that is safe for each upstream; none where no value is short enough, or long enough
        to be worth it.
    raced : tuple of Loss
        Requests that met the closing of their idle connection, at any upstream.
    forgotten : tuple of Loss
        Requests on connections that the path had forgotten.
    changes : tuple of Change
        The whole patch for the upstreams that lost requests so, each line once.
    kept : mapping of Endpoint to int
        [ns] What the patch leaves an upstream; as `limits` without a configuration.
    n_raced_saved, n_forgotten_saved : int
        How many of those would have gone out on a new connection.
    """

    limits: Mapping[Endpoint, int]
    raced: tuple[Loss, ...]
    forgotten: tuple[Loss, ...]
    changes: tuple[Change, ...]
    kept: Mapping[Endpoint, int]
    n_raced_saved: int = 0
    n_forgotten_saved: int = 0

    def saved(self, losses: tuple[Loss, ...]) -> int:
        """Return how many of some requests would have gone out on a new connection."""
        return count_losses(loss for loss in losses if 0 < self.kept.get(loss.connection.resp, 0) < loss.idle_before_ns)


def pool_plan(analysis: Analysis) -> PoolPlan:
    """Return the plan for all upstreams of an analysis; worked out once."""
    if __name__ not in analysis.memo:
        plan = _plan(analysis)
        n_raced, n_forgotten = plan.saved(plan.raced), plan.saved(plan.forgotten)
        analysis.memo[__name__] = replace(plan, n_raced_saved=n_raced, n_forgotten_saved=n_forgotten)
    return cast("PoolPlan", analysis.memo[__name__])


def changes_for(analysis: Analysis, endpoint: Endpoint) -> tuple[Change, ...]:
    """Return the changes of the blocks of one upstream that has lost nothing yet."""
    settings = analysis.settings
    if settings is None:
        return ()
    return conf.lower_pool_timeouts(settings, _of_blocks(analysis, {endpoint}, pool_plan(analysis).limits))


def _plan(analysis: Analysis) -> PoolPlan:
    raced = tuple(loss for loss in analysis.losses if _is_raced(analysis, loss))
    forgotten = tuple(loss for loss in analysis.losses if is_forgotten(analysis, loss))
    limits: dict[Endpoint, int] = {}
    for upstream in analysis.upstreams:
        safe = safe_proxy_timeout_ns(upstream)
        if safe >= SHORTEST_NS:
            limits[upstream.endpoint] = safe
    for loss in analysis.losses:
        peer = loss.connection.resp
        is_late = is_failed_in_upstream(loss) and loss.idle_before_ns < limits.get(peer, -1)
        if is_late and is_closed_at_age(loss, analysis.upstream_by_endpoint.get(peer), upstream_closing(loss)):
            # The timer is up before the server looks at it: what came since then is lost.
            sooner = round_down(loss.idle_before_ns - max(loss.idle_before_ns // 20, 50 * NS_PER_MS))
            limits[peer] = min(limits[peer], sooner)
    limits = {peer: to_ns for peer, to_ns in limits.items() if to_ns >= SHORTEST_NS}
    gaps: dict[Endpoint, int] = {}
    for loss in forgotten:
        if loss.path_gap_ns >= 0:
            peer = loss.connection.resp
            gaps[peer] = min(gaps.get(peer, loss.path_gap_ns), loss.path_gap_ns)
    for peer, gap in gaps.items():
        known = analysis.upstream_by_endpoint.get(peer)
        to_ns = path_limit_ns(known, gap) if known is not None else -1
        if to_ns >= SHORTEST_NS:
            limits[peer] = min(limits.get(peer, to_ns), to_ns)
    peers = {loss.connection.resp for loss in (*raced, *forgotten)} & limits.keys()
    if analysis.settings is None:
        return PoolPlan(limits, raced, forgotten, (), limits)
    blocks = _of_blocks(analysis, peers, limits)
    changes = conf.lower_pool_timeouts(analysis.settings, blocks)
    kept = {
        peer: min([limit, *(blocks[b.name] for b in analysis.blocks_by_endpoint.get(peer, ()) if b.name in blocks)])
        for peer, limit in limits.items()
    }
    return PoolPlan(limits, raced, forgotten, changes, kept)


def _of_blocks(analysis: Analysis, peers: set[Endpoint], limits: Mapping[Endpoint, int]) -> dict[str, int]:
    """Return the limit of each block that holds one of `peers`: what the most impatient of its upstreams allows."""
    wanted = {block.name for peer in peers for block in analysis.blocks_by_endpoint.get(peer, ())}
    of_block: dict[str, list[int]] = defaultdict(list)
    for peer, limit in limits.items():
        for block in analysis.blocks_by_endpoint.get(peer, ()):
            if block.name in wanted:
                of_block[block.name].append(limit)
    return {name: min(of_one) for name, of_one in of_block.items()}


def safe_proxy_timeout_ns(upstream: Upstream) -> int:
    """Return the longest sensible idle limit [ns] for the proxy; -1 if no value is short enough.

    A request is safe if it is sent before the least that T may be, less one RTT; what is left of that after a margin
    for jitter is rounded down.
    """
    earliest, _ = timeout_range(upstream, at_least=Confidence.POSSIBLE)
    if earliest < 0:
        return -1
    measured = upstream.idle_timeout
    if measured is not None and measured.confidence >= Confidence.POSSIBLE:
        earliest = min(earliest, measured.earliest_ns)
    rtt = max(upstream.rtt_p99_ns, upstream.rtt_p50_ns, 0)
    return round_down(earliest - rtt - max(rtt // 2, earliest // 20, 50 * NS_PER_MS))


def path_limit_ns(upstream: Upstream, shortest_lost_ns: int) -> int:
    """Return an idle limit [ns] below that of a device on the path; -1 where longer gaps were answered than lost.

    Where no gap was answered at all it is a guess.
    """
    longest = upstream.longest_path_gap_ns
    if longest >= shortest_lost_ns:
        return -1
    return round_down(longest - longest // 50 if longest >= 0 else shortest_lost_ns // 2)


def round_down(value_ns: int) -> int:
    """Return a time as a person would write it, no longer than the one given; -1 if it is too short for any."""
    for at_least, unit in (
        (60 * NS_PER_S, 5 * NS_PER_S),
        (2 * NS_PER_S, NS_PER_S),
        (200 * NS_PER_MS, 100 * NS_PER_MS),
        (20 * NS_PER_MS, 10 * NS_PER_MS),
    ):
        if value_ns >= at_least:
            return value_ns // unit * unit
    return -1


def is_forgotten(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether a request on a reused connection was never acknowledged, or met a RST that answers nothing."""
    if loss.is_connect or not loss.is_reused or loss.crossing is not None or has_unseen_fin(loss):
        return False
    if is_acknowledged(loss) or is_partly_acknowledged(loss):
        return False
    if upstream_closing(loss) is None:
        return loss.retransmissions > 0
    upstream = upstream_of(analysis, loss)
    return is_lone_rst(loss) and not is_reset_after_lost_fin(analysis, loss, upstream)


def _is_raced(analysis: Analysis, loss: Loss) -> bool:
    if loss.is_connect or loss.idle_before_ns < 0 or is_closed_at_once(loss):
        return False
    if loss.crossing is not None or has_unseen_fin(loss):
        return True
    upstream = upstream_of(analysis, loss)
    return is_idle_close_in_server(loss, upstream) or is_reset_after_lost_fin(analysis, loss, upstream)
