"""What both ends prove of one lost request: who had what when, by the upstream's own clock.

The order at the upstream is read in its own capture, so that no clock has to be trusted. That something never arrived,
or never left, is proved only where that capture was running and is not known to lack segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.far_end import FarFrame, FarSegment, Proof, ProofKind
from pcapdiag.base.codes import Direction, Key, TcpFlag
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import about

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.model import Loss

Rows = np.ndarray[Any, Any]

_TAKING_NS = 5_000_000
"""A busy machine acknowledges what reached it within so long."""


@dataclass(frozen=True, slots=True)
class View:
    """The far end of one lost request.

    Attributes
    ----------
    segments : tuple of FarSegment
        Of its connection, in capture order; the direction is the proxy's (ORIG towards the upstream).
    clock_offset_ns : int or None
        [ns] The far clock minus the proxy's.
    first_ns, last_ns : int
        [ns] From when until when the far capture saw anything, by its own clock.
    margin_ns : int
        [ns] What a segment may take on its way, and the clocks be wrong by.
    proxy_max_ack : int
        Highest acknowledgement number of the proxy that the far end saw; -1 if none.
    is_complete : bool
        Nothing says that the far capture lacks segments, or was taken elsewhere than at the upstream.
    """

    segments: tuple[FarSegment, ...]
    clock_offset_ns: int | None
    first_ns: int
    last_ns: int
    margin_ns: int
    is_complete: bool
    proxy_max_ack: int = -1

    def covers(self, near_ts_ns: int) -> bool:
        """Tell whether the far capture was running when a segment of this time must have arrived or left."""
        if self.clock_offset_ns is None:
            return False
        far_ts_ns = near_ts_ns + self.clock_offset_ns
        return self.first_ns + self.margin_ns <= far_ts_ns <= self.last_ns - self.margin_ns


def read_segments(rows: Rows, capture_idx: int, *, is_flipped: bool) -> tuple[FarSegment, ...]:
    """Return rows of `columns.SEGMENTS` as far segments, in capture order."""
    columns = (rows[name].tolist() for name in ("frame", "ts_ns", "dir", "flags", "seq", "ack", "payload_len", "ttl"))
    return tuple(
        FarSegment(capture_idx, frame, ts_ns, direction ^ is_flipped, *rest)
        for frame, ts_ns, direction, *rest in zip(*columns, strict=True)
    )


def undecided(reason: str) -> Proof:
    """Return the proof that proves nothing, and why."""
    return Proof(ProofKind.UNDECIDED, reason)


def prove_attempt(loss: Loss, view: View) -> Proof:
    """Return what both ends prove of a connection that was never made.

    Parameters
    ----------
    loss : Loss
        The attempt.
    view : View
        The far end's segments of the same attempt, none if it knows none.

    Returns
    -------
    Proof
    """
    rst = loss.keys.get(Key.RESP_RST)
    syn = _first(view.segments, Direction.ORIG, TcpFlag.SYN)
    if syn is None:
        if not _was_watched(loss, view):
            return _not_watched(view)
        if rst is not None:
            text = "the SYN never reached the upstream: the RST that refused it came from something in between"
            return _proof(ProofKind.FORGED_RST, text, view, is_certain=view.is_complete)
        text = "the SYN never reached the upstream: it was lost in between"
        return _proof(ProofKind.NOT_ARRIVED, text, view, is_certain=view.is_complete)
    arrived = FarFrame(syn, "SYN arrives", "the SYN arrives at the upstream")
    refusal = _first(view.segments, Direction.RESP, TcpFlag.RST)
    accepted = _first(view.segments, Direction.RESP, TcpFlag.SYN)
    if rst is not None and refusal is None:
        text = "the SYN reached the upstream, and its capture lacks the RST that refused it"
        return _proof(ProofKind.FORGED_RST, text, view, [arrived])
    if refusal is not None:
        after = about(max(refusal.ts_ns - syn.ts_ns, 0))
        leaves = FarFrame(refusal, "RST leaves", "the upstream's own machine refuses the connection")
        text = f"the SYN reached the upstream, and its own machine refused it {after} later"
        return _proof(ProofKind.REFUSED, text, view, [arrived, leaves], is_certain=view.is_complete)
    if accepted is not None:
        leaves = FarFrame(accepted, "SYN-ACK leaves", "the upstream accepts the connection")
        text = "the upstream accepted the connection, and its SYN-ACK never reached the proxy"
        return _proof(ProofKind.ANSWER_LOST, text, view, [arrived, leaves], is_certain=Key.SYN_ACK not in loss.keys)
    text = "the SYN reached the upstream's machine, and nothing left it in answer: its packet filter or its full queue"
    return _proof(ProofKind.NO_ANSWER, text, view, [arrived], is_certain=view.is_complete)


def prove_request(loss: Loss, view: View) -> Proof:
    """Return what both ends prove of a request without a (whole) answer.

    Parameters
    ----------
    loss : Loss
        The request.
    view : View
        The far end's segments of its connection.

    Returns
    -------
    Proof
    """
    arrival = next((s for s in view.segments if s.dir == Direction.ORIG and _holds(s, loss.request_seq)), None)
    closing = _closing(loss, view)
    rst = loss.keys.get(Key.RESP_RST)
    has_sent_rst = _first(view.segments, Direction.RESP, TcpFlag.RST) is not None
    is_foreign = rst is not None and not has_sent_rst and view.covers(rst.ts_ns)
    if arrival is None:
        return _prove_without_arrival(loss, view, closing, is_foreign=is_foreign)
    arrived = FarFrame(arrival, "request arrives", "the request arrives at the upstream")
    if closing is not None and not _acknowledges(closing, loss.request_seq) and closing.flags & TcpFlag.RST == 0:
        return _closed_first(loss, view, closing, arrival)
    if Key.RESP_FIN in loss.keys and _first(view.segments, Direction.RESP, TcpFlag.FIN) is None:
        return undecided("the upstream's capture lacks the FIN that the proxy got")
    if rst is not None and closing is None and is_foreign:
        # The upstream would have had to stay silent, so a capture that missed its RST is as likely.
        text = "the request reached the upstream, and its capture lacks the RST that the proxy got"
        return _proof(ProofKind.FORGED_RST, text, view, [arrived])
    if closing is not None:
        return _prove_closed(loss, view, closing, arrival)
    return _prove_open(loss, view, arrived)


def _prove_without_arrival(loss: Loss, view: View, closing: FarSegment | None, *, is_foreign: bool) -> Proof:
    """Return what is proved of a request that the far capture lacks."""
    if loss.is_acknowledged or any(
        _acknowledges(s, loss.request_seq) for s in view.segments if s.dir == Direction.RESP
    ):
        return undecided("the upstream acknowledged the request, but its capture lacks it")
    if closing is not None and closing.flags & TcpFlag.RST == 0:
        text = f"the upstream's {_name(loss, closing)} left, and the request never reached the upstream"
        frames = [
            FarFrame(closing, f"{_name(loss, closing)} leaves", f"the {_name(loss, closing)} leaves the upstream")
        ]
        return _proof(ProofKind.CLOSED_FIRST, text, view, frames, is_certain=view.is_complete, is_fin=True)
    if not _was_watched(loss, view):
        return _not_watched(view)
    if closing is not None:
        leaves = FarFrame(closing, "RST leaves", "the RST leaves the upstream")
        text = "the RST left the upstream, whose capture lacks the request"
        return _proof(ProofKind.LOST_STATE, text, view, [leaves])
    if is_foreign:
        text = "the request never reached the upstream, and the RST that the proxy got never left there"
        return _proof(ProofKind.FORGED_RST, text, view, is_certain=view.is_complete)
    times = f" ({loss.retransmissions + 1:,} times sent)" if loss.retransmissions else ""
    text = f"the request{times} never reached the upstream: it was lost in between"
    return _proof(ProofKind.NOT_ARRIVED, text, view, is_certain=view.is_complete or loss.retransmissions > 1)


def _closed_first(loss: Loss, view: View, closing: FarSegment, arrival: FarSegment) -> Proof:
    lead = arrival.ts_ns - closing.ts_ns
    name = _name(loss, closing)
    if lead < -_TAKING_NS:
        text = (
            "the upstream's capture shows the request long before a closing that does not acknowledge it: it was taken"
        )
        return undecided(f"{text} elsewhere")
    if lead >= 0:
        told = f"{about(lead)} before the request arrived there"
        at_arrival = f"the request arrives at the upstream, {about(lead)} after its {name} had left"
    else:
        told = f"{about(-lead)} after the request had reached its machine, too soon to have taken it"
        at_arrival = "the request reaches the upstream's machine just before that"
    rst = next((s for s in view.segments if s.dir == Direction.RESP and s.flags & TcpFlag.RST), None)
    frames = [
        FarFrame(closing, f"{name} leaves", f"the {name} leaves the upstream"),
        FarFrame(arrival, "request arrives", at_arrival),
    ]
    its_fin = _first(view.segments, Direction.RESP, TcpFlag.FIN)
    if its_fin is not None and its_fin is not closing:
        frames.append(FarFrame(its_fin, "FIN leaves", f"the FIN leaves the upstream, after its {name}"))
    if rst is not None and rst.ts_ns >= arrival.ts_ns:
        frames.append(FarFrame(rst, "RST leaves", "the upstream answers it with a RST"))
    text = f"the upstream's {name} left {told}"
    fin = loss.keys.get(Key.RESP_FIN)
    if fin is None and name == "FIN" and Key.ORIG_FIN not in loss.keys:
        text += "; it never reached the proxy"
    return _proof(ProofKind.CLOSED_FIRST, text, view, frames, lead_ns=lead, is_certain=True, is_fin=True)


def _prove_closed(loss: Loss, view: View, closing: FarSegment, arrival: FarSegment) -> Proof:
    """Return what is proved of a request that arrived at an upstream which then closed, or sent a RST before."""
    kind = "RST" if closing.flags & TcpFlag.RST else "FIN" if closing.flags & TcpFlag.FIN else "close_notify"
    lead = arrival.ts_ns - closing.ts_ns
    arrived = FarFrame(arrival, "request arrives", "the request arrives at the upstream")
    after = f"{about(max(-lead, 0))} after"
    leaves = FarFrame(closing, f"{kind} leaves", f"the {kind} leaves the upstream, {after} the request arrived")
    if kind == "RST" and lead > 0:
        leaves = FarFrame(closing, "RST leaves", "the RST leaves the upstream")
        text = f"the upstream's RST left {about(lead)} before the request arrived there"
        return _proof(ProofKind.CLOSED_FIRST, text, view, [leaves, arrived], lead_ns=lead, is_certain=True)
    sent = _answer(loss, view)
    if sent and not loss.truncated and Key.RESPONSE not in loss.keys:
        return _prove_answered(loss, view, sent, [arrived, leaves])
    if not loss.truncated and _has_unseen_bytes(loss, closing):
        return undecided("neither capture holds the bytes that the upstream sent before its closing: perhaps an answer")
    is_taken = loss.is_acknowledged or loss.truncated or _acknowledges(closing, loss.request_seq) or bool(sent)
    if kind == "RST" and not is_taken:
        text = (
            "the request reached the upstream, whose own machine answered it with a RST"
            f" {about(max(-lead, 0))} later, without having closed before"
        )
        is_certain = view.is_complete
        return _proof(ProofKind.LOST_STATE, text, view, [arrived, leaves], lead_ns=lead, is_certain=is_certain)
    text = f"the request reached the upstream, and its {kind} left {about(max(-lead, 0))} later"
    return _proof(ProofKind.REQUEST_FIRST, text, view, [arrived, leaves], lead_ns=lead, is_certain=True)


def _prove_open(loss: Loss, view: View, arrived: FarFrame) -> Proof:
    """Return what is proved of a request that arrived at an upstream which did not close."""
    sent = _answer(loss, view)
    if sent and not loss.truncated and Key.RESPONSE not in loss.keys:
        return _prove_answered(loss, view, sent, [arrived])
    last = (loss.request_end_seq - 1) & 0xFFFFFFFF
    is_whole = loss.is_acknowledged or any(s.dir == Direction.ORIG and _holds(s, last) for s in view.segments)
    if not is_whole:
        text = "only a part of the request reached the upstream: the rest was lost in between"
        return _proof(ProofKind.NOT_ARRIVED, text, view, [arrived], is_certain=view.is_complete)
    answered = next((s for s in view.segments if s.dir == Direction.RESP and _acknowledges(s, loss.request_seq)), None)
    if answered is not None and not loss.is_acknowledged and not _is_acknowledged_in_part(loss):
        leaves = FarFrame(answered, "acknowledgement leaves", "the upstream acknowledges the request")
        text = "the request reached the upstream, and its acknowledgement never reached the proxy"
        return _proof(ProofKind.ANSWER_LOST, text, view, [arrived, leaves], is_certain=True)
    if loss.truncated:
        return _proof(ProofKind.UNDECIDED, "the upstream did not close either", view, [arrived])
    taken = "acknowledged it and sent nothing more" if answered is not None else "said nothing, not even that it had it"
    is_given_up = Key.ORIG_FIN in loss.keys or Key.ORIG_RST in loss.keys
    until = " until the proxy closed" if is_given_up else " while the captures ran"
    text = f"the request reached the upstream, which {taken}{until}"
    return _proof(ProofKind.NO_ANSWER, text, view, [arrived], is_certain=view.is_complete)


def _prove_answered(loss: Loss, view: View, sent: Sequence[FarSegment], others: Sequence[FarFrame]) -> Proof:
    """Return what is proved of a request whose answer left the upstream and is not in the proxy's capture."""
    first = FarFrame(sent[0], "response leaves", "the first response bytes leave the upstream")
    frames = sorted((*others, first), key=lambda frame: (frame.segment.ts_ns, frame.segment.frame))
    n_bytes = sum(s.payload_len for s in sent)
    acks = view.proxy_max_ack, loss.connection.orig_max_ack
    if any(ack >= 0 and sequence_difference(ack, sent[0].seq) > 0 for ack in acks):
        text = f"{n_bytes:,} response bytes left the upstream, and the proxy acknowledged them: its capture lacks them"
        return _proof(ProofKind.ANSWERED, text, view, frames, is_certain=True)
    text = f"the request reached the upstream, and {n_bytes:,} response bytes left it that never reached the proxy"
    return _proof(ProofKind.ANSWER_LOST, text, view, frames, is_certain=True)


