"""The TCP tracker: frames to connections, one fate per segment, stream bytes in order.

Knows RFC 9293 and nothing of what the streams carry. Per frame: find the connection (or begin one), classify the
segment, deliver the stream bytes that are in order now, take note of acknowledgements, FIN and RST, and write one
event per segment for the layer above.

Invariants
----------
* `next_offset <= max_offset` for every flow; the bytes between them are pending pieces and gaps.
* Pending pieces of a flow are ordered by offset and lie above `next_offset`.
* A piece that was delivered in this call stays readable until the next call (`C_DRAINED_PIECE`).
"""

from pcapdiag.codes import (
    ClosingKind,
    ConnEnd,
    Direction,
    Fate,
    FrameKind,
    PacketDirection,
    StreamEventKind,
    TcpFlag,
)
from pcapdiag.kernels._kernel import kernel
from pcapdiag.kernels.sequence import sequence_difference
from pcapdiag.kernels.tcp_pending import declare_hole, deliver_pending, emit_event, emit_segment, release_drained, store_pieces
from pcapdiag.kernels.tcp_table import (
    end_connection,
    find_slot,
    insert_slot,
    note_history,
    open_connection,
)
from pcapdiag.kernels.tcp_state import (
    ATTEMPT_LINGER_NS,
    C_N_DUPLICATES,
    C_N_EVENTS,
    C_N_OUTSIDE,
    C_N_RETRANSMISSIONS,
    C_N_ROWS,
    C_N_TCP,
    C_NOW,
    C_FREE_SLOT,
    C_N_FREE_PIECES,
    C_STATUS,
    C_SWEEP,
    CLOSED_LINGER_NS,
    DUPLICATE_WINDOW_NO_ID_NS,
    DUPLICATE_WINDOW_NS,
    EVENT_MARGIN,
    MAX_PENDING_PER_FLOW,
    PIECE_BYTES,
    PLAUSIBLE_AHEAD_BYTES,
    RING,
    S_DONE,
    S_NEED_PIECES,
    S_NEED_SLOTS,
    S_OUTPUT_FULL,
    UNSEEN_PATIENCE_NS,
)

FIN = int(TcpFlag.FIN)
SYN = int(TcpFlag.SYN)
RST = int(TcpFlag.RST)
ACK = int(TcpFlag.ACK)
SEQ_MASK = 0xFFFFFFFF


@kernel
def _is_duplicate(rings, flow_idx, frame, flags, payload_len):
    """Whether this very packet was captured before: the same header, identification and TCP timestamp, soon after."""
    ip_id = int(frame["ip_id"])
    for k in range(RING):
        if (
            rings[flow_idx, k, 0] == frame["seq"]
            and rings[flow_idx, k, 2] == payload_len
            and rings[flow_idx, k, 3] == flags
            and rings[flow_idx, k, 1] == frame["ack"]
            and rings[flow_idx, k, 4] == ip_id
            and rings[flow_idx, k, 5] == frame["ts_val"]
        ):
            age = frame["ts_ns"] - rings[flow_idx, k, 6]
            if ip_id > 0:
                # A retransmission gets an identification of its own, so the same one means the same packet.
                return -DUPLICATE_WINDOW_NS <= age <= DUPLICATE_WINDOW_NS
            if payload_len > 0 or flags & (SYN | FIN):
                return -DUPLICATE_WINDOW_NO_ID_NS <= age <= DUPLICATE_WINDOW_NO_ID_NS
    return False


@kernel
def _remember(rings, flows, flow_idx, frame, flags, payload_len):
    k = int(flows[flow_idx]["ring_next"])
    rings[flow_idx, k, 0] = frame["seq"]
    rings[flow_idx, k, 1] = frame["ack"]
    rings[flow_idx, k, 2] = payload_len
    rings[flow_idx, k, 3] = flags
    rings[flow_idx, k, 4] = frame["ip_id"]
    rings[flow_idx, k, 5] = frame["ts_val"]
    rings[flow_idx, k, 6] = frame["ts_ns"]
    flows[flow_idx]["ring_next"] = (k + 1) % RING


