"""PD205: the upstream stopped reading while the request was still being sent, by its window of TCP or of HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import ExchangeFlag, Key
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

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss

_CREDIT = "credit"


class UpstreamNotReading(CauseRule):
    """The upstream's window fell to zero while the request was on its way, and the request never became whole.

    What it looks for
    -----------------
    A request that is not whole, or not acknowledged to its end, and a segment of the upstream, sent while the request
    was open, that announces a window of zero. The upstream did not close first. In HTTP/2, where the upstream grants
    what may be sent on a stream and on a connection as well: a request that is not whole, and of which all was sent
    that was granted.

    Why it matters
    --------------
    The upstream's kernel holds as much as it can and the application does not read. The proxy cannot send the rest, and
    gives up after `proxy_send_timeout` (`upstream timed out ... while sending request to upstream`). Nothing was lost
    on the path, and nothing is wrong with the request.

    Evidence
    --------
    The first segment with a window of zero, or the one that used up what was granted (SETTINGS_INITIAL_WINDOW_SIZE and
    every WINDOW_UPDATE are counted), the acknowledgements up to there, and how long it lasted until the proxy closed or
    the capture ended.

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
    RFC 9293 section 3.8.6 (zero window), RFC 9113 section 5.2 (flow control), nginx ngx_http_proxy_module
    `proxy_send_timeout`.
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
            full = _full(loss)
            if loss.is_connect or full is None or loss.crossing is not None or is_closed_by_upstream(loss):
                continue
            if full.key is Key.ZERO_WINDOW and is_acknowledged(loss) and not is_unfinished(loss):
                continue
            closing = proxy_closing(loss)
            until = closing.ts_ns if closing is not None else last_seen_ns(analysis, loss)
            what = "window of zero" if full.key is Key.ZERO_WINDOW else "all is used that the upstream's HTTP/2 granted"
            texts = {full.key: f"{what}: nothing more can be sent, for {about(until - full.ts_ns)}"}
            group = "" if full.key is Key.ZERO_WINDOW else _CREDIT
            yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), group, closing, texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        lasted = [
            (claim.closing.ts_ns if claim.closing is not None else last_seen_ns(analysis, loss)) - full.ts_ns
            for loss, claim in zip(group.losses, group.claims, strict=True)
            if (full := _full(loss)) is not None
        ]
        is_credit = group.group == _CREDIT
        how = "its window fell to zero and stayed there for"
        if is_credit:
            how = "its HTTP/2 granted no more to send (WINDOW_UPDATE) for"
        whom = "the request" if n == 1 else "the requests"
        return GroupText(
            message=(
                f"{group.subject} stopped reading inside {count_of(n, 'request')}: {how} {duration_range(lasted)}, with"
                f" {whom} only partly taken."
            ),
            refuted_by=(
                "A WINDOW_UPDATE of the upstream, or SETTINGS with a larger window, before the end of the request."
                if is_credit
                else "A later segment of the upstream with an open window, before the end of the request."
            ),
            remedy=(
                f"Find out what {group.subject} was doing at these times: all workers busy or blocked (a stack dump,"
                " its metrics), a full disk, a process that was stopped. The path is not at fault: all that was sent"
                " was acknowledged. A longer send timeout at the proxy only lets clients wait longer."
            ),
        )


def _full(loss: Loss) -> KeySegment | None:
    """Return what says that no more could be sent, None if nothing does."""
    full = loss.keys.get(Key.ZERO_WINDOW)
    used = loss.keys.get(Key.CREDIT_USED)
    if full is not None or used is None or not loss.flags & ExchangeFlag.REQUEST_OPEN:
        return full
    return used
