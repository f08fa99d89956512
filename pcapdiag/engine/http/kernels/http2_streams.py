"""HTTP/2 streams as exchanges: which is open, what its bytes are, and how it ends.

Knows streams by their numbers (RFC 9113 section 5); nothing of how frames lie in segments.

Invariants
----------
* An exchange whose response is complete stays in its connection's queue only while it is alone there, or when the
  originator has closed: a later request, or the end, says that the answer was taken.
* The key segments are those of the queue's first exchange, as everywhere; of the others only the request's beginning is
  known.
"""

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Framing, Key, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http_exchange import (
    ACK_KEY,
    BITS,
    RESPONSE_END_KEY,
    data_sequence,
    emit_exchange,
    follow_with,
    forget_keys,
    free_scratch,
    replace_key,
)
from pcapdiag.engine.http.kernels.http_state import CLOSED, CUT, MAX_OPEN_PER_CONNECTION
from pcapdiag.engine.http.kernels.http_turns import begin_request
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

RESP = Direction.RESP.value
ACKNOWLEDGED = int(ExchangeFlag.ACKNOWLEDGED)
ACKNOWLEDGED_PART = int(ExchangeFlag.ACKNOWLEDGED_PART)
HOLE = int(ExchangeFlag.HOLE)
INTERIM = int(ExchangeFlag.INTERIM)
NOT_PROCESSED = int(ExchangeFlag.NOT_PROCESSED)
HEADER_BYTES = 9
REFUSED_STREAM = 7
CREDIT_USED_KEY = np.int64(1 << Key.CREDIT_USED)
UNKNOWN_CREDIT = np.int64(1 << 60)
"""[bytes] More than anything can use: what was granted was not captured."""
MOST_ERROR = 127
"""Error codes beyond it are shown as this one: 0 to 13 are defined (RFC 9113 section 7)."""


@kernel
def find_stream(s, slot, stream):
    """Return the open exchange of a stream, and the one before it in the queue; -1 for none.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    stream : int
        Its number.

    Returns
    -------
    i, previous : int
        Indices in the pool of open exchanges.
    """
    previous = np.int64(-1)
    i = np.int64(s.conns[slot]["head"])
    while i >= 0:
        if s.rows[i]["stream"] == stream:
            return i, previous
        previous = i
        i = np.int64(s.opened[i]["next"])
    return np.int64(-1), np.int64(-1)


@kernel
def open_stream(s, slot, event, stream, begin, pos):
    """Open the exchange of a stream whose HEADERS frame begins; return its index, -1 if too many are open.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        The segment that completed the frame's header.
    stream : int
    begin : int
        [bytes] Where the frame begins, counted from the event's delivered data: negative where an earlier segment
        brought its first bytes.
    pos : int
        [bytes] How much of the delivered data the header takes.

    Returns
    -------
    int
        Index in the pool of open exchanges.
    """
    c = s.conns[slot]
    if c["n_open"] >= MAX_OPEN_PER_CONNECTION:
        return np.int64(-1)
    i = np.int64(begin_request(s, slot, event, np.int64(begin)))
    row = s.rows[i]
    row["stream"] = stream
    s.opened[i]["credit"] = c["stream_credit"]
    row["request_framing"] = Framing.FRAMES.value
    s.opened[i]["text_done"] = 1
    if begin < 0:
        # The first byte of the frame came in an earlier segment.
        f = s.flows[2 * slot]
        row["request_frame"] = f["begin_frame"]
        row["request_ts_ns"] = f["begin_ts_ns"]
        if row["idle_before_ns"] >= 0:
            row["idle_before_ns"] = max(0, row["idle_before_ns"] - (event["ts_ns"] - f["begin_ts_ns"]))
        row["request_ack"] = f["begin_ack"]
        if c["head"] == i:
            follow_with(s, row, slot)
    if c["goaway_last"] >= 0 and stream > c["goaway_last"]:
        row["flags"] = int(row["flags"]) | NOT_PROCESSED
        row["stream_error"] = c["goaway_error"]
    extend_request(s, slot, i, event, np.int64(HEADER_BYTES), pos)
    return i


