"""How connections end: their row is written, their slot is free again.

Knows when nothing more is to be expected of a connection; what its segments are is decided where they are tracked.
"""

from pcapdiag.base.codes import ConnEnd, ConnState, Direction, StreamEventKind
from pcapdiag.base.columns import HISTORY_BYTES
from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.engine.tcp.kernels.tcp_pending import (
    declare_hole,
    deliver_pending,
    emit_event,
    flush_pending,
    passed_ns,
    release_drained,
)
from pcapdiag.engine.tcp.kernels.tcp_state import (
    ATTEMPT_LINGER_NS,
    BLANK_CONNECTION,
    CLOSED_LINGER_NS,
    EVENT_MARGIN,
    TrackerArrays,
)
from pcapdiag.engine.tcp.kernels.tcp_table import remove_slot


@kernel
def _conn_state(orig, resp, syn_frames, syn_ack_frames):
    """Zeek's conn_state from what each side sent (zeek base/protocols/conn/main.zeek)."""
    if syn_frames > 0 and syn_ack_frames == 0 and resp["max_offset"] == 0:
        if resp["rst"]:
            return ConnState.REJ.value
        if orig["rst"]:
            return ConnState.RSTOS0.value
        if orig["fin"]:
            return ConnState.SH.value
        return ConnState.S0.value
    if syn_frames == 0 and syn_ack_frames > 0 and orig["n_frames"] == 0:
        if resp["rst"]:
            return ConnState.RSTRH.value
        if resp["fin"]:
            return ConnState.SHR.value
        return ConnState.OTH.value
    if syn_frames == 0:
        return ConnState.OTH.value
    # A RST behind a FIN of the same side answers a stray segment; it aborts nothing.
    if orig["fin"] and resp["fin"]:
        return ConnState.SF.value
    if resp["rst"]:
        return ConnState.RSTR.value
    if orig["rst"]:
        return ConnState.RSTO.value
    if orig["fin"]:
        return ConnState.S2.value
    if resp["fin"]:
        return ConnState.S3.value
    return ConnState.S1.value


@kernel
def _orig_local(ways):
    """Whether the capturing machine is the originator (1), the responder (0) or neither for all one can tell (-1).

    A machine that forwards sees the same segment come in and go out again.
    """
    as_orig = ways & (2 | 4)  # the originator goes out, the responder comes in
    as_resp = ways & (1 | 8)
    if as_orig and not as_resp:
        return 1
    if as_resp and not as_orig:
        return 0
    return -1


@kernel
def end_connection(s, slot, ts_ns):
    """Finish a connection: flush what is pending, write its row, tell the layer above, free the slot.

    Parameters
    ----------
    s : TrackerArrays
    slot : int
        The connection; its `end` is set.
    ts_ns : int
        [ns] Capture time of the ending, for the events.
    """
    c = s.live[slot]
    for direction in range(2):
        flow = s.flows[2 * slot + direction]
        at_ns = passed_ns(s, slot, direction)
        flush_pending(s, slot, direction, at_ns)
        # Bytes the receiver acknowledged exist, captured or not; a last single one may be an unseen FIN.
        target = flow["acked_offset"]
        is_unseen = flow["unseen_ts_ns"] >= 0
        has_fin = 0 <= flow["fin_offset"] <= flow["max_offset"]
        if direction == Direction.RESP.value and has_fin and not s.flows[2 * slot]["spoke_after_fin"]:
            # So do those before its own FIN, unless the originator said later that it lacks them.
            target = flow["fin_offset"]
            is_unseen = True
        elif flow["fin_offset"] >= 0:
            target = min(target, flow["fin_offset"])
        elif target == flow["next_offset"] + 1:
            target = flow["next_offset"]
        if is_unseen and target > flow["next_offset"]:
            declare_hole(s, slot, direction, target, at_ns)
            deliver_pending(s, slot, direction)
    ctl = s.ctl[0]
    n = ctl["n_rows"]
    ctl["n_rows"] = n + 1
    s.conn_rows[n] = BLANK_CONNECTION[0]
    row = s.conn_rows[n]
    orig = s.flows[2 * slot]
    resp = s.flows[2 * slot + 1]
    row["first_ts_ns"] = c["first_ts_ns"]
    row["last_ts_ns"] = c["last_ts_ns"]
    row["stalled_ns"] = c["stalled_ns"]
    row["first_frame"] = c["first_frame"]
    row["last_frame"] = c["last_frame"]
    row["orig_hi"] = c["orig_hi"]
    row["orig_lo"] = c["orig_lo"]
    row["resp_hi"] = c["resp_hi"]
    row["resp_lo"] = c["resp_lo"]
    row["orig_bytes"] = orig["max_offset"]
    row["resp_bytes"] = resp["max_offset"]
    row["orig_isn"] = orig["isn"]
    row["resp_isn"] = resp["isn"]
    row["orig_max_ack"] = resp["acked_seq"]
    row["resp_max_ack"] = orig["acked_seq"]
    row["handshake_resp_ns"] = c["handshake_resp_ns"]
    row["handshake_orig_ns"] = c["handshake_orig_ns"]
    row["rtt_min_ns"] = c["rtt_min_ns"]
    row["closing_ts_ns"] = c["closing_ts_ns"]
    row["closing_frame"] = c["closing_frame"]
    row["closing_seq"] = c["closing_seq"]
    row["closing_ack"] = c["closing_ack"]
    row["conn"] = c["conn"]
    row["orig_port"] = c["orig_port"]
    row["resp_port"] = c["resp_port"]
    row["orig_frames"] = orig["n_frames"]
    row["resp_frames"] = resp["n_frames"]
    row["orig_retransmissions"] = orig["n_retransmissions"]
    row["resp_retransmissions"] = resp["n_retransmissions"]
    row["n_holes"] = c["n_holes"]
    row["hole_bytes"] = c["hole_bytes"]
    row["capture_idx"] = ctl["capture_idx"]
    row["syn_frames"] = min(int(c["syn_frames"]), 32767)
    row["syn_ack_frames"] = min(int(c["syn_ack_frames"]), 32767)
    row["orig_ttl"] = orig["ttl"]
    row["resp_ttl"] = resp["ttl"]
    row["orig_inferred"] = c["orig_inferred"]
    row["orig_local"] = _orig_local(int(c["ways"]))
    row["end"] = c["end"]
    row["conn_state"] = _conn_state(orig, resp, c["syn_frames"], c["syn_ack_frames"])
    row["first_closer"] = c["first_closer"]
    row["closing_kind"] = c["closing_kind"]
    row["closing_rst_seen"] = 1 if orig["rst"] or resp["rst"] else 0
    row["orig_fin"] = orig["fin"]
    row["resp_fin"] = resp["fin"]
    row["orig_rst"] = orig["rst"]
    row["resp_rst"] = resp["rst"]
    for k in range(HISTORY_BYTES):
        s.row_bytes[n, s.history_at + k] = s.history[slot, k]
    event = s.events[emit_event(s, slot, ts_ns)]
    event["kind"] = StreamEventKind.END.value
    event["row"] = n
    remove_slot(s, slot)
    c["in_use"] = 0
    c["next_free"] = ctl["free_slot"]
    ctl["free_slot"] = slot


