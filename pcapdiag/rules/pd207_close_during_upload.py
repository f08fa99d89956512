"""PD207: the upstream answered or closed before the request was whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import ExchangeFlag, Key, Protocol
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import count_of
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._dialect import body_limit
from pcapdiag.rules._resets import is_reset_by_middlebox
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._unseen import sending_by_log
from pcapdiag.rules._wire import (
    certainty,
    is_closed_by_proxy,
    is_closed_by_upstream,
    is_idle_close_in_server,
    is_partly_acknowledged,
    is_sent_unread,
    proxy_closing,
    upstream_closing,
    upstream_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss

_CLOSED = ""
_ANSWER_LOST = "answer-lost"
_MAY_BE_LOST = "answer-may-be-lost"


_EARLY = {Key.RESPONSE: "the answer begins before the request is whole"}
_LEAST_REST_BYTES = 1_000
"""[bytes] More than any goodbye."""


class CloseDuringUpload(CauseRule):
    """The upstream's closing, or an answer and then its closing, came while the request was still being sent.

    What it looks for
    -----------------
    A FIN or RST of the upstream that acknowledges a part of the request only. Or an answer that began before the
    request was whole, and then the upstream's FIN or RST: bytes that it had not read make its closing a RST, and a RST
    can throw away the answer before the proxy has read it.

    Why it matters
    --------------
    An early 401 or 413, a limit of the upload, an application that does not read the body. nginx logs `writev() failed
    (32: Broken pipe)` or `(104: Connection reset by peer) while sending request to upstream` and answers 502; the
    status that the upstream meant never reaches the client.

    Evidence
    --------
    The acknowledgement number of the FIN or RST, which lies inside the request; the early answer with its frame.
    Whether the proxy read such an answer, packets do not show: its log does. Without a log it is a warning.

    When it is wrong
    ----------------
    Where the capture lacks the rest of the request.

    Remedy
    ------
    Let the upstream read the request to its end before it closes (a lingering close), or let the proxy know the limit
    first: `client_max_body_size` in nginx below the upstream's own.

    References
    ----------
    RFC 9112 section 9.6 (closing in stages, so that the answer is not lost), RFC 1122 section 4.2.2.13, RFC 9110
    section 10.1.1 (`Expect: 100-continue`).
    """

    code = "PD207"
    name = "close-during-upload"
    title = "The upstream answered or closed before the request was whole"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("error log and access log",)
    supersedes = ("PD201", "PD202", "PD105", "PD106")

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that were not whole when the upstream closed, and early answers that were lost or may be."""
        sending = sending_by_log(analysis)
        for loss in analysis.losses:
            if loss.flags & ExchangeFlag.EARLY_RESPONSE and Key.RESPONSE in loss.keys:
                # An early answer is a loss only where the log says so.
                closing = loss.keys.get(Key.RESP_RST) or loss.keys.get(Key.RESP_FIN)
                yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), _ANSWER_LOST, closing, _EARLY)
                continue
            # Where nothing tells how long the request is, the proxy's log may know that more was to come.
            is_told = (loss.is_end_unseen or is_sent_unread(loss)) and (loss.connection.conn, loss.depth) in sending
            is_part = is_partly_acknowledged(loss) or is_told
            if loss.is_connect or not is_part or not is_closed_by_upstream(loss):
                continue
            closing = upstream_closing(loss)
            upstream = upstream_of(analysis, loss)
            if is_reset_by_middlebox(analysis, loss, upstream) or is_idle_close_in_server(loss, upstream):
                continue
            if closing is None or loss.crossing is not None or loss.flags & ExchangeFlag.HOLE:
                continue
            texts = {closing.key: f"{closing.kind_name or 'TLS alert'}: {_acknowledged(loss, closing)}"}
            known = Confidence.LIKELY if is_told else Confidence.CONFIRMED
            yield loss, Claim(certainty(analysis, loss, known), _CLOSED, closing, texts)
        for loss in analysis.early:
            closing = loss.keys.get(Key.RESP_RST) or loss.keys.get(Key.RESP_FIN)
            if _is_upload(loss) and _may_be_lost(loss) and _is_seen_early(loss) and not _is_left(loss):
                yield loss, Claim(Confidence.POSSIBLE, _MAY_BE_LOST, closing, _EARLY)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        requests = count_of(n, "request")
        statuses = sorted({loss.status_code for loss in group.losses if loss.status_code > 0})
        status = f" ({', '.join(map(str, statuses))})" if statuses else ""
        remedy = (
            f"Let {group.subject} read a request to its end before it closes (a lingering close), or refuse it sooner:"
            f" a limit of the body's size at the proxy{body_limit(analysis)} not above the upstream's own, and"
            " authentication before the upload. Its own log says which limit or which error it was."
        )
        early = f"{group.subject} answered {requests}{status} before {'it was' if n == 1 else 'they were'} whole"
        if group.group == _CLOSED:
            return GroupText(
                message=f"{group.subject} closed while {requests} {'was' if n == 1 else 'were'} still being sent: its"
                f" closing acknowledges {_share(group)}.",
                refuted_by="A closing that acknowledges the whole request.",
                remedy=remedy,
            )
        if group.group == _ANSWER_LOST:
            lost = "that answer" if n == 1 else "those answers"
            return GroupText(
                message=f"{early} and closed; the proxy lost {lost}, its log says.",
                refuted_by="The upstream's status in the access log.",
                remedy=remedy,
            )
        answers = "the answer" if n == 1 else "the answers"
        who_tells = "The proxy's log would tell" if analysis.log is None else "The logs that were given do not tell"
        return GroupText(
            message=f"{early} and closed: {answers} may have been lost. {who_tells}.",
            refuted_by="The upstream's status in the proxy's access log: then it was read.",
            remedy=remedy,
            severity=Severity.WARNING,
            confidence_at_most=Confidence.POSSIBLE,
        )


