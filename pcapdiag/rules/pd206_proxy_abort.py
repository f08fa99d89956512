"""PD206: the proxy closed while it waited, and not because a timeout of its own ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import ExchangeFlag, Key
from pcapdiag.base.findings import Confidence, Effect, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import nginx_time
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import gave_up_words, left_words, of_nginx, proxy_kind
from pcapdiag.rules._left_inside import Ending, left_inside
from pcapdiag.rules._patience import give_ups, told_by_log
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._stops import Testimony
from pcapdiag.rules._wire import certainty, is_acknowledged, upstream_closing
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Finding


_HALF_CLOSED = "half-closed"
_STOPPED = "proxy-stopped"
_CUT_OFF = "cut-off"
_UNTOLD = "untold"
_INSIDE = "inside-"
_GROUPS = {Testimony.STOPPED: _STOPPED, Testimony.CUT_OFF: _CUT_OFF, Testimony.NOTHING: _UNTOLD}
_SEE_STOP = "See what stopped the proxy, or one of its processes, at that time: a reload, a restart, a crash."


class ProxyAbort(CauseRule):
    """The proxy closed the connection while it waited for a response, usually because its client had gone.

    What it looks for
    -----------------
    A request that was acknowledged, no response byte, and a FIN or RST of the proxy first, after a wait that is no
    timeout of the proxy. Where the client leg is in the capture: a client that closed just before. Where the proxy's
    logs tell of the request (499, `client prematurely closed connection`), they decide. Several idle connections closed
    in the same moment, or all that the proxy had, are a stop or a reload of the proxy, as are requests that nginx logs
    with status 000. Where nothing of that is seen, it is not told which it was. The same inside a response that had
    begun, an event stream or a download, where the logs or the client leg tell of the client, or where an error log of
    that time has no failure of it: that is told for information, for nothing failed.

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
    title = "The proxy closed while it waited for the answer"
    severity = Severity.WARNING
    needs = ("both directions",)
    helped_by = ("the client leg in the same capture", "error log and access log")
    facts = RuleFacts(settings=("_read_timeout",), effect=Effect.LEFT)
    proofs = Proofs(has_arrived=True)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that the proxy gave up for another reason than a timeout of its own."""
        for given_up in give_ups(analysis):
            if given_up.timeout_ns < 0:
                loss, closing = given_up.loss, given_up.closing
                if given_up.is_half_close:
                    group, why = _HALF_CLOSED, "and nothing says that it would not have read an answer"
                    why = "and does not take the answer that comes" if _is_late(loss) else why
                elif given_up.is_logged or given_up.client_left:
                    group, why = "", "its client had just closed"
                    why = "its log says that the client went away" if given_up.is_logged else why
                else:
                    group, why = _GROUPS.get(given_up.testimony, ""), "at no timeout of its own"
                    why = "as it closes others that are idle" if group == _STOPPED else why
                texts = {closing.key: f"the proxy closes after {about(given_up.wait_ns)}, {why}"}
                yield loss, Claim(certainty(analysis, loss, given_up.confidence), group, closing, texts)

        for left in left_inside(analysis):
            loss, closing = left.loss, left.closing
            since = f"{about(left.wait_ns)} after the last byte of the response, " if left.wait_ns >= 0 else ""
            texts = {closing.key: f"the proxy closes {since}{left.ending.value}"}
            group = f"{_INSIDE}{left.ending.name.lower().replace('_', '-')}"
            yield loss, Claim(certainty(analysis, loss, left.confidence), group, closing, texts)

    def findings(self, analysis: Analysis, claims: Iterable[tuple[Loss, Claim]]) -> Iterator[Finding]:
        """Yield the findings for `claims`; where a response had begun, clients had its status."""
        for finding in super().findings(analysis, claims):
            is_inside = finding.identifier.startswith(f"{self.code}/{finding.subject}/{_INSIDE}")
            yield replace(finding, facts=replace(self.facts, effect=Effect.CUT_OFF)) if is_inside else finding

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        if group.group.startswith(_INSIDE):
            return _inside(analysis, group)
        waits = [
            claim.closing.ts_ns - loss.request_ts_ns
            for loss, claim in zip(group.losses, group.claims, strict=True)
            if claim.closing is not None
        ]
        n = group.n_losses
        if group.group == _HALF_CLOSED:
            taken = count_losses(loss for loss in group.losses if _is_taken_for_abort(loss))
            ended, keep_open = "", ""
            if taken:
                whom = "" if taken == n else f" {taken} of"
                ended = f" {group.subject} had{whom} the whole request and that FIN, and closed without an answer."
                keep_open = (
                    " Some servers stop working for whoever closes its side (they take it for a client that left): a"
                    " sender that wants the answer keeps its side open until it came."
                )
            late = count_losses(loss for loss in group.losses if _is_late(loss))
            message = (
                f"{count_of(n, 'request')} to {group.subject} got no answer after {'its' if n == 1 else 'their'}"
                f" sender had closed its side, {duration_range(waits)} after the request. A FIN says that nothing"
                f" more is sent; whether the answer was still wanted, the packets do not tell.{ended}"
            )
            if late:
                which = "" if late == n else f" {late:,} of"
                whom = f"{which} {'it' if n == 1 else 'them'}"
                message = (
                    f"The sender of {count_of(n, 'request')} to {group.subject} closed its side"
                    f" {duration_range(waits)} after the request. {group.subject} answered{whom} all the same, and"
                    " the sender did not take that: whether it gave up or had never waited, the packets do not tell."
                    f"{ended}"
                )
            has_answer = "" if late == n else f", that of {group.subject} whether it had an answer"
            return GroupText(
                message=message,
                refuted_by="An answer that the sender still took.",
                remedy=(
                    f"The sender's own log says whether it gave up{gave_up_words(analysis)}{has_answer}.{keep_open}"
                ),
                confidence_at_most=Confidence.POSSIBLE,
            )
        if group.group in {_STOPPED, _CUT_OFF}:
            cut_off = f"without any answer{of_nginx(analysis, ' (000)')}, and no client that left"
            why = (
                "in the moment in which it closed its other idle connections, too"
                if group.group == _STOPPED
                else f"and its access log has requests of that second {cut_off}"
            )
            return GroupText(
                message=(
                    f"The proxy closed {count_of(n, 'request')} to {group.subject} in flight"
                    f" ({duration_range(waits)} after the request) {why}: most likely it stopped or was reloaded."
                ),
                refuted_by="A client that closed just before, in its own log or in the proxy's.",
                remedy=f"{_SEE_STOP}{_shutdown(analysis)}",
            )
        if group.group == _UNTOLD:
            return GroupText(
                message=(
                    f"The proxy gave up {count_of(n, 'request')} to {group.subject} after {duration_range(waits)}, at"
                    " no timeout of its own: its client went away, or the proxy itself stopped or was reloaded; the"
                    " packets do not tell which."
                ),
                refuted_by="A gateway timeout (504) in the access log.",
                remedy=(
                    f"{left_words(analysis)} If clients should wait longer, raise their timeout (or that of the"
                    f" balancer in front).{_shutdown(analysis)}{_finish(analysis)}"
                ),
            )
        told = told_by_log(analysis)
        n_told = count_losses(loss for loss in group.losses if (loss.connection.conn, loss.depth) in told)
        says = "its log says so" if n_told == group.n_losses else f"its log says so of {n_told}"
        why = "at no timeout of its own: its client most likely went away"
        if n_told:
            why = f"because the client went away ({says})"
        return GroupText(
            message=(
                f"The proxy gave up {count_of(n, 'request')} to {group.subject} after {duration_range(waits)}, {why}."
            ),
            refuted_by="A gateway timeout (504) in the access log, or a client that was still connected then.",
            remedy=(
                f"{left_words(analysis)} If clients should wait longer, raise their timeout (or that of the balancer in"
                f" front).{_finish(analysis)}"
            ),
        )


def _inside(analysis: Analysis, group: Group) -> GroupText:
    """Return the words about responses that had begun."""
    ending = Ending[group.group.removeprefix(_INSIDE).replace("-", "_").upper()]
    after = duration_range(
        claim.closing.ts_ns - loss.request_ts_ns
        for loss, claim in zip(group.losses, group.claims, strict=True)
        if claim.closing is not None
    )
    n = group.n_losses
    ended = f"The proxy ended {count_of(n, 'response')} of {group.subject} inside the body, {after} after the request,"
    if ending is Ending.STOPPED:
        return GroupText(
            message=(
                f"{ended} in the moment in which it closed its other idle connections, too: most likely it stopped or"
                " was reloaded."
            ),
            refuted_by="A client that closed just before, in its own log or in the proxy's.",
            remedy=f"{_SEE_STOP}{_shutdown(analysis)}",
        )
    client = "client" if n == 1 else "clients"
    likely = "perhaps" if group.confidence is Confidence.POSSIBLE else "most likely"
    why = {
        Ending.LOGGED: f"because the {client} went away (its log says so).",
        Ending.SEEN: f"just after a client had closed: most likely {'its' if n == 1 else 'their'} {client} went away.",
        Ending.NO_ENTRY: (
            f"and its error log has no failure of {'it' if n == 1 else 'them'}: {likely} the {client} went away, or"
            " took nothing any more."
        ),
    }[ending]
    return GroupText(
        message=f"{ended} {why}",
        refuted_by="A client that was still connected then and lacks the end of the body, in its own log.",
        remedy=(
            "None where clients may leave when they like, as those of event streams and downloads do. If they should"
            " have stayed, their own log, or that of the balancer in front, says why they left."
        ),
        severity=Severity.INFO,
    )


def _is_late(loss: Loss) -> bool:
    """Tell whether an answer came that the sender, who had closed, did not take."""
    return bool(loss.flags & ExchangeFlag.LATE_ANSWER)


def _is_taken_for_abort(loss: Loss) -> bool:
    """Tell whether the upstream closed behind the FIN of a sender, all of whose request it had."""
    sent, answer = loss.keys.get(Key.ORIG_FIN), upstream_closing(loss)
    is_behind = sent is not None and answer is not None and answer.acknowledges(sent.next_seq)
    return is_behind and is_acknowledged(loss) and Key.RESPONSE not in loss.keys


def _finish(analysis: Analysis) -> str:
    """Return how the upstream may finish what it began although the client left: only nginx's kin can be told to."""
    is_nginx = proxy_kind(analysis) is ProxyKind.NGINX
    return " proxy_ignore_client_abort on; lets the upstream finish what it began." if is_nginx else ""


def _shutdown(analysis: Analysis) -> str:
    """Return what the configuration says of requests in flight when workers end; empty where it is not known."""
    settings = analysis.settings
    if settings is None or settings.kind is not ProxyKind.NGINX:
        return ""
    setting = settings.shutdown_timeout_ns
    if setting.value <= 0:
        return " A reload lets requests in flight finish here: no worker_shutdown_timeout is set."
    return (
        f" worker_shutdown_timeout {nginx_time(setting.value)} ({setting.source}) ends workers that still have requests"
        " so long after a reload."
    )