@kernel
def is_output_full(s):
    """Whether what one frame or one ending may cause would not fit."""
    ctl = s.ctl[0]
    return ctl["n_events"] + EVENT_MARGIN >= s.events.shape[0] or ctl["n_rows"] + 2 >= s.conn_rows.shape[0]


@kernel
def is_closed(orig, resp):
    """Whether both sides have closed, or one has reset."""
    return orig["rst"] or resp["rst"] or (orig["fin"] and resp["fin"])


@kernel
def _is_attempt(orig, resp):
    """Whether nothing but the originator's SYN is known of a connection."""
    return resp["n_frames"] == 0 and orig["max_offset"] == 0


@kernel
def sweep(s, n_slots):
    """End connections that are closed and quiet, a sixteenth of all slots per call."""
    ctl = s.ctl[0]
    now_ns = ctl["now_ns"]
    slot = ctl["sweep_slot"]
    for _ in range(n_slots // 16 + 1):
        if is_output_full(s):
            break
        slot = slot + 1 if slot + 1 < n_slots else 0
        if s.live[slot]["in_use"] == 0:
            continue
        age_ns = now_ns - s.live[slot]["last_ts_ns"]
        if age_ns <= CLOSED_LINGER_NS:
            continue
        orig = s.flows[2 * slot]
        resp = s.flows[2 * slot + 1]
        if is_closed(orig, resp):
            end = ConnEnd.CLOSED.value
        elif age_ns > ATTEMPT_LINGER_NS and _is_attempt(orig, resp):
            end = ConnEnd.ABANDONED.value
        else:
            continue
        s.live[slot]["end"] = end
        end_connection(s, slot, now_ns)
    ctl["sweep_slot"] = slot


@entry_kernel
def give_up_pending(s: TrackerArrays, start: int):
    """Deliver what waits out of order, with the holes before it, to make room.

    Parameters
    ----------
    s : TrackerArrays
        State and output.
    start : int
        First slot to look at.

    Returns
    -------
    int
        First slot that was not looked at; call again from there, consuming the output in between.
    """
    release_drained(s)
    for slot in range(start, s.live.shape[0]):
        if s.live[slot]["in_use"] == 0:
            continue
        if is_output_full(s):
            return slot
        for direction in range(2):
            flush_pending(s, slot, direction, passed_ns(s, slot, direction))
    return s.live.shape[0]


@entry_kernel
def end_all(s: TrackerArrays, only_oldest_ns: int, only_spent: int, end: int):
    """End connections at the end of the capture, or the longest idle ones to make room.

    Parameters
    ----------
    s : TrackerArrays
        State and output.
    only_oldest_ns : int
        [ns] End only connections whose last segment is not younger than this; -1 for all.
    only_spent : int
        1: only those that are closed, or whose SYN nobody answered.
    end : int
        ConnEnd to record, but for closed ones.

    Returns
    -------
    int
        How many connections were ended; call again until it is 0, consuming the output in between.
    """
    release_drained(s)
    ctl = s.ctl[0]
    n_ended = 0
    for slot in range(s.live.shape[0]):
        if s.live[slot]["in_use"] == 0:
            continue
        if only_oldest_ns >= 0 and s.live[slot]["last_ts_ns"] > only_oldest_ns:
            continue
        orig = s.flows[2 * slot]
        resp = s.flows[2 * slot + 1]
        has_ended = is_closed(orig, resp)
        if only_spent and not has_ended and not _is_attempt(orig, resp):
            continue
        if is_output_full(s):
            return n_ended
        why = end
        if has_ended and (only_spent or end == ConnEnd.CAPTURE_END.value):
            why = ConnEnd.CLOSED.value
        elif end == ConnEnd.EVICTED.value:
            ctl["n_evicted"] += 1
        s.live[slot]["end"] = why
        end_connection(s, slot, ctl["now_ns"])
        n_ended += 1
    return n_ended
