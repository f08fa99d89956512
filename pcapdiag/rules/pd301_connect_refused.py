"""PD301: the upstream refuses connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._remedy import retry_elsewhere
from pcapdiag.rules._rule import CauseRule, Group, GroupText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss


class ConnectRefused(CauseRule):
    """A connection attempt was answered by a RST.

    What it looks for
    -----------------
    A SYN of the proxy whose only answer is a RST that acknowledges it.

    Why it matters
    --------------
    The try fails at once. nginx logs `connect() failed (111: Connection refused) while connecting to upstream` and
    takes the next peer; with none left the client gets 502, and after `max_fails` such failures the peer is left out
    for `fail_timeout`.

    Evidence
    --------
    The SYN and the RST that acknowledges its sequence number plus one.

    When it is wrong
    ----------------
    A firewall that rejects with a RST looks the same. Its RST often comes over another number of hops than what the
    upstream sends on connections that open.

    Remedy
    ------
    Start the server, or find out why it was not listening: crashed, restarting, another port, another address, a
    listen queue that is full with `tcp_abort_on_overflow`. Let deployments take a peer out of the configuration before
    they stop it.

    References
    ----------
    RFC 9293 section 3.5.2 (a RST answers a SYN to a closed port).
    """

    code = "PD301"
    name = "connect-refused"
    title = "The upstream refuses connections"
    severity = Severity.ERROR
    needs = ("the handshake",)
    helped_by = ("TTL of the RST and of other packets of the upstream",)
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION)
    proofs = Proofs(proved_by=(ProofKind.REFUSED,), refuted_by=(ProofKind.FORGED_RST,))

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield connection attempts that a RST answered."""
        for loss in analysis.losses:
            rst = loss.keys.get(Key.RESP_RST)
            if loss.is_connect and rst is not None and Key.SYN_ACK not in loss.keys:
                yield loss, Claim(Confidence.CONFIRMED, closing=rst, texts={Key.RESP_RST: "refused: nothing listens"})

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = analysis.upstream_by_endpoint.get(group.losses[0].connection.resp)
        opened = upstream.connections - len(group.losses) if upstream is not None else 0
        others = f"; {count_of(opened, 'other connection')} to it opened" if opened > 0 else "; none to it opened"
        changes = retry_elsewhere(analysis, group.losses)
        retry = f"\n\nNothing was sent, so that another peer may serve such a request:\n\n{change_block(changes)}"
        return GroupText(
            message=f"{group.subject} refused {count_of(len(group.losses), 'connection attempt')} with a RST{others}.",
            refuted_by="A SYN-ACK from the upstream for one of these attempts.",
            remedy=(
                f"See on the upstream whether anything listened on {group.subject} at these times (process start times,"
                " the service's own log, `ss -ltn`). If it was restarted, take the peer out of the proxy's upstream"
                f" block first, or let the new process take the listening socket over.{retry if changes else ''}"
            ),
            changes=changes,
        )
