"""PD101: the upstream closed an idle connection while a request was on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.idle_timeout import MOMENT_NS
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._again import retries
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import server_words
from pcapdiag.rules._moments import is_in_mass_closing
from pcapdiag.rules._remedy import keepalive_remedy
from pcapdiag.rules._resets import is_own_rst, is_reset_after_lost_fin
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import (
    certainty,
    fin_lag_ns,
    had_fin,
    has_unseen_fin,
    is_closed_at_once,
    is_one_way,
    is_refused_while_in_use,
    known_timeout,
    opened_ns,
    timeout_range,
    upstream_of,
    was_idle,
)
from pcapdiag.rules._words import duration_range, idle_gaps, is_late, timer_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss, Upstream

_OTHER_AGE = "other-age"
_UNKNOWN_AGE = "unknown-age"
_UNUSED = "unused"
_LEAST_ALIKE = 3
_LATE_TIMER = "If there is nothing, a timer that the upstream looks at only now and then may have closed them:"
_SHORTEST_NS = 1_000_000_000
"""No server has an idle timer shorter than this, unless all of its closings say so."""
_LATE_NS = 1_500_000_000
"""How far apart the closings of one timer may lie where a server looks at it once a second."""
_SAME_AGE = "Closings at nearly the same idle age are those of an idle timer, although the capture does not measure it."


class IdleCloseRace(CauseRule):
    """The upstream's FIN of an idle connection and the request crossed on the wire.

    What it looks for
    -----------------
    A request on a connection that was idle, and a FIN of the upstream that acknowledges none of it, while the
    request's own acknowledgement number does not cover the FIN: neither side had the other's segment when it sent its
    own. With TLS the close_notify comes before the FIN and counts in its place. If the FIN was lost, or the upstream
    ends idle connections with a RST, a RST alone at an idle gap in the race window.

    Why it matters
    --------------
    The request was not processed and nobody is to blame for it: the upstream may close an idle connection, the proxy
    may use it. nginx logs `upstream prematurely closed connection while reading response header from upstream` and
    answers 502, or retries; each such failure also counts against the peer (`max_fails`), so that a few of them
    together can leave `no live upstreams` behind.

    Evidence
    --------
    The acknowledgement numbers of the request and of the FIN. The order in the capture proves nothing: it depends on
    where one captured. The race window is (T - RTT, T) of idle gap, T the upstream's idle timeout. A FIN that reached
    the proxy less than a millisecond before the request had not been read by the proxy: that is still the race.

    When it is wrong
    ----------------
    Where a lone RST is the only sign, a restart of the upstream at just that idle gap looks the same; such a finding is
    no more than likely, until a capture at the upstream shows that the FIN left, and when. A FIN at another age than
    the idle timeout is a reload, a limit or a shutdown of the upstream; the request crossed it all the same, but
    another timeout does not help, and the finding says so.

    Remedy
    ------
    Let the proxy give up idle connections first: `keepalive_timeout` in nginx's upstream block below T - RTT with a
    margin, or raise the upstream's own idle timeout well above the proxy's. `max_fails=0` or a backup peer only change
    who sees the failure.

    References
    ----------
    RFC 9112 section 9.5 (a request may cross the close of an idle connection), RFC 9110 section 9.2.2 (what may be
    retried), nginx ngx_http_upstream_module `keepalive_timeout`.
    """

    code = "PD101"
    name = "idle-close-race"
    title = "The upstream closed an idle connection while a request was on its way"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = (
        "idle closings of the same upstream",
        "the handshake",
        "a capture at the proxy",
        "another one at the upstream (--upstream-capture)",
    )
    supersedes = ("PD106", "PD201")
    facts = RuleFacts(settings=POOL, exposure=Exposure.RACE, goes_down=True)
    # A restart is no line in the log either: there the packets have to say more.
    proofs = Proofs(
        proved_by=(ProofKind.CLOSED_FIRST,),
        refuted_by=(ProofKind.REQUEST_FIRST, ProofKind.NO_ANSWER, ProofKind.ANSWER_LOST),
        without_line=Confidence.LIKELY,
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that crossed the closing of their idle connection."""
        for loss in analysis.losses:
            if loss.is_connect or not was_idle(loss) or is_refused_while_in_use(loss):
                continue
            upstream = upstream_of(analysis, loss)
            crossing = loss.crossing
            if crossing is not None:
                lag = fin_lag_ns(analysis, loss)
                if had_fin(analysis, loss) or is_closed_at_once(loss):
                    continue
                # In mid-stream nothing tells that a FIN which the proxy had ended an idle connection.
                is_seen = loss.request_ack >= 0 and (lag < 0 or loss.idle_before_ns >= 0)
                confidence = Confidence.CONFIRMED if is_seen else Confidence.LIKELY
                texts = {
                    crossing.key: _crossing_text(crossing, lag),
                    Key.REQUEST: _request_text(crossing, lag),
                    Key.RESP_RST: "the request has reached a connection that the upstream had closed",
                }
                group = _group_of_age(loss, crossing, upstream)
                yield loss, Claim(certainty(analysis, loss, confidence), group, crossing, texts)
            elif has_unseen_fin(loss) and (is_one_way(loss) or _is_at_another_gap(loss, upstream)):
                continue  # the FIN may have come before the request, or have been the answer to it
            elif has_unseen_fin(loss):
                fin = loss.keys[Key.ORIG_FIN]
                text = "the proxy closes and acknowledges a FIN of the upstream that the capture lacks"
                group = _group_of_age(loss, fin, upstream) if opened_ns(loss) >= 0 else _group_of_timeout(upstream)
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), group, fin, {Key.ORIG_FIN: text})
            elif is_reset_after_lost_fin(analysis, loss, upstream):
                rst = loss.keys[Key.RESP_RST]
                texts = {Key.RESP_RST: _RST_TEXT if is_own_rst(loss) else _LATE_RST_TEXT}
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), _group_of_timeout(upstream), rst, texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = group.upstream(analysis)
        n = group.n_losses
        timeout, _ = _timeout_of(upstream)
        details: dict[str, int | str | float] = {}
        gaps = [loss.idle_before_ns for loss in group.losses if loss.idle_before_ns >= 0]
        if gaps:
            details |= {"shortest_raced_gap_ns": min(gaps), "longest_raced_gap_ns": max(gaps)}
        crossed = _crossed(group)
        if group.group == _UNUSED:
            return _unused(analysis, group, crossed)
        refuted_by = (
            "A FIN whose acknowledgement number covers the request (the upstream had it), or a request whose"
            " acknowledgement number covers a FIN that came long before."
        )
        if upstream is None or group.group in (_OTHER_AGE, _UNKNOWN_AGE):
            known = [
                claim.closing.ts_ns - loss.request_ts_ns + loss.idle_before_ns
                for loss, claim in zip(group.losses, group.claims, strict=True)
                if claim.closing is not None and loss.idle_before_ns >= 0
            ]
            ages = f"that were idle for {duration_range(known)}" if known else "of unknown age"
            other = f", not for the {about(timeout)} of its idle timeout" if group.group == _OTHER_AGE else ""
            text = _remedy_of_reload(analysis, group.losses[0])
            if group.group == _UNKNOWN_AGE:
                keep = keepalive_remedy(analysis, upstream, group.losses).text
                closed_ns = [claim.closing.ts_ns for claim in group.claims if claim.closing is not None]
                is_alike = len(known) == n >= _LEAST_ALIKE and max(known) - min(known) <= min(known) // 50
                is_timer = is_alike and max(closed_ns) - min(closed_ns) > MOMENT_NS
                if is_timer:
                    text = f"{_SAME_AGE}\n\n{keep}"
                elif not _is_timer_excluded(analysis, group, known):
                    text = f"{keep}\n\n{text}" if n == 1 else f"{text}\n\n{_LATE_TIMER}\n\n{keep}"
            message = f"{group.subject} closed connections {ages}{other}: {crossed}."
            return GroupText(message, refuted_by, text, details=details)
        remedy = keepalive_remedy(analysis, upstream, group.losses)
        details |= {"idle_timeout_ns": timeout, "rtt_ns": upstream.rtt_p50_ns} | remedy.details
        if upstream.longest_answered_gap_ns >= 0:
            details["longest_answered_gap_ns"] = upstream.longest_answered_gap_ns
        keeps = "the proxy keeps them longer"
        if timeout - upstream.rtt_p99_ns <= upstream.proxy_idle_close_ns <= timeout:
            rtt = about(upstream.rtt_p50_ns)
            keeps = f"the proxy after {about(upstream.proxy_idle_close_ns)}, not one RTT ({rtt}) sooner"
        after = timer_words(upstream)
        if is_late(upstream):
            after += " (one timer, which is looked at now and then)"
        message = f"{group.subject} closes idle connections after {after}, {keeps}: {crossed}."
        return GroupText(message, refuted_by, remedy.text, details=details, changes=remedy.changes)


