"""The connection table: endpoints to slots, the beginning and the end of a connection.

Knows endpoints, slots and the finished row; the life between is `tcp.py`.
"""

import numpy as np

from pcapdiag.base.codes import ConnState, Direction, StreamEventKind, TcpFlag
from pcapdiag.base.columns import HISTORY_BYTES
from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.engine.tcp.kernels.tcp_pending import (
    declare_hole,
    deliver_pending,
    emit_event,
    flush_pending,
    passed_ns,
)
from pcapdiag.engine.tcp.kernels.tcp_state import BLANK_CONNECTION, BLANK_FLOW, BLANK_LIVE, RING, TrackerArrays

FIN = int(TcpFlag.FIN)
SYN = int(TcpFlag.SYN)
RST = int(TcpFlag.RST)
ACK = int(TcpFlag.ACK)
LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)

# Zeek's letters; read from an array so that the kernel is compiled once, not once per letter.
LETTERS = np.frombuffer(b"shadfrtw", dtype=np.uint8).copy()
L_SYN, L_SYN_ACK, L_ACK, L_DATA, L_FIN, L_RST, L_RETRANSMISSION, L_ZERO_WINDOW = range(8)


@kernel
def _mix(h, value):
    """Mix 32 bits into a 32-bit hash; the multiplier keeps the product within int64."""
    h = ((h ^ value) * 0x5BD1E995) & 0xFFFFFFFF
    return h ^ (h >> 15)


@kernel
def _hash_endpoint(hi, lo, port, seed):
    h = _mix(seed, int(hi >> SHIFT_32))
    h = _mix(h, int(hi & LOW_32))
    h = _mix(h, int(lo >> SHIFT_32))
    h = _mix(h, int(lo & LOW_32))
    return _mix(h, port)


@kernel
def _hash_pair(a_hi, a_lo, a_port, b_hi, b_lo, b_port, seed):
    """Hash two endpoints so that their order does not matter.

    The seed differs from process to process: a hostile capture cannot aim at one bucket.
    """
    both = _hash_endpoint(a_hi, a_lo, a_port, seed) + _hash_endpoint(b_hi, b_lo, b_port, seed)
    return _mix(seed, both & 0xFFFFFFFF)


@kernel
def is_in_shard(s, frame):
    """Return whether a TCP frame belongs to the connections that this tracker follows.

    Parameters
    ----------
    s : TrackerArrays
    frame : record of columns.FRAMES.dtype
        A TCP frame.

    Returns
    -------
    bool
        The same for every frame between two endpoints, and true in one shard only.
    """
    ctl = s.ctl[0]
    hashed = _hash_pair(
        frame["src_hi"],
        frame["src_lo"],
        int(frame["src_port"]),
        frame["dst_hi"],
        frame["dst_lo"],
        int(frame["dst_port"]),
        ctl["shard_seed"],
    )
    return hashed % ctl["n_shards"] == ctl["shard"]


@kernel
def find_slot(s, frame):
    """Return ``2 * slot + direction`` of the frame's connection, or -1.

    Parameters
    ----------
    s : TrackerArrays
    frame : record of columns.FRAMES.dtype
        A TCP frame.

    Returns
    -------
    int
        The flow, or -1 if the endpoints are unknown.
    """
    src_hi = frame["src_hi"]
    src_lo = frame["src_lo"]
    dst_hi = frame["dst_hi"]
    dst_lo = frame["dst_lo"]
    src_port = int(frame["src_port"])
    dst_port = int(frame["dst_port"])
    mask = s.table.shape[0] - 1
    at = _hash_pair(src_hi, src_lo, src_port, dst_hi, dst_lo, dst_port, s.ctl[0]["seed"]) & mask
    while s.table[at] != 0:
        slot = int(s.table[at]) - 1
        c = s.live[slot]
        if (
            c["orig_lo"] == src_lo
            and c["orig_port"] == src_port
            and c["resp_port"] == dst_port
            and c["resp_lo"] == dst_lo
            and c["orig_hi"] == src_hi
            and c["resp_hi"] == dst_hi
        ):
            return 2 * slot
        if (
            c["orig_lo"] == dst_lo
            and c["orig_port"] == dst_port
            and c["resp_port"] == src_port
            and c["resp_lo"] == src_lo
            and c["orig_hi"] == dst_hi
            and c["resp_hi"] == src_hi
        ):
            return 2 * slot + 1
        at = (at + 1) & mask
    return -1


@kernel
def _bucket_of(s, slot, mask, seed):
    c = s.live[slot]
    return (
        _hash_pair(
            c["orig_hi"], c["orig_lo"], int(c["orig_port"]), c["resp_hi"], c["resp_lo"], int(c["resp_port"]), seed
        )
        & mask
    )


@kernel
def insert_slot(s, slot):
    """Enter a slot into the hash table; there is always a free bucket."""
    mask = s.table.shape[0] - 1
    at = _bucket_of(s, slot, mask, s.ctl[0]["seed"])
    while s.table[at] != 0:
        at = (at + 1) & mask
    s.table[at] = slot + 1