def _closing(loss: Loss, view: View) -> FarSegment | None:
    """Return the far end's own closing of the connection: close_notify, FIN or RST.

    A RST after a FIN only answers what came too late, and a closing after the proxy's own only answers that.
    """
    alert = loss.crossing or loss.keys.get(Key.UNSOLICITED)
    if alert is not None and alert.payload_len > 0:
        for s in view.segments:
            if s.dir == Direction.RESP and s.seq == alert.seq and s.payload_len > 0:
                return s
    own = _first(view.segments, Direction.RESP, TcpFlag.FIN) or _first(view.segments, Direction.RESP, TcpFlag.RST)
    of_proxy = loss.keys.get(Key.ORIG_FIN)
    if own is not None and of_proxy is not None and _acknowledges(own, of_proxy.seq + of_proxy.payload_len):
        return None
    other = _first(view.segments, Direction.ORIG, TcpFlag.FIN | TcpFlag.RST)
    if own is None or other is None or view.segments.index(own) < view.segments.index(other):
        return own
    # The proxy's FIN may have arrived first and not have been taken yet.
    is_answer = bool(own.flags & TcpFlag.RST) or _acknowledges(own, other.seq + other.payload_len)
    return None if is_answer else own


def _has_unseen_bytes(loss: Loss, closing: FarSegment) -> bool:
    """Tell whether the upstream sent bytes, after the response before and until it closed, that nobody captured."""
    before = loss.keys.get(Key.RESPONSE_BEFORE)
    known = [seq for seq in (loss.request_ack, before.next_seq if before is not None else -1) if seq >= 0]
    if not known or Key.RESPONSE in loss.keys:
        return False
    return all(sequence_difference(closing.seq, seq) > 0 for seq in known)


