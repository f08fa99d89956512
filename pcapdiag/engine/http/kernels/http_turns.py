"""Exchanges of what is not HTTP/1: turns of bytes, and TLS records far enough to tell application data from alerts.

Knows record headers (RFC 8446 section 5.1) and turns; nothing of HTTP.
"""

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Framing, Key, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http_detect import looks_like_tls
from pcapdiag.engine.http.kernels.http_exchange import (
    ACK_KEY,
    BITS,
    KEEP_ALIVE_ACK_KEY,
    REQUEST_KEYS,
    RESPONSE_END_KEY,
    data_sequence,
    emit_exchange,
    forget_keys,
    keep_key,
    replace_key,
    take_open,
)
from pcapdiag.engine.http.kernels.http_state import ST_BODY, ST_LOST, ST_START, ST_TURN
from pcapdiag.engine.http.kernels.http_steps import is_too_old, is_unsure, mark_unseen, note_step, was_answered_before
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

HOLE = int(ExchangeFlag.HOLE)
EARLY_RESPONSE = int(ExchangeFlag.EARLY_RESPONSE)
PIPELINED = int(ExchangeFlag.PIPELINED)
PROBED = int(ExchangeFlag.PROBED)
ACKNOWLEDGED = int(ExchangeFlag.ACKNOWLEDGED)
ACKNOWLEDGED_PART = int(ExchangeFlag.ACKNOWLEDGED_PART)

TLS_ALERT = 21
TLS_APPLICATION = 23
TLS_HEADER_BYTES = 5
TLS_13_ALERT_BYTES = 19
"""[bytes] An encrypted TLS 1.3 alert: 2 bytes, their type, the tag (RFC 8446 section 5.2). No message is so short."""
MIN_REQUEST_RECORD_BYTES = 34
"""[bytes] The shortest HTTP/1 request, ``GET / HTTP/1.0`` and two line ends, behind the shortest tag. HTTP/2 says
SETTINGS acknowledgement, WINDOW_UPDATE, PING and GOAWAY in less."""
FINISHED_LENGTHS = (53, 69, 45)
"""[bytes] The record of a TLS 1.3 Finished: 4 bytes, a hash of SHA-256 or SHA-384, its type, the tag (RFC 8446 section
4.4.4); the last with the short tag of CCM_8. Before it a client that was asked for a certificate sends that."""
MAX_ALERT_BYTES = 69
"""[bytes] The longest encrypted alert with its header: CBC with the longest MAC in use."""
COUNTS, ALERT = 1, 2
IN_HANDSHAKE, IN_CERTIFICATE = 1, 2
"""Of a TLS 1.3 connection: the responder's part of the handshake came; the originator's began with something else than
its Finished."""
_AT_ONCE_NS = 100_000_000
_EARLY_PATIENCE_NS = 1_000_000_000
"""A request that was answered early goes on; bytes after a longer pause are the next one."""


@kernel
def finish_turn(s, slot):
    """End a response that lasts until the other side speaks.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    """
    i = int(s.conns[slot]["head"])
    if i >= 0 and s.opened[i]["has_response"] and s.rows[i]["response_framing"] == Framing.TURN.value:
        s.opened[i]["response_done"] = 1
        if s.flows[2 * slot + 1]["state"] == ST_TURN:
            s.flows[2 * slot + 1]["state"] = ST_START


@kernel
def finish_without_content(s, slot):
    """End a response of which only the head has come, if the capture lacks its request.

    That request may have been HEAD, whose response announces content that never comes (RFC 9110 section 9.3.2): the
    next request says so, or the next response. Else those to come would be taken for that content.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    """
    i = int(s.conns[slot]["head"])
    f = s.flows[2 * slot + 1]
    if i >= 0 and s.rows[i]["request_frame"] < 0 and f["state"] == ST_BODY and f["remaining"] == f["content_length"]:
        s.opened[i]["response_done"] = 1
        f["state"] = ST_START


@kernel
def _join_ahead(s, slot, event, pos):
    """Make a request that was stored after its response one exchange with it; return its index, -1 if there is none."""
    c = s.conns[slot]
    i = int(c["head"])
    seq = (data_sequence(event) + pos) & 0xFFFFFFFF
    if i < 0 or i != c["tail"] or s.rows[i]["request_frame"] >= 0 or sequence_difference(c["ahead_ack"], seq) <= 0:
        return -1
    response_seq = s.rows[i]["response_seq"]
    if response_seq >= 0 and event["ack"] >= 0 and response_seq != event["ack"]:
        return -1  # not in step: it answers another request
    c["ahead_ack"] = -1
    row = s.rows[i]
    _note_begin(row, event, seq)
    row["flags"] = int(row["flags"]) | HOLE
    s.opened[i]["request_done"] = 0
    replace_key(s, slot, BITS[Key.REQUEST.value], event)
    return i


