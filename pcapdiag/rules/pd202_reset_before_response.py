"""PD202: the upstream reset the connection with the request in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, RuleFacts, Severity
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._failure import failure_confidence, failure_message, failure_remedy
from pcapdiag.rules._resets import has_foreign_hops, is_from_middlebox, is_lone_rst, is_reset_by_middlebox
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._streams import error_name, is_not_processed, stream_text
from pcapdiag.rules._wire import (
    certainty,
    is_failed_in_upstream,
    is_idle_close_in_server,
    is_partly_acknowledged,
    upstream_closing,
    upstream_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss

_STREAM = "stream"


class ResetBeforeResponse(CauseRule):
    """The upstream acknowledged the request and then sent a RST instead of a response.

    What it looks for
    -----------------
    A RST of the upstream after the whole request was acknowledged, or with an acknowledgement number that covers it,
    no response byte before it, and an idle gap unrelated to the upstream's idle timeout. On a fresh connection the
    acknowledgement is not asked for: nothing could have gone stale there. In HTTP/2 a RST_STREAM that ends one stream
    the same way, with another error than REFUSED_STREAM (PD404).

    Why it matters
    --------------
    A process that dies or closes with unread bytes makes its kernel send a RST. nginx logs `recv() failed (104:
    Connection reset by peer) while reading response header from upstream`; the client gets 502. A request that was
    retried may have run twice.

    Evidence
    --------
    The acknowledgement of the request, the RST, and the time between them.

    When it is wrong
    ----------------
    A middlebox that resets busy connections looks the same if its RST comes over as many hops. At an idle gap that
    equals the upstream's idle timeout it is PD103.

    Remedy
    ------
    The upstream's own log at these times: crashes, kills, worker restarts, an application that closes without reading.

    References
    ----------
    RFC 1122 section 4.2.2.13 (closing with unread data sends a RST), RFC 9112 section 9.6, RFC 9113 sections 6.4 and 7.
    """

    code = "PD202"
    name = "reset-before-response"
    title = "The upstream reset the connection instead of answering"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("idle closings of the same upstream", "TTL of the RST")
    facts = RuleFacts(goes_down=True)
    proofs = Proofs(
        proved_by=(ProofKind.REQUEST_FIRST,), refuted_by=(ProofKind.FORGED_RST, ProofKind.ANSWER_LOST), has_arrived=True
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the upstream took and answered with a RST."""
        for loss in analysis.losses:
            closing = upstream_closing(loss)
            if loss.is_connect or closing is None:
                continue
            if closing.key is Key.RESP_RESET_STREAM and not is_not_processed(loss):
                texts: dict[Key, str] = {closing.key: stream_text(loss, closing.key)}
                group = f"{_STREAM}-{loss.stream_error}"
                yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), group, closing, texts)
            if closing.key is not Key.RESP_RST:
                continue
            upstream = upstream_of(analysis, loss)
            if is_failed_in_upstream(loss):
                if is_idle_close_in_server(loss, upstream) or is_reset_by_middlebox(analysis, loss, upstream):
                    continue
                had = "all that was sent of the request" if loss.is_end_unseen else "the whole request"
                text = f"RST instead of a response: the upstream's kernel had {had}"
                is_doubtful = has_foreign_hops(analysis, loss) or loss.is_end_unseen
                confidence = Confidence.LIKELY if is_doubtful else Confidence.CONFIRMED
            elif is_partly_acknowledged(loss):
                continue
            elif not loss.is_reused and is_lone_rst(loss) and not is_from_middlebox(analysis, loss, upstream):
                text = "RST instead of a response, on a fresh connection"
                confidence = Confidence.LIKELY
            else:
                continue
            claim = Claim(certainty(analysis, loss, confidence), closing=closing, texts={Key.RESP_RST: text})
            yield loss, claim

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        if group.group.startswith(_STREAM):
            return _of_streams(analysis, group)
        return GroupText(
            message=failure_message(analysis, group, "reset the connection (RST)"),
            refuted_by="A response to such a request in the upstream's log, or no RST in a capture taken there.",
            remedy=failure_remedy(group, analysis),
            confidence_at_most=failure_confidence(analysis, group),
        )


def _of_streams(analysis: Analysis, group: Group) -> GroupText:
    n, error = group.n_losses, error_name(group.losses[0].stream_error)
    return GroupText(
        message=failure_message(
            analysis, group, f"ended {'its stream' if n == 1 else 'their streams'} by RST_STREAM ({error})"
        ),
        refuted_by="A response to such a request in the upstream's log.",
        remedy=(
            f"Read the log of {group.subject} at these times: the application, or what stands between it and the wire,"
            f" ended these streams itself, with {error}; the connection was not at fault. CANCEL is most often a"
            " deadline that ran out in the upstream, INTERNAL_ERROR a handler that failed, PROTOCOL_ERROR a request"
            " that it could not read, ENHANCE_YOUR_CALM a limit."
        ),
    )
