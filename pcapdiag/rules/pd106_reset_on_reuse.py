"""PD106: the upstream reset an idle connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.idle_timeout import enclose_idle_timeout
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._again import retries
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import pool_setting
from pcapdiag.rules._peers import hop_count, own_ttl
from pcapdiag.rules._remedy import forget_before_path, forgotten_words
from pcapdiag.rules._resets import is_own_rst, is_reset_after_lost_fin, is_reset_by_upstream
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, upstream_of
from pcapdiag.rules._words import idle_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


_OWN_ACCORD = "own-accord"


class ResetOnReuse(CauseRule):
    """A request on an idle connection was answered by a RST of the upstream, without a FIN before.

    What it looks for
    -----------------
    A request on a reused connection, not acknowledged, then a RST and no FIN; nothing says that the RST came from
    elsewhere (PD105), and the idle gap is not at the upstream's idle timeout (PD101).

    Why it matters
    --------------
    The upstream's machine no longer knows the connection: it was restarted, failed over, moved, or lost its state
    without saying so. nginx logs `recv() failed (104: Connection reset by peer)`; the client gets 502 or a retry.

    Evidence
    --------
    The RST, its TTL against the upstream's other segments, and the absence of any FIN before it.

    When it is wrong
    ----------------
    A FIN that was lost on the way, at an upstream whose idle timeout the capture does not show, is PD101. A middlebox
    that copies the upstream's TTL is PD105.

    Remedy
    ------
    Look at the upstream at these times: reboot, restart with `kill -9`, failover of an address, connections killed
    by `ss -K` or by an orchestrator. Behind a balancer in between, its idle timeout.

    References
    ----------
    RFC 9293 section 3.5.1 (half-open connections and their discovery).
    """

    code = "PD106"
    name = "reset-on-reuse"
    title = "The upstream reset an idle connection"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = (
        "TTL of the RST and of the upstream's own segments",
        "idle closings of the same upstream",
        "a capture at the upstream (--upstream-capture)",
    )
    facts = RuleFacts(settings=POOL, exposure=Exposure.REUSE, goes_down=True)
    proofs = Proofs(
        proved_by=(ProofKind.LOST_STATE,), refuted_by=(ProofKind.FORGED_RST,), without_line=Confidence.LIKELY
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that a RST of the upstream ended."""
        for loss in analysis.losses:
            upstream = upstream_of(analysis, loss)
            if is_reset_by_upstream(analysis, loss, upstream) and not is_reset_after_lost_fin(analysis, loss, upstream):
                rst = loss.keys[Key.RESP_RST]
                own = own_ttl(analysis, loss)
                same_hops = hop_count(rst.ttl) >= 0 <= hop_count(own)
                is_borrowed = loss.connection.resp_ttl < 0
                text = "the upstream resets a connection that it had never closed"
                if is_borrowed:
                    text = "RST; nothing else of this connection is in the capture that the upstream sent"
                if is_own_rst(loss):
                    text = "RST of the upstream's own accord: it acknowledges none of the request"
                if same_hops:
                    text += f" (TTL {rst.ttl}, as its other {'connections' if is_borrowed else 'segments'})"
                confidence = Confidence.CONFIRMED if same_hops and not is_borrowed else Confidence.LIKELY
                group = _OWN_ACCORD if is_own_rst(loss) else ""
                yield loss, Claim(certainty(analysis, loss, confidence), group, rst, {Key.RESP_RST: text})

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = group.upstream(analysis)
        after = [max(loss.keys[Key.RESP_RST].ts_ns - loss.request_ts_ns, 0) for loss in group.losses]
        rtt = f", one RTT is {about(upstream.rtt_p50_ns)}" if upstream and upstream.rtt_p50_ns >= 0 else ""
        gaps = [loss.idle_before_ns for loss in group.losses if loss.idle_before_ns >= 0]
        changes = forget_before_path(analysis, group.losses)
        sure = forgotten_words(analysis, group.losses, changes)
        longest = _timer_above(analysis, group)
        where = (
            f"Find out what made {group.subject} forget its connections: a restart without orderly close, a"
            " failover, an address that moved, a process killed with -9, a balancer that switched peers."
        )
        balancer = f"If a balancer stands in between, set {pool_setting(analysis)} below its idle timeout."
        if longest >= 0:
            where = f"Find out whose idle timer it is: that of {group.subject}, a balancer, a NAT gateway."
            balancer = f"Set {pool_setting(analysis)} below {about(longest)}. {sure}"
        if changes:
            give_up = "Give up" if longest >= 0 else "If a balancer stands in between, give up"
            balancer = f"{give_up} idle connections before it:\n\n{change_block(changes)}\n\n{sure}"
        requests, gap = count_of(group.n_losses, "request"), idle_gaps(group.losses)
        message = (
            f"{group.subject} answered {requests} on idle connections (idle gap {gap}) with a RST{_unclosed(group)}"
            f" (median {about(sorted(after)[len(after) // 2])} after the request{rtt})."
        )
        if group.group == _OWN_ACCORD:
            message = (
                f"{group.subject} ended idle connections with a RST of its own accord, which crossed {requests} on the"
                f" wire (idle gap {gap})."
            )
        if longest >= 0:
            message += (
                f" All idle gaps up to {about(longest)} were answered, and no one moment explains these: most likely an"
                " idle timer, of the upstream or of what stands before it."
            )
        return GroupText(
            message=message,
            refuted_by=(
                "A FIN of the upstream before the request in a capture taken there (then it is PD101), or no RST"
                " leaving it at all (then it is PD105)."
            ),
            remedy=f"{where} {balancer}\n\n{retries(analysis, group.losses[0])}",
            details={"shortest_lost_gap_ns": min(gaps)} if gaps else {},
            changes=changes,
        )


def _timer_above(analysis: Analysis, group: Group) -> int:
    """[ns] Return the longest idle gap that was answered, where a timer above it explains the losses; -1 if none does.

    A restart resets what idled across it, long gaps most likely: then all these connections were idle at one moment.
    """
    upstream, losses = group.upstream(analysis), group.losses
    gaps = np.array([loss.path_gap_ns for loss in losses], dtype=np.int64)
    times = np.array([loss.request_ts_ns for loss in losses], dtype=np.int64)
    if upstream is None or (gaps < 0).any() or times.min() > (times - gaps).max():
        return -1
    answered = upstream.reused - group.n_losses
    found = enclose_idle_timeout(answered, upstream.longest_path_gap_ns, gaps, times)
    return found[0] if found is not None else -1


def _unclosed(group: Group) -> str:
    """Return in words that the upstream had not closed: a capture knows it of what it saw before the request."""
    n_unknown = sum(loss.connection.resp_ttl < 0 for loss in group.losses)
    if not n_unknown:
        return ", without having closed them"
    if n_unknown == len(group.losses):
        return "; whether it had closed them before cannot be told, as nothing else that it sent is in the capture"
    unseen = f"of {n_unknown} of them that cannot be told: the capture has nothing else that it sent on them"
    return f", without having closed them ({unseen})"