@kernel
def _note_begin(row, event, seq):
    """Note where a request begins."""
    row["request_frame"] = event["frame"]
    row["request_ts_ns"] = event["ts_ns"]
    row["request_seq"] = seq
    row["request_end_seq"] = seq
    row["request_ack"] = event["ack"]


@kernel
def begin_request(s, slot, event, pos):
    """Open an exchange whose request begins `pos` bytes into an event's data; return its index.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    pos : int
        [bytes] Position in the delivered data.

    Returns
    -------
    int
        Index in the pool of open exchanges.
    """
    c = s.conns[slot]
    finish_turn(s, slot)
    finish_without_content(s, slot)
    is_http1 = c["protocol"] == Protocol.HTTP1.value
    if c["ahead_ack"] >= 0 and not (is_http1 and is_unsure(s, slot, np.int64(event["ack"]))):
        i = _join_ahead(s, slot, event, pos)
        if i >= 0:
            if is_http1:
                note_step(s, slot, i)
            return i
    if c["head"] >= 0 and s.opened[c["head"]]["response_done"]:
        emit_exchange(s, slot)
    pipelined = c["head"] >= 0
    i = take_open(s, slot, event["conn"])
    row = s.rows[i]
    _note_begin(row, event, (data_sequence(event) + pos) & 0xFFFFFFFF)
    ahead_ack = c["ahead_ack"]
    c["ahead_ack"] = -1
    is_ahead = ahead_ack >= 0 and sequence_difference(ahead_ack, row["request_seq"]) > 0
    if not pipelined and (is_ahead or was_answered_before(c, row)):
        # The frames are out of order: what answers this request was stored before it.
        mark_unseen(s, i)
        s.opened[i]["response_last_ns"] = event["ts_ns"]
    if is_http1:
        note_step(s, slot, i)
    if pipelined:
        row["flags"] = int(row["flags"]) | PIPELINED
    else:
        # A hole that only this request acknowledges may have come at any time since: nobody knows the gap.
        is_known = c["last_payload_ns"] >= 0 and c["hole_ns"] != event["ts_ns"]
        if is_known and (row["depth"] > 0 or c["mid_stream"]):
            row["idle_before_ns"] = max(0, event["ts_ns"] - c["last_payload_ns"])
        keys_set = int(c["keys_set"])
        is_probed = row["idle_before_ns"] >= 0 and keys_set >> Key.KEEP_ALIVE_ACK.value & 1
        if is_probed and s.keys[slot, Key.KEEP_ALIVE_ACK.value]["ts_ns"] > c["last_payload_ns"]:
            row["flags"] = int(row["flags"]) | PROBED
        last = Key.RESPONSE_END.value if keys_set >> Key.RESPONSE_END.value & 1 else Key.RESPONSE.value
        if keys_set >> last & 1:
            s.keys[slot, Key.RESPONSE_BEFORE.value] = s.keys[slot, last]
            c["keys_set"] = keys_set | 1 << Key.RESPONSE_BEFORE.value
        is_probed = int(row["flags"]) & PROBED
        forget_keys(s, slot, REQUEST_KEYS & ~KEEP_ALIVE_ACK_KEY if is_probed else REQUEST_KEYS)
        replace_key(s, slot, BITS[Key.REQUEST.value], event)
    return i


@kernel
def begin_response(s, slot, i, event, pos):
    """Note the first byte of a response, `pos` bytes into an event's data.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        The exchange.
    event : record of columns.STREAM_EVENTS.dtype
    pos : int
        [bytes] Position in the delivered data.
    """
    row = s.rows[i]
    extra = s.opened[i]
    extra["has_response"] = 1
    row["response_frame"] = event["frame"]
    row["response_seq"] = (data_sequence(event) + pos) & 0xFFFFFFFF
    if extra["request_last_ns"] >= 0:
        row["first_byte_ns"] = max(0, event["ts_ns"] - extra["request_last_ns"])
    if row["request_framing"] == Framing.TURN.value:
        extra["request_done"] = 1
        is_readable = int(row["protocol"]) != Protocol.OPAQUE.value and event["ack"] >= 0
        # Who answers with a full window has not read what it was sent.
        is_behind = event["window"] == 0 or sequence_difference(event["ack"], row["request_end_seq"]) < 0
        if is_readable and is_behind:
            row["flags"] = int(row["flags"]) | EARLY_RESPONSE
    elif not extra["request_done"] and row["request_frame"] >= 0:
        row["flags"] = int(row["flags"]) | EARLY_RESPONSE
    forget_keys(s, slot, RESPONSE_END_KEY)  # an interim response ended before
    replace_key(s, slot, BITS[Key.RESPONSE.value], event)


