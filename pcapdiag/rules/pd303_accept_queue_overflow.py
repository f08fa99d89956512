"""PD303: the upstream's kernel opens connections that its server does not accept."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.model import AttemptSign, count_losses
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.rules._attempts import is_left_waiting, is_silent, was_there
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._peers import rows_of_peer
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, proxy_closing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss


_NO_SPAN = (0, -1)


class AcceptQueueOverflow(CauseRule):
    """A request waited on a connection that the upstream's kernel had opened and nobody accepted.

    What it looks for
    -----------------
    A fresh connection whose first request got nothing, while the same upstream left SYNs without an answer and other
    packets show that its machine was there; or whose SYN-ACK came again and again although the proxy had acknowledged
    it, and whose request was not acknowledged; with it all that were sent again to that upstream meanwhile, on fresh
    connections too, and not acknowledged either.

    Why it matters
    --------------
    The handshake is the kernel's work: it opens connections until the listen queue is full, then it drops SYNs (PD302)
    and what is sent on connections that found no place. The upstream looks reachable and slow, and does nothing.

    Evidence
    --------
    The handshake, the request and its silence, next to SYNs to the same port that nothing answered, or the repeated
    SYN-ACK.

    When it is wrong
    ----------------
    A worker may have accepted the connection and be busy with just this request: packets do not tell that from one in
    the queue. Loss on the way from the proxy repeats SYN-ACKs, too.

    Remedy
    ------
    A server that accepts again: look for hung or too few workers. A longer queue (`listen ... backlog=`,
    `net.core.somaxconn`) only carries short peaks.

    References
    ----------
    listen(2); RFC 9293 section 3.10.7.4 (SYN-RECEIVED).
    """

    code = "PD303"
    name = "accept-queue-overflow"
    title = "The upstream opens connections that nobody accepts in time"
    severity = Severity.ERROR
    needs = ("both directions", "the handshake")
    helped_by = ("TcpExtListenOverflows of the upstream",)
    supersedes = ("PD204", "PD206")
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that got nothing on connections that most likely nobody accepted."""
        spans, overflows = _silent_spans(analysis), _overflows(analysis)
        for loss in analysis.losses:
            if not is_left_waiting(loss):
                continue
            peer = loss.connection.resp
            # The kernel drops what comes on all connections that found no place, and repeats few of their SYN-ACKs.
            is_beside = _is_dropped(loss) and _is_within(loss, overflows.get(peer, _NO_SPAN))
            if is_beside or _is_within(loss, spans.get(peer, _NO_SPAN)):
                closing = proxy_closing(loss)
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), closing=closing)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        peer = group.losses[0].connection.resp
        since, until = min(loss.connection.first_ts_ns for loss in group.losses), max(map(_until_ns, group.losses))
        at_once = (x for x in analysis.losses if x.request_ts_ns <= until and x.connection.last_ts_ns >= since)
        dropped = count_losses(x for x in at_once if x.connection.resp == peer and is_silent(x))
        late = _n_opened_late(analysis, peer, since, until)
        beside = f" At the same time {count_of(dropped, 'connection attempt')} to it got no answer." if dropped else ""
        slow = f" {count_of(late, 'connection')} to it opened then only after a repeated SYN." if late else ""
        was, where = ("was", "a fresh connection") if n == 1 else ("were", "fresh connections")
        return GroupText(
            message=(
                f"{count_of(n, 'request')} to {group.subject} {was} sent on {where} that its kernel had opened, and"
                f" got nothing.{beside}{slow} Most likely its accept queue is full: the server accepts nothing, or too"
                " slowly."
            ),
            refuted_by=(
                "TcpExtListenOverflows and TcpExtListenDrops of the upstream (nstat -az) that did not grow, or these"
                " requests in its own log with the times at which they came."
            ),
            remedy=(
                f"Find out why the server on {group.subject} does not accept: hung, stopped, too few workers for slow"
                " requests. See its queue with `ss -ltn` (Recv-Q above Send-Q) and `nstat -az TcpExtListenOverflows`. A"
                " longer listen backlog (with net.core.somaxconn) carries short peaks only, and a longer timeout at the"
                " proxy lets more requests wait in the same queue."
            ),
        )


def _is_dropped(loss: Loss) -> bool:
    """Tell whether a request was sent again on an open connection, and none of it acknowledged."""
    return bool(loss.retransmissions) and not loss.is_acknowledged


def _is_within(loss: Loss, span: tuple[int, int]) -> bool:
    return loss.request_ts_ns <= span[1] and _until_ns(loss) >= span[0]


def _overflows(analysis: Analysis) -> dict[Endpoint, tuple[int, int]]:
    """Return for each upstream that repeated SYN-ACKs in vain from when to when [ns] it dropped what came behind."""
    dropped: dict[Endpoint, list[Loss]] = defaultdict(list)
    for loss in analysis.losses:
        if is_left_waiting(loss) and loss.connection.syn_ack_frames > 1 and _is_dropped(loss):
            dropped[loss.connection.resp].append(loss)
    return {
        peer: (min(x.request_ts_ns for x in losses), max(map(_until_ns, losses))) for peer, losses in dropped.items()
    }


def _silent_spans(analysis: Analysis) -> dict[Endpoint, tuple[int, int]]:
    """Return for each upstream that was there and left SYNs unanswered when it did so [ns], first and last."""
    attempts: dict[Endpoint, list[Loss]] = defaultdict(list)
    for loss in analysis.losses:
        if is_silent(loss) and loss.attempt & AttemptSign.REPEATED:
            attempts[loss.connection.resp].append(loss)
    return {
        peer: (min(x.request_ts_ns for x in losses), max(x.connection.last_ts_ns for x in losses))
        for peer, losses in attempts.items()
        if was_there(analysis, losses)
    }


def _until_ns(loss: Loss) -> int:
    """Return until when [ns] a request waited, as far as the capture shows."""
    closing = proxy_closing(loss)
    return closing.ts_ns if closing is not None else loss.connection.last_ts_ns


def _n_opened_late(analysis: Analysis, peer: Endpoint, since_ns: int, until_ns: int) -> int:
    """Return how many connections to an upstream were asked for again in a time, and opened then."""
    rows = rows_of_peer(analysis, peer)
    is_late = (rows["syn_frames"] > 1) & (rows["syn_ack_frames"] > 0)
    return int(np.count_nonzero(is_late & (rows["first_ts_ns"] <= until_ns) & (rows["last_ts_ns"] >= since_ns)))
