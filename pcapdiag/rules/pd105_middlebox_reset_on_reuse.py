"""PD105: something on the path, not the upstream, reset a reused connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import keep_probing, pool_setting
from pcapdiag.rules._ends import proved
from pcapdiag.rules._peers import hop_count, own_ttl
from pcapdiag.rules._remedy import forget_before_path, forgotten_words
from pcapdiag.rules._resets import has_foreign_hops, is_lone_rst, is_reset_by_middlebox, is_rst_too_fast
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, upstream_of
from pcapdiag.rules._words import idle_gaps, probed_words, without_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class MiddleboxResetOnReuse(CauseRule):
    """A request on an idle connection was answered by a RST that the upstream did not send.

    What it looks for
    -----------------
    A request on a reused connection, not acknowledged, answered by a RST that came over another number of hops than
    the upstream's own segments on this connection, or sooner than the path to the upstream allows.

    Why it matters
    --------------
    A NAT, firewall or load balancer forgot the idle connection and says so with a RST in the upstream's name. The
    upstream never saw the request. nginx logs `recv() failed (104: Connection reset by peer)`; the client gets 502 or
    a retry.

    Evidence
    --------
    The TTL of the RST against the TTL of the upstream's own segments, counted as hops from 64, 128 or 255, so that
    stacks which start a RST at another value are not accused; the time to the RST against the shortest RTT.

    When it is wrong
    ----------------
    A path that changed between the last response and the RST changes the hop count too. A middlebox that copies the
    upstream's TTL is not recognised: then it looks like PD106.

    Remedy
    ------
    As for PD104: the proxy's `keepalive_timeout` below the device's idle timeout, or TCP keep-alive probes.

    References
    ----------
    RFC 9293 section 3.5.2; Weaver, Sommer, Paxson, "Detecting Forged TCP Reset Packets", NDSS 2009.
    """

    code = "PD105"
    name = "middlebox-reset-on-reuse"
    title = "Something on the path reset an idle connection"
    severity = Severity.ERROR
    needs = ("TTL of the RST and of the upstream's own segments, or the handshake's RTT",)
    helped_by = ("a capture at the upstream (--upstream-capture)",)
    supersedes = ("PD106", "PD101")
    facts = RuleFacts(settings=POOL, exposure=Exposure.FORGOTTEN)
    proofs = Proofs(
        proved_by=(ProofKind.FORGED_RST,),
        refuted_by=(ProofKind.LOST_STATE, ProofKind.REQUEST_FIRST),
        without_line=Confidence.LIKELY,
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that a foreign RST ended."""
        for loss in analysis.losses:
            upstream = upstream_of(analysis, loss)
            if not is_reset_by_middlebox(analysis, loss, upstream):
                continue
            rst = loss.keys[Key.RESP_RST]
            signs: list[str] = []
            own = own_ttl(analysis, loss)
            is_borrowed, is_foreign = loss.connection.resp_ttl < 0, has_foreign_hops(analysis, loss)
            if is_foreign:
                elsewhere = " on its other connections" if is_borrowed else ""
                signs.append(
                    f"its TTL {rst.ttl} means {count_of(hop_count(rst.ttl), 'hop')}, the upstream's own segments have"
                    f" TTL {own}{elsewhere}, {count_of(hop_count(own), 'hop')}"
                )
            if is_rst_too_fast(analysis, loss, upstream) and upstream is not None:
                after = about(rst.ts_ns - loss.request_ts_ns)
                signs.append(f"it came {after} after the request, the path takes {about(upstream.rtt_min_ns)}")
            if proved(analysis, loss) is ProofKind.FORGED_RST:
                signs.append("it never left the upstream")
            texts = {Key.RESP_RST: f"RST, but not of the upstream: {' and '.join(signs)}"}
            # A hop count is a fact about the sender; a fast answer alone may be a lucky path.
            confidence = Confidence.CONFIRMED if is_foreign and not is_borrowed else Confidence.LIKELY
            yield loss, Claim(certainty(analysis, loss, confidence), closing=rst, texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = group.upstream(analysis)
        longest = upstream.longest_path_gap_ns if upstream is not None else -1
        gaps = [loss.path_gap_ns for loss in group.losses if loss.path_gap_ns >= 0]
        bracket = ""
        if upstream is not None and gaps and 0 <= longest < min(gaps):
            bracket = f" The longest idle gap{without_probe(upstream)} that was still answered was {about(longest)}."
        changes = forget_before_path(analysis, group.losses)
        probing = keep_probing(analysis)
        sure = forgotten_words(analysis, group.losses, changes)
        below = "the device's idle timeout"
        if gaps and not sure:
            below += f", which is at most {about(min(gaps))}"
        shorten = (
            f"Until then set {pool_setting(analysis)} below {below}, or let the proxy's kernel probe idle connections"
            f" ({probing}), net.ipv4.tcp_keepalive_time below it. {sure}"
        ).strip()
        if changes:
            shorten = (
                f"Until then let the proxy give up idle connections first:\n\n{change_block(changes)}\n\n{sure}\n\n"
                f"Or keep them alive: {probing} with net.ipv4.tcp_keepalive_time below the device's timeout."
            )
        return GroupText(
            message=(
                f"{count_of(group.n_losses, 'request')} to {group.subject} on idle connections (idle gap"
                f" {idle_gaps(group.losses)}) met a RST that did not come from the upstream."
                f"{probed_words(group.losses)}{bracket}"
            ),
            refuted_by="The RST leaving the upstream in a capture taken there.",
            remedy=(
                f"Find the device between proxy and {group.subject} that tracks connections and forgets idle ones, and"
                f" its idle timeout. {shorten}"
            ),
            changes=changes,
            details={"shortest_lost_gap_ns": min(gaps), "longest_answered_gap_ns": longest} if gaps else {},
        )

    def missing(self, analysis: Analysis) -> str:
        """Return why the sender of resets could not be told."""
        resets = [loss for loss in analysis.losses if loss.is_reused and is_lone_rst(loss)]
        if not resets or any(
            hop_count(loss.keys[Key.RESP_RST].ttl) >= 0 <= hop_count(own_ttl(analysis, loss)) for loss in resets
        ):
            return ""
        return "the TTL of the upstream's own segments is not in the capture: who sent the RST cannot be told"
