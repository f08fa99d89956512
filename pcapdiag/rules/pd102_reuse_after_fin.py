"""PD102: the proxy used a connection whose FIN it already had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._remedy import keepalive_remedy
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, fin_lag_ns, had_fin, was_idle
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class ReuseAfterFin(CauseRule):
    """The proxy sent a request on a connection although it had acknowledged the upstream's FIN.

    What it looks for
    -----------------
    A request whose own acknowledgement number covers the upstream's FIN, while that FIN acknowledges none of the
    request, and more than a millisecond between the two at the proxy.

    Why it matters
    --------------
    The client gets 502 as in the race (PD101), but the network had delivered the FIN in time: the proxy's kernel knew,
    the proxy did not look. nginx normally closes such a connection within a tenth of a millisecond.

    Evidence
    --------
    The FIN, and the request with an acknowledgement number one above the FIN's sequence number.

    When it is wrong
    ----------------
    Proxies that check a pooled connection only when they use it do this by design; there it is no sign of overload.

    Remedy
    ------
    Find what kept the proxy's worker from reading: a blocked event loop (Lua that waits, disk without `aio`), no CPU
    left. The timers of PD101 make it rarer.

    References
    ----------
    RFC 9293 section 3.6 (a FIN ends one direction only), RFC 9112 section 9.5.
    """

    code = "PD102"
    name = "reuse-after-fin"
    title = "The proxy used a connection that the upstream had already closed"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("a capture at the proxy",)
    supersedes = ("PD201",)
    facts = RuleFacts(settings=POOL, exposure=Exposure.RACE, goes_down=True)
    proofs = Proofs(
        proved_by=(ProofKind.CLOSED_FIRST,),
        refuted_by=(ProofKind.REQUEST_FIRST, ProofKind.NO_ANSWER, ProofKind.ANSWER_LOST),
        without_line=Confidence.LIKELY,
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that were sent after the FIN had been acknowledged."""
        for loss in analysis.losses:
            fin = loss.keys.get(Key.RESP_FIN)
            if fin is None or loss.crossing is None or not was_idle(loss):
                continue
            lag = fin_lag_ns(analysis, loss)
            if had_fin(analysis, loss):
                texts = {
                    Key.RESP_FIN: "the upstream closes the idle connection",
                    Key.REQUEST: f"the request is sent {about(lag)} later and acknowledges that FIN",
                }
                yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), closing=fin, texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        lags = duration_range(fin_lag_ns(analysis, loss) for loss in group.losses)
        remedy = keepalive_remedy(analysis, group.upstream(analysis), group.losses)
        return GroupText(
            message=(
                f"{count_of(group.n_losses, 'request')} to {group.subject} went out on"
                f" {'a connection' if group.n_losses == 1 else 'connections'} whose FIN the proxy had had for"
                f" {lags}."
            ),
            refuted_by="An acknowledgement number in the request that does not cover the FIN.",
            remedy=(
                "Look for what blocks the proxy's workers at these times (CPU, blocking Lua or disk access, too few"
                f" workers): the FIN had arrived and was not read.\n\n{remedy.text}"
            ),
            details=remedy.details,
            changes=remedy.changes,
        )