@kernel
def extend_request(s, slot, i, event, length, stop):
    """Add bytes of a frame to a request; other streams' bytes may lie between them and the earlier ones.

    Parameters
    ----------
    s : FramerArrays
    slot, i : int
    event : record of columns.STREAM_EVENTS.dtype
    length : int
        [bytes] How many.
    stop : int
        [bytes] Where they end in the event's delivered data.
    """
    row = s.rows[i]
    row["request_bytes"] += length
    row["request_end_seq"] = (data_sequence(event) + stop) & 0xFFFFFFFF
    flags = int(row["flags"])
    if flags & ACKNOWLEDGED:
        row["flags"] = (flags & ~ACKNOWLEDGED) | ACKNOWLEDGED_PART
        if s.conns[slot]["head"] == i:
            forget_keys(s, slot, ACK_KEY)
    s.opened[i]["request_last_ns"] = event["ts_ns"]
    s.conns[slot]["last_payload_ns"] = event["ts_ns"]
    if s.conns[slot]["head"] == i and event["frame"] != row["request_frame"]:
        replace_key(s, slot, BITS[Key.REQUEST_END.value], event)


@kernel
def begin_stream_response(s, slot, i, event, begin):
    """Note the first byte of a response; arguments as for `open_stream`."""
    row = s.rows[i]
    extra = s.opened[i]
    extra["has_response"] = 1
    row["flags"] = int(row["flags"]) & ~NOT_PROCESSED  # whatever GOAWAY said
    row["stream_error"] = -1
    row["response_framing"] = Framing.FRAMES.value
    row["response_frame"] = event["frame"]
    row["response_seq"] = (data_sequence(event) + begin) & 0xFFFFFFFF
    at_ns = event["ts_ns"]
    if begin < 0:
        f = s.flows[2 * slot + 1]
        row["response_frame"] = f["begin_frame"]
        at_ns = f["begin_ts_ns"]
    if extra["request_last_ns"] >= 0:
        row["first_byte_ns"] = max(0, at_ns - extra["request_last_ns"])
    if s.conns[slot]["head"] == i:
        forget_keys(s, slot, RESPONSE_END_KEY)
        replace_key(s, slot, BITS[Key.RESPONSE.value], event)


@kernel
def extend_stream_response(s, slot, i, event, length):
    """Add bytes of a frame to a response; arguments as for `extend_request`."""
    s.rows[i]["response_bytes"] += length
    s.opened[i]["response_last_ns"] = event["ts_ns"]
    s.conns[slot]["last_payload_ns"] = event["ts_ns"]
    if s.conns[slot]["orig_closed"] or s.conns[slot]["head"] != i:
        return
    if event["frame"] < 0 or event["frame"] != s.rows[i]["response_frame"]:
        replace_key(s, slot, BITS[Key.RESPONSE_END.value], event)


@kernel
def take_status(s, i, status):
    """Take in the status of a response's head; one of an interim response does not begin the answer.

    Parameters
    ----------
    s : FramerArrays
    i : int
    status : int
        -1 where it could not be read without the connection's tables (RFC 7541).
    """
    row = s.rows[i]
    if 100 <= status < 200:
        row["flags"] = int(row["flags"]) | INTERIM
        row["response_frame"] = -1
        row["response_seq"] = -1
        row["first_byte_ns"] = -1
        row["response_framing"] = Framing.UNKNOWN.value
        s.opened[i]["has_response"] = 0
    else:
        row["status_code"] = status


@kernel
def _hand_out(s, slot, i, previous, end_key):
    """Emit an exchange from anywhere in the queue, with the key segments of the first one left as they are.

    `end_key` is the bit of the key segment that ended a stream without its response, 0 for one that was answered.
    """
    c = s.conns[slot]
    keys_set = int(c["keys_set"])
    is_first = previous < 0
    if not is_first:
        extra = s.opened[i]
        s.opened[previous]["next"] = extra["next"]
        if c["tail"] == i:
            c["tail"] = previous
        extra["next"] = c["head"]
        c["head"] = i
        if end_key:
            follow_with(s, s.rows[i], slot)
    if end_key:
        c["keys_set"] = int(c["keys_set"]) | end_key
        ending = int(c["ending"])
        c["ending"] = CLOSED
        emit_exchange(s, slot)
        c["ending"] = ending
        c["keys_set"] = int(c["keys_set"]) & ~end_key
    else:
        emit_exchange(s, slot)
    if not is_first:
        c["keys_set"] = keys_set & ~end_key


