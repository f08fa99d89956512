"""The live state of the framer: dtypes, blank rows and limits.

Slots are those of the TCP tracker; flow `2 * slot + dir` is one direction. Open exchanges live in a pool of their own,
because a connection may have none or many (pipelining).
"""

from typing import Annotated, NamedTuple

import numpy as np

from pcapdiag.base.codes import Framing, Key, Outcome
from pcapdiag.base.columns import EXCHANGES, KEY_SEGMENTS, blank_row
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes

CONN = np.dtype(
    [
        ("last_payload_ns", "i8"),  # last stream byte that ends an idle gap; -1 if none
        ("hole_ns", "i8"),  # when a hole of a response was found last, its bytes having come before; -1 if never
        ("idle_at_close_ns", "i8"),
        ("orig_close_ack", "i8"),  # acknowledgement number of the originator's FIN or RST; -1 if none
        ("orig_max_ack", "i8"),  # known when the connection has ended
        ("ahead_ack", "i8"),  # what responder bytes that answer no known request acknowledge; -1 if none
        ("server_offset", "i8"),
        ("resp_ack", "i8"),  # what the responder last acknowledged while a request waited; -1 if nothing
        ("resp_next", "i8"),  # behind the last responder byte, captured or not; -1 if none (not kept for HTTP/2)
        ("resp_data_ack", "i8"),  # the most that responder bytes acknowledge; -1 if nothing
        ("resp_hole_end", "i8"),  # behind the last hole of the responder; -1 if none
        ("last_request_ack", "i8"),  # of the request that began last; -1 if none (HTTP/1)
        ("goaway_last", "i8"),  # HTTP/2: the last stream that the responder's GOAWAY lets live; -1 without
        ("credit", "i8"),  # HTTP/2: bytes of content that the originator may still send, by the responder's word
        ("stream_credit", "i8"),  # the same of a stream that begins
        ("head", "i4"),  # first open exchange; -1 if none
        ("tail", "i4"),  # last one, whose request may still be on its way
        ("n_open", "i4"),
        ("n_exchanges", "i4"),
        ("n_unanswered", "i4"),
        ("keep_alive_s", "i4"),
        ("keep_alive_max", "i4"),
        ("last_stream", "i4"),  # HTTP/2: the highest that the originator opened
        ("server_len", "i2"),
        ("ending", "i1"),
        ("protocol", "i1"),
        ("mid_stream", "i1"),
        ("closing_seen", "i1"),
        ("closing_open", "i1"),
        ("close_announced", "i1"),  # the last response said that the connection ends with it
        ("orig_hole", "i1"),  # requests may lie in a hole behind the one that began last
        ("pipelines", "i1"),  # two requests were sent of which the second had read nothing that the first had not
        ("unsure", "i1"),  # pipelined behind a hole: which answer is whose, no number tells any more
        ("unasked", "i1"),  # the present response bytes answer nothing (a 408 that crossed a request)
        ("orig_closed", "i1"),
        ("resp_closed", "i1"),
        ("resp_reset", "i1"),
        ("tls_application", "i1"),  # the handshake is over
        ("tls_13", "i1"),  # the responder sent application-data records inside the handshake; 2: so did the originator
        ("goaway_error", "i1"),
        ("heads_kept", "i1"),  # HTTP/2: 1 if all header blocks of requests were kept so far
        ("keys_set", "i4"),  # bit k: key segment k is set
    ],
    align=True,
)

