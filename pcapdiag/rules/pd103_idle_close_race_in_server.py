"""PD103: the race of PD101, lost inside the upstream's machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._remedy import keepalive_remedy
from pcapdiag.rules._resets import is_reset_by_middlebox
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, is_idle_close_in_server, known_timeout, upstream_closing, upstream_of
from pcapdiag.rules._words import idle_gaps, is_late, timer_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class IdleCloseRaceInServer(CauseRule):
    """The request reached the upstream's kernel just before the server closed the idle connection.

    What it looks for
    -----------------
    A request on a reused connection, acknowledged, then at once a RST or FIN instead of a response, at an idle gap
    that equals the upstream's idle timeout.

    Why it matters
    --------------
    Acknowledged does not mean read: the kernel took the request while the server was closing. The client gets 502 and
    nginx logs `recv() failed (104: Connection reset by peer)`, which looks like a crash and is the idle race.

    Evidence
    --------
    The RST or FIN whose acknowledgement number covers the whole request, the idle gap, and the idle timeout as measured
    at other closings of the same upstream.

    When it is wrong
    ----------------
    A worker that crashes on just this request, at an idle gap that happens to equal the timeout. Several occurrences
    at the same gap exclude that. Where no idle closing was seen, a clean split of the idle gaps (all shorter ones
    answered, all longer ones lost) is taken for a timer that is looked at when the next request comes; it needs so many
    gaps that chance is excluded.

    Remedy
    ------
    As for PD101: the proxy's `keepalive_timeout` below the upstream's idle timeout less one RTT.

    References
    ----------
    RFC 9112 section 9.5, RFC 1122 section 4.2.2.13 (closing with unread data sends a RST), nodejs/node issue 26166.
    """

    code = "PD103"
    name = "idle-close-race-in-server"
    title = "The upstream closed an idle connection just as it received a request"
    severity = Severity.ERROR
    needs = ("both directions", "idle closings of the same upstream, or its Keep-Alive field")
    supersedes = ("PD201", "PD202")
    facts = RuleFacts(settings=POOL, exposure=Exposure.RACE)
    proofs = Proofs(
        refuted_by=(ProofKind.NOT_ARRIVED, ProofKind.FORGED_RST, ProofKind.ANSWER_LOST),
        without_line=Confidence.CONFIRMED,
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield acknowledged requests that were lost at the idle timeout."""
        for loss in analysis.losses:
            upstream = upstream_of(analysis, loss)
            closing = upstream_closing(loss)
            if (
                closing is not None
                and is_idle_close_in_server(loss, upstream)
                and not is_reset_by_middlebox(analysis, loss, upstream)
            ):
                texts = {
                    closing.key: f"{closing.kind_name or 'close_notify'} instead of a response, after"
                    f" {idle_gaps([loss])} of idleness: the upstream had the request in its kernel and closed without"
                    " reading it"
                }
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), closing=closing, texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = group.upstream(analysis)
        timeout, _ = known_timeout(upstream)
        remedy = keepalive_remedy(analysis, upstream, group.losses)
        n, gap = group.n_losses, idle_gaps(group.losses)
        them = "it" if n == 1 else "them"
        after = timer_words(upstream)
        if is_late(upstream):
            after += " (one timer, which is looked at now and then, and whenever a request wakes the server)"
        message = (
            f"{group.subject} closes idle connections after {after}: its kernel acknowledged {count_of(n, 'request')}"
            f" that came in just then (idle gap {gap}), and nobody read {them}."
        )
        measured = upstream.idle_timeout if upstream is not None else None
        if measured is not None and measured.is_enclosed:
            message = (
                f"{group.subject} closes a connection as soon as a request comes after {after} of idleness:"
                f" {count_of(n, 'request')} came so late (idle gap {gap}), its kernel acknowledged {them}, and the"
                " connection was closed at once. All that came after shorter gaps were answered: so behaves a timer"
                " that is looked at when the next request comes."
            )
        return GroupText(
            message=message,
            refuted_by="A line of the upstream's own log that shows it handled such a request.",
            remedy=remedy.text,
            details=remedy.details | {"idle_timeout_ns": timeout},
            changes=remedy.changes,
        )

    def missing(self, analysis: Analysis) -> str:
        """Return why idle gaps could not be compared with a timeout."""
        if any(known_timeout(u)[0] >= 0 for u in analysis.upstreams):
            return ""
        return "no upstream's idle timeout is known: no idle closing of an upstream and no Keep-Alive field was seen"
