"""Stream events and the store of out-of-order pieces.

Knows stream offsets and bytes; nothing of flags, closings or what the streams carry.
"""

from pcapdiag.base.codes import StreamEventKind
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.tcp.kernels.tcp_state import BLANK_EVENT, PIECE_BYTES


@kernel
def emit_event(s, slot, ts_ns):
    """Append an event that no single segment caused; return its index, the caller says what it is.

    Parameters
    ----------
    s : TrackerArrays
    slot : int
    ts_ns : int
        [ns] Capture time.

    Returns
    -------
    int
        Row of `events`; all columns but `kind` are set, to nothing where there is nothing.
    """
    n = s.ctl[0]["n_events"]
    s.ctl[0]["n_events"] = n + 1
    s.events[n] = BLANK_EVENT[0]
    event = s.events[n]
    event["slot"] = slot
    event["conn"] = s.live[slot]["conn"]
    event["ts_ns"] = ts_ns
    return n


@kernel
def emit_segment(s, frame, slot, direction):
    """Append the SEGMENT event of a captured segment; return its index, the caller sets the fate and what it delivers.

    Parameters
    ----------
    s : TrackerArrays
    frame : record of columns.FRAMES.dtype
    slot, direction : int

    Returns
    -------
    int
        Row of `events`.
    """
    # Runs for every segment, so each column is written once, and the row not blanked first.
    n = s.ctl[0]["n_events"]
    s.ctl[0]["n_events"] = n + 1
    event = s.events[n]
    event["ts_ns"] = frame["ts_ns"]
    event["frame"] = frame["frame"]
    event["seq"] = frame["seq"]
    event["ack"] = frame["ack"]
    event["data_offset"] = 0
    event["stream_offset"] = 0
    event["slot"] = slot
    event["conn"] = s.live[slot]["conn"]
    event["data_len"] = 0
    event["data_cap"] = 0
    event["payload_len"] = frame["payload_len"]
    event["window"] = frame["window"]
    event["ip_id"] = frame["ip_id"]
    event["row"] = -1
    event["flags"] = frame["flags"]
    event["ttl"] = frame["ttl"]
    event["kind"] = StreamEventKind.SEGMENT.value
    event["dir"] = direction
    event["fate"] = -1
    event["source"] = 0
    return n


@kernel
def release_drained(s):
    """Return the pieces delivered in the previous call to the free list; nobody reads them any more."""
    ctl = s.ctl[0]
    i = ctl["drained_piece"]
    while i >= 0:
        following = int(s.pieces[i]["next"])
        s.pieces[i]["next"] = ctl["free_piece"]
        ctl["free_piece"] = i
        ctl["n_free_pieces"] += 1
        i = following
    ctl["drained_piece"] = -1


@kernel
def store_pieces(s, frame, flow, buffer, start, payload_len, payload_cap, fate):
    """Keep an out-of-order segment: its bytes in pieces of PIECE_BYTES, linked in order of offset."""
    done = 0
    while done < payload_len:
        rest_cap = payload_cap - done
        if rest_cap >= PIECE_BYTES:
            length = PIECE_BYTES
            captured = PIECE_BYTES
            if payload_len - done < length:
                length = payload_len - done
                captured = length
        else:
            # The rest was not captured: one piece holds it, however long.
            captured = max(0, rest_cap)
            length = payload_len - done
            captured = min(captured, length)
        i = s.ctl[0]["free_piece"]
        s.ctl[0]["free_piece"] = s.pieces[i]["next"]
        s.ctl[0]["n_free_pieces"] -= 1
        piece = s.pieces[i]
        piece["offset"] = start + done
        piece["data_len"] = length
        piece["data_cap"] = captured
        piece["ts_ns"] = frame["ts_ns"]
        piece["frame"] = frame["frame"]
        piece["seq"] = frame["seq"]
        piece["ack"] = frame["ack"]
        piece["payload_len"] = frame["payload_len"]
        piece["window"] = frame["window"]
        piece["ip_id"] = frame["ip_id"]
        piece["flags"] = frame["flags"]
        piece["ttl"] = frame["ttl"]
        piece["fate"] = fate
        source = frame["payload_offset"] + done
        for k in range(captured):
            s.piece_bytes[i, k] = buffer[source + k]
        # Insert behind all pieces that begin earlier, or at the same offset: first capture wins.
        before = -1
        at = int(flow["pending_head"])
        while at >= 0 and s.pieces[at]["offset"] <= piece["offset"]:
            before = at
            at = int(s.pieces[at]["next"])
        piece["next"] = at
        if before < 0:
            flow["pending_head"] = i
        else:
            s.pieces[before]["next"] = i
        flow["n_pending"] += 1
        done += length


