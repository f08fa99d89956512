"""The live state of the TCP tracker: dtypes, blank rows and limits.

Arrays of these dtypes are made and grown by `pcapdiag.engine.tcp.tracker`; the kernels of `tcp.py` work on them. Every
connection has a slot; flow `2 * slot + dir` is one direction of it. Slots are freed when connections end.
"""

from typing import Annotated, NamedTuple

import numpy as np

from pcapdiag.base.columns import CONNECTIONS, STREAM_EVENTS, blank_row
from pcapdiag.engine.compiler.arguments import ArrayOf

LIVE = np.dtype(
    [
        # The first 64 bytes, one cache line, are what every segment needs.
        ("orig_hi", "u8"),
        ("orig_lo", "u8"),
        ("resp_hi", "u8"),
        ("resp_lo", "u8"),
        ("orig_port", "i4"),
        ("resp_port", "i4"),
        ("last_ts_ns", "i8"),
        ("last_frame", "i8"),
        ("conn", "i4"),
        ("in_use", "i1"),
        ("orig_inferred", "i1"),
        ("ways", "i1"),  # bits: originator seen inbound 1, outbound 2, responder seen inbound 4, outbound 8
        ("first_closer", "i1"),
        ("handshake_resp_ns", "i8"),
        ("handshake_orig_ns", "i8"),
        ("rtt_min_ns", "i8"),
        ("syn_ts_ns", "i8"),
        ("syn_ack_ts_ns", "i8"),
        ("first_ts_ns", "i8"),
        ("first_frame", "i8"),
        ("closing_ts_ns", "i8"),
        ("closing_frame", "i8"),
        ("closing_seq", "i8"),
        ("closing_ack", "i8"),
        ("hole_bytes", "i8"),
        ("stalled_ns", "i8"),
        ("n_holes", "i4"),
        ("next_free", "i4"),
        ("syn_frames", "i4"),
        ("syn_ack_frames", "i4"),
        ("n_history", "i4"),
        ("closing_kind", "i1"),
        ("end", "i1"),
    ],
    align=True,
)
"""One row per slot; the columns mean what they mean in `columns.CONNECTIONS`."""

FLOW = np.dtype(
    [
        ("base_seq", "i8"),  # sequence number of stream offset 0
        ("isn", "i8"),  # -1 if no SYN was seen
        ("other_isn", "i8"),  # of another SYN-ACK that answers the same SYN; -1 if none
        ("next_offset", "i8"),  # everything below was delivered or declared a hole
        ("max_offset", "i8"),  # highest stream offset seen, payload only
        ("acked_offset", "i8"),  # highest offset the peer acknowledged; -1 if none
        ("acked_seq", "i8"),  # the same as a sequence number; -1 if none
        ("fin_offset", "i8"),  # stream offset of the FIN; -1 if none
        ("unseen_ts_ns", "i8"),  # when the peer first acknowledged bytes that were not captured; -1 if it did not
        ("timed_offset", "i8"),  # end of the segment whose acknowledgement is timed; -1 if none
        ("timed_ts_ns", "i8"),
        ("pending_head", "i4"),  # first out-of-order piece, ordered by offset; -1 if none
        ("n_pending", "i4"),
        ("n_frames", "i4"),
        ("n_retransmissions", "i4"),
        ("last_window", "i4"),
        ("history_bits", "i4"),
        ("ring_next", "i4"),
        ("ttl", "i2"),
        ("anchored", "i1"),  # base_seq is certain: a SYN or a data segment was seen
        ("seen", "i1"),
        ("syn", "i1"),
        ("fin", "i1"),
        ("rst", "i1"),
        ("keep_alive_last", "i1"),
        ("spoke_after_fin", "i1"),  # acknowledged something when the peer's FIN had been seen
    ],
    align=True,
)
"""One row per flow. Offsets are unwrapped int64 stream offsets, so nothing wraps after 4 GiB."""

PENDING = np.dtype(
    [
        ("offset", "i8"),
        ("ts_ns", "i8"),
        ("frame", "i8"),
        ("seq", "i8"),
        ("ack", "i8"),
        ("data_len", "i4"),
        ("data_cap", "i4"),
        ("payload_len", "i4"),
        ("next", "i4"),
        ("window", "i4"),
        ("ip_id", "i4"),
        ("flags", "i2"),
        ("ttl", "i2"),
        ("fate", "i1"),
    ],
    align=True,
)
"""An out-of-order piece of a stream; its bytes are row `i` of a uint8 array of PIECE_BYTES columns."""

RING_SEGMENT = np.dtype(
    [
        ("seq", "i8"),
        ("ack", "i8"),
        ("payload_len", "i8"),
        ("flags", "i8"),
        ("ip_id", "i8"),
        ("ts_val", "i8"),
        ("ts_ns", "i8"),
    ]
)
"""What tells whether a segment of a flow was captured before."""

CONTROL = np.dtype(
    [
        ("status", "i8"),
        ("n_events", "i8"),
        ("n_rows", "i8"),
        ("next_conn", "i8"),
        ("free_slot", "i8"),  # heads of the free lists; -1 if empty
        ("free_piece", "i8"),
        ("n_free_pieces", "i8"),
        ("drained_piece", "i8"),  # first piece delivered in the present call; -1 if none
        ("sweep_slot", "i8"),
        ("now_ns", "i8"),  # latest capture time
        ("n_segments", "i8"),
        ("n_retransmissions", "i8"),
        ("n_holes", "i8"),
        ("n_evicted", "i8"),
        ("n_duplicates", "i8"),
        ("n_outside", "i8"),
        ("seed", "i8"),  # of the hash table
        ("capture_idx", "i8"),
        ("all_segments", "i8"),  # 0: no events for the originator's bare acknowledgements with an open window
        ("shard", "i8"),
        ("n_shards", "i8"),
        ("shard_seed", "i8"),
    ]
)
"""Counters, status and settings, one row: what scalar arguments could not hand back."""