def _acknowledged(loss: Loss, closing: KeySegment) -> str:
    """Return how much of what was sent of a request its closing acknowledges, in words."""
    if closing.ack < 0 or loss.stream > 0 or loss.request_seq < 0:
        return "only a part of the request was acknowledged"
    if closing.acknowledges(loss.request_end_seq):
        return "it acknowledges all that was sent of the request, which was not whole"
    n_sent = sequence_difference(loss.request_end_seq, loss.request_seq)
    n_had = max(sequence_difference(closing.ack, loss.request_seq), 0)
    return f"it acknowledges {n_had:,} of the {count_of(n_sent, 'byte')} that were sent of the request"


def _share(group: Group) -> str:
    """Return the same of all requests of a finding."""
    pairs = zip(group.losses, group.claims, strict=True)
    had_all = [c.closing is not None and c.closing.acknowledges(loss.request_end_seq) for loss, c in pairs]
    if all(had_all):
        return "what had been sent, which was not all"
    return (
        "only a part of what was sent" if not any(had_all) else "only a part of what was sent, or of what was to come"
    )


def _is_left(loss: Loss) -> bool:
    """Tell whether the proxy had read the answer and closed first.

    A kernel that holds bytes nobody has read says RST instead of FIN (RFC 2525 section 2.17).
    """
    closing, answer = loss.keys.get(Key.ORIG_FIN), loss.keys.get(Key.RESPONSE)
    is_first = closing is not None and closing == proxy_closing(loss) and is_closed_by_proxy(loss)
    return is_first and closing is not None and answer is not None and closing.acknowledges(answer.next_seq)


def _may_be_lost(loss: Loss) -> bool:
    """Tell whether something can have thrown the answer away: a RST, or bytes that provoke one."""
    answer = loss.keys.get(Key.RESPONSE)
    if Key.RESP_RST in loss.keys or answer is None or answer.ack < 0:
        return True
    return sequence_difference(loss.request_end_seq, answer.ack) > 0


def _is_seen_early(loss: Loss) -> bool:
    """Tell whether the answer came before the request was whole, and not only before the capture had it whole.

    Where the capture lacks bytes, the acknowledgement number tells: an answer to a whole request covers all of it, but
    for a FIN behind it.
    """
    if not loss.flags & ExchangeFlag.HOLE:
        return True
    answer = loss.keys.get(Key.RESPONSE)
    return answer is not None and answer.ack >= 0 and sequence_difference(loss.request_end_seq, answer.ack) > 1


def _is_upload(loss: Loss) -> bool:
    """Tell whether bytes behind an early answer are the rest of a request; where they cannot be read, no goodbye."""
    answer, full = loss.keys.get(Key.RESPONSE), loss.keys.get(Key.ZERO_WINDOW)
    if loss.connection.protocol not in (Protocol.TLS, Protocol.UNKNOWN) or full is not None:
        return True
    if answer is None or answer.ack < 0:
        return False
    return sequence_difference(loss.request_end_seq, answer.ack) >= _LEAST_REST_BYTES
