"""PD999: no rule explains this unanswered request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import ExchangeFlag, Key, Protocol
from pcapdiag.base.findings import Confidence, Role, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_S, count_of
from pcapdiag.rules._attempts import is_challenged
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._unseen import ended_by_log, has_unseen_answer, has_unseen_proxy_fin, n_taken_unseen
from pcapdiag.rules._wire import (
    has_unseen_fin,
    is_acknowledged,
    is_closed_at_once,
    is_half_closed_at_the_end,
    is_one_way,
    is_partly_acknowledged,
    is_sent_unread,
    last_seen_ns,
    last_sent_ns,
    proxy_closing,
    upstream_closing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


@dataclass(frozen=True, slots=True)
class _Sight:
    """What was seen of such requests, what it may be, and what would decide it."""

    seen: str
    decide: str
    severity: Severity = Severity.WARNING


_SIGHTS = {
    "capture-ended": _Sight(
        "still waiting for a response when the capture ended",
        "a capture that goes on longer",
        Severity.INFO,
    ),
    "capture-ended-in-upload": _Sight(
        "still being sent when the capture ended",
        "a capture that goes on longer",
        Severity.INFO,
    ),
    "one-way": _Sight(
        "sent, and nothing of the other direction of their connections was captured: whether they were answered is not"
        " known",
        "a capture of both directions",
        Severity.INFO,
    ),
    "one-way-failed": _Sight(
        "sent, and failed as the proxy's log says; nothing of the other direction of their connections was captured",
        "a capture of both directions",
    ),
    "connect-challenged": _Sight(
        "answered by segments of an older connection between the same ports (RFC 5961 section 4), and by no SYN-ACK or"
        " RST: the upstream, or something on the path, still holds that connection, and the RST that would end it does"
        " not get there",
        "a capture at the upstream: whether the RST arrives, and which packet filter drops it",
    ),
    "connect-pending": _Sight(
        "not answered within the second that was left of the capture",
        "a capture that goes on longer",
        Severity.INFO,
    ),
    "connect-unseen": _Sight(
        "sent once, and the capture holds nothing that came to its sender at that time: whether it was answered is not"
        " known",
        "a capture of both directions",
        Severity.INFO,
    ),
    "connect-made-up": _Sight(
        "sent again as no kernel does it, at shrinking intervals: nobody waits there",
        "nothing at the upstream: look at what sends such SYNs",
        Severity.INFO,
    ),
    "closing-unseen": _Sight(
        "ended by the upstream, as the proxy's log says or what it acknowledged shows; that closing is not in the"
        " capture",
        "a capture without holes, or one taken at the upstream: whether its FIN left before it had the request (PD101)"
        " or after (PD201)",
    ),
    "answer-unseen": _Sight(
        "closed by the proxy after it had taken bytes of the upstream that the capture lacks: most likely the answer",
        "a capture without holes",
        Severity.INFO,
    ),
    "closed-one-way": _Sight(
        "ended by a FIN of the upstream that the proxy acknowledges, without an answer; only the proxy's direction was"
        " captured, and so not whether the upstream had the request when it closed (PD201) or not (PD101)",
        "a capture of both directions, or the upstream's own log: whether the requests stand there",
    ),
    "handshake-incomplete": _Sight(
        "accepted by the upstream, and nothing followed",
        "a capture at the upstream, and its accept queue (nstat -az TcpExtListenOverflows)",
    ),
    "closed-during-upload": _Sight(
        "closed by the upstream during the upload: its closing acknowledges only a part of the request",
        "the upstream's limits for request bodies and its log (413), and whether a response was sent and lost",
    ),
    "partly-acknowledged": _Sight(
        "acknowledged only in part; later segments vanished on the path",
        "a capture at the upstream; if only large segments are missing, the path's MTU (ping -M do -s 1472)",
    ),
    "not-sent-whole": _Sight(
        "not sent to the end: the proxy stopped inside the request, and all that was sent may have arrived",
        "the proxy's log: a client that went away during its upload, or a send timeout",
    ),
    "closed-at-once": _Sight(
        "bytes that crossed the upstream's closing right behind its last answer; whether they were the next request or"
        " the rest of one that was answered early cannot be read",
        "the upstream's own log",
    ),
    "opaque-reset": _Sight(
        "bytes of a protocol that is not known here, ended by a RST of the other side; whether they asked for an answer"
        " is not known",
        "the log of the application that was asked",
    ),
    "acknowledged-too-late": _Sight(
        "acknowledged only when the proxy had given up",
        "a capture at the upstream, and its accept queue (nstat -az TcpExtListenOverflows): on a connection that nobody"
        " has accepted yet the kernel drops what comes",
    ),
    "never-acknowledged": _Sight(
        "never acknowledged although the connection had just been opened",
        "a capture at the upstream, and its accept queue (nstat -az TcpExtListenOverflows); if large requests fail and"
        " small ones do not, the path's MTU",
    ),
    "never-acknowledged-in-sight": _Sight(
        "sent again, and not acknowledged in what was captured; how long the connection had been idle, and whether the"
        " other side's segments are all there, is not known",
        "a capture of both directions that begins before the connection",
    ),
    "not-owed": _Sight(
        "pipelined behind one whose answer said that the connection ends with it, and not answered: their sender has to"
        " send them again",
        "nothing more: RFC 9112 section 9.6",
        Severity.INFO,
    ),
    "answer-incomplete": _Sight(
        "answered, but the beginning of the answer never arrived, or is not in the capture",
        "captures of both ends: whether the path lost it",
    ),
    "answer-not-acknowledged": _Sight(
        "answered, and the answer sent again and again, of which the proxy had not acknowledged the end when it closed",
        "a capture at the proxy: whether these segments arrive there, or something on the path drops them",
    ),
    "answered-and-left": _Sight(
        "answered, but their sender had closed and took no byte of it",
        "the sender's own log: whether it still wanted the answer",
        Severity.INFO,
    ),
    "closed-behind-unseen-fin": _Sight(
        "ended by the upstream without an answer, or inside one, but behind a FIN of the proxy that the capture lacks:"
        " what the upstream acknowledged shows it",
        "a capture without holes; the proxy's log: whether its client went away, or which timeout ran out",
    ),
    "foreign-reset": _Sight(
        "ended by a RST on a fresh connection that did not come from the upstream",
        "a capture at the upstream, and the rules of every packet filter in between",
    ),
    "unexplained": _Sight(
        "ended in a way that no rule knows",
        "the frames below, and a capture at the upstream",
    ),
}


class Undetermined(CauseRule):
    """An unanswered request that no other rule explains.

    What it looks for
    -----------------
    What is left when all other rules have spoken: requests still open when the capture ended, uploads that were cut
    off, requests that vanished on a fresh connection, and whatever nobody thought of.

    Why it matters
    --------------
    Every unanswered request has exactly one cause or stands here: nothing is left out because it does not fit.

    Evidence
    --------
    What was seen of each request, in the order of the capture.

    When it is wrong
    ----------------
    It does not claim a cause. If several such requests look alike, a rule is missing.

    Remedy
    ------
    Each finding names the observation that would decide.

    References
    ----------
    None.
    """

    code = "PD999"
    name = "undetermined"
    title = "None of the rules explains it"
    severity = Severity.WARNING
    needs = ()
    facts = RuleFacts(role=Role.UNEXPLAINED)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield every loss, grouped by what was seen: the diagnosis gives this rule what the others left."""
        ended, tries = ended_by_log(analysis), analysis.log.tries if analysis.log is not None else ()
        failed = frozenset(joined.wire.key for joined in tries if joined.entries)
        sights = [(loss, _sight_of(analysis, loss, ended, failed)) for loss in analysis.losses]
        # What is said of the capture, not of any upstream, is said once.
        is_wave = len({loss.connection.resp for loss, sight in sights if sight == "connect-unseen"}) > 1
        for loss, sight in sights:
            closing = upstream_closing(loss) or proxy_closing(loss)
            subject = "several upstreams" if is_wave and sight == "connect-unseen" else ""
            yield loss, Claim(Confidence.POSSIBLE, sight, closing, subject=subject)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:  # noqa: ARG002 - the same signature for all
        """Return the words of a finding."""
        sight = _SIGHTS[group.group]
        noun = "connection attempt" if group.losses[0].is_connect else "request"
        peers = {str(loss.connection.resp) for loss in group.losses}
        whom = f"to {next(iter(peers))}" if len(peers) == 1 else f"to {len(peers):,} endpoints"
        return GroupText(
            message=f"{count_of(group.n_losses, noun)} {whom}: {sight.seen}.",
            refuted_by="Nothing: no cause is claimed.",
            remedy=f"What would decide it: {sight.decide}.",
            severity=sight.severity,
        )


