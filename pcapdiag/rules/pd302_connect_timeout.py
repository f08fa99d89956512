"""PD302: the upstream does not answer connection attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.analysis.model import AttemptSign, count_losses
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_S, about, count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.proxy.join.symptoms import Symptom, symptom_of
from pcapdiag.rules._attempts import (
    RACED,
    RACED_REMEDY,
    icmp_answer,
    icmp_words,
    is_left_waiting,
    is_raced,
    is_scan,
    is_silent,
    logged_keys,
    others_opened,
    raced_message,
    silence_ns,
    was_there,
)
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import can_set_connect_wait, wait_setting
from pcapdiag.rules._remedy import give_up_connecting
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, last_seen_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss

_SCAN, _ONCE = "scan", "once"
_DOWN = ": it is down, cut off, or accepts nothing. It is not slow: a longer timeout does not help."
PATIENCE_NS = 1_000_000_000
"""The first repetition of a SYN comes after one second (RFC 6298 section 2)."""


_LEAST_SILENCE_NS = 6_000_000_000
"""[ns] A machine that is merely late answers sooner: Linux has repeated a SYN twice by then."""


class ConnectTimeout(CauseRule):
    """A connection attempt was never answered.

    What it looks for
    -----------------
    A SYN of the proxy without SYN-ACK, RST and ICMP error, that its kernel sent again at intervals that do not shrink:
    an answer would have stopped that. A SYN that was sent once counts where the proxy's log has its entry; as a warning
    where it was watched for a second and the capture holds other packets to the proxy meanwhile. Single SYNs to more
    than twenty endpoints within seconds are a scan: information, in one finding.

    Why it matters
    --------------
    The try lasts as long as `proxy_connect_timeout` (60 s by default) before the next peer is asked. nginx logs
    `upstream timed out (110: Connection timed out) while connecting to upstream`, and the client gets 504 if no peer
    is left.

    Evidence
    --------
    The SYN and its repetitions, usually after 1, 3 and 7 seconds; when something came from the upstream for the last
    time.

    When it is wrong
    ----------------
    A capture that lost or filtered the upstream's direction shows single SYNs the same way. A full accept queue looks
    like a machine that is down, if nothing else is going on between the two.

    Remedy
    ------
    A machine that is down, a packet filter that drops, a wrong address, or a full accept queue. Lower
    `proxy_connect_timeout` so that a dead peer costs one second instead of sixty; a longer timeout helps against none
    of them.

    References
    ----------
    RFC 9293 section 3.8.1, RFC 6298 section 2 (retransmission of SYN); RFC 8305 (happy eyeballs).
    """

    code = "PD302"
    name = "connect-timeout"
    title = "The upstream does not answer connection attempts"
    severity = Severity.ERROR
    needs = ("both directions", "the handshake")
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION, goes_down=True)
    proofs = Proofs(proved_by=(ProofKind.NOT_ARRIVED, ProofKind.NO_ANSWER), refuted_by=(ProofKind.ANSWER_LOST,))

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield connection attempts that nothing answered."""
        logged = logged_keys(analysis)
        silent = [loss for loss in analysis.losses if is_silent(loss)]
        repeated = {loss.connection.resp for loss in silent if loss.attempt & AttemptSign.REPEATED}
        for loss in analysis.losses:
            if loss.is_connect and is_scan(loss, logged):
                yield loss, Claim(Confidence.LIKELY, _SCAN, subject=loss.connection.orig.address)
        for loss in silent:
            if is_scan(loss, logged):
                continue
            is_witnessed = bool(loss.attempt & AttemptSign.WITNESSED)
            texts = {Key.RETRANSMISSION: "the SYN is sent again: nothing answered it"}
            if is_raced(loss, logged):
                yield loss, Claim(Confidence.LIKELY, RACED, texts=texts)
                continue
            if loss.attempt & AttemptSign.REPEATED:
                confidence = Confidence.CONFIRMED if is_witnessed else Confidence.LIKELY
                yield loss, Claim(certainty(analysis, loss, confidence), texts=texts)
            elif (loss.connection.conn, loss.depth) in logged:
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), texts=texts)
            elif (
                not loss.attempt & AttemptSign.MADE_UP
                and is_witnessed
                and last_seen_ns(analysis, loss) - loss.request_ts_ns >= PATIENCE_NS
            ):
                is_beside = loss.connection.resp in repeated
                confidence = Confidence.LIKELY if is_beside else Confidence.POSSIBLE
                yield loss, Claim(certainty(analysis, loss, confidence), "" if is_beside else _ONCE, texts=texts)

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        if group.group == _SCAN:
            return _scan_words(group)
        if group.group == RACED:
            return GroupText(
                message=raced_message(group, "did not answer"),
                refuted_by="An error of the client for one of these attempts.",
                remedy=RACED_REMEDY,
                severity=Severity.INFO,
            )
        others = others_opened(analysis, group)
        repeats = sum(max(loss.connection.syn_frames - 1, 0) * loss.stands_for for loss in group.losses)
        shorter = _shorter_wait(analysis, group.losses[0])
        costs = f" Until then {shorter} limits what each attempt costs." if shorter else ""
        changes = give_up_connecting(analysis, group.losses)
        if changes:
            costs = f" Until then limit what each attempt costs:\n\n{change_block(changes)}"
        elif analysis.blocks_by_endpoint.get(group.losses[0].connection.resp):
            costs = " What each attempt costs is limited already by the configuration that was given."
        state, check = _state_of_upstream(analysis, group)
        if group.group == _ONCE and state.endswith(_DOWN):
            state = state.removesuffix(_DOWN) + (
                f". {'It was' if group.n_losses == 1 else 'Each was'} sent once, and a kernel that waits repeats a SYN"
                " after a second: its sender gave up sooner, or the capture lacks the repetitions or the answer."
            )
        unreachable = _unreachable(analysis, group)
        if unreachable:
            state, check = "", f"Look for what answers for {group.subject}, or for its route and its ARP entry."
        return GroupText(
            message=(
                f"{group.subject} did not answer {count_of(group.n_losses, 'connection attempt')}"
                f" ({count_of(repeats, 'repeated SYN')}){others}.{unreachable}{state}"
            ),
            refuted_by="A SYN-ACK or RST from the upstream in a capture at the proxy without filter and drops.",
            remedy=f"{check}{costs}",
            severity=Severity.WARNING if group.group == _ONCE else None,
            changes=changes,
        )


