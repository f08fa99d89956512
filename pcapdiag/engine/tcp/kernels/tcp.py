"""The TCP tracker: frames to connections, one fate per segment, stream bytes in order.

Knows RFC 9293 and nothing of what the streams carry. Per frame: find the connection (or begin one), classify the
segment, deliver the stream bytes that are in order now, take note of acknowledgements, FIN and RST, and write one
event per segment for the layer above.

Invariants
----------
* `next_offset <= max_offset` for every flow; the bytes between them are pending pieces and gaps.
* Pending pieces of a flow are ordered by offset and lie above `next_offset`.
* A piece that was delivered in this call stays readable until the next call (`drained_piece`).
"""

from typing import Annotated

import numpy as np

from pcapdiag.base.codes import (
    ClosingKind,
    ConnEnd,
    Direction,
    Fate,
    FrameKind,
    PacketDirection,
    StreamEventKind,
    TcpFlag,
)
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes
from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference
from pcapdiag.engine.tcp.kernels.tcp_end import end_connection, is_closed, is_output_full, sweep
from pcapdiag.engine.tcp.kernels.tcp_pending import (
    declare_hole,
    deliver_pending,
    emit_event,
    emit_segment,
    release_drained,
    store_pieces,
)
from pcapdiag.engine.tcp.kernels.tcp_state import (
    DUPLICATE_WINDOW_NO_ID_NS,
    DUPLICATE_WINDOW_NS,
    LONGEST_STALL_NS,
    MAX_PENDING_PER_FLOW,
    PIECE_BYTES,
    PLAUSIBLE_AHEAD_BYTES,
    RING,
    S_DONE,
    S_NEED_PIECES,
    S_NEED_SLOTS,
    S_OUTPUT_FULL,
    UNSEEN_PATIENCE_NS,
    TrackerArrays,
)
from pcapdiag.engine.tcp.kernels.tcp_table import (
    L_ACK,
    L_DATA,
    L_FIN,
    L_RETRANSMISSION,
    L_RST,
    L_SYN,
    L_SYN_ACK,
    L_ZERO_WINDOW,
    LETTERS,
    find_slot,
    insert_slot,
    is_in_shard,
    note_history,
    open_connection,
)

FIN = int(TcpFlag.FIN)
SYN = int(TcpFlag.SYN)
RST = int(TcpFlag.RST)
ACK = int(TcpFlag.ACK)
SEQ_MASK = 0xFFFFFFFF


@kernel
def _is_duplicate(s, flow_idx, frame, flags, payload_len):
    """Whether this very packet was captured before: the same header, identification and TCP timestamp, soon after."""
    ip_id = int(frame["ip_id"])
    for k in range(RING):
        earlier = s.rings[flow_idx, k]
        if (
            earlier["seq"] == frame["seq"]
            and earlier["payload_len"] == payload_len
            and earlier["flags"] == flags
            and earlier["ack"] == frame["ack"]
            and earlier["ip_id"] == ip_id
            and earlier["ts_val"] == frame["ts_val"]
        ):
            age = frame["ts_ns"] - earlier["ts_ns"]
            if ip_id > 0:
                # A retransmission gets an identification of its own, so the same one means the same packet.
                if -DUPLICATE_WINDOW_NS <= age <= DUPLICATE_WINDOW_NS:
                    return True
            elif payload_len > 0 or flags & (SYN | FIN):
                if -DUPLICATE_WINDOW_NO_ID_NS <= age <= DUPLICATE_WINDOW_NO_ID_NS:
                    return True
    return False


@kernel
def _remember(s, flow_idx, frame, flags, payload_len):
    k = int(s.flows[flow_idx]["ring_next"])
    segment = s.rings[flow_idx, k]
    segment["seq"] = frame["seq"]
    segment["ack"] = frame["ack"]
    segment["payload_len"] = payload_len
    segment["flags"] = flags
    segment["ip_id"] = frame["ip_id"]
    segment["ts_val"] = frame["ts_val"]
    segment["ts_ns"] = frame["ts_ns"]
    s.flows[flow_idx]["ring_next"] = (k + 1) % RING