@kernel
def end_request(s, i):
    """Mark a request complete.

    Parameters
    ----------
    s : FramerArrays
    i : int
    """
    s.opened[i]["request_done"] = 1


@kernel
def end_response(s, slot, i, previous):
    """Mark a response complete; hand its exchange out if others are open.

    Parameters
    ----------
    s : FramerArrays
    slot, i, previous : int
        As `find_stream` returned them.
    """
    s.opened[i]["response_done"] = 1
    if s.conns[slot]["n_open"] > 1 and not s.conns[slot]["orig_closed"]:
        _hand_out(s, slot, i, previous, np.int64(0))


@kernel
def reset_stream(s, slot, event, i, previous, error):
    """Take in RST_STREAM: a stream without the whole of its response is lost (RFC 9113 section 6.4).

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        The segment that completed it.
    i, previous : int
        As `find_stream` returned them.
    error : int
        Its error code.
    """
    if s.opened[i]["response_done"]:
        return
    c = s.conns[slot]
    row = s.rows[i]
    acknowledged = event["ack"] if event["dir"] == RESP else c["resp_ack"]
    note_end_of_request(row, acknowledged)
    if not int(row["flags"]) & NOT_PROCESSED:
        row["stream_error"] = min(error, MOST_ERROR)
        if event["dir"] == RESP and error == REFUSED_STREAM and not s.opened[i]["has_response"]:
            row["flags"] = int(row["flags"]) | NOT_PROCESSED
    key = Key.RESP_RESET_STREAM.value if event["dir"] == RESP else Key.ORIG_RESET_STREAM.value
    replace_key(s, slot, BITS[key], event)
    c["last_payload_ns"] = event["ts_ns"]
    _hand_out(s, slot, i, previous, np.int64(1) << np.int64(key))


@kernel
def note_end_of_request(row, acknowledged):
    """Note how much of a request is acknowledged at its end.

    Parameters
    ----------
    row : record of columns.EXCHANGES.dtype
    acknowledged : int
        Acknowledgement number of the responder, -1 if none was seen.
    """
    if acknowledged < 0 or row["request_seq"] < 0:
        return
    if sequence_difference(acknowledged, row["request_end_seq"]) >= 0:
        row["flags"] = int(row["flags"]) | ACKNOWLEDGED
    elif sequence_difference(acknowledged, row["request_seq"]) > 0:
        row["flags"] = int(row["flags"]) | ACKNOWLEDGED_PART


@kernel
def use_credit(s, slot, event, i, length, is_last):
    """Take in that a DATA frame of the originator is whole: its content counts against two windows (section 6.9).

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        The segment that completed it.
    i : int
        The exchange, -1 for a stream that is not open.
    length : int
        [bytes] Of its payload.
    is_last : bool
        Whether the request ends with it.
    """
    c = s.conns[slot]
    c["credit"] -= length
    if i < 0:
        return
    s.opened[i]["credit"] -= length
    if not is_last and c["head"] == i and (c["credit"] <= 0 or s.opened[i]["credit"] <= 0):
        replace_key(s, slot, BITS[Key.CREDIT_USED.value], event)


@kernel
def _look_at_credit(s, slot):
    """Forget that the first request had to wait, if it may go on."""
    c = s.conns[slot]
    i = np.int64(c["head"])
    if i >= 0 and c["credit"] > 0 and s.opened[i]["credit"] > 0:
        forget_keys(s, slot, CREDIT_USED_KEY)


@kernel
def grant_credit(s, slot, stream, more):
    """Take in the responder's WINDOW_UPDATE; stream 0 stands for the connection.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    stream : int
    more : int
        [bytes] How much more may be sent.
    """
    c = s.conns[slot]
    if stream == 0:
        c["credit"] = min(c["credit"] + more, UNKNOWN_CREDIT)
    else:
        i, _ = find_stream(s, slot, stream)
        if i >= 0:
            s.opened[i]["credit"] = min(s.opened[i]["credit"] + more, UNKNOWN_CREDIT)
    _look_at_credit(s, slot)


