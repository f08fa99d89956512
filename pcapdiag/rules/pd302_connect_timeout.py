"""PD302: the upstream does not answer connection attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.proxy.join.symptoms import Symptom, symptom_of
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._remedy import give_up_connecting
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, last_seen_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss

PATIENCE_NS = 1_000_000_000
"""The first repetition of a SYN comes after one second (RFC 6298 section 2)."""


class ConnectTimeout(CauseRule):
    """A connection attempt was never answered.

    What it looks for
    -----------------
    A SYN of the proxy, sent again or watched for at least a second, without SYN-ACK and without RST.

    Why it matters
    --------------
    The try lasts as long as `proxy_connect_timeout` (60 s by default) before the next peer is asked. nginx logs
    `upstream timed out (110: Connection timed out) while connecting to upstream`, and the client gets 504 if no peer
    is left.

    Evidence
    --------
    The SYN and its repetitions, usually after 1, 3 and 7 seconds.

    When it is wrong
    ----------------
    A capture that lost or filtered the upstream's direction shows the same; then requests on this path are answered
    without a visible response.

    Remedy
    ------
    A packet filter that drops, a wrong address, a host that is down, or a full accept queue. Lower
    `proxy_connect_timeout` so that a dead peer costs one second instead of sixty.

    References
    ----------
    RFC 9293 section 3.8.1, RFC 6298 section 2 (retransmission of SYN).
    """

    code = "PD302"
    name = "connect-timeout"
    title = "The upstream does not answer connection attempts"
    severity = Severity.ERROR
    needs = ("both directions", "the handshake")
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION)
    proofs = Proofs(proved_by=(ProofKind.NOT_ARRIVED, ProofKind.NO_ANSWER), refuted_by=(ProofKind.ANSWER_LOST,))

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield connection attempts that nothing answered."""
        for loss in analysis.losses:
            if not loss.is_connect or Key.SYN_ACK in loss.keys or Key.RESP_RST in loss.keys:
                continue
            repeated = loss.connection.syn_frames > 1
            if repeated or last_seen_ns(analysis, loss) - loss.request_ts_ns >= PATIENCE_NS:
                confidence = Confidence.CONFIRMED if repeated else Confidence.LIKELY
                texts = {Key.RETRANSMISSION: "the SYN is sent again: nothing answered it"}
                yield loss, Claim(certainty(analysis, loss, confidence), texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        upstream = analysis.upstream_by_endpoint.get(group.losses[0].connection.resp)
        opened = upstream.connections - len(group.losses) if upstream is not None else 0
        others = f"; {count_of(opened, 'other connection')} to it opened" if opened > 0 else "; none to it opened"
        repeats = sum(max(loss.connection.syn_frames - 1, 0) for loss in group.losses)
        costs = " Until then proxy_connect_timeout 2s; limits what each attempt costs."
        changes = give_up_connecting(analysis, group.losses)
        if changes:
            costs = f" Until then limit what each attempt costs:\n\n{change_block(changes)}"
        elif analysis.blocks_by_endpoint.get(group.losses[0].connection.resp):
            costs = " What each attempt costs is limited already by the configuration that was given."
        return GroupText(
            message=(
                f"{group.subject} did not answer {count_of(len(group.losses), 'connection attempt')}"
                f" ({count_of(repeats, 'repeated SYN')}){others}.{_unreachable(analysis, group)}"
            ),
            refuted_by="A SYN-ACK or RST from the upstream in a capture at the proxy without filter and drops.",
            remedy=(
                f"Check from the proxy whether {group.subject} can be reached at all (route, packet filter, address)"
                f" and on the upstream whether its accept queue overflows (`nstat -az TcpExtListenOverflows`).{costs}"
            ),
            changes=changes,
        )


def _unreachable(analysis: Analysis, group: Group) -> str:
    """Say of how many attempts the proxy's log knows more than that nothing came back."""
    keys = {(loss.connection.conn, loss.depth) for loss in group.losses}
    n = sum(
        joined.wire.key in keys and any(symptom_of(entry) is Symptom.UNREACHABLE for entry in joined.entries)
        for joined in (analysis.log.tries if analysis.log is not None else ())
    )
    if not n:
        return ""
    whom = "it" if len(keys) == 1 else f"{n} of them"
    return (
        f" The proxy's log says of {whom} that there was no route: an ICMP message refused the SYN (a packet filter"
        " that rejects, a router), or nobody answered ARP."
    )
