"""PD901: a failed try that a retry hid from the client."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.codes import ExchangeFlag
from pcapdiag.base.findings import Confidence, Finding, Occurrence, Role, RuleFacts, Severity
from pcapdiag.base.units import about
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.proxy.conf.remedy import stop_repeating_requests
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._dialect import needs_tries, proxy_kind, with_tries
from pcapdiag.rules._logged import accesses_of_another_time, wire_occurrence
from pcapdiag.rules._resets import is_reset_by_middlebox
from pcapdiag.rules._rule import GroupText, Rule
from pcapdiag.rules._wire import has_unseen_fin, is_acknowledged, is_idle_close_in_server, upstream_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Change
    from pcapdiag.proxy.join.ledger import Retry

_UNSAFE = ("POST", "LOCK", "PATCH")


class RetriedFailure(Rule):
    """A try failed, another peer or connection served the request, and only a delay was left to see.

    What it looks for
    -----------------
    Access-log lines with several upstreams of which the last one answered, and the failed tries before it on the wire.

    Why it matters
    --------------
    The status says 200, so that nobody looks; the client waited for the failed try, and each of them counts against
    its peer (`max_fails`). A request that the first upstream had taken may have run twice; one that met the closing of
    an idle connection, or was never acknowledged, was not taken.

    Evidence
    --------
    The failed try with its cause (a finding of its own), the access-log line with the lists of upstreams and times.

    When it is wrong
    ----------------
    Never by itself; what it means for the client depends on the delay.

    Remedy
    ------
    Cure the cause of the failed tries. The retry itself is right where requests may be repeated.

    References
    ----------
    RFC 9110 section 9.2.2 (idempotent methods), nginx `proxy_next_upstream`.
    """

    code = "PD901"
    name = "retried-failure"
    title = "A retry hid failed tries from the client"
    severity = Severity.INFO
    needs = ("access log with $upstream_addr",)
    helped_by = ("error log",)
    facts = RuleFacts(role=Role.RETRIED, settings=RETRY)

    def missing(self, analysis: Analysis) -> str:
        """Return what is missing: only the access log lists the tries of a request."""
        if analysis.log is not None and analysis.log.retries:
            return ""
        if proxy_kind(analysis) in OF_OTHER_KIN:
            if analysis.log is None:
                return "only a log that lists the tries of a request tells of retries"
            return "the log of this proxy does not list the tries of a request"
        if analysis.log is not None and analysis.log.names_tries:
            return accesses_of_another_time(analysis)
        if analysis.log is not None and analysis.log.accesses_read == 0:
            return "no line of the access log that was given could be read"
        if analysis.log is not None and analysis.log.clients is not None:
            return f"the access log that was given names no upstreams{needs_tries(analysis)}"
        return f"only the access log lists the tries of a request: needs --access-log{with_tries(analysis)}"

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream whose failed tries were retried with success."""
        if analysis.log is None:
            return
        peers: dict[str, list[Retry]] = defaultdict(list)
        for retry in analysis.log.retries:
            if 0 < retry.access.status < 500:
                peers[retry.wire.peer].append(retry)
        told = {r.wire.key for retries in peers.values() for r in retries if r.wire.is_acknowledged}
        unread = {
            key
            for loss in analysis.losses
            if (key := (loss.connection.conn, loss.depth)) in told and not can_have_run(analysis, loss)
        }
        for peer, retries in peers.items():
            taken = [r for r in retries if r.wire.is_acknowledged and r.wire.key not in unread]
            twice = [r for r in taken if r.access.method in _UNSAFE]
            changes = (
                stop_repeating_requests(analysis.settings, peer) if twice and analysis.settings is not None else ()
            )
            words = GroupText(
                message=_message(peer, retries, len(taken), len(twice)),
                refuted_by="An access-log line of such a request with a single upstream.",
                remedy=_remedy(changes),
                severity=Severity.WARNING if twice else None,
                details={
                    "delay_ns_total": sum(r.delay_ns for r in retries),
                    "delay_ns_max": max(r.delay_ns for r in retries),
                    "possibly_run_twice": len(taken),
                },
                changes=changes,
            )
            yield self.finding(peer, words, map(_occurrence, retries), Confidence.CONFIRMED)


def _remedy(changes: Sequence[Change]) -> str:
    text = "Cure the cause of the failed tries: it is the finding that names the same requests."
    if changes:
        text += f"\n\nLet the proxy send no POST, LOCK or PATCH twice:\n\n{change_block(changes)}"
    return text


def _message(peer: str, retries: Sequence[Retry], n_taken: int, n_twice: int) -> str:
    delays = [r.delay_ns for r in retries]
    tries = "try" if len(retries) == 1 else "tries"
    # Logs have whole milliseconds.
    longer = f"up to {about(max(delays))}" if max(delays) > 0 else "less than 1 ms"
    text = f"{len(retries):,} failed {tries} at {peer} ended well by a retry: the client waited {longer} longer."
    if n_taken:
        which = "It" if n_taken == len(retries) == 1 else f"{n_taken:,} of them"
        text += f" {which} had reached the upstream and may have run twice"
        text += f", {n_twice:,} with a method that must not." if n_twice else "."
    return text


def _occurrence(retry: Retry) -> Occurrence:
    return replace(wire_occurrence(retry.wire), log_lines=(f"{retry.access.path}:{retry.access.line}",))


def can_have_run(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether the upstream's application can have got this request, and so have done what it asks for.

    Not where the upstream had closed before the request came (its kernel acknowledges what comes after its FIN, too),
    nor where its idle timer closed the connection with the request unread, nor where nothing acknowledged all of it.
    """
    if loss.flags & ExchangeFlag.NOT_PROCESSED:
        return False
    if loss.is_connect or loss.crossing is not None or has_unseen_fin(loss) or not is_acknowledged(loss):
        return False
    upstream = upstream_of(analysis, loss)
    return not is_idle_close_in_server(loss, upstream) and not is_reset_by_middlebox(analysis, loss, upstream)