@kernel
def _note_ack(live, flows, slot, flow_idx, peer_idx, ack, ts_ns):
    """Take in that flow `flow_idx` acknowledges bytes of `peer_idx`; return whether that is news."""
    peer = flows[peer_idx]
    if peer["anchored"] == 0 and peer["seen"] == 0:
        # The other direction was not seen yet: its next byte is the one acknowledged.
        peer["base_seq"] = ack
        peer["seen"] = 1
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
            best = live[slot]["rtt_min_ns"]
            if best < 0 or rtt < best:
                live[slot]["rtt_min_ns"] = rtt
    limit = peer["next_offset"]
    if peer["fin_offset"] >= 0 and peer["fin_offset"] == limit:
        limit += 1
    if offset > limit and peer["unseen_ts_ns"] < 0:
        peer["unseen_ts_ns"] = ts_ns
    return True


@kernel
def _declare_acknowledged_holes(live, flows, pieces, events, slot, ctl, ts_ns, patience_ns):
    """Give up waiting for bytes that the receiver has acknowledged but the capture does not hold."""
    for direction in range(2):
        flow = flows[2 * slot + direction]
        if flow["unseen_ts_ns"] < 0 or ts_ns - flow["unseen_ts_ns"] <= patience_ns:
            continue
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
            if head >= 0 and pieces[head]["offset"] < end:
                end = pieces[head]["offset"]
            declare_hole(live, flows, events, slot, direction, end, ts_ns, ctl)
            deliver_pending(flows, pieces, events, slot, direction, live[slot]["conn"], ctl)


@kernel
def _classify_old(flow, peer, end, ts_ns):
    """Fate of payload that lies wholly below `next_offset`."""
    if flow["acked_seq"] >= 0 and flow["acked_offset"] >= end:
        return Fate.SPURIOUS_RETRANSMISSION.value
    return Fate.RETRANSMISSION.value


@kernel
def _is_pending(pieces, flow, start, end):
    """Whether all bytes of [start, end) are held as pending pieces already."""
    i = flow["pending_head"]
    while i >= 0 and start < end:
        piece = pieces[i]
        if piece["offset"] > start:
            return False
        piece_end = piece["offset"] + piece["data_len"]
        if piece_end > start:
            start = piece_end
        i = piece["next"]
    return start >= end