@kernel
def _remove_slot(s, slot):
    """Take a slot out of the hash table, closing the gap in its probe sequence."""
    mask = s.table.shape[0] - 1
    seed = s.ctl[0]["seed"]
    at = _bucket_of(s, slot, mask, seed)
    while s.table[at] != slot + 1:
        if s.table[at] == 0:
            return
        at = (at + 1) & mask
    s.table[at] = 0
    hole = at
    at = (at + 1) & mask
    while s.table[at] != 0:
        home = _bucket_of(s, int(s.table[at]) - 1, mask, seed)
        # Move an entry back when its home bucket does not lie between the hole and where it stands.
        if ((at - home) & mask) >= ((at - hole) & mask):
            s.table[hole] = s.table[at]
            s.table[at] = 0
            hole = at
        at = (at + 1) & mask


@entry_kernel
def rehash(s: TrackerArrays):
    """Enter every live slot into an empty table.

    Parameters
    ----------
    s : TrackerArrays
        `table` is zeroed.
    """
    for slot in range(s.live.shape[0]):
        if s.live[slot]["in_use"]:
            insert_slot(s, slot)


@kernel
def _looks_like_server(buffer, at, captured):
    """Whether payload begins as a server's first words do: ``HTTP/``."""
    return (
        captured >= 5
        and buffer[at] == ord("H")
        and buffer[at + 1] == ord("T")
        and buffer[at + 2] == ord("T")
        and buffer[at + 3] == ord("P")
        and buffer[at + 4] == ord("/")
    )


@kernel
def _sender_is_responder(frame, buffer):
    """Guess from the first segment seen, one without SYN, whether its sender is the responder."""
    if _looks_like_server(buffer, frame["payload_offset"], int(frame["payload_cap"])):
        return True
    src_port = int(frame["src_port"])
    dst_port = int(frame["dst_port"])
    if (src_port < 1024) != (dst_port < 1024):
        return src_port < 1024
    # Ephemeral ports begin at 32768 on Linux, at 49152 by RFC 6335; a server listens below.
    if (src_port < 32768) != (dst_port < 32768):
        return src_port < 32768
    return False


@kernel
def open_connection(s, frame, buffer, flags):
    """Begin a connection in a free slot; return ``2 * slot + direction`` of the frame.

    Parameters
    ----------
    s : TrackerArrays
    frame : record of columns.FRAMES.dtype
        Its first segment.
    buffer : ndarray of uint8, shape (n_byte,)
        Payload bytes, to tell a server's words.
    flags : int
        TCP control bits of the frame.

    Returns
    -------
    int
        The flow of the frame.
    """
    ctl = s.ctl[0]
    slot = ctl["free_slot"]
    c = s.live[slot]
    ctl["free_slot"] = c["next_free"]
    s.live[slot] = BLANK_LIVE[0]
    if flags & SYN:
        reverse = bool(flags & ACK)
    else:
        reverse = _sender_is_responder(frame, buffer)
        c["orig_inferred"] = 1
    if reverse:
        c["orig_hi"] = frame["dst_hi"]
        c["orig_lo"] = frame["dst_lo"]
        c["orig_port"] = frame["dst_port"]
        c["resp_hi"] = frame["src_hi"]
        c["resp_lo"] = frame["src_lo"]
        c["resp_port"] = frame["src_port"]
    else:
        c["orig_hi"] = frame["src_hi"]
        c["orig_lo"] = frame["src_lo"]
        c["orig_port"] = frame["src_port"]
        c["resp_hi"] = frame["dst_hi"]
        c["resp_lo"] = frame["dst_lo"]
        c["resp_port"] = frame["dst_port"]
    c["in_use"] = 1
    c["conn"] = ctl["next_conn"]
    ctl["next_conn"] += 1
    c["first_ts_ns"] = frame["ts_ns"]
    c["last_ts_ns"] = frame["ts_ns"]
    c["first_frame"] = frame["frame"]
    c["last_frame"] = frame["frame"]
    for flow_idx in range(2 * slot, 2 * slot + 2):
        s.flows[flow_idx] = BLANK_FLOW[0]
        for k in range(RING):
            s.rings[flow_idx, k]["seq"] = -1
    for k in range(HISTORY_BYTES):
        s.history[slot, k] = 0
    return 2 * slot + (1 if reverse else 0)


@kernel
def note_history(s, slot, direction, letter):
    """Append a letter to Zeek's history, once per letter and direction; upper case for the originator."""
    flow = s.flows[2 * slot + direction]
    bit = 1 << (int(letter) - ord("a"))
    if flow["history_bits"] & bit:
        return
    flow["history_bits"] |= bit
    n = int(s.live[slot]["n_history"])
    if n < HISTORY_BYTES:
        s.history[slot, n] = int(letter) - 32 if direction == Direction.ORIG.value else letter
        s.live[slot]["n_history"] = n + 1


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
        if flow["fin_offset"] >= 0:
            target = min(target, flow["fin_offset"])
        elif target == flow["next_offset"] + 1:
            target = flow["next_offset"]
        if flow["unseen_ts_ns"] >= 0 and target > flow["next_offset"]:
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
    _remove_slot(s, slot)
    c["in_use"] = 0
    c["next_free"] = ctl["free_slot"]
    ctl["free_slot"] = slot