@kernel
def extend_response(s, slot, i, event, length):
    """Add bytes of an event to a response, at least one; arguments as for `extend_message`."""
    s.rows[i]["response_bytes"] += length
    is_closed = s.conns[slot]["orig_closed"]
    if event["ts_ns"] > s.opened[i]["response_last_ns"] and not (is_closed and event["frame"] < 0):
        # What was stored while it waited for a hole is older than that; one behind the closing came at no known time.
        s.opened[i]["response_last_ns"] = event["ts_ns"]
    if is_closed:
        return  # bytes that nobody reads any more
    if event["frame"] < 0 or event["frame"] != s.rows[i]["response_frame"]:
        replace_key(s, slot, BITS[Key.RESPONSE_END.value], event)


@kernel
def extend_message(s, slot, i, event, length):
    """Add bytes of an event to the message of its sender.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        The exchange.
    event : record of columns.STREAM_EVENTS.dtype
    length : int
        [bytes] How many more.
    """
    if length <= 0:
        return
    if event["dir"] == Direction.RESP.value:
        extend_response(s, slot, i, event, length)
        return
    row = s.rows[i]
    row["request_bytes"] += length
    row["request_end_seq"] = (row["request_end_seq"] + length) & 0xFFFFFFFF
    flags = int(row["flags"])
    if flags & ACKNOWLEDGED:
        # More of the request came after its beginning was acknowledged.
        row["flags"] = (flags & ~ACKNOWLEDGED) | ACKNOWLEDGED_PART
        forget_keys(s, slot, ACK_KEY)
    s.opened[i]["request_last_ns"] = event["ts_ns"]
    if s.conns[slot]["head"] == i and event["frame"] != row["request_frame"]:
        replace_key(s, slot, BITS[Key.REQUEST_END.value], event)


@kernel
def response_target(s, slot):
    """Return the exchange that responder bytes belong to, -1 if none is open.

    Parameters
    ----------
    s : FramerArrays
    slot : int

    Returns
    -------
    int
    """
    i = int(s.conns[slot]["head"])
    if i >= 0 and s.opened[i]["response_done"]:
        return -1
    return i


@kernel
def _goes_on(s, slot, i, event):
    """Whether a request that was answered before it was whole goes on with these bytes."""
    c = s.conns[slot]
    pause = event["ts_ns"] - c["last_payload_ns"]
    if s.opened[i]["response_done"] or c["protocol"] == Protocol.OPAQUE.value:
        return False
    if c["resp_closed"] and pause < _AT_ONCE_NS:
        # The responder closed right behind its answer: whoever had read that would not ask again.
        s.rows[i]["flags"] = int(s.rows[i]["flags"]) | EARLY_RESPONSE
        return True
    return int(s.rows[i]["flags"]) & EARLY_RESPONSE != 0 and pause < _EARLY_PATIENCE_NS


@kernel
def _add_request_turn(s, slot, event, pos, length):
    i = np.int64(s.conns[slot]["tail"])
    if i < 0 or (s.opened[i]["has_response"] and not _goes_on(s, slot, i, event)):
        i = begin_request(s, slot, event, pos)
        s.rows[i]["request_framing"] = Framing.TURN.value
    extend_message(s, slot, i, event, length)
    s.conns[slot]["last_payload_ns"] = event["ts_ns"]


@kernel
def _add_response_turn(s, slot, event, pos, length):
    """Count responder bytes, unless they cannot be an answer.

    Bytes sent by an endpoint that had not received any of the request do not answer it: a TLS close_notify or a
    session ticket that crosses the request.
    """
    i = response_target(s, slot)
    if i < 0:
        s.conns[slot]["ahead_ack"] = event["ack"]
        return
    row = s.rows[i]
    protocol = int(s.conns[slot]["protocol"])
    if is_too_old(s, i, (data_sequence(event) + pos) & 0xFFFFFFFF):
        return
    if not s.opened[i]["has_response"]:
        is_blind = event["ack"] >= 0 and sequence_difference(event["ack"], row["request_seq"]) <= 0
        if is_blind and protocol != Protocol.OPAQUE.value:
            is_unseen = protocol == Protocol.UNKNOWN.value or s.flows[2 * slot + 1]["state"] == ST_LOST
            if is_unseen and event["data_len"] <= MAX_ALERT_BYTES:
                keep_key(s, slot, BITS[Key.UNSOLICITED.value], event)
            return
        begin_response(s, slot, i, event, pos)
        row["response_framing"] = Framing.TURN.value
        if event["frame"] < 0:
            row["flags"] = int(row["flags"]) | HOLE
    s.flows[2 * slot + 1]["state"] = ST_TURN
    extend_message(s, slot, i, event, length)
    s.conns[slot]["last_payload_ns"] = event["ts_ns"]


