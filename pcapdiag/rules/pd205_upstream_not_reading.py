"""PD205: the upstream stopped reading while the request was still being sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import (
    certainty,
    is_acknowledged,
    is_closed_by_upstream,
    is_unfinished,
    last_seen_ns,
    proxy_closing,
)
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class UpstreamNotReading(CauseRule):
    """The upstream's window fell to zero while the request was on its way, and the request never became whole.

    What it looks for
    -----------------
    A request that is not whole, or not acknowledged to its end, and a segment of the upstream, sent while the request
    was open, that announces a window of zero. The upstream did not close first.

    Why it matters
    --------------
    The upstream's kernel holds as much as it can and the application does not read. The proxy cannot send the rest, and
    gives up after `proxy_send_timeout` (`upstream timed out ... while sending request to upstream`). Nothing was lost
    on the path, and nothing is wrong with the request.

    Evidence
    --------
    The first segment with a window of zero, the acknowledgements up to there, and how long it lasted until the proxy
    closed or the capture ended.

    When it is wrong
    ----------------
    Where the window opened again outside the capture. An application that reads slowly, but reads, looks the same over
    a short capture.

    Remedy
    ------
    The upstream's own threads or workers at that time: all busy, blocked on a lock or on a disk, stopped in a debugger,
    frozen by a memory limit. A longer `proxy_send_timeout` only lets the client wait longer.

    References
    ----------
    RFC 9293 section 3.8.6 (zero window), nginx ngx_http_proxy_module `proxy_send_timeout`.
    """

    code = "PD205"
    name = "upstream-not-reading"
    title = "The upstream stopped reading inside the request"
    severity = Severity.ERROR
    needs = ("both directions",)
    supersedes = ("PD104", "PD204", "PD206")
    facts = RuleFacts(settings=("_send_timeout",))

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the upstream did not take whole because it did not read."""
        for loss in analysis.losses:
            full = loss.keys.get(Key.ZERO_WINDOW)
            if loss.is_connect or full is None or loss.crossing is not None or is_closed_by_upstream(loss):
                continue
            if is_acknowledged(loss) and not is_unfinished(loss):
                continue
            closing = proxy_closing(loss)
            until = closing.ts_ns if closing is not None else last_seen_ns(analysis, loss)
            texts = {Key.ZERO_WINDOW: f"window of zero: nothing more can be sent, for {about(until - full.ts_ns)}"}
            yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), closing=closing, texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        lasted = [
            (claim.closing.ts_ns if claim.closing is not None else last_seen_ns(analysis, loss))
            - loss.keys[Key.ZERO_WINDOW].ts_ns
            for loss, claim in zip(group.losses, group.claims, strict=True)
        ]
        whom = "the request" if n == 1 else "the requests"
        return GroupText(
            message=(
                f"{group.subject} stopped reading inside {count_of(n, 'request')}: its window fell to zero and stayed"
                f" there for {duration_range(lasted)}, with {whom} only partly taken."
            ),
            refuted_by="A later segment of the upstream with an open window, before the end of the request.",
            remedy=(
                f"Find out what {group.subject} was doing at these times: all workers busy or blocked (a stack dump,"
                " its metrics), a full disk, a process that was stopped. The path is not at fault: all that was sent"
                " was acknowledged. A longer send timeout at the proxy only lets clients wait longer."
            ),
        )
