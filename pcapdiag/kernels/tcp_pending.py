"""Stream events and the store of out-of-order pieces.

Knows stream offsets and bytes; nothing of flags, closings or what the streams carry.
"""

from pcapdiag.codes import StreamEventKind
from pcapdiag.kernels._kernel import kernel
from pcapdiag.kernels.tcp_state import (
    C_DRAINED_PIECE,
    C_FREE_PIECE,
    C_N_EVENTS,
    C_N_FREE_PIECES,
    C_N_HOLES,
    PIECE_BYTES,
)


@kernel
def emit_event(events, kind, slot, conn, direction, ts_ns, row, ctl):
    """Append an event that no single segment caused (OPEN, HOLE, END); return its index."""
    n = ctl[C_N_EVENTS]
    event = events[n]
    event["kind"] = kind
    event["slot"] = slot
    event["conn"] = conn
    event["dir"] = direction
    event["ts_ns"] = ts_ns
    event["row"] = row
    event["frame"] = -1
    event["seq"] = -1
    event["ack"] = -1
    event["data_offset"] = 0
    event["stream_offset"] = 0
    event["data_len"] = 0
    event["data_cap"] = 0
    event["payload_len"] = 0
    event["window"] = -1
    event["ip_id"] = -1
    event["flags"] = 0
    event["ttl"] = -1
    event["fate"] = -1
    event["source"] = 0
    ctl[C_N_EVENTS] = n + 1
    return n


@kernel
def emit_segment(events, frame, slot, conn, direction, fate, data_offset, data_len, data_cap, stream_offset, ctl):
    """Append the SEGMENT event of a captured segment, with the stream bytes it delivers."""
    n = ctl[C_N_EVENTS]
    event = events[n]
    event["kind"] = StreamEventKind.SEGMENT.value
    event["slot"] = slot
    event["conn"] = conn
    event["dir"] = direction
    event["ts_ns"] = frame["ts_ns"]
    event["row"] = -1
    event["frame"] = frame["frame"]
    event["seq"] = frame["seq"]
    event["ack"] = frame["ack"]
    event["data_offset"] = data_offset
    event["stream_offset"] = stream_offset
    event["data_len"] = data_len
    event["data_cap"] = min(data_cap, data_len)
    event["payload_len"] = frame["payload_len"]
    event["window"] = frame["window"]
    event["ip_id"] = frame["ip_id"]
    event["flags"] = frame["flags"]
    event["ttl"] = frame["ttl"]
    event["fate"] = fate
    event["source"] = 0
    ctl[C_N_EVENTS] = n + 1


@kernel
def release_drained(pieces, ctl):
    """Return the pieces delivered in the previous call to the free list; nobody reads them any more."""
    i = ctl[C_DRAINED_PIECE]
    while i >= 0:
        following = int(pieces[i]["next"])
        pieces[i]["next"] = ctl[C_FREE_PIECE]
        ctl[C_FREE_PIECE] = i
        ctl[C_N_FREE_PIECES] += 1
        i = following
    ctl[C_DRAINED_PIECE] = -1


@kernel
def store_pieces(frame, flow, pieces, piece_bytes, buffer, start, payload_len, payload_cap, fate, ctl):
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
        i = ctl[C_FREE_PIECE]
        ctl[C_FREE_PIECE] = pieces[i]["next"]
        ctl[C_N_FREE_PIECES] -= 1
        piece = pieces[i]
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
            piece_bytes[i, k] = buffer[source + k]
        # Insert behind all pieces that begin earlier, or at the same offset: first capture wins.
        before = -1
        at = int(flow["pending_head"])
        while at >= 0 and pieces[at]["offset"] <= piece["offset"]:
            before = at
            at = int(pieces[at]["next"])
        piece["next"] = at
        if before < 0:
            flow["pending_head"] = i
        else:
            pieces[before]["next"] = i
        flow["n_pending"] += 1
        done += length


@kernel
def deliver_pending(flows, pieces, events, slot, direction, conn, ctl):
    """Deliver the pending pieces of a flow that are in order now."""
    flow = flows[2 * slot + direction]
    i = int(flow["pending_head"])
    while i >= 0:
        piece = pieces[i]
        next_offset = flow["next_offset"]
        if piece["offset"] > next_offset:
            break
        skip = next_offset - piece["offset"]
        data_len = piece["data_len"] - skip
        if data_len > 0:
            n = emit_event(
                events, StreamEventKind.RELEASED.value, slot, conn, direction, piece["ts_ns"], -1, ctl
            )
            event = events[n]
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
        piece["next"] = ctl[C_DRAINED_PIECE]
        ctl[C_DRAINED_PIECE] = i
        flow["n_pending"] -= 1
        i = following
    flow["pending_head"] = i


@kernel
def declare_hole(live, flows, events, slot, direction, end, ts_ns, ctl):
    """Give the bytes from `next_offset` to `end` up as never captured, and say so with a HOLE event."""
    flow = flows[2 * slot + direction]
    missing = end - flow["next_offset"]
    if missing <= 0:
        return
    n = emit_event(events, StreamEventKind.HOLE.value, slot, live[slot]["conn"], direction, ts_ns, -1, ctl)
    event = events[n]
    event["stream_offset"] = flow["next_offset"]
    event["data_len"] = missing
    event["seq"] = (flow["base_seq"] + flow["next_offset"]) & 0xFFFFFFFF
    flow["next_offset"] = end
    if flow["max_offset"] < end:
        flow["max_offset"] = end
    live[slot]["n_holes"] += 1
    live[slot]["hole_bytes"] += missing
    ctl[C_N_HOLES] += 1


@kernel
def flush_pending(live, flows, pieces, events, slot, direction, ts_ns, ctl):
    """Deliver everything that is still pending, declaring the gaps between as holes."""
    flow = flows[2 * slot + direction]
    while flow["pending_head"] >= 0:
        declare_hole(live, flows, events, slot, direction, pieces[flow["pending_head"]]["offset"], ts_ns, ctl)
        deliver_pending(flows, pieces, events, slot, direction, live[slot]["conn"], ctl)
