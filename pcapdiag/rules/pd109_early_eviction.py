"""PD109: the upstream closes idle connections to make room for new ones, and a request was on its way."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from pcapdiag.base.codes import Direction, Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_MS, about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._again import retries
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._kept import most_open, n_open_at, of_endpoint, to_upstreams
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import (
    certainty,
    is_acknowledged,
    is_closed_by_upstream,
    timeout_range,
    upstream_closing,
    was_idle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Endpoint, KeySegment, Loss, Upstream

    Ints = NDArray[np.int64]

_FEWEST = 3
_SAME = 0.8
_MOMENT_NS = 50 * NS_PER_MS
_AT_ONCE_NS = 50 * NS_PER_MS
"""[ns] A closing so soon after a response belongs to it."""
_SLACK_NS = 20 * NS_PER_MS
"""[ns] How long after a new connection stands the server may take to make room: a turn of its event loop."""
_LATE = 5
"""Where a server is known to make room, so many times that slack is no reason to look for another cause."""
_MOST_UPSTREAMS = 50
_MOST_BY_CHANCE = 0.3
_CROWDED = 0.5


@dataclass(frozen=True, slots=True)
class _Eviction:
    """How an upstream makes room: when new connections stood, as its closings show it, and at which ages it closed."""

    starts: Ints
    before_ns: int
    slack_ns: int
    most_ns: int
    """[ns] Closings at a greater age may be a timer's."""
    n_closed: int
    shortest_ns: int
    longest_ns: int
    n_open: int

    def covers(self, loss: Loss, closing: KeySegment) -> bool:
        """Tell whether a closing came as a new connection stood, or little later: a busy server makes room late."""
        slack = _LATE * self.slack_ns
        is_near = _is_covered(np.array([closing.ts_ns]), self.starts, self.before_ns, slack)
        return bool(is_near[0]) and loss.idle_before_ns < self.most_ns