def _is_at_another_gap(loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether nothing but an unseen FIN says that an idle connection was closed, and a known timer does not fit.

    Who had closed before the request came answers it by a RST (RFC 9293 section 3.10.7.4).
    """
    if Key.RESP_RST in loss.keys or opened_ns(loss) >= 0:
        return False
    return _group_of_age(loss, loss.keys[Key.ORIG_FIN], upstream) == _OTHER_AGE


def _unused(analysis: Analysis, group: Group, crossed: str) -> GroupText:
    """Say what became of connections that were opened ahead of need: another timer than that of idle ones ends them."""
    ages = [
        claim.closing.ts_ns - opened_ns(loss)
        for loss, claim in zip(group.losses, group.claims, strict=True)
        if claim.closing is not None
    ]
    unused = server_words(group.losses[0].connection).unused
    return GroupText(
        message=(
            f"{group.subject} closed connections that were unused for {duration_range(ages)} after they were opened:"
            f" {crossed}."
        ),
        refuted_by="A FIN whose acknowledgement number covers the request (the upstream had it).",
        remedy=(
            "Servers may close connections on which no first request comes by a timer of its own"
            f"{f' ({unused})' if unused else ''}, not by the idle timeout. Let the proxy open connections when it needs"
            " them, not ahead of time, or give unused ones up before that age."
            f"\n\n{_remedy_of_reload(analysis, group.losses[0])}"
        ),
    )


def _crossed(group: Group) -> str:
    """Say what crossed the requests: FINs, TLS close_notify or RSTs, each only where it was one."""
    n = group.n_losses
    of = {
        "close_notify": count_losses(x for x in group.losses if x.crossing and x.crossing.key is not Key.RESP_FIN),
        "FIN": count_losses(x for x in group.losses if x.crossing and x.crossing.key is Key.RESP_FIN),
    }
    resets = [loss for loss in group.losses if loss.crossing is None and Key.RESP_RST in loss.keys]
    of["RST"] = count_losses(loss for loss in resets if is_own_rst(loss))
    unused = [loss.request_ts_ns - opened for loss in group.losses if (opened := opened_ns(loss)) >= 0]
    gaps = [] if len(unused) == len(group.losses) else [f"idle gap {idle_gaps(group.losses)}"]
    gaps += [f"{f'{len(unused):,} ' if gaps else ''}unused for {duration_range(unused)}"] if unused else []
    gap = f"({'; '.join(gaps)})"
    names = [name for name, count in of.items() if count]
    late = n - sum(of.values())
    n_unseen = count_losses(loss for loss in group.losses if has_unseen_fin(loss))
    of_late = "whose FIN the capture lacks" if n_unseen else "of which the capture has a RST alone"
    if not names:
        return (
            f"{count_of(n, 'request')} met {'its' if n == 1 else 'their'} closing, {of_late}, and got no answer {gap}"
        )
    text = f"{count_of(n, 'request')} crossed its {' or '.join(names)} on the wire and got no answer {gap}"
    return f"{text}; of the closing of {late:,} the FIN was not seen" if late else text


def _is_timer_excluded(analysis: Analysis, group: Group, ages: Sequence[int]) -> bool:
    """Tell whether closings at these ages are none of an idle timer, not even of a late one."""
    if any(is_in_mass_closing(analysis, loss) for loss in group.losses) or 0 < max(ages, default=0) < _SHORTEST_NS:
        return True
    upstream = group.upstream(analysis)
    if not ages or upstream is None:
        return False
    if upstream.longest_answered_gap_ns > max(ages) + max(max(ages) // 2, _LATE_NS):
        return True
    return max(ages) - min(ages) > max(min(ages) // 2, _LATE_NS)


_RST_TEXT = "RST of the idle connection: it acknowledges none of the request"
_LATE_RST_TEXT = "the upstream knows the connection no more; its FIN was lost on the way"


def _timeout_of(upstream: Upstream | None) -> tuple[int, int]:
    """Return idle timeout and spread; the one closing that was seen is better than nothing here."""
    return known_timeout(upstream, at_least=Confidence.POSSIBLE)


def _crossing_text(crossing: KeySegment, lag: int) -> str:
    kind = "FIN" if crossing.key is Key.RESP_FIN else "close_notify"
    if lag >= 0:
        return f"{kind} of the idle connection: it acknowledges none of the request, and the proxy had not read it yet"
    return f"{kind} of the idle connection: it acknowledges none of the request"


def _request_text(crossing: KeySegment, lag: int) -> str:
    kind = "FIN" if crossing.key is Key.RESP_FIN else "close_notify"
    if lag >= 0:
        return f"the request is sent {about(lag)} after the {kind} came in, too soon to have read it"
    return f"the request is sent; its acknowledgement number does not cover the {kind}"


def _group_of_timeout(upstream: Upstream | None) -> str:
    timeout, _ = _timeout_of(upstream)
    if timeout < 0:
        return _UNKNOWN_AGE
    if is_late(upstream):
        # The least age at a closing is another every night; the timeout below it is most often a whole second.
        return f"idle-{max(timeout // 1_000_000_000, 1)}s"
    # Rounded, so that two nights give the same name: half seconds below ten seconds, whole seconds above.
    half_seconds = max(round(timeout / 500_000_000), 1)
    return f"idle-{half_seconds / 2:g}s" if half_seconds < 20 else f"idle-{round(timeout / 1_000_000_000)}s"


def _group_of_age(loss: Loss, crossing: KeySegment, upstream: Upstream | None) -> str:
    """Return which closings of this upstream this one belongs to: those of its idle timer, or others."""
    earliest, latest = timeout_range(upstream, at_least=Confidence.POSSIBLE)
    opened = opened_ns(loss)
    if opened >= 0:
        age, other = crossing.ts_ns - opened, _UNUSED
    elif earliest < 0 or loss.idle_before_ns < 0:
        return _group_of_timeout(upstream)
    else:
        age, other = crossing.ts_ns - (loss.request_ts_ns - loss.idle_before_ns), _OTHER_AGE
    tolerance = max(earliest // 50, 100_000_000)
    is_timer = earliest >= 0 and earliest - tolerance <= age <= latest + tolerance
    return _group_of_timeout(upstream) if is_timer else other


def _remedy_of_reload(analysis: Analysis, loss: Loss) -> str:
    """Return what to look for where it was no idle timer: a shutdown is cured by draining, not by a timeout."""
    restart = server_words(loss.connection).restart
    named = f" ({restart})" if restart else ""
    text = (
        "Look in the upstream's log for reloads, deployments, scale-in, worker restarts"
        f"{named} or a limit of connections at these times. Let the upstream drain: take it out of rotation at the"
        " proxy before a restart. A shorter idle limit at the proxy makes such losses rarer, not impossible."
    )
    if "nginx" in loss.connection.server.lower():
        text += " nginx as upstream has keepalive_min_timeout for this."
    return f"{text}\n\n{retries(analysis, loss)}"
