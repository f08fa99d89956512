"""PD502: large segments do not get through, small ones do."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Key, Leg, Outcome
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_S, count_of, format_address, parse_address
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, is_acknowledged, upstream_closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Endpoint, KeySegment, Loss
    from pcapdiag.engine.asides.icmp import IcmpError

_BY_ICMP, _BY_SIZE, _ANSWER = "", "by-size", "answer"
_LARGE_BYTES = 1_000
"""[bytes] No path in use carries less (1,280 with IPv6, 1,400 in most tunnels)."""
_SHORT_IDLE_NS = NS_PER_S
"""[ns] After a longer idle gap something on the way may have forgotten the connection."""
_HEADERS_BYTES = {4: 40, 6: 60}
"""[bytes] IP and TCP headers without options."""


class MtuBlackHole(CauseRule):
    """A request, or an answer, vanished because its segments are larger than the path carries.

    What it looks for
    -----------------
    A request of which a large segment is sent again and again and never acknowledged: with ICMP fragmentation needed
    (ICMPv6 packet too big) that quotes it; without, if small requests to the same upstream were answered before and
    after, and none as large was. And a response of which at least as much was sent again and never acknowledged by the
    proxy until it closed.

    Why it matters
    --------------
    Small requests and the handshake work, uploads and long heads hang until `proxy_read_timeout` (60 s by default):
    the upstream looks slow, and neither side logs why.

    Evidence
    --------
    The segment, its repetitions of the same size, and the ICMP errors with the MTU of the next hop. A kernel that had
    obeyed them would have sent smaller segments.

    When it is wrong
    ----------------
    Without ICMP, by its size alone, a request may have been dropped for what is in it: a firewall that inspects, a full
    accept queue. Segments larger than the MTU are usual where the network card cuts them (TSO).

    Remedy
    ------
    Let ICMP fragmentation needed through to the proxy, or make the proxy send smaller segments: the MTU of the route,
    MSS clamping at the tunnel, `net.ipv4.tcp_mtu_probing=1`.

    References
    ----------
    RFC 1191 and RFC 8201 (path MTU discovery); RFC 2923 section 2.1 (black holes); RFC 4821 (probing).
    """

    code = "PD502"
    name = "mtu-black-hole"
    title = "Segments larger than the path carries vanish"
    severity = Severity.ERROR
    needs = ("both directions",)
    helped_by = ("ICMP in the capture",)
    supersedes = ("PD104",)
    facts = RuleFacts(exposure=Exposure.REQUEST)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests and answers whose large segments were never acknowledged."""
        for loss in analysis.truncated:
            if loss.n_undelivered < _LARGE_BYTES:
                continue
            if any(_is_of_answer(loss, error) for error in loss.icmp):
                yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), _ANSWER, _closing(loss))
            elif not _is_large_delivered(analysis, loss.connection.resp):
                yield loss, Claim(Confidence.POSSIBLE, _ANSWER, _closing(loss))
        unproven: dict[Endpoint, list[Loss]] = defaultdict(list)
        for loss in analysis.losses:
            if not _is_stuck(loss):
                continue
            if _too_big(loss):
                confidence = Confidence.CONFIRMED if loss.retransmissions >= 2 else Confidence.LIKELY
                yield loss, Claim(confidence, _BY_ICMP, _closing(loss), _texts(loss))
            else:
                unproven[loss.connection.resp].append(loss)
        for endpoint, losses in unproven.items():
            # Where small segments vanish as well, or a long idle gap may be the reason, size explains nothing.
            if min(_repeated_bytes(loss) for loss in losses) < _LARGE_BYTES:
                continue
            sizes = _Sizes.of(analysis, endpoint)
            stuck = [loss for loss in losses if loss.idle_before_ns < _SHORT_IDLE_NS]
            if not sizes.only_small_pass(stuck):
                continue
            for loss in stuck:
                confidence = certainty(analysis, loss, Confidence.LIKELY) if len(stuck) > 1 else Confidence.POSSIBLE
                yield loss, Claim(confidence, _BY_SIZE, _closing(loss), _texts(loss))

    def describe(self, analysis: Analysis, group: Group) -> GroupText:  # noqa: ARG002 - the same signature for all
        """Return the words of a finding."""
        if group.group == _ANSWER:
            return _describe_answers(group)
        repeats = sum(loss.retransmissions * loss.stands_for for loss in group.losses)
        sizes = sorted(_repeated_bytes(loss) for loss in group.losses)
        size = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
        requests = count_of(group.n_losses, "request")
        of_them = "it" if group.n_losses == 1 else "them"
        again = count_of(repeats, "retransmission")
        seen = (
            f"Of {requests} to {group.subject} segments of {size} bytes were sent again ({again}), never acknowledged"
        )
        errors = [error for loss in group.losses for error in _too_big(loss)]
        if not errors:
            address = group.losses[0].connection.resp.address
            return GroupText(
                message=(
                    f"{seen}, while smaller requests before and after were answered: large segments seem to vanish"
                    " (path MTU). No ICMP fragmentation needed is in the capture."
                ),
                refuted_by="One of these segments at the upstream, or a request as large that was answered meanwhile.",
                remedy=(
                    f"Measure what gets through from the proxy: ping -M do -s 1472 {address} (1,500 bytes with"
                    " headers), then smaller. If large packets vanish, let ICMP fragmentation needed through to the"
                    f" proxy. {_SMALLER}"
                ),
                severity=None if group.n_losses > 1 else Severity.WARNING,
            )
        senders = ", ".join(dict.fromkeys(format_address(*error.sender) for error in errors))
        mtus = sorted({error.mtu for error in errors if error.mtu >= 0})
        mtu = " and ".join(f"{m}" for m in mtus)
        of_mtu = f" next hop's MTU {mtu} bytes" if mtus else " without an MTU in it"
        fits = f" ({mtus[0] - _HEADERS_BYTES[errors[0].version]:,} bytes of payload at most)" if mtus else ""
        details: dict[str, int | str | float] = {"mtu_bytes": mtus[0]} if mtus else {}
        return GroupText(
            message=(
                f"{seen}: {senders} says of {of_them} {errors[0].name},{of_mtu}{fits}. The sender went on with segments"
                " of the same size: its kernel did not get or did not heed these messages."
            ),
            refuted_by="A segment of that size that was acknowledged.",
            remedy=(
                "Find out why the messages do not take effect at the proxy: a packet filter that drops ICMP type 3 code"
                " 4 (ICMPv6 type 2) on the host or in front of a container, or addresses that a NAT does not translate"
                f" back. {_SMALLER}"
            ),
            details=details,
        )