@kernel
def add_turn(s, slot, event, pos, length):
    """Count bytes of either side as (part of) a message that lasts until the other side speaks.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    pos, length : int
        [bytes] Which part of the delivered data.
    """
    if event["dir"] == Direction.ORIG.value:
        _add_request_turn(s, slot, event, pos, length)
    else:
        _add_response_turn(s, slot, event, pos, length)


@kernel
def _record_counts(conn, flow, direction, is_in_request, is_behind):
    """Tell what the record that begins is (COUNTS, ALERT or 0); keeps the state of the handshake.

    `is_behind` says that its segment holds other bytes before it.
    """
    kind = int(flow["tls_type"])
    if kind == TLS_ALERT and conn["tls_application"]:
        return ALERT
    if kind != TLS_APPLICATION:
        return 0
    if conn["tls_application"]:
        length = flow["remaining"]
        if length <= TLS_13_ALERT_BYTES:
            return ALERT if length == TLS_13_ALERT_BYTES else 0
        # TLS 1.3 has one byte more, the type inside; which version it is, a connection seen from its middle hides.
        least = MIN_REQUEST_RECORD_BYTES + (1 if conn["tls_13"] or conn["mid_stream"] else 0)
        return 0 if direction == 0 and not is_in_request and length < least else COUNTS
    if direction == 1:
        # TLS 1.3 encrypts the rest of the handshake into application-data records.
        conn["tls_13"] = max(conn["tls_13"], IN_HANDSHAKE)
        return 0
    if not conn["tls_13"]:
        conn["tls_application"] = 1
        return 0 if flow["remaining"] < MIN_REQUEST_RECORD_BYTES else COUNTS
    # In TLS 1.3 the first such record of the originator is its Finished, unless it has a certificate to send: then the
    # rest of the handshake comes in one go with that, and what begins a segment of its own without being a Finished is
    # data behind a handshake that was packed into one record.
    remaining = int(flow["remaining"])
    is_finished = (
        remaining == FINISHED_LENGTHS[0] or remaining == FINISHED_LENGTHS[1] or remaining == FINISHED_LENGTHS[2]
    )
    if not is_finished and (conn["tls_13"] == IN_HANDSHAKE or is_behind):
        conn["tls_13"] = IN_CERTIFICATE
        return 0
    conn["tls_application"] = 1
    return 0 if is_finished else COUNTS


@kernel
def feed_tls(s, slot, event, data):
    """Walk the TLS records of an event and count application data as turns.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    data : ndarray of uint8, shape (n_byte,)
        Where the delivered bytes lie.
    """
    c = s.conns[slot]
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    at = event["data_offset"]
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    pos = np.int64(0)  # of a fixed width, as in http.py
    if f["state"] == ST_LOST:
        # Records usually begin with a segment: try again here, and count blindly if this one does not.
        if pos < captured and looks_like_tls(data, at + pos, captured - pos):
            f["state"] = ST_START
            f["remaining"] = 0
            f["tls_header"] = 0
        else:
            is_in_request = c["tail"] >= 0 and not s.opened[c["tail"]]["has_response"]
            is_too_short = direction == 0 and not is_in_request and length <= MIN_REQUEST_RECORD_BYTES + 5
            if c["tls_application"] and not is_too_short:
                add_turn(s, slot, event, pos, length - pos)
                f["state"] = ST_LOST
            return
    while pos < length:
        if f["remaining"] > 0 and f["tls_header"] == 0:
            n = min(f["remaining"], length - pos)
            f["remaining"] -= n
            if f["tls_counts"] == COUNTS:
                if pos == 0 and direction == 0 and c["tail"] >= 0 and s.opened[c["tail"]]["has_response"]:
                    # The middle of a record: what was answered goes on.
                    s.rows[c["tail"]]["flags"] = int(s.rows[c["tail"]]["flags"]) | EARLY_RESPONSE
                add_turn(s, slot, event, pos, n)
            elif f["tls_counts"] == ALERT and direction == 1:
                keep_key(s, slot, BITS[Key.UNSOLICITED.value], event)
            pos += n
            continue
        if pos >= captured:
            f["state"] = ST_LOST
            f["tls_header"] = 0
            f["remaining"] = 0
            return
        byte = int(data[at + pos])
        have = int(f["tls_header"])
        if have == 0:
            if byte < 20 or byte > 24:
                f["state"] = ST_LOST
                return
            f["tls_type"] = byte
            f["remaining"] = 0
        elif have == 3:
            f["remaining"] = byte << 8
        elif have == 4:
            f["remaining"] += byte
        have += 1
        pos += 1
        if have == TLS_HEADER_BYTES:
            have = 0
            is_in_request = c["tail"] >= 0 and not s.opened[c["tail"]]["has_response"]
            f["tls_counts"] = _record_counts(c, f, direction, is_in_request, pos != TLS_HEADER_BYTES)
        f["tls_header"] = have