@kernel
def _note_ack(s, slot, flow_idx, ack, ts_ns):
    """Take in that flow `flow_idx` acknowledges bytes of its peer; return whether that is news."""
    peer_idx = flow_idx ^ 1
    peer = s.flows[peer_idx]
    if peer["anchored"] == 0 and peer["seen"] == 0:
        # The other direction was not seen yet: its next byte is the one acknowledged.
        peer["base_seq"] = ack
        peer["seen"] = 1
    if peer["other_isn"] >= 0 and peer["acked_seq"] < 0 and ack == (peer["other_isn"] + 1) & SEQ_MASK:
        peer["isn"] = peer["other_isn"]
        peer["base_seq"] = ack
    ahead = sequence_difference(ack, (peer["base_seq"] + peer["next_offset"]) & SEQ_MASK)
    offset = peer["next_offset"] + ahead
    if offset < 0 or ahead > PLAUSIBLE_AHEAD_BYTES:
        return False
    if peer["acked_seq"] >= 0 and offset <= peer["acked_offset"]:
        return False
    peer["acked_offset"] = offset
    peer["acked_seq"] = ack
    if peer["timed_offset"] >= 0 and offset >= peer["timed_offset"]:
        rtt = ts_ns - peer["timed_ts_ns"]
        peer["timed_offset"] = -1
        if peer_idx & 1 == Direction.ORIG.value and rtt >= 0:
            best = s.live[slot]["rtt_min_ns"]
            if best < 0 or rtt < best:
                s.live[slot]["rtt_min_ns"] = rtt
    limit = peer["next_offset"]
    if peer["fin_offset"] >= 0 and peer["fin_offset"] == limit:
        limit += 1
    if offset > limit and peer["unseen_ts_ns"] < 0:
        peer["unseen_ts_ns"] = ts_ns
    return True


@kernel
def _declare_acknowledged_holes(s, slot, ts_ns, impatient):
    """Give up waiting for bytes that the receiver has acknowledged but the capture does not hold.

    At once in direction `impatient` (-1 for none).
    """
    for direction in range(2):
        flow = s.flows[2 * slot + direction]
        is_late = direction == impatient or ts_ns - flow["unseen_ts_ns"] > UNSEEN_PATIENCE_NS
        if flow["unseen_ts_ns"] < 0 or not is_late:
            continue
        # The bytes passed by when they were acknowledged, at the latest: a hole must not end an idle gap.
        passed_ns = flow["unseen_ts_ns"]
        flow["unseen_ts_ns"] = -1
        target = flow["acked_offset"]
        if flow["fin_offset"] >= 0:
            target = min(target, flow["fin_offset"])
        elif flow["max_offset"] == flow["next_offset"] and (flow["fin"] or target == flow["next_offset"] + 1):
            # One unseen byte at the end may be a FIN that was not captured: sequence space, not stream.
            continue
        while flow["next_offset"] < target:
            head = flow["pending_head"]
            end = target
            if head >= 0 and s.pieces[head]["offset"] < end:
                end = s.pieces[head]["offset"]
            declare_hole(s, slot, direction, end, passed_ns)
            deliver_pending(s, slot, direction)


@kernel
def _is_next_request(s, slot, frame):
    """Whether new bytes of the originator acknowledge at least two of the responder's that the capture lacks so far."""
    orig = s.flows[2 * slot]
    resp = s.flows[2 * slot + 1]
    if not orig["anchored"] or resp["seen"] == 0:
        return False
    ahead = sequence_difference(frame["ack"], (resp["base_seq"] + resp["next_offset"]) & SEQ_MASK)
    new = sequence_difference(frame["seq"], (orig["base_seq"] + orig["next_offset"]) & SEQ_MASK)
    return new == 0 and 1 < ahead <= PLAUSIBLE_AHEAD_BYTES


