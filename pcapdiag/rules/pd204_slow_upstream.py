"""PD204: the proxy's timeout ran out before the upstream answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import ExchangeFlag
from pcapdiag.base.findings import Finding, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.proxy.logs.entries import BODY, LogKind
from pcapdiag.rules._again import runs_twice
from pcapdiag.rules._attempts import down_words
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import wait_setting
from pcapdiag.rules._logged import logged_finding, logged_tries
from pcapdiag.rules._patience import give_ups, stalls
from pcapdiag.rules._remedy import wait_longer
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, is_one_way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.analysis.model import Analysis, Loss

_INSIDE = "inside-"


def _too_late(late: int, n: int) -> str:
    if not late:
        return ""
    return f" {'It' if n == 1 else f'{late} of them'} {'was' if late == 1 else 'were'} answered too late."


class SlowUpstream(CauseRule):
    """The upstream had the request and said nothing until the proxy's timeout ran out.

    What it looks for
    -----------------
    A request that was acknowledged, no response byte, and a FIN or RST of the proxy first, after a wait that is a
    timeout of the proxy: the same on connections that opened fast and slow, or a whole number of seconds. The same
    inside a response that had begun and is not complete: an event stream without heartbeats, a query that stalls.

    Why it matters
    --------------
    The client gets 504 after `proxy_read_timeout` (60 s by default). nginx logs `upstream timed out (110: Connection
    timed out) while reading response header from upstream`. The upstream may still be working on the request: a retry
    runs it twice.

    Evidence
    --------
    The acknowledgement, the proxy's closing, the wait between the last request byte and that closing, and the answer
    that came too late, if one came.

    When it is wrong
    ----------------
    Without logs, a client with a timeout of its own in whole seconds, seen through a proxy whose upstreams are too near
    to tell the two clocks apart, looks the same (PD206). The client leg in the same capture, or the access log (499 or
    504), decides.

    Remedy
    ------
    Make the slow request faster, or give its location a longer `proxy_read_timeout`. Where late answers were seen,
    their delay says how long would have been enough.

    References
    ----------
    nginx ngx_http_proxy_module `proxy_read_timeout`: the time between two reads, not for the whole response.
    """

    code = "PD204"
    name = "slow-upstream"
    title = "The upstream was silent until the proxy's timeout"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("the client leg in the same capture", "several such requests", "error log and access log")
    facts = RuleFacts(settings=("_read_timeout", *RETRY))
    proofs = Proofs(
        proved_by=(ProofKind.NO_ANSWER,), refuted_by=(ProofKind.NOT_ARRIVED, ProofKind.ANSWER_LOST), has_arrived=True
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the proxy gave up at a timeout of its own."""
        for given_up in give_ups(analysis):
            if given_up.timeout_ns >= 0:
                loss, closing = given_up.loss, given_up.closing
                waited = about(given_up.wait_ns)
                so = ", its log says" if given_up.is_logged else ""
                texts = {closing.key: f"the proxy gives up after {waited}: its timeout ran out{so}"}
                confidence = certainty(analysis, loss, given_up.confidence)
                yield loss, Claim(confidence, f"timeout-{given_up.timeout_ns / 1e9:g}s", closing, texts)
        for stall in stalls(analysis):
            loss, closing = stall.loss, stall.closing
            texts = {closing.key: f"the proxy gives up after {about(stall.wait_ns)} without a byte of the response"}
            group = f"{_INSIDE}{stall.timeout_ns / 1e9:g}s"
            yield loss, Claim(certainty(analysis, loss, stall.confidence), group, closing, texts)

    def findings(self, analysis: Analysis, claims: Iterable[tuple[Loss, Claim]]) -> Iterator[Finding]:
        """Yield the findings for `claims`, and stalls inside a response that only the error log tells of."""
        known = list(claims)
        yield from super().findings(analysis, known)
        keys = {(loss.connection.conn, loss.depth) for loss, _ in known}
        for peer, joined in logged_tries(analysis, frozenset({LogKind.TIMED_OUT}), BODY).items():
            unseen = [j for j in joined if j.wire is not None and j.wire.key not in keys]
            if unseen:
                yield logged_finding(
                    self, peer, "stalled", unseen, _stalled(peer, len(unseen), "", wait_setting(analysis, None, "read"))
                )

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        if group.group.startswith(_INSIDE):
            has_heads = all(loss.is_head_whole for loss in group.losses)
            setting = wait_setting(analysis, group.losses[0], "read")
            return _stalled(group.subject, n, group.group.removeprefix(_INSIDE), setting, has_heads=has_heads)
        gone = down_words(analysis, group, f"{group.subject} took {count_of(n, 'request')}.")
        if gone is not None:
            return gone
        timeout = group.group.removeprefix("timeout-")
        late = count_losses(loss for loss in group.losses if loss.flags & ExchangeFlag.LATE_ANSWER)
        answered = _too_late(late, n)
        changes = wait_longer(analysis, group.losses, int(float(timeout.removesuffix("s")) * 1e9))
        setting = wait_setting(analysis, group.losses[0], "read")
        twice = runs_twice(analysis, group.losses[0])
        twice = f"\n\n{twice}" if twice else ""
        longer = (
            f"set {setting} for them above {timeout}"
            f"{' and above what the late answers took' if late else '; no late answer was seen that says how long'}."
            if not changes
            else f"let the proxy wait longer, at least as long as the late answers took:\n\n{change_block(changes)}"
            if late
            else f"let the proxy wait longer; no late answer was seen that says how long, this doubles it:\n\n"
            f"{change_block(changes)}"
        )
        had = f"took {count_of(n, 'request')} and said nothing"
        if any(is_one_way(loss) for loss in group.losses):
            had = f"was sent {count_of(n, 'request')}; of what it sent nothing was captured"
        return GroupText(
            message=(
                f"{group.subject} {had}; the proxy gave up after {timeout}, which is a timeout of its own.{answered}"
            ),
            refuted_by="A client that closed just before the proxy did, or an access log that says so of the client.",
            remedy=(
                f"The upstream needs longer than {timeout} for these requests. Find out why in its own log; if they"
                f" are meant to take so long, {longer}{twice}"
            ),
            details={"late_answers": late},
            changes=changes,
        )


def _stalled(peer: str, n: int, timeout: str, setting: str, *, has_heads: bool = True) -> GroupText:
    until = f"the proxy gave up after {timeout} without a byte" if timeout else "the proxy's read timeout ran out"
    return GroupText(
        message=(
            f"{peer} stalled inside {count_of(n, 'response')} until {until}:"
            f" {'what had come was passed on, the rest is missing' if has_heads else 'not every head had come whole'}."
        ),
        refuted_by="The missing bytes in a capture without drops, or in the client's own log.",
        remedy=(
            f"An event stream needs heartbeats more often than that, or a longer read timeout in its own location"
            f" ({setting} counts from byte to byte). Else read the log of {peer} at these times for what"
            " held the response up: a slow query while streaming, a lock, a full disk."
        ),
    )