@kernel
def _track_payload(frame, live, flows, pieces, piece_bytes, buffer, events, slot, direction, flags, payload_len, ctl):
    """Classify a segment with payload and deliver what is in order; return its fate."""
    flow_idx = 2 * slot + direction
    flow = flows[flow_idx]
    peer = flows[flow_idx ^ 1]
    conn = live[slot]["conn"]
    ts_ns = frame["ts_ns"]
    seq = (frame["seq"] + 1) & SEQ_MASK if flags & SYN else frame["seq"]
    if flow["anchored"] == 0:
        flow["anchored"] = 1
        ahead = sequence_difference(seq, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
        if flow["seen"] == 0 or ahead < 0 or flow["next_offset"] == 0 and flow["acked_seq"] < 0:
            flow["base_seq"] = (seq - flow["next_offset"]) & SEQ_MASK
    ahead = sequence_difference(seq, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
    start = flow["next_offset"] + ahead
    end = start + payload_len
    next_offset = flow["next_offset"]
    payload_cap = int(frame["payload_cap"])

    is_probe = payload_len == 1 and not flags & (SYN | FIN | RST)
    if is_probe and end == flow["max_offset"] and end <= next_offset and peer["n_frames"] > 0:
        # One old byte below the next sequence number: a keep-alive probe in the old style (RFC 1122 4.2.3.6).
        flow["keep_alive_last"] = 1
        emit_segment(events, frame, slot, conn, direction, Fate.KEEP_ALIVE.value, 0, 0, 0, 0, ctl)
        return Fate.KEEP_ALIVE.value
    if ahead < -(1 << 30) or end > flow["max_offset"] + PLAUSIBLE_AHEAD_BYTES:
        emit_segment(events, frame, slot, conn, direction, Fate.OUTSIDE_WINDOW.value, 0, 0, 0, 0, ctl)
        return Fate.OUTSIDE_WINDOW.value
    if flow["fin_offset"] >= 0 and start >= flow["fin_offset"] and flow["fin_offset"] <= next_offset:
        emit_segment(events, frame, slot, conn, direction, Fate.OUTSIDE_WINDOW.value, 0, 0, 0, 0, ctl)
        return Fate.OUTSIDE_WINDOW.value
    if end <= next_offset:
        fate = _classify_old(flow, peer, end, ts_ns)
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
        return fate
    if start > next_offset:
        if _is_pending(pieces, flow, start, end):
            fate = Fate.RETRANSMISSION.value
            emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
            return fate
        fate = Fate.NEW.value if start >= flow["max_offset"] else Fate.OUT_OF_ORDER.value
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
        store_pieces(frame, flow, pieces, piece_bytes, buffer, start, payload_len, payload_cap, fate, ctl)
        if end > flow["max_offset"]:
            flow["max_offset"] = end
        if flow["n_pending"] > MAX_PENDING_PER_FLOW:
            # Bounded memory: the missing bytes are not coming.
            declare_hole(live, flows, events, slot, direction, pieces[flow["pending_head"]]["offset"], ts_ns, ctl)
            deliver_pending(flows, pieces, events, slot, direction, conn, ctl)
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
    data_cap = max(0, payload_cap - skip)
    emit_segment(
        events, frame, slot, conn, direction, fate, frame["payload_offset"] + skip, data_len, data_cap, next_offset, ctl
    )
    flow["next_offset"] = end
    if end > flow["max_offset"]:
        flow["max_offset"] = end
        if fate == Fate.NEW.value and flow["timed_offset"] < 0:
            flow["timed_offset"] = end
            flow["timed_ts_ns"] = ts_ns
    if flow["pending_head"] >= 0:
        deliver_pending(flows, pieces, events, slot, direction, conn, ctl)
    if flow["unseen_ts_ns"] >= 0 and flow["acked_offset"] <= flow["next_offset"]:
        flow["unseen_ts_ns"] = -1
    return fate


@kernel
def _classify_empty(frame, live, flows, slot, direction, flags, ack_is_news):
    """Fate of a segment without payload, SYN, FIN or RST."""
    flow = flows[2 * slot + direction]
    peer = flows[2 * slot + (1 - direction)]
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
def _note_closing(live, slot, frame, direction, kind):
    if live[slot]["first_closer"] < 0:
        live[slot]["first_closer"] = direction
        live[slot]["closing_kind"] = kind
        live[slot]["closing_ts_ns"] = frame["ts_ns"]
        live[slot]["closing_frame"] = frame["frame"]
        live[slot]["closing_seq"] = frame["seq"]
        live[slot]["closing_ack"] = frame["ack"]


@kernel
def _note_syn(live, flows, slot, direction, frame, flags):
    """Take in a SYN or SYN-ACK: initial sequence numbers and handshake times; return its fate."""
    flow = flows[2 * slot + direction]
    is_syn_ack = flags & ACK
    repeated = flow["syn"] and flow["isn"] == frame["seq"]
    flow["syn"] = 1
    if is_syn_ack:
        live[slot]["syn_ack_frames"] += 1
    else:
        live[slot]["syn_frames"] += 1
    if repeated:
        return Fate.RETRANSMISSION.value
    flow["isn"] = frame["seq"]
    if flow["next_offset"] == 0:
        flow["base_seq"] = (frame["seq"] + 1) & SEQ_MASK
    flow["anchored"] = 1
    flow["seen"] = 1
    if is_syn_ack and live[slot]["syn_ack_ts_ns"] < 0:
        live[slot]["syn_ack_ts_ns"] = frame["ts_ns"]
        if live[slot]["syn_ts_ns"] >= 0 and live[slot]["syn_frames"] == 1:
            live[slot]["handshake_resp_ns"] = frame["ts_ns"] - live[slot]["syn_ts_ns"]
    elif not is_syn_ack and live[slot]["syn_ts_ns"] < 0:
        live[slot]["syn_ts_ns"] = frame["ts_ns"]
    return Fate.NEW.value


@kernel
def _starts_anew(live, flows, slot, direction, frame, flags, payload_len):
    """Whether this segment, on endpoints that are known, begins another connection (a reused port)."""
    flow = flows[2 * slot + direction]
    peer = flows[2 * slot + (1 - direction)]
    closed = flow["rst"] or peer["rst"] or (flow["fin"] and peer["fin"])
    if flags & RST:
        return False
    if flags & SYN:
        if flow["syn"]:
            return flow["isn"] != frame["seq"]
        if not flags & ACK:
            # A SYN from a side that has sent data already; a simultaneous open has sent nothing.
            return closed or flow["max_offset"] > 0 or peer["max_offset"] > 0
        return bool(closed)
    if closed and payload_len > 0 and flow["anchored"]:
        ahead = sequence_difference(frame["seq"], (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK)
        return ahead < -(1 << 20) or ahead > 1 << 20
    return False


@kernel
def _track_segment(frame, live, flows, rings, pieces, piece_bytes, buffer, events, history, slot, direction, ctl):
    """Track one segment of a known connection."""
    flow_idx = 2 * slot + direction
    peer_idx = flow_idx ^ 1
    flow = flows[flow_idx]
    peer = flows[peer_idx]
    conn = live[slot]["conn"]
    flags = int(frame["flags"])
    payload_len = int(frame["payload_len"])
    ts_ns = frame["ts_ns"]
    seq = frame["seq"]

    live[slot]["last_ts_ns"] = max(live[slot]["last_ts_ns"], ts_ns)
    live[slot]["last_frame"] = frame["frame"]
    way = int(frame["packet_direction"])
    if way == PacketDirection.INBOUND.value:
        live[slot]["orig_local"] = direction
    elif way == PacketDirection.OUTBOUND.value:
        live[slot]["orig_local"] = 1 - direction

    if flows[2 * slot]["unseen_ts_ns"] >= 0 or flows[2 * slot + 1]["unseen_ts_ns"] >= 0:
        _declare_acknowledged_holes(live, flows, pieces, events, slot, ctl, ts_ns, UNSEEN_PATIENCE_NS)

    if flow["n_frames"] > 0 and _is_duplicate(rings, flow_idx, frame, flags, payload_len):
        ctl[C_N_DUPLICATES] += 1
        emit_segment(events, frame, slot, conn, direction, Fate.DUPLICATE_CAPTURE.value, 0, 0, 0, 0, ctl)
        return
    _remember(rings, flows, flow_idx, frame, flags, payload_len)
    flow["n_frames"] += 1
    if flow["ttl"] < 0 and not flags & RST:
        flow["ttl"] = frame["ttl"]

    if flags & RST:
        fate = Fate.AFTER_RST.value if flow["rst"] else Fate.RESET.value
        note_history(live, flows, history, slot, direction, ord("r"))
        flow["rst"] = 1
        _note_closing(live, slot, frame, direction, ClosingKind.RST.value)
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
        return

    ack_is_news = False
    if flags & ACK:
        ack_is_news = _note_ack(live, flows, slot, flow_idx, peer_idx, frame["ack"], ts_ns)
        if (
            live[slot]["handshake_orig_ns"] < 0
            and direction == Direction.ORIG.value
            and live[slot]["syn_ack_frames"] == 1
            and live[slot]["handshake_resp_ns"] >= 0
        ):
            live[slot]["handshake_orig_ns"] = ts_ns - live[slot]["syn_ack_ts_ns"]

    fate = -1
    if flags & SYN:
        fate = _note_syn(live, flows, slot, direction, frame, flags)
        note_history(live, flows, history, slot, direction, ord("h") if flags & ACK else ord("s"))
    elif flow["seen"] == 0:
        # First sight in mid-connection: offset 0 is here until a data segment says better.
        flow["base_seq"] = seq
        flow["seen"] = 1

    if payload_len > 0:
        if flow["rst"]:
            fate = Fate.AFTER_RST.value
            emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
        else:
            fate = _track_payload(
                frame, live, flows, pieces, piece_bytes, buffer, events, slot, direction, flags, payload_len, ctl
            )
        if fate == Fate.RETRANSMISSION.value or fate == Fate.SPURIOUS_RETRANSMISSION.value:
            note_history(live, flows, history, slot, direction, ord("t"))
        else:
            note_history(live, flows, history, slot, direction, ord("d"))
    elif flags & FIN:
        fate = Fate.NEW.value
        if flow["rst"]:
            fate = Fate.AFTER_RST.value
        elif flow["fin"]:
            fate = Fate.RETRANSMISSION.value
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
    elif flags & SYN:
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)
    else:
        fate = Fate.AFTER_RST.value if flow["rst"] else _classify_empty(
            frame, live, flows, slot, direction, flags, ack_is_news
        )
        if fate == Fate.PURE_ACK.value and flags & ACK:
            note_history(live, flows, history, slot, direction, ord("a"))
        emit_segment(events, frame, slot, conn, direction, fate, 0, 0, 0, 0, ctl)

    if fate == Fate.RETRANSMISSION.value or fate == Fate.SPURIOUS_RETRANSMISSION.value:
        flow["n_retransmissions"] += 1
        ctl[C_N_RETRANSMISSIONS] += 1
    elif fate == Fate.OUTSIDE_WINDOW.value:
        ctl[C_N_OUTSIDE] += 1
    flow["keep_alive_last"] = 1 if fate == Fate.KEEP_ALIVE.value else 0

    if flags & FIN and fate != Fate.OUTSIDE_WINDOW.value and fate != Fate.AFTER_RST.value:
        if flow["fin"] == 0:
            flow["fin"] = 1
            ahead = sequence_difference(
                (seq + payload_len) & SEQ_MASK, (flow["base_seq"] + flow["next_offset"]) & SEQ_MASK
            )
            flow["fin_offset"] = flow["next_offset"] + ahead
            if flow["max_offset"] < flow["fin_offset"] <= flow["max_offset"] + PLAUSIBLE_AHEAD_BYTES:
                flow["max_offset"] = flow["fin_offset"]
            note_history(live, flows, history, slot, direction, ord("f"))
            _note_closing(live, slot, frame, direction, ClosingKind.FIN.value)
    window = int(frame["window"])
    if window == 0 and not flags & SYN and flow["last_window"] != 0:
        note_history(live, flows, history, slot, direction, ord("w"))
    flow["last_window"] = window


@kernel
def _sweep(live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, ctl, n_slots):
    """End connections that are closed and quiet, a sixteenth of all slots per call."""
    now_ns = ctl[C_NOW]
    slot = ctl[C_SWEEP]
    for _ in range(n_slots // 16 + 1):
        if ctl[C_N_ROWS] + 2 >= conn_rows.shape[0] or ctl[C_N_EVENTS] + EVENT_MARGIN >= events.shape[0]:
            break
        slot = slot + 1 if slot + 1 < n_slots else 0
        if live[slot]["in_use"] == 0:
            continue
        age_ns = now_ns - live[slot]["last_ts_ns"]
        if age_ns <= CLOSED_LINGER_NS:
            continue
        orig = flows[2 * slot]
        resp = flows[2 * slot + 1]
        if orig["rst"] or resp["rst"] or (orig["fin"] and resp["fin"]):
            end = ConnEnd.CLOSED.value
        elif age_ns > ATTEMPT_LINGER_NS and resp["n_frames"] == 0 and orig["max_offset"] == 0:
            end = ConnEnd.ABANDONED.value
        else:
            continue
        end_connection(
            live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, slot, end, now_ns, ctl
        )
    ctl[C_SWEEP] = slot


@kernel
def track_segments(
    frames, start, stop, buffer, live, flows, rings, table, pieces, piece_bytes, events, conn_rows, row_bytes, history,
    history_at, ctl,
):  # fmt: skip
    """Track the TCP frames of a batch.

    Parameters
    ----------
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        Decoded frames.
    start, stop : int
        Rows to track.
    buffer : ndarray of uint8, shape (n_byte,)
        What `payload_offset` points into.
    live : ndarray of tcp_state.LIVE, shape (n_slot,)
        Connections.
    flows : ndarray of tcp_state.FLOW, shape (2 * n_slot,)
        Their two directions.
    rings : ndarray of int64, shape (2 * n_slot, RING, RING_COLUMNS)
        The last segments of each flow, to know a duplicate.
    table : ndarray of int32, shape (n_bucket,)
        Open-addressing hash table of slot + 1; n_bucket is a power of two, at least 2 * n_slot.
    pieces : ndarray of tcp_state.PENDING, shape (n_piece,)
        Out-of-order pieces.
    piece_bytes : ndarray of uint8, shape (n_piece, PIECE_BYTES)
        Their bytes.
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        Output, from `ctl[C_N_EVENTS]` on.
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Output: finished connections.
    row_bytes : ndarray of uint8, shape (n_row, itemsize)
        The same memory as bytes, for the history letters at `history_at`.
    history : ndarray of uint8, shape (n_slot, HISTORY_BYTES)
        History letters so far.
    history_at : int
        [bytes] Position of the history column in a row.
    ctl : ndarray of int64, shape (CONTROL_WORDS,)
        Counters and status; see tcp_state.

    Returns
    -------
    int
        The first frame that was not tracked; `ctl[C_STATUS]` says why when it is not `stop`.
    """
    release_drained(pieces, ctl)
    n_slots = live.shape[0]
    ctl[C_STATUS] = S_DONE
    for i in range(start, stop):
        frame = frames[i]
        if frame["ts_ns"] > ctl[C_NOW]:
            ctl[C_NOW] = frame["ts_ns"]
        if frame["kind"] != FrameKind.TCP.value:
            continue
        if ctl[C_N_EVENTS] + EVENT_MARGIN >= events.shape[0] or ctl[C_N_ROWS] + 2 >= conn_rows.shape[0]:
            ctl[C_STATUS] = S_OUTPUT_FULL
            return i
        payload_len = int(frame["payload_len"])
        if ctl[C_N_FREE_PIECES] < payload_len // PIECE_BYTES + 2:
            ctl[C_STATUS] = S_NEED_PIECES
            return i
        if ctl[C_FREE_SLOT] < 0:
            ctl[C_STATUS] = S_NEED_SLOTS
            return i
        ctl[C_N_TCP] += 1
        found = find_slot(frame, live, table, ctl)
        flags = int(frame["flags"])
        if found >= 0:
            slot = found >> 1
            direction = found & 1
            if _starts_anew(live, flows, slot, direction, frame, flags, payload_len):
                end_connection(
                    live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, slot,
                    ConnEnd.PORT_REUSE.value, frame["ts_ns"], ctl,
                )  # fmt: skip
                found = -1
        if found < 0:
            found = open_connection(frame, buffer, live, flows, rings, history, flags, ctl)
            slot = found >> 1
            direction = found & 1
            insert_slot(live, table, slot, ctl)
            emit_event(
                events, StreamEventKind.OPEN.value, slot, live[slot]["conn"], direction, frame["ts_ns"], -1, ctl
            )
        _track_segment(
            frame, live, flows, rings, pieces, piece_bytes, buffer, events, history, slot, direction, ctl
        )
    _sweep(live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, ctl, n_slots)
    return stop


@kernel
def end_all(live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, ctl, only_oldest_ns, end):
    """End connections at the end of the capture, or the longest idle ones to make room.

    Parameters
    ----------
    live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, ctl
        As in `track_segments`.
    only_oldest_ns : int
        [ns] End only connections whose last segment is not younger than this; -1 for all.
    end : int
        ConnEnd to record.

    Returns
    -------
    int
        How many connections were ended; call again until it is 0, consuming the output in between.
    """
    release_drained(pieces, ctl)
    n_ended = 0
    for slot in range(live.shape[0]):
        if live[slot]["in_use"] == 0:
            continue
        if only_oldest_ns >= 0 and live[slot]["last_ts_ns"] > only_oldest_ns:
            continue
        if ctl[C_N_EVENTS] + EVENT_MARGIN >= events.shape[0] or ctl[C_N_ROWS] + 2 >= conn_rows.shape[0]:
            return n_ended
        why = end
        orig = flows[2 * slot]
        resp = flows[2 * slot + 1]
        if end == ConnEnd.CAPTURE_END.value and (orig["rst"] or resp["rst"] or (orig["fin"] and resp["fin"])):
            why = ConnEnd.CLOSED.value
        end_connection(
            live, flows, pieces, events, table, conn_rows, row_bytes, history, history_at, slot, why, ctl[C_NOW], ctl
        )
        n_ended += 1
    return n_ended