def _name(loss: Loss, closing: FarSegment) -> str:
    if closing.flags & TcpFlag.FIN:
        return "FIN"
    return "close_notify" if loss.crossing is not None else "closing"


def _answer(loss: Loss, view: View) -> list[FarSegment]:
    """Return the segments of the far end with bytes of a response to this request: they acknowledge it.

    What leaves after the proxy's closing came in is late: no proxy waits for it any more. A TLS alert answers nothing.
    """
    sent: list[FarSegment] = []
    alert = loss.keys.get(Key.UNSOLICITED)
    for s in view.segments:
        if s.dir == Direction.ORIG and s.flags & (TcpFlag.FIN | TcpFlag.RST):
            break
        is_alert = alert is not None and s.seq == alert.seq
        if s.dir == Direction.RESP and s.payload_len > 0 and not is_alert and _acknowledges(s, loss.request_seq):
            sent.append(s)
    return sent


def _holds(segment: FarSegment, seq: int) -> bool:
    return 0 <= sequence_difference(seq, segment.seq) < segment.payload_len


def _acknowledges(segment: FarSegment, seq: int) -> bool:
    """Tell whether a segment acknowledges the byte `seq`."""
    return segment.ack >= 0 and sequence_difference(segment.ack, seq) > 0


def _is_acknowledged_in_part(loss: Loss) -> bool:
    after_request = (loss.request_seq + 1) & 0xFFFFFFFF
    return any(loss.keys[key].acknowledges(after_request) for key in (Key.RESP_FIN, Key.RESP_RST) if key in loss.keys)