def _describe_answers(group: Group) -> GroupText:
    """Return the words for answers that never arrived whole."""
    sizes = sorted(loss.n_undelivered for loss in group.losses)
    size = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
    answers = f"the answer to {count_of(group.n_losses, 'request')}"
    errors = [error for loss in group.losses for error in loss.icmp if _is_of_answer(loss, error)]
    mtus = sorted({error.mtu for error in errors if error.mtu >= 0})
    told = f" {errors[0].name.capitalize()}, says {format_address(*errors[0].sender)}" if errors else ""
    told += f", next hop's MTU {mtus[0]} bytes." if mtus else "." if errors else ""
    return GroupText(
        message=(
            f"{group.subject} sent {answers}, and of the last {size} bytes again and again; the proxy had acknowledged"
            f" none of them when it closed: they did not get there, as far as this capture shows.{told}"
        ),
        refuted_by="An acknowledgement of these bytes in a capture at the proxy.",
        remedy=(
            "Capture at the proxy as well: whether these segments arrive there. If only large ones are missing, measure"
            " the path's MTU from the upstream (ping -M do -s 1472 and smaller), let ICMP fragmentation needed through"
            " to the upstream, or let it send smaller segments: the MTU of its route, MSS clamping where the tunnel"
            " begins, or net.ipv4.tcp_mtu_probing=1 there. No timeout helps."
        ),
        details={"mtu_bytes": mtus[0]} if mtus else {},
    )


def _is_large_delivered(analysis: Analysis, endpoint: Endpoint) -> bool:
    """Tell whether any large answer of an upstream got through, so that size explains nothing."""
    lost = [loss.connection.conn for loss in analysis.truncated if loss.n_undelivered]
    hi, lo = (np.uint64(half) for half in parse_address(endpoint.address))
    rows = analysis.connections.rows
    is_peer = (rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["resp_port"] == endpoint.port)
    is_peer[lost] = False
    return any(
        bool(
            (is_peer[c["conn"]] & (c["outcome"] == Outcome.ANSWERED) & (c["response_bytes"] >= 2 * _LARGE_BYTES)).any()
        )
        for c in analysis.exchanges.chunks()
    )