@kernel
def deliver_pending(s, slot, direction):
    """Deliver the pending pieces of a flow that are in order now."""
    flow = s.flows[2 * slot + direction]
    i = int(flow["pending_head"])
    while i >= 0:
        piece = s.pieces[i]
        next_offset = flow["next_offset"]
        if piece["offset"] > next_offset:
            break
        skip = next_offset - piece["offset"]
        data_len = piece["data_len"] - skip
        if data_len > 0:
            n = emit_event(s, slot, piece["ts_ns"])
            event = s.events[n]
            event["kind"] = StreamEventKind.RELEASED.value
            event["dir"] = direction
            event["frame"] = piece["frame"]
            event["seq"] = (flow["base_seq"] + next_offset) & 0xFFFFFFFF
            event["ack"] = piece["ack"]
            event["data_offset"] = i * PIECE_BYTES + skip
            event["stream_offset"] = next_offset
            event["data_len"] = data_len
            event["data_cap"] = min(max(0, piece["data_cap"] - skip), data_len)
            event["payload_len"] = piece["payload_len"]
            event["window"] = piece["window"]
            event["ip_id"] = piece["ip_id"]
            event["flags"] = piece["flags"]
            event["ttl"] = piece["ttl"]
            event["fate"] = piece["fate"]
            event["source"] = 1
            flow["next_offset"] = next_offset + data_len
        following = int(piece["next"])
        piece["next"] = s.ctl[0]["drained_piece"]
        s.ctl[0]["drained_piece"] = i
        flow["n_pending"] -= 1
        i = following
    flow["pending_head"] = i


@kernel
def declare_hole(s, slot, direction, end, ts_ns):
    """Give the bytes from `next_offset` to `end` up as never captured, and say so with a HOLE event."""
    flow = s.flows[2 * slot + direction]
    missing = end - flow["next_offset"]
    if missing <= 0:
        return
    n = emit_event(s, slot, ts_ns)
    event = s.events[n]
    event["kind"] = StreamEventKind.HOLE.value
    event["dir"] = direction
    event["stream_offset"] = flow["next_offset"]
    event["data_len"] = missing
    event["seq"] = (flow["base_seq"] + flow["next_offset"]) & 0xFFFFFFFF
    flow["next_offset"] = end
    if flow["max_offset"] < end:
        flow["max_offset"] = end
    if flow["acked_seq"] >= 0 and flow["acked_offset"] >= end:
        # What the receiver never acknowledged was lost on the way, and not by the capture.
        s.live[slot]["n_holes"] += 1
        s.live[slot]["hole_bytes"] += missing
        s.ctl[0]["n_holes"] += 1


@kernel
def passed_ns(s, slot, direction):
    """Return when the bytes that a flow lacks passed by, at the latest: when they were acknowledged, if they were."""
    unseen_ts_ns = s.flows[2 * slot + direction]["unseen_ts_ns"]
    return unseen_ts_ns if unseen_ts_ns >= 0 else s.live[slot]["last_ts_ns"]


@kernel
def flush_pending(s, slot, direction, ts_ns):
    """Deliver everything that is still pending, declaring the gaps between as holes."""
    flow = s.flows[2 * slot + direction]
    while flow["pending_head"] >= 0:
        declare_hole(s, slot, direction, s.pieces[flow["pending_head"]]["offset"], ts_ns)
        deliver_pending(s, slot, direction)
