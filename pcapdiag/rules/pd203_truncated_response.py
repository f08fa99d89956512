"""PD203: the upstream closed inside a response."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Effect, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.logs.entries import BODY, LogKind
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import of_nginx
from pcapdiag.rules._logged import logged_finding, logged_tries
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, is_closed_by_upstream, not_reading_ns, upstream_closing
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Finding


_NOT_READING = "proxy-not-reading"
_CUT_OFF = frozenset({LogKind.PREMATURE_CLOSE, LogKind.RECV_FAILED})


class TruncatedResponse(CauseRule):
    """The upstream closed or reset the connection in the middle of a response.

    What it looks for
    -----------------
    A response that began and then a FIN or RST of the upstream before the length that Content-Length or the chunks
    announced; a RST also where only the close would have marked the end; in HTTP/2 a RST_STREAM, too. With an error log
    also those whose announced length the packets do not show, in TLS or cut by a short snap length.

    Why it matters
    --------------
    The proxy has already passed the status on: the client gets 200 and a body that ends too early, the access log
    shows 200, and only the error log says `upstream prematurely closed connection while reading upstream`.

    Evidence
    --------
    The response bytes that came and the closing segment. Such a request was answered, so it is not counted among the
    unanswered.

    When it is wrong
    ----------------
    Where the capture lost segments of the response, the missing bytes may have arrived after all.

    Remedy
    ------
    The upstream's log at these times: a worker that died or was stopped while sending, a write timeout, a disk that ran
    full, a reload that does not wait. Where the proxy had not read, its own window at zero, the upstream's write
    timeout ran out: then the cause is what held the proxy up, most often a client that reads slowly.

    References
    ----------
    RFC 9112 section 8 (incomplete messages) and section 6.3 (where a message ends).
    """

    code = "PD203"
    name = "truncated-response"
    title = "The upstream closed inside a response"
    severity = Severity.ERROR
    needs = ("both directions", "HTTP in the clear")
    facts = RuleFacts(goes_down=True, effect=Effect.CUT_OFF)
    proofs = Proofs(proved_by=(ProofKind.REQUEST_FIRST,), refuted_by=(ProofKind.FORGED_RST,), has_arrived=True)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield responses that the upstream cut off."""
        for loss in analysis.truncated:
            if is_closed_by_upstream(loss):
                closing, full_ns = upstream_closing(loss), not_reading_ns(loss)
                group = _NOT_READING if full_ns >= 0 else ""
                texts = {Key.ORIG_ZERO_WINDOW: f"window of zero: the proxy reads nothing, for {about(full_ns)}"}
                confidence = certainty(analysis, loss, Confidence.CONFIRMED)
                yield loss, Claim(confidence, group, closing, texts if group else {})

    def findings(self, analysis: Analysis, claims: Iterable[tuple[Loss, Claim]]) -> Iterator[Finding]:
        """Yield the findings for `claims`, and what only the error log tells of: unseen ends."""
        yield from super().findings(analysis, claims)
        early = {(loss.connection.conn, loss.depth) for loss in analysis.early}
        for peer, joined in logged_tries(analysis, _CUT_OFF, BODY).items():
            # What was answered before the request was whole ended with that answer; the reset is of the request.
            unseen = [j for j in joined if j.wire is not None and not j.wire.is_failure and j.wire.key not in early]
            if unseen:
                yield logged_finding(self, peer, "logged", unseen, _cut_off(analysis, peer, len(unseen)))

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        if group.group == _NOT_READING:
            return _not_reading(analysis, group)
        pairs = zip(group.losses, group.claims, strict=True)
        by = Counter[str]()
        for loss, claim in pairs:
            by[claim.closing.kind_name if claim.closing is not None else "FIN"] += loss.stands_for
        by_rst, by_stream = by["RST"], by["RST_STREAM"]
        counts = {"RST": by_rst, "FIN": group.n_losses - by_rst - by_stream, "RST_STREAM": by_stream}
        ways = {kind: n for kind, n in counts.items() if n}
        how = f"by {next(iter(ways))}" if len(ways) == 1 else ", ".join(f"{n:,} by {kind}" for kind, n in ways.items())
        return GroupText(
            message=(
                f"{group.subject} cut off {count_of(group.n_losses, 'response')} ({how}) before {_end_of(group)}."
            ),
            refuted_by="The missing bytes in a capture without drops, or in the client's own log.",
            remedy=_remedy(analysis, group.subject),
            details={"by_rst": by_rst},
        )


def _not_reading(analysis: Analysis, group: Group) -> GroupText:
    unbuffered = of_nginx(
        analysis,
        " (in nginx with proxy_buffering off, or beyond proxy_max_temp_file_size, the proxy reads no faster than its"
        " client)",
    )
    n, full = group.n_losses, duration_range(not_reading_ns(loss) for loss in group.losses)
    return GroupText(
        message=(
            f"{group.subject} gave up {count_of(n, 'response')} before {_end_of(group)}, after the proxy had taken"
            f" nothing for {full}: its own window was zero, its buffers full. The upstream waited for the proxy."
        ),
        refuted_by="A later segment of the proxy with an open window, before the closing.",
        remedy=(
            f"Find out what kept the proxy from reading at these times: a client that reads slowly{unbuffered}, a full"
            f" disk, a worker that hung. Most likely a write timeout of {group.subject} ran out: a longer one only"
            " gives slow clients more time."
        ),
    )


def _end_of(group: Group) -> str:
    """Return in words where the responses broke off."""
    in_head = count_losses(loss for loss in group.losses if not loss.is_head_whole)
    if not in_head:
        return "the announced end"
    if in_head == group.n_losses:
        return "the end of the head"
    return f"the announced end, {in_head} of them inside the head"


def _remedy(analysis: Analysis, peer: str) -> str:
    hides = of_nginx(analysis, "; in nginx, proxy_buffering on only hides short stalls")
    return (
        f"Read the log of {peer} at these times for what ended the response: a worker that died or was stopped, a write"
        f" timeout, a reload. At the proxy no setting brings the rest back{hides}."
    )


def _cut_off(analysis: Analysis, peer: str, n: int) -> GroupText:
    return GroupText(
        message=(
            f"{peer} cut off {count_of(n, 'response')}: the proxy's log says so; how long they were to be, the packets"
            " do not show."
        ),
        refuted_by="The missing bytes in the client's own log.",
        remedy=_remedy(analysis, peer),
    )