def _is_of_answer(loss: Loss, error: IcmpError) -> bool:
    src = format_address(*error.src[:2]), error.src[2]
    return error.kind is IcmpKind.TOO_BIG and src == (loss.connection.resp.address, loss.connection.resp.port)


_SMALLER = (
    "Or let smaller segments be sent: the MTU of the route to the upstream (`ip route change ... mtu lock`), MSS"
    " clamping where the tunnel begins, or net.ipv4.tcp_mtu_probing=1 at the proxy. No timeout of the proxy helps, and"
    " a retry sends the same segments."
)


def _is_stuck(loss: Loss) -> bool:
    """Whether a request was repeated and never acknowledged whole, and nothing else ended it."""
    return (
        not loss.is_connect
        and not loss.truncated
        and loss.retransmissions > 0
        and loss.crossing is None
        and Key.RESPONSE not in loss.keys
        and upstream_closing(loss) is None
        and not is_acknowledged(loss)
    )


def _too_big(loss: Loss) -> list[IcmpError]:
    """Return the errors that say of a segment of the request that it was too big, if it was not repeated smaller."""
    errors = [error for error in loss.icmp if error.kind is IcmpKind.TOO_BIG and _is_of_request(loss, error)]
    last = loss.keys.get(Key.LAST_RETRANSMISSION) or loss.keys.get(Key.RETRANSMISSION)
    # What was repeated smaller had got through as far as the path's MTU is concerned.
    if last is None or not errors:
        return []
    return errors if last.payload_len > _fitting(errors[-1]) or errors[-1].mtu < 0 else []


def _is_of_request(loss: Loss, error: IcmpError) -> bool:
    src = format_address(*error.src[:2]), error.src[2]
    return src == (loss.connection.orig.address, loss.connection.orig.port)


def _fitting(error: IcmpError) -> int:
    """Return the payload [bytes] that fits into the MTU that an error names, options not counted."""
    return error.mtu - _HEADERS_BYTES[error.version]


def _closing(loss: Loss) -> KeySegment | None:
    return loss.keys.get(Key.ORIG_FIN, loss.keys.get(Key.ORIG_RST))


def _texts(loss: Loss) -> dict[Key, str]:
    last = loss.keys.get(Key.LAST_RETRANSMISSION) or loss.keys.get(Key.RETRANSMISSION)
    size = f" with {last.payload_len:,} bytes" if last is not None else ""
    return {Key.LAST_RETRANSMISSION: f"and again{size}, for the last time in this capture"}


def _repeated_bytes(loss: Loss) -> int:
    """Return the payload [bytes] of what was sent again: the least of the first and the last repetition."""
    again = [loss.keys[key].payload_len for key in (Key.RETRANSMISSION, Key.LAST_RETRANSMISSION) if key in loss.keys]
    return min(again, default=0)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Answered requests of one upstream: when they were sent, and how many bytes each had at most in one segment."""

    times_ns: np.ndarray[tuple[int], np.dtype[np.int64]]
    n_bytes: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def of(cls, analysis: Analysis, endpoint: Endpoint) -> _Sizes:
        """Read them off the exchanges."""
        hi, lo = (np.uint64(half) for half in parse_address(endpoint.address))
        rows = analysis.connections.rows
        is_of = (rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["resp_port"] == endpoint.port)
        is_of &= analysis.legs == Leg.UPSTREAM
        times, sizes = [], []
        for chunk in analysis.exchanges.chunks():
            mine = is_of[chunk["conn"]] & (chunk["outcome"] == Outcome.ANSWERED) & (chunk["request_ts_ns"] >= 0)
            times.append(chunk["request_ts_ns"][mine])
            sizes.append(chunk["request_bytes"][mine])
        empty = np.zeros(0, dtype=np.int64)
        return cls(np.concatenate([empty, *times]), np.concatenate([empty, *sizes]))

    def only_small_pass(self, losses: Sequence[Loss]) -> bool:
        """Whether smaller requests were answered before and after one of these at least, and none of their size."""
        is_small = self.n_bytes < min((_repeated_bytes(loss) for loss in losses), default=0)
        small_ns = self.times_ns[is_small]
        is_between = any((small_ns < x.request_ts_ns).any() and (small_ns > x.request_ts_ns).any() for x in losses)
        return is_between and bool(is_small.all())