def _first(segments: Sequence[FarSegment], direction: Direction, flag: TcpFlag) -> FarSegment | None:
    return next((s for s in segments if s.dir == direction and s.flags & flag), None)


def _was_watched(loss: Loss, view: View) -> bool:
    """Tell whether one of the transmissions must have reached a far capture that was running."""
    sent = [loss.request_ts_ns]
    sent += [loss.keys[key].ts_ns for key in (Key.RETRANSMISSION, Key.LAST_RETRANSMISSION) if key in loss.keys]
    return any(view.covers(ts_ns) for ts_ns in sent)


def _not_watched(view: View) -> Proof:
    if view.clock_offset_ns is None:
        return undecided("the clock of the upstream's capture is not known: it may have been running or not")
    return undecided("no segment of the upstream's capture is from so late (or so early): it may have ended")


def _proof(
    kind: ProofKind,
    text: str,
    view: View,
    frames: Sequence[FarFrame] = (),
    *,
    lead_ns: int | None = None,
    is_certain: bool = False,
    is_fin: bool = False,
) -> Proof:
    return Proof(
        kind=kind,
        text=text,
        lead_ns=lead_ns,
        is_certain=is_certain,
        is_fin=is_fin,
        frames=tuple(frames),
        clock_offset_ns=view.clock_offset_ns,
    )
