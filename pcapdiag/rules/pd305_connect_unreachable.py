"""PD305: an ICMP error says that the upstream cannot be reached."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of, format_address
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.rules._attempts import (
    RACED,
    RACED_REMEDY,
    cut_words,
    icmp_answer,
    icmp_words,
    is_raced,
    is_scan,
    logged_keys,
    others_opened,
    raced_message,
)
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._remedy import retry_elsewhere
from pcapdiag.rules._rule import CauseRule, Group, GroupText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.engine.asides.icmp import IcmpError

_MOST_UPSTREAMS = 2
"""A router that answers for more upstreams is one cause, told once."""
_MOST_NAMED = 5

_WHERE = {
    IcmpKind.NETWORK: "The sender has no route there: look at its routing table, and whether the network is up.",
    IcmpKind.HOST: (
        "The sender has a route, but nobody answers there (no ARP or neighbour entry): the machine is down, has another"
        " address, or is no longer on that network."
    ),
    IcmpKind.PROHIBITED: (
        "A packet filter rejects the attempt: look at the rules of the sender (iptables, nftables, firewalld, network"
        " policies) for this source, address and port. Routes and servers are not the cause."
    ),
    IcmpKind.EXPIRED: "Packets go round between routers, or the way is too long: look at the routes (traceroute).",
    IcmpKind.OTHER: "Look at what stands at the sender's address, and why it answers so.",
}


class ConnectUnreachable(CauseRule):
    """A connection attempt was answered by an ICMP error.

    What it looks for
    -----------------
    A SYN of the proxy that an ICMP error quotes: network or host unreachable, no route, prohibited, hop limit exceeded.
    Port unreachable is a refusal (PD301).

    Why it matters
    --------------
    The try fails at once. nginx logs `connect() failed (113: Host is unreachable) while connecting to upstream` (also
    113: No route to host; 101: Network is unreachable; 13: Permission denied, with ICMPv6) and takes the next peer;
    with none left the client gets 502.

    Evidence
    --------
    The SYN, and the ICMP error that quotes its addresses, ports and sequence number; who sent it.

    When it is wrong
    ----------------
    The message is what it is, unless a short snap length cut what it quotes: then it may be about another SYN between
    the same addresses. Its sender may answer for somebody else: behind it another device may have been the one
    that rejected.

    Remedy
    ------
    A route, a packet filter, a machine that is down or has moved: the kind of the error and its sender say which. No
    timeout of the proxy matters.

    References
    ----------
    RFC 792 and RFC 4443 section 3.1 (destination unreachable); RFC 1122 section 4.2.3.9; RFC 1812 section 5.2.7.1.
    """

    code = "PD305"
    name = "connect-unreachable"
    title = "An ICMP error says that the upstream cannot be reached"
    severity = Severity.ERROR
    needs = ("the handshake", "ICMP in the capture")
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION, goes_down=True)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield connection attempts that an ICMP error other than port unreachable answered."""
        logged = logged_keys(analysis)
        found: list[tuple[Loss, IcmpError]] = []
        upstreams: dict[str, set[str]] = defaultdict(set)
        for loss in analysis.losses:
            error = icmp_answer(loss)
            if error is not None and error.kind is not IcmpKind.PORT and not is_scan(loss, logged):
                found.append((loss, error))
                upstreams[format_address(*error.sender)].add(str(loss.connection.resp))
        for loss, error in found:
            sender = format_address(*error.sender)
            subject = sender if len(upstreams[sender]) > _MOST_UPSTREAMS else ""
            group = RACED if is_raced(loss, logged) else sender
            yield loss, Claim(Confidence.LIKELY if error.is_cut else Confidence.CONFIRMED, group, subject=subject)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        errors = [error for loss in group.losses if (error := icmp_answer(loss)) is not None]
        peers = list(dict.fromkeys(str(loss.connection.resp) for loss in group.losses))
        more = f" and {len(peers) - _MOST_NAMED} others" if len(peers) > _MOST_NAMED else ""
        named = ", ".join(peers[:_MOST_NAMED]) + more
        if group.group == RACED:
            words = raced_message(group, f"was unreachable ({icmp_words(errors)}) for")
            return GroupText(words, "An error of the client for one of these attempts.", RACED_REMEDY, Severity.INFO)
        sender = format_address(*errors[0].sender)
        of_upstream = all(sender == loss.connection.resp.address for loss in group.losses)
        who = " It is the upstream's own address that says so." if of_upstream else ""
        kind = Counter(error.kind for error in errors).most_common(1)[0][0]
        errnos = " or ".join(str(n) for n in sorted({error.errno for error in errors}))
        changes = retry_elsewhere(analysis, group.losses)
        retry = f"\n\nNothing was sent, so that another peer may serve such a request:\n\n{change_block(changes)}"
        others = others_opened(analysis, group) if len(peers) == 1 else ""
        is_at_once = not any(loss.retransmissions for loss in group.losses)
        no_timeout = " No timeout at the proxy matters here." if is_at_once else ""
        return GroupText(
            message=(
                f"{count_of(group.n_losses, 'connection attempt')} to {named} failed{' at once' if is_at_once else ''}:"
                f" {icmp_words(errors)}{others}.{who}{cut_words(errors)} On Linux connect() fails with errno {errnos}."
            ),
            refuted_by="A SYN-ACK from the upstream for one of these attempts.",
            remedy=f"{_WHERE[kind]}{no_timeout}{retry if changes else ''}",
            changes=changes,
        )