FLOW = np.dtype(
    [
        ("remaining", "i8"),  # body or chunk or TLS record bytes still to come
        ("content_length", "i8"),  # -1 if the head did not say
        ("begin_ts_ns", "i8"),  # HTTP/2: the segment that brought the first byte of the present frame
        ("begin_frame", "i8"),
        ("begin_ack", "i8"),
        (
            "frame_value",
            "i8",
        ),  # the first 8 payload bytes of the present frame that count, as a number; FastCGI: status
        ("frame_stream", "i4"),  # of the present frame; FastCGI: the request's number
        ("frame_length", "i4"),  # FastCGI: with padding
        ("block_stream", "i4"),  # of the header block that began last
        ("scratch", "i4"),  # row of the scratch pool while a head is incomplete; -1 if none
        ("line_len", "i4"),  # bytes of the incomplete line, in the scratch row
        ("target_len", "i4"),
        ("host_len", "i4"),
        ("request_id_len", "i4"),
        ("n_fields", "i4"),
        ("status_code", "i4"),
        ("tls_header", "i4"),  # bytes of a record's header seen so far (TLS, FastCGI)
        ("tls_type", "i4"),
        ("state", "i1"),
        ("chunked", "i1"),
        ("close", "i1"),
        ("keep_alive", "i1"),
        ("h2c", "i1"),  # the response switches to HTTP/2 (RFC 7540 section 3.2)
        ("minor", "i1"),
        ("method", "i1"),
        ("line_empty", "i1"),  # chunk trailers: nothing on this line yet
        ("frame_flags", "u1"),
        ("in_block", "i1"),  # HTTP/2: 1 if only CONTINUATION may follow
        ("block_ends_stream", "i1"),
        ("frame_begun", "i1"),  # HTTP/2: 1 if its first frame, or the preface, has begun
        ("tls_counts", "i1"),  # the present TLS record: 1 application data of an exchange, 2 a TLS alert, 0 another
    ],
    align=True,
)

OPEN = np.dtype(
    [
        ("request_last_ns", "i8"),
        ("response_last_ns", "i8"),
        ("credit", "i8"),  # HTTP/2: bytes of content that the originator may still send on this stream
        ("next", "i4"),
        ("record_id", "i4"),  # FastCGI: the number of the request, which others have after it; -1 if not known
        ("has_response", "i1"),
        ("request_done", "i1"),
        ("response_done", "i1"),
        ("text_done", "i1"),
    ],
    align=True,
)
"""What an open exchange needs beside its row."""

FIRST_CREDIT = 65_535
"""[bytes] What either side of HTTP/2 may send before the other grants more (RFC 9113 section 6.9.2)."""

# Rows that a slot and an exchange begin with.
BLANK_CONN = blank_row(
    CONN,
    last_payload_ns=-1,
    hole_ns=-1,
    idle_at_close_ns=-1,
    orig_close_ack=-1,
    orig_max_ack=-1,
    ahead_ack=-1,
    server_offset=-1,
    resp_ack=-1,
    resp_next=-1,
    resp_data_ack=-1,
    resp_hole_end=-1,
    last_request_ack=-1,
    goaway_last=-1,
    credit=FIRST_CREDIT,
    stream_credit=FIRST_CREDIT,
    heads_kept=1,
    head=-1,
    tail=-1,
    keep_alive_s=-1,
    keep_alive_max=-1,
    mid_stream=1,
)
BLANK_FLOW = blank_row(FLOW, content_length=-1, scratch=-1, status_code=-1, minor=1, method=-1)
BLANK_OPEN = blank_row(OPEN, request_last_ns=-1, response_last_ns=-1, next=-1, record_id=-1)
BLANK_EXCHANGE = blank_row(
    EXCHANGES.dtype,
    request_frame=-1,
    request_ts_ns=-1,
    response_frame=-1,
    idle_before_ns=-1,
    first_byte_ns=-1,
    duration_ns=-1,
    request_seq=-1,
    request_end_seq=-1,
    request_ack=-1,
    response_seq=-1,
    text_offset=-1,
    stream=-1,
    stream_error=-1,
    status_code=-1,
    method=-1,
    outcome=Outcome.UNANSWERED,
    request_framing=Framing.UNKNOWN,
    response_framing=Framing.UNKNOWN,
)

# What is known of a connection's end when an exchange is handed out.
GOES_ON = 0
CLOSED = 1
CUT = 2  # the capture ended, or the connection was evicted, while it was open

# States of a flow.
ST_START = 0  # a message may begin
ST_HEAD = 1
ST_BODY = 2  # Content-Length bytes
ST_CHUNK_SIZE = 3
ST_CHUNK_EXTENSION = 4
ST_CHUNK_DATA = 5
ST_CHUNK_END = 6
ST_TRAILER = 7
ST_UNTIL_CLOSE = 8
ST_TURN = 9  # opaque bytes until the other side speaks
ST_LOST = 10  # bytes that belong to no message we know; try again with the next segment