PIECE_BYTES = 2048
MAX_PENDING_PER_FLOW = 1024
RING = 4

# Rows that a slot and an event begin with.
BLANK_LIVE = blank_row(
    LIVE,
    first_closer=-1,
    handshake_resp_ns=-1,
    handshake_orig_ns=-1,
    rtt_min_ns=-1,
    syn_ts_ns=-1,
    syn_ack_ts_ns=-1,
    closing_ts_ns=-1,
    closing_frame=-1,
    closing_seq=-1,
    closing_ack=-1,
)
BLANK_FLOW = blank_row(
    FLOW,
    isn=-1,
    other_isn=-1,
    acked_offset=-1,
    acked_seq=-1,
    fin_offset=-1,
    unseen_ts_ns=-1,
    timed_offset=-1,
    timed_ts_ns=-1,
    pending_head=-1,
    last_window=-1,
    ttl=-1,
)
BLANK_EVENT = blank_row(
    STREAM_EVENTS.dtype, dir=-1, row=-1, frame=-1, seq=-1, ack=-1, window=-1, ip_id=-1, ttl=-1, fate=-1
)
BLANK_CONNECTION = blank_row(
    CONNECTIONS.dtype, idle_at_close_ns=-1, server_offset=-1, keep_alive_s=-1, keep_alive_max=-1
)

# Statuses: why the tracker stopped before the last frame.
S_DONE = 0
S_OUTPUT_FULL = 1
"""The events or rows must be consumed first."""
S_NEED_SLOTS = 2
S_NEED_PIECES = 3

# A capture may hold ACKs a little before the data they acknowledge (queues of `-i any`); only then is it a hole.
UNSEEN_PATIENCE_NS = 5_000_000
DUPLICATE_WINDOW_NS = 1_000_000_000
DUPLICATE_WINDOW_NO_ID_NS = 2_000_000
LONGEST_STALL_NS = 300_000_000_000
"""More than a kernel waits before it repeats a segment (TCP_RTO_MAX: 120 s): the rest is not the path's."""
CLOSED_LINGER_NS = 60_000_000_000
"""A closed connection keeps its slot so long for stray segments."""
ATTEMPT_LINGER_NS = 180_000_000_000
"""An unanswered SYN keeps its slot so long: Linux gives up after 127 s."""
PLAUSIBLE_AHEAD_BYTES = 1 << 26
"""A segment further ahead than any real window is outside."""
EVENT_MARGIN = MAX_PENDING_PER_FLOW * 4 + 256
"""Events that one frame may cause at most: a hole and a release for each pending piece of both flows."""


class TrackerArrays(NamedTuple):
    """All that the tracker keeps and writes, as one argument of its kernels.

    Attributes
    ----------
    live : ndarray of LIVE, shape (n_slot,)
        Connections.
    flows : ndarray of FLOW, shape (2 * n_slot,)
        Their two directions.
    rings : ndarray of RING_SEGMENT, shape (2 * n_slot, RING)
        The last segments of each flow, to know a duplicate.
    table : ndarray of int32, shape (n_bucket,)
        Open-addressing hash table of slot + 1; n_bucket is a power of two, at least 2 * n_slot.
    pieces : ndarray of PENDING, shape (n_piece,)
        Out-of-order pieces.
    piece_bytes : ndarray of uint8, shape (n_piece, PIECE_BYTES)
        Their bytes.
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        Output, `n_events` of them.
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Output: finished connections, `n_rows` of them.
    row_bytes : ndarray of uint8, shape (n_row, itemsize)
        The same memory as bytes, for the history letters.
    history : ndarray of uint8, shape (n_slot, HISTORY_BYTES)
        History letters so far.
    ctl : ndarray of CONTROL, shape (1,)
        Counters, status and settings.
    frame_kinds : ndarray of int64, shape (n_kind,)
        Frames that are no TCP, by FrameKind.
    undecoded_reasons : ndarray of int64, shape (n_reason,)
        Undecoded frames, by UndecodedReason.
    history_at : int
        [bytes] Position of the history column in a row.
    """

    live: Annotated[np.ndarray, ArrayOf(LIVE)]
    flows: Annotated[np.ndarray, ArrayOf(FLOW)]
    rings: Annotated[np.ndarray, ArrayOf(RING_SEGMENT, 2)]
    table: Annotated[np.ndarray, ArrayOf(np.int32)]
    pieces: Annotated[np.ndarray, ArrayOf(PENDING)]
    piece_bytes: Annotated[np.ndarray, ArrayOf(np.uint8, 2)]
    events: Annotated[np.ndarray, ArrayOf(STREAM_EVENTS.dtype)]
    conn_rows: Annotated[np.ndarray, ArrayOf(CONNECTIONS.dtype)]
    row_bytes: Annotated[np.ndarray, ArrayOf(np.uint8, 2)]
    history: Annotated[np.ndarray, ArrayOf(np.uint8, 2)]
    ctl: Annotated[np.ndarray, ArrayOf(CONTROL)]
    frame_kinds: Annotated[np.ndarray, ArrayOf(np.int64)]
    undecoded_reasons: Annotated[np.ndarray, ArrayOf(np.int64)]
    history_at: int
