"""PD501: segments had to be sent again on the way to an upstream, and how long connections stood still for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import CapturePoint, Outcome
from pcapdiag.base.findings import Confidence, Finding, Severity
from pcapdiag.base.tables import PickedRows, group_rows
from pcapdiag.base.units import NS_PER_S, about, count_of, format_endpoint
from pcapdiag.rules._kept import is_seen_at_proxy, to_upstreams
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

_FEWEST = 3
_LEAST_STALL_NS = NS_PER_S // 10
"""[ns] A connection that stood still for less, all in all, delayed nobody by a retransmission timeout (200 ms)."""
_LEAST_SHARE = 0.01
_HEAVY = 0.1
_FEWEST_HEAVY = 10


class PathLoss(Rule):
    """Segments were lost on the way to or from the upstream and sent again, while connections stood still.

    What it looks for
    -----------------
    At least three connections to an upstream on which all requests were answered, and which stood still for a tenth of
    a second or more before segments that were sent again or came out of order; together at least a hundredth of the
    time that requests took there.

    Why it matters
    --------------
    Each lost segment that nothing follows costs a retransmission timeout of 200 ms or more, which doubles with every
    repetition. Enough of them look like a slow application, and run into the proxy's timeouts.

    Evidence
    --------
    Retransmissions by direction, and the time in which nothing was seen on a connection until one came.

    When it is wrong
    ----------------
    A server whose accept queue is full, or which does not read, drops segments as a path does (PD303, PD205):
    connections whose SYN or SYN-ACK was sent again do not count. At the upstream nobody sees whether an answer was lost
    or its acknowledgement, which delays nothing. What was lost before it reached the capture point, with nothing behind
    it, is not seen: the segment is only late there. And a lost acknowledgement makes a kernel repeat what had arrived,
    which delays no answer. So the time is what was seen, neither the least nor the most that loss cost.

    Remedy
    ------
    The path: errors of interfaces, a queue that overflows, a tunnel's MTU (PD502), a provider.

    References
    ----------
    RFC 6298 sections 2 and 5 (retransmission timeout), RFC 9293 section 3.8.
    """

    code = "PD501"
    name = "path-loss"
    title = "Connections stood still until segments were sent again"
    severity = Severity.INFO
    needs = ("a capture at the proxy", "both directions")

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream whose connections stood still."""
        if self.missing(analysis):
            return
        columns = _answered(analysis)
        if not columns["stalled_ns"].any():
            return
        busy, stalls = _busy_ns(analysis)[columns.index], columns["stalled_ns"]
        for rows in group_rows(columns, ("resp_port", "resp_lo", "resp_hi")):
            is_stalled = stalls[rows] >= _LEAST_STALL_NS
            stalled, waited = int(stalls[rows][is_stalled].sum()), float(busy[rows].sum())
            if is_stalled.sum() >= _FEWEST and stalled >= _LEAST_SHARE * waited:
                yield self._finding(columns.pick(rows), is_stalled, stalled / waited if waited > 0 else 1.0)

    def missing(self, analysis: Analysis) -> str:
        """Return why loss could not be looked for."""
        if not to_upstreams(analysis).any():
            return "the capture holds no connection to an upstream"
        if CapturePoint.PROXY not in analysis.capture_points:
            return "the capture was not made at the proxy, or nothing tells: elsewhere lost answers look like lost ACKs"
        return ""

    def _finding(self, columns: PickedRows, is_stalled: NDArray[np.bool_], share: float) -> Finding:
        hi, lo, port = (int(columns[name][0]) for name in ("resp_hi", "resp_lo", "resp_port"))
        endpoint = format_endpoint(hi, lo, port)
        n = int(is_stalled.sum())
        stalled = columns["stalled_ns"][is_stalled]
        to, back = (int(columns[name].sum()) for name in ("orig_retransmissions", "resp_retransmissions"))
        share = min(share, 1.0)
        words = GroupText(
            message=(
                f"{n:,} of {len(columns):,} connections to {endpoint} stood still until segments were sent again,"
                f" {about(int(stalled.sum()))} all together and {about(int(stalled.max()))} at most: {share:.0%} of the"
                f" time that requests took there. {count_of(to, 'segment')} to it and {back:,} from it were sent again."
            ),
            refuted_by="Answers that came no later on these connections than on those without a retransmission.",
            remedy=(
                f"Look at the path to {endpoint}: errors and drops of interfaces (`ip -s link`, `ethtool -S`), queues"
                " that overflow, a provider; `nstat -az TcpRetransSegs TcpExtTCPTimeouts` on both sides while it lasts."
                " A server that accepts too slowly drops segments as well (`nstat -az TcpExtListenDrops`). No timeout"
                " of the proxy cures it."
            ),
            severity=Severity.WARNING if share >= _HEAVY and n >= _FEWEST_HEAVY else Severity.INFO,
            details={
                "connections": len(columns),
                "stalled_connections": n,
                "stalled_ns": int(stalled.sum()),
                "longest_stall_ns": int(stalled.max()),
                "share_of_time": round(share, 4),
                "orig_retransmissions": to,
                "resp_retransmissions": back,
            },
        )
        return replace(
            self.finding(endpoint, words, (), Confidence.LIKELY),
            count=n,
            first_ts_ns=int(columns["first_ts_ns"][is_stalled].min()),
            last_ts_ns=int(columns["last_ts_ns"][is_stalled].max()),
        )


def _answered(analysis: Analysis) -> PickedRows:
    """Return the connections, seen at the proxy and opened at once, on which all was answered: losses have causes."""
    table = analysis.connections
    is_answered = (table["n_exchanges"] > 0) & (table["n_unanswered"] == 0)
    # A SYN or SYN-ACK is dropped by a path, or by a server that accepts too slowly: nothing tells which.
    is_answered &= (table["syn_frames"] <= 1) & (table["syn_ack_frames"] <= 1)
    return PickedRows(table, np.flatnonzero(to_upstreams(analysis) & is_seen_at_proxy(analysis) & is_answered))


def _busy_ns(analysis: Analysis) -> NDArray[np.float64]:
    """Return how long requests took on each connection, handshake included; exchanges are read a chunk at a time."""
    table = analysis.connections
    busy: NDArray[np.float64] = np.maximum(table["handshake_resp_ns"], 0).astype(np.float64)
    for chunk in analysis.exchanges.chunks():
        rows = np.flatnonzero((chunk["outcome"] == Outcome.ANSWERED) & (chunk["duration_ns"] >= 0))
        busy += np.bincount(chunk["conn"][rows], chunk["duration_ns"][rows], minlength=len(table))
    return busy