@kernel
def _classify_old(flow, end):
    """Fate of payload that lies wholly below `next_offset`."""
    if flow["acked_seq"] >= 0 and flow["acked_offset"] >= end:
        return Fate.SPURIOUS_RETRANSMISSION.value
    return Fate.RETRANSMISSION.value


@kernel
def _is_pending(s, flow, start, end):
    """Whether all bytes of [start, end) are held as pending pieces already."""
    i = flow["pending_head"]
    while i >= 0 and start < end:
        piece = s.pieces[i]
        if piece["offset"] > start:
            return False
        piece_end = piece["offset"] + piece["data_len"]
        if piece_end > start:
            start = piece_end
        i = piece["next"]
    return start >= end


@kernel
def _track_payload(s, frame, buffer, slot, direction, flags, payload_len, n):
    """Classify a segment with payload and deliver what is in order, with event `n`; return its fate."""
    flow_idx = 2 * slot + direction
    flow = s.flows[flow_idx]
    peer = s.flows[flow_idx ^ 1]
    ts_ns = frame["ts_ns"]
    seq = (frame["seq"] + 1) & SEQ_MASK if flags & SYN else frame["seq"]
    if flow["anchored"] == 0:
        flow["anchored"] = 1
        ahead = sequence_difference(seq, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
        if flow["seen"] == 0 or ahead < 0 or (flow["next_offset"] == 0 and flow["acked_seq"] < 0):
            flow["base_seq"] = (seq - flow["next_offset"]) & SEQ_MASK
        elif ahead == 1 and flow["next_offset"] == 0 and flow["isn"] < 0 and not flow["fin"] and flow["n_frames"] > 1:
            # First seen by a keep-alive probe, which repeats the number before the next byte: nothing is missing.
            flow["base_seq"] = seq
            flow["acked_offset"] -= 1
            flow["unseen_ts_ns"] = -1
    ahead = sequence_difference(seq, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
    start = flow["next_offset"] + ahead
    end = start + payload_len
    next_offset = flow["next_offset"]
    payload_cap = int(frame["payload_cap"])

    is_probe = payload_len == 1 and not flags & (SYN | FIN | RST)
    if is_probe and end == flow["max_offset"] and end <= next_offset and peer["n_frames"] > 0:
        # One old byte below the next sequence number: a keep-alive probe in the old style (RFC 1122 4.2.3.6).
        flow["keep_alive_last"] = 1
        return Fate.KEEP_ALIVE.value
    if ahead < -(1 << 30) or end > flow["max_offset"] + PLAUSIBLE_AHEAD_BYTES:
        return Fate.OUTSIDE_WINDOW.value
    if flow["fin_offset"] >= 0 and start >= flow["fin_offset"] and flow["fin_offset"] <= next_offset:
        return Fate.OUTSIDE_WINDOW.value
    if end <= next_offset:
        return _classify_old(flow, end)
    if start > next_offset:
        if _is_pending(s, flow, start, end):
            return Fate.RETRANSMISSION.value
        fate = Fate.NEW.value if start >= flow["max_offset"] else Fate.OUT_OF_ORDER.value
        store_pieces(s, frame, flow, buffer, start, payload_len, payload_cap, fate)
        if end > flow["max_offset"]:
            flow["max_offset"] = end
        while flow["n_pending"] > MAX_PENDING_PER_FLOW:
            # Bounded memory: the missing bytes are not coming.
            declare_hole(s, slot, direction, s.pieces[flow["pending_head"]]["offset"], ts_ns)
            deliver_pending(s, slot, direction)
        return fate

    # In order, perhaps with an old beginning.
    if start < next_offset:
        fate = Fate.OVERLAP.value
    elif start < flow["max_offset"]:
        fate = Fate.OUT_OF_ORDER.value
    else:
        fate = Fate.NEW.value
    if payload_len == 1 and fate == Fate.NEW.value and peer["n_frames"] > 0 and peer["last_window"] == 0:
        fate = Fate.ZERO_WINDOW_PROBE.value
    skip = next_offset - start
    data_len = end - next_offset
    event = s.events[n]
    event["data_offset"] = frame["payload_offset"] + skip
    event["data_len"] = data_len
    event["data_cap"] = min(max(0, payload_cap - skip), data_len)
    event["stream_offset"] = next_offset
    flow["next_offset"] = end
    if end > flow["max_offset"]:
        flow["max_offset"] = end
        if fate == Fate.NEW.value and flow["timed_offset"] < 0:
            flow["timed_offset"] = end
            flow["timed_ts_ns"] = ts_ns
    if flow["pending_head"] >= 0:
        deliver_pending(s, slot, direction)
    if flow["unseen_ts_ns"] >= 0 and flow["acked_offset"] <= flow["next_offset"]:
        flow["unseen_ts_ns"] = -1
    return fate


@kernel
def _classify_empty(s, frame, slot, direction, flags, ack_is_news):
    """Fate of a segment without payload, SYN, FIN or RST."""
    flow = s.flows[2 * slot + direction]
    peer = s.flows[2 * slot + (1 - direction)]
    behind = sequence_difference(frame["seq"], (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
    if behind == -1 and flow["fin"] == 0 and flow["anchored"] and peer["n_frames"] > 0 and flow["n_frames"] > 1:
        return Fate.KEEP_ALIVE.value
    if ack_is_news or not flags & ACK:
        return Fate.PURE_ACK.value
    if peer["keep_alive_last"]:
        return Fate.KEEP_ALIVE_ACK.value
    outstanding = peer["acked_seq"] >= 0 and peer["max_offset"] > peer["acked_offset"]
    same_window = int(frame["window"]) == int(flow["last_window"])
    if outstanding and same_window and frame["ack"] == peer["acked_seq"]:
        return Fate.DUP_ACK.value
    return Fate.PURE_ACK.value


@kernel
def _note_closing(s, slot, frame, direction):
    if s.live[slot]["first_closer"] < 0:
        s.live[slot]["first_closer"] = direction
        s.live[slot]["closing_kind"] = ClosingKind.RST.value if frame["flags"] & RST else ClosingKind.FIN.value
        s.live[slot]["closing_ts_ns"] = frame["ts_ns"]
        s.live[slot]["closing_frame"] = frame["frame"]
        s.live[slot]["closing_seq"] = frame["seq"]
        s.live[slot]["closing_ack"] = frame["ack"]


@kernel
def _note_syn(s, slot, direction, frame, flags):
    """Take in a SYN or SYN-ACK: initial sequence numbers and handshake times; return its fate."""
    flow = s.flows[2 * slot + direction]
    is_syn_ack = flags & ACK
    repeated = flow["syn"] and flow["isn"] == frame["seq"]
    flow["syn"] = 1
    if is_syn_ack:
        s.live[slot]["syn_ack_frames"] += 1
    else:
        s.live[slot]["syn_frames"] += 1
    if repeated:
        return Fate.RETRANSMISSION.value
    if is_syn_ack and flow["isn"] >= 0:
        # Two machines answer one SYN (balancers): the originator's acknowledgement will say which one it took.
        flow["other_isn"] = frame["seq"]
        return Fate.OUTSIDE_WINDOW.value
    flow["isn"] = frame["seq"]
    if flow["next_offset"] == 0:
        flow["base_seq"] = (frame["seq"] + 1) & SEQ_MASK
    flow["anchored"] = 1
    flow["seen"] = 1
    if is_syn_ack and s.live[slot]["syn_ack_ts_ns"] < 0:
        s.live[slot]["syn_ack_ts_ns"] = frame["ts_ns"]
        if s.live[slot]["syn_ts_ns"] >= 0 and s.live[slot]["syn_frames"] == 1:
            s.live[slot]["handshake_resp_ns"] = max(-1, frame["ts_ns"] - s.live[slot]["syn_ts_ns"])
    elif not is_syn_ack and s.live[slot]["syn_ts_ns"] < 0:
        s.live[slot]["syn_ts_ns"] = frame["ts_ns"]
    return Fate.NEW.value


@kernel
def _starts_anew(s, slot, direction, frame, flags, payload_len):
    """Whether this segment, on endpoints that are known, begins another connection (a reused port)."""
    flow = s.flows[2 * slot + direction]
    peer = s.flows[2 * slot + (1 - direction)]
    closed = is_closed(flow, peer)
    if flags & RST:
        return False
    if flags & SYN:
        if flow["syn"]:
            answers_syn = flags & ACK and peer["syn"] and frame["ack"] == (peer["isn"] + 1) & SEQ_MASK
            return flow["isn"] != frame["seq"] and not answers_syn
        if not flags & ACK:
            # A SYN from a side that has sent data already; a simultaneous open has sent nothing.
            return closed or flow["max_offset"] > 0 or peer["max_offset"] > 0
        return bool(closed)
    if closed and payload_len > 0 and flow["anchored"]:
        ahead = sequence_difference(frame["seq"], (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
        return ahead < -(1 << 20) or ahead > 1 << 20
    return False


@kernel
def _is_refused_reset(s, slot, direction, frame, flags):
    """Whether an originator that has sent nothing but SYN ignores this RST or bare ACK (RFC 9293 section 3.10.7.3).

    In SYN-SENT a RST counts only if it acknowledges the SYN; an old duplicate must not end the attempt.
    """
    orig = s.flows[2 * slot]
    resp = s.flows[2 * slot + 1]
    if direction == Direction.ORIG.value or not orig["syn"] or resp["syn"] or resp["max_offset"] > 0:
        return False
    if orig["n_frames"] > s.live[slot]["syn_frames"]:
        return False
    ahead = sequence_difference(frame["ack"], orig["isn"]) if flags & ACK else 0
    return ahead < 1 or ahead > 1 + orig["max_offset"]


@kernel
def _may_repeat(s, flow_idx, frame, flags, payload_len):
    """Whether a segment brings nothing new at first sight, so that it may be a packet captured twice."""
    flow = s.flows[flow_idx]
    if flow["n_frames"] == 0:
        return False
    if payload_len > 0 and flow["anchored"]:
        end_seq = (frame["seq"] + payload_len) & SEQ_MASK
        return sequence_difference(end_seq, (flow["base_seq"] + flow["max_offset"]) & SEQ_MASK) <= 0
    if flags == ACK:
        acked_seq = s.flows[flow_idx ^ 1]["acked_seq"]
        return acked_seq >= 0 and sequence_difference(frame["ack"], acked_seq) <= 0
    return True


@kernel
def _take_payload_and_flags(s, frame, buffer, slot, direction, flags, payload_len, ack_is_news, n):
    """Classify a segment that is no RST and no duplicate; return its fate."""
    flow = s.flows[2 * slot + direction]
    fate = Fate.PURE_ACK.value
    if flags & SYN:
        fate = _note_syn(s, slot, direction, frame, flags)
        note_history(s, slot, direction, LETTERS[L_SYN_ACK if flags & ACK else L_SYN])
    elif flow["seen"] == 0:
        # First sight in mid-connection: offset 0 is here until a data segment says better.
        flow["base_seq"] = frame["seq"]
        flow["seen"] = 1
    if flow["rst"]:
        return Fate.AFTER_RST.value
    if payload_len > 0:
        fate = _track_payload(s, frame, buffer, slot, direction, flags, payload_len, n)
        is_repeated = fate == Fate.RETRANSMISSION.value or fate == Fate.SPURIOUS_RETRANSMISSION.value
        note_history(s, slot, direction, LETTERS[L_RETRANSMISSION if is_repeated else L_DATA])
    elif flags & FIN:
        fate = Fate.RETRANSMISSION.value if flow["fin"] else Fate.NEW.value
    elif not flags & SYN:
        fate = _classify_empty(s, frame, slot, direction, flags, ack_is_news)
        if fate == Fate.PURE_ACK.value and flags & ACK:
            note_history(s, slot, direction, LETTERS[L_ACK])
    if flags & FIN and flow["fin"] == 0 and fate != Fate.OUTSIDE_WINDOW.value:
        flow["fin"] = 1
        end_seq = (frame["seq"] + payload_len) & SEQ_MASK
        ahead = sequence_difference(end_seq, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
        flow["fin_offset"] = flow["next_offset"] + ahead
        if flow["max_offset"] < flow["fin_offset"] <= flow["max_offset"] + PLAUSIBLE_AHEAD_BYTES:
            flow["max_offset"] = flow["fin_offset"]
        note_history(s, slot, direction, LETTERS[L_FIN])
        _note_closing(s, slot, frame, direction)
    return fate


@kernel
def _track_segment(s, frame, buffer, slot, direction):
    """Track one segment of a known connection."""
    flow_idx = 2 * slot + direction
    flow = s.flows[flow_idx]
    c = s.live[slot]
    ctl = s.ctl[0]
    flags = int(frame["flags"])
    payload_len = int(frame["payload_len"])
    ts_ns = frame["ts_ns"]
    before_ns = c["last_ts_ns"]

    c["last_ts_ns"] = max(c["last_ts_ns"], ts_ns)
    c["last_frame"] = frame["frame"]
    way = int(frame["packet_direction"])
    if way == PacketDirection.INBOUND.value or way == PacketDirection.OUTBOUND.value:
        c["ways"] = int(c["ways"]) | (1 << (2 * direction + way))

    impatient = np.int64(-1)
    if direction == Direction.ORIG.value and payload_len > 0 and flags & ACK and _is_next_request(s, slot, frame):
        # Whoever asks anew has read what it acknowledges: those bytes answered what was asked before.
        _note_ack(s, slot, flow_idx, frame["ack"], ts_ns)
        impatient = np.int64(Direction.RESP.value)
    if flow["unseen_ts_ns"] >= 0 or s.flows[flow_idx ^ 1]["unseen_ts_ns"] >= 0:
        _declare_acknowledged_holes(s, slot, ts_ns, impatient)

    n = emit_segment(s, frame, slot, direction)
    if _may_repeat(s, flow_idx, frame, flags, payload_len) and _is_duplicate(s, flow_idx, frame, flags, payload_len):
        ctl["n_duplicates"] += 1
        s.events[n]["fate"] = Fate.DUPLICATE_CAPTURE.value
        return
    _remember(s, flow_idx, frame, flags, payload_len)
    flow["n_frames"] += 1
    if flow["ttl"] < 0 and not flags & RST:
        flow["ttl"] = frame["ttl"]

    is_bare_ack = flags & ACK and not flags & (SYN | FIN | RST) and payload_len == 0
    if (flags & RST or is_bare_ack) and _is_refused_reset(s, slot, direction, frame, flags):
        # A RST that is ignored, or the challenge of an old connection that still stands (RFC 5961 section 4).
        s.events[n]["fate"] = Fate.OUTSIDE_WINDOW.value
        ctl["n_outside"] += 1
        return
    if flags & RST:
        s.events[n]["fate"] = Fate.AFTER_RST.value if flow["rst"] else Fate.RESET.value
        note_history(s, slot, direction, LETTERS[L_RST])
        flow["rst"] = 1
        _note_closing(s, slot, frame, direction)
        return

    ack_is_news = False
    if flags & ACK:
        ack_is_news = _note_ack(s, slot, flow_idx, frame["ack"], ts_ns)
        if s.flows[flow_idx ^ 1]["fin"]:
            flow["spoke_after_fin"] = 1
        if c["handshake_orig_ns"] < 0 and direction == Direction.ORIG.value and c["handshake_resp_ns"] >= 0:
            if c["syn_ack_frames"] == 1:
                c["handshake_orig_ns"] = max(-1, ts_ns - c["syn_ack_ts_ns"])

    fate = _take_payload_and_flags(s, frame, buffer, slot, direction, flags, payload_len, ack_is_news, n)
    s.events[n]["fate"] = fate
    if fate == Fate.RETRANSMISSION.value or fate == Fate.SPURIOUS_RETRANSMISSION.value:
        flow["n_retransmissions"] += 1
        flow["timed_offset"] = -1  # which of the two is acknowledged nobody can tell (RFC 6298 section 3)
        ctl["n_retransmissions"] += 1
    elif fate == Fate.OUTSIDE_WINDOW.value:
        ctl["n_outside"] += 1
    if (fate == Fate.RETRANSMISSION.value or fate == Fate.OUT_OF_ORDER.value) and (payload_len > 0 or flags & SYN):
        c["stalled_ns"] += min(max(ts_ns - before_ns, 0), LONGEST_STALL_NS)
    flow["keep_alive_last"] = 1 if fate == Fate.KEEP_ALIVE.value else 0
    window = int(frame["window"])
    if window == 0 and not flags & SYN and flow["last_window"] != 0:
        note_history(s, slot, direction, LETTERS[L_ZERO_WINDOW])
    is_about_window = window == 0 or flow["last_window"] == 0
    if fate != Fate.OUTSIDE_WINDOW.value:  # such a segment is none of this connection's: nor is its window
        flow["last_window"] = window
    is_bare = payload_len == 0 and flags == ACK and direction == Direction.ORIG.value
    if is_bare and not is_about_window and not ctl["all_segments"]:
        # Nobody above asks for the originator's bare acknowledgements, a third of all segments.
        ctl["n_events"] -= 1


@entry_kernel
def track_segments(
    s: TrackerArrays, frames: Annotated[np.ndarray, ArrayOf(FRAMES.dtype)], start: int, stop: int, buffer: Bytes
):
    """Track the TCP frames of a batch.

    Parameters
    ----------
    s : TrackerArrays
        State and output.
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        Decoded frames.
    start, stop : int
        Rows to track.
    buffer : ndarray of uint8, shape (n_byte,)
        What `payload_offset` points into.

    Returns
    -------
    int
        The first frame that was not tracked; `status` says why when it is not `stop`.
    """
    release_drained(s)
    ctl = s.ctl[0]
    n_slots = s.live.shape[0]
    is_sharded = ctl["n_shards"] > 1
    ctl["status"] = S_DONE
    for i in range(start, stop):
        frame = frames[i]
        if frame["ts_ns"] > ctl["now_ns"]:
            ctl["now_ns"] = frame["ts_ns"]
        kind = int(frame["kind"])
        if kind != FrameKind.TCP.value:
            s.frame_kinds[kind] += 1
            if kind == FrameKind.UNDECODED.value:
                s.undecoded_reasons[frame["undecoded_reason"]] += 1
            continue
        if is_sharded and not is_in_shard(s, frame):
            continue
        if is_output_full(s):
            ctl["status"] = S_OUTPUT_FULL
            return i
        payload_len = int(frame["payload_len"])
        # By what was captured, whatever lengths the headers claim: one piece holds all that was not.
        if ctl["n_free_pieces"] < int(frame["payload_cap"]) // PIECE_BYTES + 2:
            ctl["status"] = S_NEED_PIECES
            return i
        if ctl["free_slot"] < 0:
            ctl["status"] = S_NEED_SLOTS
            return i
        ctl["n_segments"] += 1
        found = find_slot(s, frame)
        flags = int(frame["flags"])
        if found >= 0:
            slot = found >> 1
            direction = found & 1
            if _starts_anew(s, slot, direction, frame, flags, payload_len):
                s.live[slot]["end"] = ConnEnd.PORT_REUSE.value
                end_connection(s, slot, frame["ts_ns"])
                found = -1
        if found < 0:
            found = open_connection(s, frame, buffer, flags)
            slot = found >> 1
            direction = found & 1
            insert_slot(s, slot)
            event = s.events[emit_event(s, slot, frame["ts_ns"])]
            event["kind"] = StreamEventKind.OPEN.value
            event["dir"] = direction
        _track_segment(s, frame, buffer, slot, direction)
    sweep(s, n_slots)
    return stop