class EarlyEviction(CauseRule):
    """The upstream closed an idle connection before its time, to make room for a new one; a request met that.

    What it looks for
    -----------------
    An upstream that closed connections between requests at three moments or more, each as a new connection to it had
    just been opened, while it held many, and at ages at which it had answered on others, or well below its idle
    timeout. And a request that crossed such a closing, or that the kernel took and nobody read.

    Why it matters
    --------------
    A server that has no connections left closes the ones that idle longest: nginx (`worker_connections are not enough,
    reusing connections`), Jetty when it is low on resources, Apache's event MPM. It happens under load, when a lost
    request costs most, and no idle timeout explains it.

    Evidence
    --------
    The handshakes and the closings that follow them within a fiftieth of a second or a quarter of the RTT, how many
    connections were open, and longer idle gaps that were answered.

    When it is wrong
    ----------------
    Where connections are opened so often that any closing falls behind one nothing is said.

    Remedy
    ------
    More room at the upstream (nginx `worker_connections`, threads, file descriptors), or fewer connections that the
    proxy keeps to it.

    References
    ----------
    nginx src/core/ngx_connection.c (`ngx_drain_connections`), RFC 9112 section 9.5.
    """

    code = "PD109"
    name = "early-eviction"
    title = "The upstream closed idle connections to make room for new ones"
    severity = Severity.ERROR
    needs = ("handshakes", "both directions")
    supersedes = ("PD101", "PD103", "PD106")
    facts = RuleFacts(settings=POOL, exposure=Exposure.REUSE)
    proofs = Proofs(without_line=Confidence.CONFIRMED)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that met a closing with which their upstream made room."""
        evictions = _evictions(analysis)
        for loss in analysis.losses:
            eviction = evictions.get(loss.connection.resp)
            closing = upstream_closing(loss)
            if eviction is None or closing is None or not _may_be_evicted(loss) or not eviction.covers(loss, closing):
                continue
            is_crossed = loss.crossing is not None
            seen = "it acknowledges none of the request" if is_crossed else "nobody had read the request"
            text = f"{closing.kind_name} as a new connection is opened: {seen}"
            yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), closing=closing, texts={closing.key: text})

    def missing(self, analysis: Analysis) -> str:
        """Return why closings and handshakes could not be compared."""
        if not (to_upstreams(analysis) & (analysis.connections["handshake_resp_ns"] >= 0)).any():
            return "no handshake with an upstream was captured"
        return ""

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        loss = group.losses[0]
        eviction = _evictions(analysis)[loss.connection.resp]
        n = group.n_losses
        is_nginx = "nginx" in loss.connection.server.lower()
        room = (
            "nginx worker_connections, and `reusing connections` in its error log"
            if is_nginx
            else "connections, threads"
        )
        ages = ""
        if eviction.shortest_ns >= 0:
            ages = f" that were idle for {about(eviction.shortest_ns)} to {about(eviction.longest_ns)}"
        return GroupText(
            message=(
                f"{group.subject} closed {count_of(eviction.n_closed, 'connection')}{ages}, each just behind the"
                f" handshake of a new one, up to {eviction.n_open:,} being open: it made room, no timer was up."
                f" {count_of(n, 'request')} came just then and got no answer."
            ),
            refuted_by="Closings at one age, or at times when no connection was opened.",
            remedy=(
                f"Give the upstream room for all connections that are opened to it ({room}), or let the proxy keep and"
                f" open fewer: up to {eviction.n_open:,} were open at once. No idle timeout helps, unless it is so"
                f" short that hardly anything is kept.\n\n{retries(analysis, loss)}"
            ),
            details={
                "closed": eviction.n_closed,
                "shortest_idle_ns": eviction.shortest_ns,
                "longest_idle_ns": eviction.longest_ns,
                "most_open": eviction.n_open,
            },
        )


def _evictions(analysis: Analysis) -> Mapping[Endpoint, _Eviction]:
    """Return how the upstreams of lost requests make room, as far as they do; worked out once."""
    if __name__ not in analysis.memo:
        met: dict[Endpoint, list[tuple[int, int]]] = defaultdict(list)
        for loss in analysis.losses:
            closing = upstream_closing(loss)
            if closing is not None and _may_be_evicted(loss):
                met[loss.connection.resp].append((closing.ts_ns, loss.idle_before_ns))
        known = analysis.upstream_by_endpoint
        # Each is held against all connections: of a flood those that met the most are.
        most = sorted((e for e in met if e in known), key=lambda e: -len(met[e]))[:_MOST_UPSTREAMS]
        found = {e: _eviction(analysis, e, known[e], np.array(met[e])) for e in most}
        analysis.memo[__name__] = {endpoint: eviction for endpoint, eviction in found.items() if eviction is not None}
    return cast("Mapping[Endpoint, _Eviction]", analysis.memo[__name__])


def _may_be_evicted(loss: Loss) -> bool:
    """Tell whether a request met the closing of its idle connection, or was not read by who closed it."""
    closing = upstream_closing(loss)
    if closing is None or closing.key not in (Key.RESP_FIN, Key.RESP_RST) or loss.is_connect or not was_idle(loss):
        return False
    is_unread = is_acknowledged(loss) and is_closed_by_upstream(loss) and not loss.response_bytes
    return loss.crossing is not None or is_unread


def _eviction(analysis: Analysis, endpoint: Endpoint, upstream: Upstream, met: Ints) -> _Eviction | None:
    """Return how an upstream makes room; `met` are the closings that requests met: time and idle gap [ns]."""
    columns = of_endpoint(analysis, endpoint)
    halves = columns["handshake_resp_ns"], columns["handshake_orig_ns"]
    is_opened = (columns["orig_isn"] >= 0) & (halves[0] >= 0) & (halves[1] >= 0)
    is_closed = (
        (columns["first_closer"] == Direction.RESP)
        & (columns["closing_open_exchange"] == 0)
        & (columns["idle_at_close_ns"] >= _AT_ONCE_NS)
        & (columns["n_exchanges"] > 0)
    )
    earliest, _ = timeout_range(upstream)
    # What was answered after a longer gap was no timer's to close.
    most_ns = max(upstream.longest_answered_gap_ns * 5 // 6, earliest * 4 // 5)
    is_closed &= columns["idle_at_close_ns"] < most_ns
    times, ages = columns["closing_ts_ns"][is_closed], columns["idle_at_close_ns"][is_closed]
    met_ts = met[:, 0][met[:, 1] < most_ns]
    if len(times) + len(met_ts) < _FEWEST or not is_opened.any():
        return None
    # Where one captured, a new connection stands when its last ACK has arrived there, and back comes what followed.
    starts = np.sort((columns["first_ts_ns"] + 2 * halves[0] + halves[1])[is_opened])
    slack = max(_SLACK_NS, upstream.rtt_p50_ns // 4)
    # Handshakes are not even; but a connection that is opened because another was closed stands two RTT later.
    before = max(min(slack // 2, upstream.rtt_min_ns // 2), 0)
    covered = _is_covered(times, starts, before, slack)
    met_ts = met_ts[_is_covered(met_ts, starts, before, slack)]
    together = np.sort(np.concatenate((times[covered], met_ts)))
    n_moments = np.count_nonzero(np.diff(together) > _MOMENT_NS) + 1
    if len(together) < _FEWEST or covered.sum() < _SAME * len(times) or n_moments < _FEWEST:
        return None
    span = int(columns["last_ts_ns"].max() - columns["first_ts_ns"].min())
    gaps = np.minimum(np.diff(starts, append=starts[-1] + slack + before), slack + before)
    if gaps.sum() > _MOST_BY_CHANCE * span:
        return None
    n_most = most_open(columns)
    if n_open_at(columns, together).min() < _CROWDED * n_most:
        return None
    ages = ages[covered]
    shortest, longest = (int(ages.min()), int(ages.max())) if len(ages) else (-1, -1)
    return _Eviction(starts, before, slack, most_ns, len(together), shortest, longest, n_most)


def _is_covered(times: Ints, starts: Ints, before_ns: int, slack_ns: int) -> NDArray[np.bool_]:
    """Tell which times lie just behind one of some sorted starts, or a little before, as handshakes are not even."""
    at = np.searchsorted(starts, times + before_ns, side="right") - 1
    covered: NDArray[np.bool_] = (at >= 0) & (times - starts[np.maximum(at, 0)] <= slack_ns)
    return covered
