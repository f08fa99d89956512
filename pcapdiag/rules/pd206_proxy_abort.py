"""PD206: the proxy closed while it waited, and not because a timeout of its own ran out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.findings import RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._patience import give_ups, told_by_log
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class ProxyAbort(CauseRule):
    """The proxy closed the connection while it waited for a response, usually because its client had gone.

    What it looks for
    -----------------
    A request that was acknowledged, no response byte, and a FIN or RST of the proxy first, after a wait that is no
    timeout of the proxy. Where the client leg is in the capture: a client that closed just before. Where the proxy's
    logs tell of the request (499, `client prematurely closed connection`), they decide.

    Why it matters
    --------------
    nginx logs status 499 and nothing is wrong with the upstream, except that it was slower than its client was
    patient. The upstream goes on working for nobody.

    Evidence
    --------
    The proxy's closing, the wait before it, and the client's closing where it was captured. Waits that agree only when
    the time to open a fresh connection is added were measured by the client's clock.

    When it is wrong
    ----------------
    Without logs, a proxy timeout that is no whole number of seconds, seen once, looks the same (PD204). The access log
    decides: 499 or 504.

    Remedy
    ------
    Usually none at the proxy. If clients give up too early, raise their timeout; if the upstream is too slow, see to
    it. `proxy_ignore_client_abort on` lets the upstream finish.

    References
    ----------
    nginx ngx_http_proxy_module `proxy_ignore_client_abort`.
    """

    code = "PD206"
    name = "proxy-abort"
    title = "The proxy closed while it waited: its client went away"
    severity = Severity.WARNING
    needs = ("both directions",)
    helped_by = ("the client leg in the same capture", "error log and access log")
    facts = RuleFacts(settings=("_read_timeout",))
    proofs = Proofs(has_arrived=True)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the proxy gave up for another reason than a timeout of its own."""
        for given_up in give_ups(analysis):
            if given_up.timeout_ns < 0:
                loss, closing = given_up.loss, given_up.closing
                why = "its client had just closed" if given_up.client_left else "at no timeout of its own"
                why = "its log says that the client went away" if given_up.is_logged else why
                texts = {closing.key: f"the proxy closes after {about(given_up.wait_ns)}, {why}"}
                yield loss, Claim(certainty(analysis, loss, given_up.confidence), "", closing, texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        waits = [
            claim.closing.ts_ns - loss.request_ts_ns
            for loss, claim in zip(group.losses, group.claims, strict=True)
            if claim.closing is not None
        ]
        told = told_by_log(analysis)
        n_told = sum((loss.connection.conn, loss.depth) in told for loss in group.losses)
        says = "its log says so" if n_told == len(group.losses) else f"its log says so of {n_told}"
        why = "at no timeout of its own: the client most likely went away (499)"
        if n_told:
            why = f"because the client went away ({says})"
        return GroupText(
            message=(
                f"The proxy gave up {count_of(len(group.losses), 'request')} to {group.subject} after"
                f" {duration_range(waits)}, {why}."
            ),
            refuted_by="Status 504 in the access log, or a client that was still connected then.",
            remedy=(
                "Compare with the access log: status 499 says that the client closed. If clients should wait longer,"
                " raise their timeout (or that of the balancer in front). proxy_ignore_client_abort on; lets the"
                " upstream finish what it began."
            ),
        )
