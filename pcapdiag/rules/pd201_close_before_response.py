"""PD201: the upstream closed with the request in hand and no response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import ExchangeFlag, Key
from pcapdiag.base.findings import Confidence, RuleFacts, Severity
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._failure import failure_confidence, failure_message, failure_remedy
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._streams import is_not_processed
from pcapdiag.rules._wire import (
    certainty,
    is_closed_by_upstream,
    is_failed_in_upstream,
    is_idle_close_in_server,
    upstream_closing,
    upstream_of,
    was_idle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


_ENDED = "ended"
_ALERT = (
    "The alert is encrypted. On a fresh connection it may be a close_notify, or a refusal of this connection, such"
    " as of the proxy's certificate: the proxy's error log names it (`SSL alert number`), and so does the upstream's."
    "\n\n"
)


class CloseBeforeResponse(CauseRule):
    """The upstream acknowledged the request and then sent a FIN instead of a response.

    What it looks for
    -----------------
    A FIN of the upstream whose acknowledgement number covers the whole request, no response byte before it, and an idle
    gap before the request that has nothing to do with the upstream's idle timeout. On a fresh connection also a FIN
    that does not cover the request: there was no idle time that could have run out. In FastCGI also the end of a
    request (FCGI_END_REQUEST) that wrote no byte of output.

    Why it matters
    --------------
    The request was handed to a process that ended, was killed or gave up. nginx logs `upstream prematurely closed
    connection while reading response header from upstream`, the same words as for the idle race (PD101), but no
    timer at the proxy helps. A request that was retried may have run twice.

    Evidence
    --------
    The acknowledgement of the request, the FIN, and the time between them: constant times are a timeout of the server,
    equal moments on several connections the end of a process.

    When it is wrong
    ----------------
    A server that was closing an idle connection when the request came in looks the same at an idle gap that equals its
    idle timeout; where the capture shows that timeout it is PD103. A TLS alert that comes first is encrypted: it says
    close_notify, or that the upstream refuses the connection. Where the proxy's log names it, it is PD304.

    Remedy
    ------
    The upstream's own log at these times: exceptions, worker timeouts (gunicorn `--timeout`), out-of-memory kills,
    restarts.

    References
    ----------
    RFC 9112 section 9.5, RFC 9110 section 9.2.2 (a retry may run a request twice).
    """

    code = "PD201"
    name = "close-before-response"
    title = "The upstream took the request and closed without a response"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("idle closings of the same upstream",)
    facts = RuleFacts(goes_down=True)
    proofs = Proofs(
        proved_by=(ProofKind.REQUEST_FIRST, ProofKind.CLOSED_FIRST),
        refuted_by=(ProofKind.ANSWER_LOST,),
        has_arrived=True,
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the upstream took and answered with a FIN."""
        for loss in analysis.losses:
            closing = upstream_closing(loss)
            if is_not_processed(loss):
                continue
            if loss.is_connect or closing is None or closing.key in (Key.RESP_RST, Key.RESP_RESET_STREAM):
                continue
            if closing.key is Key.RESP_END_REQUEST:
                if is_closed_by_upstream(loss):
                    yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), _ENDED, closing)
                continue
            if is_failed_in_upstream(loss) and not is_idle_close_in_server(loss, upstream_of(analysis, loss)):
                what = "FIN" if closing.key is Key.RESP_FIN else "TLS alert (encrypted: which one is not seen)"
                had = (
                    "all that was sent of the request"
                    if loss.flags & ExchangeFlag.REQUEST_OPEN or loss.is_end_unseen
                    else "the whole request"
                )
                text = f"{what} instead of a response: the upstream had {had}"
                confidence = Confidence.LIKELY if loss.is_end_unseen else Confidence.CONFIRMED
            elif loss.crossing is not None and not was_idle(loss) and is_closed_by_upstream(loss):
                text = "FIN on a fresh connection, without any of the request: closed as soon as it was accepted"
                if loss.is_reused:
                    text = "FIN, without any of the request, while other streams of the connection were open"
                confidence = Confidence.LIKELY
            else:
                continue
            claim = Claim(certainty(analysis, loss, confidence), closing=closing, texts={closing.key: text})
            yield loss, claim

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        if group.group == _ENDED:
            n = group.n_losses
            ended = f"ended {'it' if n == 1 else 'them'} (FCGI_END_REQUEST)"
            return GroupText(
                message=failure_message(analysis, group, ended),
                refuted_by="Output of such a request in a capture without drops.",
                remedy=failure_remedy(group, analysis),
            )
        pairs = tuple(zip(group.losses, group.claims, strict=True))
        n_alerts = count_losses(x for x, claim in pairs if claim.closing and claim.closing.key is Key.UNSOLICITED)
        how = "FIN" if not n_alerts else "TLS alert, then FIN or RST"
        remedy = failure_remedy(group, analysis)
        if any(c.closing and c.closing.key is Key.UNSOLICITED and not x.is_reused for x, c in pairs):
            remedy = _ALERT + remedy  # before what only holds if it was no refusal
        return GroupText(
            message=failure_message(analysis, group, f"closed the connection ({how})"),
            refuted_by="A response to such a request in the upstream's log, or idle gaps that equal its idle timeout.",
            remedy=remedy,
            confidence_at_most=failure_confidence(analysis, group),
        )