def _sight_of(
    analysis: Analysis, loss: Loss, ended: frozenset[tuple[int, int]], failed: frozenset[tuple[int, int]]
) -> str:
    of_upstream, of_proxy = upstream_closing(loss), proxy_closing(loss)
    if loss.n_undelivered:
        return "answer-not-acknowledged"
    if loss.is_connect:
        if Key.SYN_ACK in loss.keys:
            return "handshake-incomplete"
        if of_upstream is not None:
            return "unexplained"
        if is_challenged(loss):
            return "connect-challenged"
        if loss.attempt & AttemptSign.MADE_UP:
            return "connect-made-up"
        is_pending = last_seen_ns(analysis, loss) - loss.request_ts_ns < NS_PER_S
        return "connect-pending" if is_pending else "connect-unseen"
    if loss.flags & ExchangeFlag.NOT_OWED:
        return "not-owed"
    is_open = of_upstream is None and of_proxy is None
    is_unseen = is_one_way(loss) and of_upstream is None and not has_unseen_fin(loss)
    if is_unseen and not loss.retransmissions:
        return "one-way" if is_open or (loss.connection.conn, loss.depth) not in failed else "one-way-failed"
    if is_open and is_partly_acknowledged(loss) and last_seen_ns(analysis, loss) - last_sent_ns(loss) < NS_PER_S:
        return "capture-ended-in-upload"
    if is_partly_acknowledged(loss):
        if of_upstream is not None and loss.connection.protocol is not Protocol.OPAQUE:
            return "closed-during-upload"
        if of_upstream is None:
            return "partly-acknowledged" if loss.retransmissions else "not-sent-whole"
    if of_upstream is None and not is_acknowledged(loss) and loss.retransmissions:
        return "never-acknowledged-in-sight" if loss.is_reused else "never-acknowledged"
    if loss.flags & ExchangeFlag.LATE_ANSWER:
        return "answer-incomplete" if loss.flags & ExchangeFlag.HOLE else "answered-and-left"
    if loss.connection.protocol is Protocol.OPAQUE and of_upstream is not None:
        return "opaque-reset"
    if is_closed_at_once(loss) and (loss.crossing is not None or is_sent_unread(loss)):
        return "closed-at-once"
    if loss.is_acknowledged_too_late:
        return "acknowledged-too-late"
    if has_unseen_fin(loss) and is_one_way(loss):
        return "closed-one-way"
    unseen = n_taken_unseen(loss, of_proxy)
    is_ended = (loss.connection.conn, loss.depth) in ended
    if of_upstream is None and (unseen or is_ended):
        return "answer-unseen" if unseen > 1 and not is_ended else "closing-unseen"
    if has_unseen_answer(loss):
        return "answer-incomplete"
    if has_unseen_proxy_fin(loss):
        return "closed-behind-unseen-fin"
    if is_open or is_half_closed_at_the_end(loss):
        return "capture-ended"
    if not loss.is_reused and of_upstream is not None and of_upstream.key is Key.RESP_RST:
        return "foreign-reset"
    return "unexplained"
