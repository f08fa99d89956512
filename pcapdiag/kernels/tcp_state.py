"""The live state of the TCP tracker: dtypes, control words and limits.

Arrays of these dtypes are made and grown by `pcapdiag.tcp.tracker`; the kernels of `tcp.py` work on them. Every
connection has a slot; flow `2 * slot + dir` is one direction of it. Slots are freed when connections end.
"""

from typing import NamedTuple

import numpy as np

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

PIECE_BYTES = 2048
MAX_PENDING_PER_FLOW = 1024
RING = 4
RING_COLUMNS = 7  # seq, ack, payload_len, flags, ip_id, ts_val, ts_ns

# Control words: one int64 array instead of twenty scalar arguments that would have to be returned.
C_STATUS = 0
C_N_EVENTS = 1
C_N_ROWS = 2
C_NEXT_CONN = 3
C_N_LIVE = 4
C_FREE_SLOT = 5
C_FREE_PIECE = 6
C_N_FREE_PIECES = 7
C_DRAINED_PIECE = 8
C_SEED = 9
C_CAPTURE = 10
C_SWEEP = 11
C_N_RETRANSMISSIONS = 12
C_N_HOLES = 13
C_N_EVICTED = 14
C_N_DUPLICATES = 15
C_N_TCP = 16
C_NOW = 17
C_N_OUTSIDE = 18
C_ALL_SEGMENTS = 19
C_N_SHARDS = 20
C_SHARD = 21
C_SHARD_SEED = 22
C_KINDS = 24  # frames by FrameKind, from here on
C_REASONS = 32  # undecoded frames by UndecodedReason
CONTROL_WORDS = 48

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
    rings : ndarray of int64, shape (2 * n_slot, RING, RING_COLUMNS)
        The last segments of each flow, to know a duplicate.
    table : ndarray of int32, shape (n_bucket,)
        Open-addressing hash table of slot + 1; n_bucket is a power of two, at least 2 * n_slot.
    pieces : ndarray of PENDING, shape (n_piece,)
        Out-of-order pieces.
    piece_bytes : ndarray of uint8, shape (n_piece, PIECE_BYTES)
        Their bytes.
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        Output, `ctl[C_N_EVENTS]` of them.
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Output: finished connections, `ctl[C_N_ROWS]` of them.
    row_bytes : ndarray of uint8, shape (n_row, itemsize)
        The same memory as bytes, for the history letters.
    history : ndarray of uint8, shape (n_slot, HISTORY_BYTES)
        History letters so far.
    ctl : ndarray of int64, shape (CONTROL_WORDS,)
        Counters and status.
    history_at : int
        [bytes] Position of the history column in a row.
    """

    live: np.ndarray
    flows: np.ndarray
    rings: np.ndarray
    table: np.ndarray
    pieces: np.ndarray
    piece_bytes: np.ndarray
    events: np.ndarray
    conn_rows: np.ndarray
    row_bytes: np.ndarray
    history: np.ndarray
    ctl: np.ndarray
    history_at: int