@kernel
def change_stream_credit(s, slot, first):
    """Take in with how much credit streams begin, by the responder's SETTINGS: it counts for open ones, too (6.9.2).

    Parameters
    ----------
    s : FramerArrays
    slot : int
    first : int
        [bytes]
    """
    c = s.conns[slot]
    more = first - np.int64(c["stream_credit"])
    c["stream_credit"] = first
    i = np.int64(c["head"])
    while i >= 0:
        s.opened[i]["credit"] = min(s.opened[i]["credit"] + more, UNKNOWN_CREDIT)
        i = np.int64(s.opened[i]["next"])
    _look_at_credit(s, slot)


@kernel
def forget_credit(s, slot):
    """Take in that bytes of the responder's SETTINGS or WINDOW_UPDATE were not captured: it may have granted anything.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    """
    s.conns[slot]["credit"] = UNKNOWN_CREDIT
    change_stream_credit(s, slot, UNKNOWN_CREDIT)


@kernel
def take_goaway(s, slot, event, last, error):
    """Take in the responder's GOAWAY: streams beyond `last` were not processed (RFC 9113 section 6.8).

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    last : int
        The highest stream that was, or may still be, processed.
    error : int
    """
    c = s.conns[slot]
    error = min(error, MOST_ERROR)
    is_lower = c["goaway_last"] < 0 or last < c["goaway_last"]
    if is_lower:
        # The first of a graceful end allows all streams; the one that counts comes later.
        c["goaway_last"] = last
        c["goaway_error"] = error
        replace_key(s, slot, BITS[Key.GOAWAY.value], event)
    n_waiting = 0
    i = np.int64(c["head"])
    while i >= 0:
        extra = s.opened[i]
        if not extra["response_done"]:
            n_waiting += 1
            row = s.rows[i]
            if is_lower and row["stream"] > last and not extra["has_response"]:
                row["flags"] = int(row["flags"]) | NOT_PROCESSED
                row["stream_error"] = error
        i = np.int64(extra["next"])
    if n_waiting:
        c["close_announced"] = 1  # what follows its last stream is no idle closing


@kernel
def count_waiting(s, slot):
    """Return how many streams wait for the whole of their response.

    Parameters
    ----------
    s : FramerArrays
    slot : int

    Returns
    -------
    int
    """
    n = 0
    i = np.int64(s.conns[slot]["head"])
    while i >= 0:
        if not s.opened[i]["response_done"]:
            n += 1
        i = np.int64(s.opened[i]["next"])
    return n


@kernel
def lose_frames(s, slot):
    """Give a connection up whose frames cannot be followed any more: of its open streams nothing is known.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    """
    c = s.conns[slot]
    if c["protocol"] == Protocol.HTTP2_UNREAD.value:
        return
    c["protocol"] = Protocol.HTTP2_UNREAD.value
    ending, orig_closed = int(c["ending"]), int(c["orig_closed"])
    c["ending"] = CUT
    c["orig_closed"] = 0  # what was acknowledged of a response is not known yet
    while c["head"] >= 0:
        i = np.int64(c["head"])
        row = s.rows[i]
        if not s.opened[i]["response_done"]:
            row["protocol"] = Protocol.HTTP2_UNREAD.value
            row["flags"] = int(row["flags"]) | HOLE
            row["response_framing"] = Framing.FRAMES.value
            s.opened[i]["has_response"] = 1  # pending: whether it was answered is not known
        emit_exchange(s, slot)
    c["ending"] = ending
    c["orig_closed"] = orig_closed
    c["last_payload_ns"] = -1
    free_scratch(s, s.flows[2 * slot])
    free_scratch(s, s.flows[2 * slot + 1])


@kernel
def settle_streams(s, slot, conn_row):
    """Note at a connection's end what was acknowledged of each open stream's request.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    conn_row : record of columns.CONNECTIONS.dtype
    """
    i = np.int64(s.conns[slot]["head"])
    while i >= 0:
        note_end_of_request(s.rows[i], np.int64(conn_row["resp_max_ack"]))
        i = np.int64(s.opened[i]["next"])
