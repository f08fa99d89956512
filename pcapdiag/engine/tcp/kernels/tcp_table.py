"""The connection table: endpoints to slots, the beginning and the end of a connection.

Knows endpoints, slots and the finished row; the life between is `tcp.py`.
"""

import numpy as np

from pcapdiag.base.codes import Direction, TcpFlag
from pcapdiag.base.columns import HISTORY_BYTES
from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.engine.tcp.kernels.tcp_state import BLANK_FLOW, BLANK_LIVE, RING, TrackerArrays

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
def remove_slot(s, slot):
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
