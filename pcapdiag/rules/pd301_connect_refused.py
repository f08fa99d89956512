"""PD301: the upstream refuses connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.rules._attempts import (
    RACED,
    RACED_REMEDY,
    cut_words,
    foreign_refusal,
    icmp_answer,
    icmp_words,
    is_raced,
    is_scan,
    logged_keys,
    others_opened,
    raced_message,
    refusal_of,
)
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import group_of_peers
from pcapdiag.rules._peers import hop_count
from pcapdiag.rules._remedy import retry_elsewhere
from pcapdiag.rules._rule import CauseRule, Group, GroupText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss

_FOREIGN = "foreign"


class ConnectRefused(CauseRule):
    """A connection attempt was answered by a RST, or by ICMP port unreachable.

    What it looks for
    -----------------
    A SYN of the proxy whose only answer is a RST that acknowledges it, or an ICMP port unreachable that quotes it: that
    is how packet filters and services without endpoints refuse. Where the same port was opened in the other address
    family at once, nothing was lost, and that is said for information.

    Why it matters
    --------------
    The try fails at once. nginx logs `connect() failed (111: Connection refused) while connecting to upstream` and
    takes the next peer; with none left the client gets 502, and after `max_fails` such failures the peer is left out
    for `fail_timeout`.

    Evidence
    --------
    The SYN and the RST that acknowledges its sequence number plus one, or the ICMP error that quotes its ports and
    sequence number, and who sent it.

    When it is wrong
    ----------------
    A firewall that rejects with a RST looks the same. Where its RST comes over another number of hops than what the
    upstream sends on connections that open, that is said; where it takes over the upstream's TTL, nothing shows it.

    Remedy
    ------
    Start the server, or find out why it was not listening: crashed, restarting, another port, another address, a
    listen queue that is full with `tcp_abort_on_overflow`. Let deployments take a peer out of the configuration before
    they stop it.

    References
    ----------
    RFC 9293 section 3.5.2 (a RST answers a SYN to a closed port); RFC 1122 section 4.2.3.9 (ICMP port unreachable);
    RFC 8305 (happy eyeballs).
    """

    code = "PD301"
    name = "connect-refused"
    title = "The upstream refuses connections"
    severity = Severity.ERROR
    needs = ("the handshake",)
    helped_by = ("TTL of the RST and of other packets of the upstream",)
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION, goes_down=True)
    proofs = Proofs(proved_by=(ProofKind.REFUSED,), refuted_by=(ProofKind.FORGED_RST,))

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield connection attempts that a RST or an ICMP port unreachable answered."""
        logged = logged_keys(analysis)
        for loss in analysis.losses:
            rst, error = refusal_of(loss), icmp_answer(loss)
            is_refused = rst is not None or (error is not None and error.kind is IcmpKind.PORT)
            if not is_refused or is_scan(loss, logged):
                continue
            group = RACED if is_raced(loss, logged) else ""
            confidence, text = Confidence.CONFIRMED, "refused: nothing listens"
            of_rst, own = foreign_refusal(analysis, loss)
            if not group and own >= 0:
                group, confidence = _FOREIGN, Confidence.LIKELY
                text = (
                    f"refused, but not by the upstream: TTL {of_rst} means {count_of(hop_count(of_rst), 'hop')}, its"
                    f" own packets have TTL {own}, {count_of(hop_count(own), 'hop')}"
                )
            if rst is None and error is not None and error.is_cut:
                confidence = Confidence.LIKELY
            yield loss, Claim(confidence, group, closing=rst, texts={Key.RESP_RST: text})

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        errors = [error for loss in group.losses if (error := icmp_answer(loss)) is not None]
        how = icmp_words(errors)
        n_filtered = count_losses(loss for loss in group.losses if icmp_answer(loss) is not None)
        if n_filtered < group.n_losses:
            how = f"a RST, {n_filtered} of them with {how}" if errors else "a RST"
        if group.group == RACED:
            return GroupText(
                message=raced_message(group, "refused"),
                refuted_by="An error of the client for one of these attempts.",
                remedy=RACED_REMEDY,
                severity=Severity.INFO,
            )
        if group.group == _FOREIGN:
            return _foreign(analysis, group)
        changes = retry_elsewhere(analysis, group.losses)
        retry = f"\n\nNothing was sent, so that another peer may serve such a request:\n\n{change_block(changes)}"
        by_filter = (
            " An ICMP refusal comes from a packet filter that rejects (iptables REJECT, firewalld) or from a service"
            " without endpoints (kube-proxy): look there first."
            if errors
            else ""
        )
        attempts = count_of(group.n_losses, "connection attempt")
        return GroupText(
            message=(
                f"{group.subject} refused {attempts} with {how}{others_opened(analysis, group)}.{cut_words(errors)}"
            ),
            refuted_by="A SYN-ACK from the upstream for one of these attempts.",
            remedy=(
                f"See on the upstream whether anything listened on {group.subject} at these times (process start times,"
                " the service's own log, `ss -ltn`). If it was restarted, take the peer out of the proxy's"
                f" {group_of_peers(analysis)} first, or let the new process take the listening socket over.{by_filter}"
                f"{retry if changes else ''}"
            ),
            changes=changes,
        )


def _foreign(analysis: Analysis, group: Group) -> GroupText:
    """Return the words of refusals that came over another number of hops than the upstream's own packets."""
    pairs = [foreign_refusal(analysis, loss) for loss in group.losses]
    of_rst, own = pairs[0]
    attempts = count_of(group.n_losses, "connection attempt")
    return GroupText(
        message=(
            f"{attempts} to {group.subject} met a RST that came over {count_of(hop_count(of_rst), 'hop')} (TTL"
            f" {of_rst}); what {group.subject} itself sends comes over {count_of(hop_count(own), 'hop')} (TTL {own})."
            f" A device on the path refused in its name{others_opened(analysis, group)}."
        ),
        refuted_by="The RST leaving the upstream in a capture taken there.",
        remedy=(
            f"Find what stands in front of {group.subject} and answers for it: a firewall that rejects with a RST, a"
            " balancer that has no server left, the host of a container that is not running. Its log at these times"
            " says why; the upstream itself need not have been down."
        ),
    )
