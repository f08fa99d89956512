"""PD104: the path forgot an idle connection and drops what is sent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import ExchangeFlag, Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.describe import POOL
from pcapdiag.rules._attempts import syns_while_silent
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import keep_probing, pool_setting, wait_setting
from pcapdiag.rules._remedy import forget_before_path, forgotten_words
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import (
    certainty,
    has_unseen_fin,
    is_acknowledged,
    is_one_way,
    is_partly_acknowledged,
    upstream_closing,
)
from pcapdiag.rules._words import idle_gaps, probed_words, without_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


_WATCHED_NS = 1_000_000_000
"""[ns] Who is not answered tries again for longer than that; where it does not, segments are missing."""


class SilentDropOnReuse(CauseRule):
    """A request on an idle connection was never acknowledged, however often it was sent.

    What it looks for
    -----------------
    A request on a reused connection and its retransmissions, without acknowledgement, FIN or RST from the upstream.

    Why it matters
    --------------
    A NAT, firewall or load balancer between proxy and upstream forgot the idle connection and drops its segments. The
    proxy waits for `proxy_read_timeout` (60 s by default), then the client gets 504; a retry comes only after that.

    Evidence
    --------
    The idle gap, the request, and its retransmissions at growing intervals. The longest idle gap that was still
    answered and the shortest that was not enclose the middlebox's timeout (often 240, 350 or 3600 s).

    When it is wrong
    ----------------
    A host that went down, or a packet filter that was changed, looks the same; but then new connections fail too
    (PD302), and longer idle gaps had been answered before: the finding says so. Where keep-alive probes were answered
    in the gap, it counts from the last of them, and the path may have broken since. A capture without the upstream's
    direction shows it for every request.

    Remedy
    ------
    Let the proxy give up idle connections before the middlebox forgets them (`keepalive_timeout` in the upstream
    block), or keep them known with `proxy_socket_keepalive on` and a kernel keep-alive time below that timeout.

    References
    ----------
    RFC 9293 section 3.8.1 (retransmission), RFC 5382 section 5 (how long a NAT should keep a connection).
    """

    code = "PD104"
    name = "silent-drop-on-reuse"
    title = "A request on an idle connection vanished on the path"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("a capture at the upstream (--upstream-capture)",)
    facts = RuleFacts(settings=POOL, exposure=Exposure.FORGOTTEN, goes_down=True)
    reads_protocol = False
    proofs = Proofs(
        proved_by=(ProofKind.NOT_ARRIVED,), refuted_by=(ProofKind.NO_ANSWER,), without_line=Confidence.CONFIRMED
    )

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests on reused connections that nothing ever acknowledged."""
        for loss in analysis.losses:
            if (
                loss.is_connect
                or not loss.is_reused
                or not loss.retransmissions
                or loss.crossing is not None
                or has_unseen_fin(loss)
                or is_one_way(loss)
                or upstream_closing(loss) is not None
                or is_acknowledged(loss)
                or is_partly_acknowledged(loss)
                or loss.flags & ExchangeFlag.LATE_ANSWER
            ):
                continue
            # Silence needs a witness, and time: without a known idle gap nothing says that the path ever worked.
            watched = loss.connection.last_ts_ns - loss.request_ts_ns
            if loss.idle_before_ns < 0 or watched < _WATCHED_NS:
                continue
            # A device that had just let a probe through may have forgotten the connection since, or the path broke.
            is_probed = loss.flags & ExchangeFlag.PROBED
            confidence = Confidence.CONFIRMED if loss.retransmissions >= 3 and not is_probed else Confidence.LIKELY
            closing = loss.keys.get(Key.ORIG_FIN, loss.keys.get(Key.ORIG_RST))
            yield loss, Claim(certainty(analysis, loss, confidence), closing=closing)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = group.upstream(analysis)
        gaps = [loss.path_gap_ns for loss in group.losses if loss.path_gap_ns >= 0]
        repeats = sum(loss.retransmissions * loss.stands_for for loss in group.losses)
        details: dict[str, int | str | float] = {}
        bracket, below = "", "the middlebox's idle timeout"
        peer, last = group.losses[0].connection.resp, max(loss.request_ts_ns for loss in group.losses)
        # Then not this connection was forgotten: nothing gets through any more.
        is_gone = _n_failed_since(analysis, group) > 0 and syns_while_silent(analysis, peer.address, last)[0] > 0
        if gaps:
            details["shortest_lost_gap_ns"] = min(gaps)
            longest = upstream.longest_path_gap_ns if upstream is not None else -1
            details["longest_answered_gap_ns"] = longest
            below = about(min(gaps))
            if upstream is not None and 0 < longest < min(gaps):
                below, which = about(longest), without_probe(upstream)
                bracket = (
                    f" The longest idle gap{which} that was still answered was {below}: the timeout lies in between."
                )
            is_gone = is_gone or longest >= min(gaps)
        if is_gone:
            return self._unreachable(analysis, group, repeats, details)
        changes = forget_before_path(analysis, group.losses)
        broken = "F"
        if any(loss.flags & ExchangeFlag.PROBED for loss in group.losses):
            broken = (
                f"Find out what happened to the path and to {group.subject} between the last answered probe and the"
                " request: a packet filter that was changed, a route, a machine that went down. If nothing did, f"
            )
        patience = wait_setting(analysis, group.losses[0], "read")
        pool = pool_setting(analysis)
        # Where one setting limits both the wait and the pool, to lower it does help.
        no_help = "" if patience in pool else f"\n\nLowering {patience} only shortens the wait of each lost request."
        probing = keep_probing(analysis)
        sure = forgotten_words(analysis, group.losses, changes)
        shorten = (
            f"Then set {pool} below {below}, or let the proxy's kernel probe idle connections"
            f" ({probing}), net.ipv4.tcp_keepalive_time below it. {sure}"
        ).strip()
        if changes:
            shorten = (
                f"Let the proxy give up idle connections before that device does:\n\n{change_block(changes)}\n\n"
                f"{sure}\n\nOr keep them alive: {probing} with net.ipv4.tcp_keepalive_time below the device's timeout."
            )
        return GroupText(
            message=(
                f"{count_of(group.n_losses, 'request')} to {group.subject} on idle connections (idle gap"
                f" {idle_gaps(group.losses)}) and {count_of(repeats, 'retransmission')} were never"
                f" acknowledged.{probed_words(group.losses)}{bracket}"
            ),
            refuted_by="The request, or any acknowledgement of it, in a capture at the upstream.",
            remedy=(
                f"{broken}ind the device between proxy and {group.subject} that tracks connections (NAT gateway,"
                f" firewall, load balancer, conntrack on either host) and its idle timeout. {shorten}{no_help}"
            ),
            details=details,
            changes=changes,
        )

    def _unreachable(
        self, analysis: Analysis, group: Group, repeats: int, details: dict[str, int | str | float]
    ) -> GroupText:
        """Return the words where longer gaps were answered: no idle timer, but a path or a machine that was gone."""
        failed = _n_failed_since(analysis, group)
        also = f"from then on {count_of(failed, 'connection attempt')} to it failed" if failed else ""
        longest = int(details.get("longest_answered_gap_ns", -1))
        is_answered = longest >= int(details.get("shortest_lost_gap_ns", 0))
        proof = f"a gap of {about(longest)} was answered" if is_answered else ""
        why = ", and ".join(part for part in (proof, also) if part)
        patience = wait_setting(analysis, group.losses[0], "read")
        return GroupText(
            message=(
                f"{count_of(group.n_losses, 'request')} to {group.subject} and {count_of(repeats, 'retransmission')}"
                f" were never acknowledged (idle gap {idle_gaps(group.losses)}).{probed_words(group.losses)}"
                f" No idle timer did that: {why}."
            ),
            refuted_by="The request, or any acknowledgement of it, in a capture at the upstream.",
            remedy=(
                f"Find out what cut {group.subject} off at that moment: a packet filter that was changed, a route, a"
                f" machine that went down. No idle timeout at the proxy helps; lowering {patience} only shortens"
                " the wait of each lost request."
            ),
            details=details,
        )


def _n_failed_since(analysis: Analysis, group: Group) -> int:
    """Return how many connection attempts to the same upstream failed from the first of the requests on."""
    peer = group.losses[0].connection.resp
    first = min(loss.request_ts_ns for loss in group.losses)
    attempts = (loss for loss in analysis.losses if loss.is_connect and loss.connection.resp == peer)
    return count_losses(loss for loss in attempts if loss.request_ts_ns >= first)