def _state_of_upstream(analysis: Analysis, group: Group) -> tuple[str, str]:
    """Say whether the upstream was there while it did not answer, and where to look then."""
    subject, address = group.subject, group.losses[0].connection.resp.address
    first = min(loss.request_ts_ns for loss in group.losses)
    there = was_there(analysis, group.losses)
    last = max(loss.connection.last_ts_ns for loss in group.losses)
    peer = group.losses[0].connection.resp
    waiting = sum(
        is_left_waiting(loss) and loss.request_ts_ns <= last and loss.connection.last_ts_ns >= first
        for loss in analysis.losses
        if loss.connection.resp == peer
    )
    queue = (
        "whether its accept queue overflows (`ss -ltn`: Recv-Q above Send-Q; `nstat -az TcpExtListenOverflows`): too"
        " few workers, or a listen backlog that is too short"
    )
    if waiting and there:
        were = "was" if waiting == 1 else "were"
        state = (
            f" Its machine was there: {count_of(waiting, 'connection')} to it {were} opened by its kernel and left"
            " waiting. That is a full accept queue: most likely nothing accepts connections."
        )
        check = (
            f"Find out why the server on {subject} does not accept (hung, all workers busy, stopped), and {queue}. No"
            " route and no packet filter is at fault."
        )
        return state, check
    filtered = [error for loss in analysis.losses if loss.connection.resp == peer and (error := icmp_answer(loss))]
    if filtered:
        return (
            f" Other attempts were answered by {icmp_words(filtered)}: most likely what sends that drops these.",
            f"Look at what sends these ICMP errors first. Then check {queue}.",
        )
    if there:
        return (
            " The machine itself was there: other packets came from it meanwhile.",
            f"Check on the upstream {queue}; then whether a packet filter drops what goes to {subject}.",
        )
    reach = f"Check whether {subject} is up and can be reached from the proxy (power, route, packet filter, address)"
    since, until = silence_ns(analysis, address, first)
    if 0 <= until <= last:
        # It came back in between, and went again.
        return "", f"{reach}; if it is up, {queue}."
    silent_ns = (until if until >= 0 else analysis.last_ts_ns) - max(since, analysis.first_ts_ns)
    silent = about(silent_ns)
    state = f" Nothing came from it for {silent}" if since >= 0 or until >= 0 else " Nothing came from it at all"
    if silent_ns < _LEAST_SILENCE_NS:
        return f"{state}, when the capture of it ended.", f"{reach}; if it is up, {queue}."
    return state + _DOWN, f"{reach}; if it is up, {queue}."


def _shorter_wait(analysis: Analysis, loss: Loss) -> str:
    """Return how to wait no longer than two seconds for a connection, in the words of the proxy; empty if fixed."""
    if not can_set_connect_wait(analysis):
        return ""
    setting = wait_setting(analysis, loss, "connect")
    return f"{setting} 2s;" if setting.startswith("proxy_") else f"{setting} of 2 s"


def _scan_words(group: Group) -> GroupText:
    """Return the words about a scan: who tried how much, and what came of it."""
    endpoints = {loss.connection.resp for loss in group.losses}
    addresses = {endpoint.address for endpoint in endpoints}
    times = [loss.request_ts_ns for loss in group.losses]
    seconds = about(max(max(times) - min(times), NS_PER_S))
    refused = count_losses(loss for loss in group.losses if Key.RESP_RST in loss.keys or icmp_answer(loss) is not None)
    where = f" of {next(iter(addresses))}" if len(addresses) == 1 else f" at {len(addresses):,} addresses"
    return GroupText(
        message=(
            f"{group.subject} sent {group.n_losses:,} single SYNs to {len(endpoints):,} ports{where} within"
            f" {seconds} ({refused:,} refused, the others unanswered); no kernel sent them again. That is a scan, no"
            " proxy."
        ),
        refuted_by="Repeated SYNs, or entries about these attempts in the proxy's error log.",
        remedy=f"Nothing at the upstreams. Find out whether {group.subject} is meant to scan.",
        severity=Severity.INFO,
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
        f" The proxy's log says of {whom} that there was no route: an ICMP message that is not in the capture refused"
        " the SYN (a packet filter that rejects, a router), or nobody answered ARP."
    )