# One scratch row: the incomplete line, then what is kept of the request head.
LINE_BYTES = 2048
TARGET_AT = LINE_BYTES
TARGET_BYTES = 1536
HOST_AT = TARGET_AT + TARGET_BYTES
HOST_BYTES = 256
REQUEST_ID_AT = HOST_AT + HOST_BYTES
REQUEST_ID_BYTES = 128
SCRATCH_BYTES = REQUEST_ID_AT + REQUEST_ID_BYTES
SERVER_BYTES = 128
BLOCK_BYTES = SCRATCH_BYTES - LINE_BYTES - 2
"""[bytes] The longest header block of an HTTP/2 request that is kept: as much as of a head of HTTP/1."""

N_KEYS = len(Key)
MAX_OPEN_PER_CONNECTION = 256
MAX_HEAD_FIELDS = 4096

CONTROL = np.dtype(
    [
        ("status", "i8"),
        ("n_exchanges", "i8"),  # rows of the three outputs
        ("n_keys", "i8"),
        ("n_text", "i8"),
        ("text_base", "i8"),  # where the text store goes on
        ("free_open", "i8"),  # heads of the free lists; -1 if empty
        ("n_free_open", "i8"),
        ("free_scratch", "i8"),
        ("n_free_scratch", "i8"),
        ("n_emitted", "i8"),
        ("n_unanswered", "i8"),
    ]
)
"""Counters and status, one row: what scalar arguments could not hand back."""

F_DONE = 0
F_OUTPUT_FULL = 1
F_NEED_OPEN = 2
F_NEED_SCRATCH = 3

OPEN_MARGIN = MAX_OPEN_PER_CONNECTION + 4
"""Exchanges that may be open at once on the connection of one event; as many may consist of a response alone."""
KEY_MARGIN = N_KEYS * OPEN_MARGIN
TEXT_MARGIN = OPEN_MARGIN * (TARGET_BYTES + HOST_BYTES + REQUEST_ID_BYTES) + SERVER_BYTES


class FramerArrays(NamedTuple):
    """All that the framer keeps and writes, as one argument of its kernels.

    Attributes
    ----------
    conns : ndarray of CONN, shape (n_slot,)
    flows : ndarray of FLOW, shape (2 * n_slot,)
    opened : ndarray of OPEN, shape (n_open,)
        Pool of open exchanges; their rows are `rows`.
    rows : ndarray of columns.EXCHANGES.dtype, shape (n_open,)
    keys : ndarray of columns.KEY_SEGMENTS.dtype, shape (n_slot, N_KEYS)
        Key segments of each connection's first open exchange.
    scratch : ndarray of uint8, shape (n_scratch * SCRATCH_BYTES,)
        Incomplete heads.
    free_next : ndarray of int32, shape (n_scratch,)
        Free list of scratch rows.
    text : ndarray of uint8, shape (n_byte,)
        Output: targets, hosts, request identifiers, Server fields.
    out_rows : ndarray of columns.EXCHANGES.dtype, shape (n_out,)
        Output: finished exchanges.
    out_keys : ndarray of columns.KEY_SEGMENTS.dtype, shape (n_key,)
        Output: key segments of unanswered and truncated exchanges and of failed attempts.
    ctl : ndarray of CONTROL, shape (1,)
        Counters and status.
    """

    conns: Annotated[np.ndarray, ArrayOf(CONN)]
    flows: Annotated[np.ndarray, ArrayOf(FLOW)]
    opened: Annotated[np.ndarray, ArrayOf(OPEN)]
    rows: Annotated[np.ndarray, ArrayOf(EXCHANGES.dtype)]
    keys: Annotated[np.ndarray, ArrayOf(KEY_SEGMENTS.dtype, 2)]
    scratch: Bytes
    free_next: Annotated[np.ndarray, ArrayOf(np.int32)]
    text: Bytes
    out_rows: Annotated[np.ndarray, ArrayOf(EXCHANGES.dtype)]
    out_keys: Annotated[np.ndarray, ArrayOf(KEY_SEGMENTS.dtype)]
    ctl: Annotated[np.ndarray, ArrayOf(CONTROL)]
