"""The framer: stream events to exchanges.

Knows RFC 9112 message framing, turns for everything else, and when an answer comes too late. An exchange that is
complete stays open until the next request or the end of its connection, because only then it is certain that the
originator took the answer.

Invariants
----------
* An exchange whose response is complete is the last one of its connection's queue.
* A flow holds a scratch row only while a head is incomplete.
"""

from typing import Annotated

import numpy as np

from pcapdiag.base.codes import (
    ConnEnd,
    Direction,
    ExchangeFlag,
    Fate,
    Framing,
    Key,
    Method,
    Protocol,
    StreamEventKind,
    TcpFlag,
)
from pcapdiag.base.columns import CONNECTIONS, STREAM_EVENTS
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes
from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.engine.http.kernels.http2 import (
    begin_upgraded,
    feed_http2,
    is_preface_due,
    looks_like_settings,
)
from pcapdiag.engine.http.kernels.http2_streams import count_waiting, lose_frames, settle_streams
from pcapdiag.engine.http.kernels.http_detect import detect_protocol, is_goodbye, looks_like_tls
from pcapdiag.engine.http.kernels.http_exchange import (
    BITS,
    ORIG_ZERO_WINDOW_KEY,
    data_sequence,
    emit_exchange,
    emit_keys,
    free_scratch,
    keep_key,
    note_acknowledgement,
    note_probe,
    note_window,
    replace_key,
    store_text,
    take_open,
)
from pcapdiag.engine.http.kernels.http_gateway import feed_fastcgi, feed_single, feed_single_response
from pcapdiag.engine.http.kernels.http_head import looks_like_request, looks_like_response
from pcapdiag.engine.http.kernels.http_hole import skip_hole
from pcapdiag.engine.http.kernels.http_message import (
    begin_head,
    end_message,
    frame_request,
    frame_response,
    lose_framing,
    read_body,
    read_head,
)
from pcapdiag.engine.http.kernels.http_state import (
    BLANK_CONN,
    BLANK_FLOW,
    CLOSED,
    CUT,
    F_DONE,
    F_NEED_OPEN,
    F_NEED_SCRATCH,
    F_OUTPUT_FULL,
    KEY_MARGIN,
    MAX_OPEN_PER_CONNECTION,
    OPEN_MARGIN,
    ST_BODY,
    ST_HEAD,
    ST_LOST,
    ST_START,
    ST_TURN,
    ST_UNTIL_CLOSE,
    TEXT_MARGIN,
    FramerArrays,
)
from pcapdiag.engine.http.kernels.http_steps import is_too_old, lose_step, next_step, settle_before
from pcapdiag.engine.http.kernels.http_turns import (
    add_turn,
    begin_request,
    begin_response,
    extend_message,
    extend_response,
    feed_tls,
    finish_without_content,
    response_target,
)
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

FIN = int(TcpFlag.FIN)
SYN = int(TcpFlag.SYN)
RST = int(TcpFlag.RST)
ACK = int(TcpFlag.ACK)
ORIG = Direction.ORIG.value
RESP = Direction.RESP.value
ACKNOWLEDGED = int(ExchangeFlag.ACKNOWLEDGED)
HOLE = int(ExchangeFlag.HOLE)
INTERIM = int(ExchangeFlag.INTERIM)
EARLY_RESPONSE = int(ExchangeFlag.EARLY_RESPONSE)
GOODBYE = int(ExchangeFlag.GOODBYE)
CR = ord("\r")
LF = ord("\n")

# Of a fixed width: a literal, or a narrower integer, would have every kernel that takes it compiled once more.
_START = np.int64(0)
_NO_DEPTH = np.int32(-1)
_AT_END = np.int64(1)
_NOTHING, _NOT_KNOWN = np.int64(-1), np.int64(-2)


@kernel
def _take_content(s, slot, i, event, data, pos):
    """Walk the content that an event brings from `pos` on; return how many bytes of it."""
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    rest_captured = max(0, np.int64(event["data_cap"]) - pos)
    used, ended = read_body(f, data, int(event["data_offset"]) + pos, np.int64(event["data_len"]) - pos, rest_captured)
    extend_message(s, slot, i, event, used)
    if ended:
        end_message(s, slot, i, direction)
    elif f["state"] == ST_TURN:
        lose_framing(s, i, f, direction)
    return used


@kernel
def _feed_request(s, slot, event, data):  # fmt: skip
    """Frame originator bytes."""
    c = s.conns[slot]
    f = s.flows[2 * slot]
    direction = int(event["dir"])
    at = int(event["data_offset"])
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    pos = _START
    protocol = np.int64(c["protocol"])
    if protocol == Protocol.UPGRADED.value:
        c["last_payload_ns"] = event["ts_ns"]
        return
    if protocol == Protocol.TLS.value:
        feed_tls(s, slot, event, data)
        return
    if protocol == Protocol.FASTCGI.value:
        feed_fastcgi(s, slot, event, data)
        return
    if protocol == Protocol.UWSGI.value or protocol == Protocol.SCGI.value:
        feed_single(s, slot, event, data)
        return
    if protocol == Protocol.HTTP2.value:
        if c["n_exchanges"] > 0 or not is_preface_due(f) or captured < 1 or data[at] == ord("P"):
            feed_http2(s, slot, event, data, _START)
            return
        # The responder's first bytes only looked like HTTP/2.
        c["protocol"] = Protocol.OPAQUE.value
        protocol = np.int64(c["protocol"])
    if protocol == Protocol.HTTP2_UNREAD.value:
        return
    tail = int(c["tail"])
    if f["state"] == ST_LOST or (f["state"] == ST_TURN and (tail < 0 or s.opened[tail]["has_response"])):
        f["state"] = ST_START
    while pos < length:
        state = int(f["state"])
        rest = length - pos
        rest_captured = max(0, captured - pos)
        if state == ST_START:
            is_unknown = protocol == Protocol.UNKNOWN.value or protocol == Protocol.OPAQUE.value
            if (is_unknown or protocol == Protocol.HTTP1.value) and rest_captured > 0:
                if protocol == Protocol.HTTP1.value and (data[at + pos] == CR or data[at + pos] == LF):
                    pos += 1  # RFC 9112 section 2.2: empty lines before a request line
                    continue
                if looks_like_request(data, at + pos, rest_captured, protocol):
                    if c["n_open"] >= MAX_OPEN_PER_CONNECTION:
                        f["state"] = ST_LOST
                        return
                    c["protocol"] = Protocol.HTTP1.value
                    protocol = Protocol.HTTP1.value
                    begin_request(s, slot, event, pos)
                    begin_head(s, f)
                    continue
            if is_unknown and rest_captured > 0:
                c["protocol"] = detect_protocol(data, at + pos, rest_captured, rest)
                protocol = np.int64(c["protocol"])
                if protocol == Protocol.TLS.value:
                    if c["mid_stream"] and data[at + pos] == 23:
                        c["tls_application"] = 1
                    feed_tls(s, slot, event, data)
                    return
                if protocol == Protocol.FASTCGI.value and pos == 0:
                    feed_fastcgi(s, slot, event, data)
                    return
                if (protocol == Protocol.UWSGI.value or protocol == Protocol.SCGI.value) and pos == 0:
                    feed_single(s, slot, event, data)
                    return
                if protocol == Protocol.HTTP2.value:
                    if pos == 0 and c["n_exchanges"] == 0:
                        feed_http2(s, slot, event, data, _START)
                    else:
                        lose_frames(s, slot)
                    return
            if protocol == Protocol.HTTP1.value and rest_captured > 0:
                if detect_protocol(data, at + pos, rest_captured, rest) == Protocol.HTTP2.value:
                    # RFC 7540 section 3.2: the preface of who was upgraded, by a 101 that was not captured whole.
                    c["protocol"] = Protocol.HTTP2.value
                    lose_frames(s, slot)
                    return
            if protocol == Protocol.HTTP1.value and (c["tail"] >= 0 or rest_captured > 0):
                # Bytes between messages, or the middle of one whose beginning was not captured.
                f["state"] = ST_LOST
                return
            f["state"] = ST_TURN
            continue
        if state == ST_TURN:
            add_turn(s, slot, event, pos, rest)
            if protocol == Protocol.OPAQUE.value:
                row = s.rows[c["tail"]]
                is_whole = row["request_bytes"] == rest and is_goodbye(data, at + pos, rest_captured, rest)
                row["flags"] = (int(row["flags"]) & ~GOODBYE) | (GOODBYE if is_whole else 0)
            return
        i = np.int64(c["tail"])
        if state == ST_HEAD:
            used, ended = read_head(s, f, c, data, at + pos, rest, rest_captured, direction)
            extend_message(s, slot, i, event, used)
            if ended or f["state"] != ST_HEAD:
                row = s.rows[i]
                store_text(s, row, f)
                s.opened[i]["text_done"] = 1
                free_scratch(s, f)
                row["method"] = f["method"] if f["n_fields"] > 0 else Method.NONE.value
                if not ended:
                    lose_framing(s, i, f, direction)
                elif frame_request(f, row):
                    s.opened[i]["request_done"] = 1
        else:
            used = _take_content(s, slot, i, event, data, pos)
        pos += used
        c["last_payload_ns"] = event["ts_ns"]


@kernel
def _owed_from(s, slot):
    """Return the sequence number behind which a request lies that is not answered, _NOTHING if nothing was sent."""
    c = s.conns[slot]
    i = int(c["head"])
    if i < 0:
        return _NOT_KNOWN if c["mid_stream"] or c["n_exchanges"] > 0 else _NOTHING
    row = s.rows[i]
    extra = s.opened[i]
    seq = np.int64(row["request_seq"])
    if extra["response_done"]:
        seq = np.int64(row["request_end_seq"]) if seq >= 0 else _NOT_KNOWN
    elif extra["has_response"] or seq < 0:
        seq = _NOT_KNOWN
    return seq


@kernel
def _is_unasked(s, slot, event, data):
    """Whether bytes answer nothing: a 408 of a server that had not got any of a request when it sent that.

    The request may be on its way, or there is none: an idle connection is told so before it is closed.
    """
    c = s.conns[slot]
    owed = _owed_from(s, slot)
    if event["ack"] < 0 or owed == _NOT_KNOWN:
        return False
    if owed != _NOTHING and sequence_difference(event["ack"], owed) > 0:
        return False
    at = int(event["data_offset"])
    if event["data_cap"] >= 12 and s.flows[2 * slot + 1]["state"] == ST_START:
        is_408 = data[at + 9] == ord("4") and data[at + 10] == ord("0") and data[at + 11] == ord("8")
        c["unasked"] = 1 if is_408 and looks_like_response(data, at, np.int64(event["data_cap"])) else 0
    return c["unasked"] == 1


@kernel
def _give_up_head(s, slot):
    """Keep what was read of the last request's head, and read no more of it."""
    f = s.flows[2 * slot]
    tail = int(s.conns[slot]["tail"])
    if f["state"] != ST_HEAD:
        return
    if f["scratch"] >= 0 and not s.opened[tail]["text_done"]:
        store_text(s, s.rows[tail], f)
        s.opened[tail]["text_done"] = 1
        if f["n_fields"] > 0:
            s.rows[tail]["method"] = f["method"]
    free_scratch(s, f)
    f["state"] = ST_LOST


@kernel
def _feed_response(s, slot, event, data):  # fmt: skip
    """Frame responder bytes."""
    c = s.conns[slot]
    f = s.flows[2 * slot + 1]
    direction = int(event["dir"])
    at = int(event["data_offset"])
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    pos = _START
    protocol = np.int64(c["protocol"])
    if protocol == Protocol.UPGRADED.value:
        c["last_payload_ns"] = event["ts_ns"]
        return
    if (protocol == Protocol.UNKNOWN.value or protocol == Protocol.OPAQUE.value) and captured > 0:
        if looks_like_response(data, at, captured) and captured >= 5:
            protocol = Protocol.HTTP1.value
            c["protocol"] = protocol
        elif looks_like_tls(data, at, captured):
            protocol = Protocol.TLS.value
            c["protocol"] = protocol
            if c["mid_stream"] and data[at] == 23:
                c["tls_application"] = 1
    if protocol == Protocol.TLS.value:
        feed_tls(s, slot, event, data)
        return
    if protocol == Protocol.FASTCGI.value:
        feed_fastcgi(s, slot, event, data)
        return
    if protocol == Protocol.UWSGI.value or protocol == Protocol.SCGI.value:
        feed_single_response(s, slot, event, data)
        return
    if protocol == Protocol.UNKNOWN.value and c["n_exchanges"] == 0 and not c["mid_stream"]:
        if looks_like_settings(data, at, captured):
            # Servers need not wait for the originator's preface (RFC 9113 section 3.4).
            protocol = np.int64(Protocol.HTTP2.value)
            c["protocol"] = protocol
    if protocol == Protocol.HTTP2.value:
        feed_http2(s, slot, event, data, _START)
        return
    if protocol == Protocol.HTTP2_UNREAD.value:
        return
    if protocol != Protocol.HTTP1.value:
        add_turn(s, slot, event, pos, length)
        return
    if f["state"] == ST_LOST:
        f["state"] = ST_START
    if _is_unasked(s, slot, event, data):
        c["ahead_ack"] = event["ack"]  # of a request that was stored after its answer it acknowledges more
        f["state"] = ST_LOST
        return
    is_asked = c["resp_data_ack"] >= 0 and sequence_difference(event["ack"], c["resp_data_ack"]) > 0
    if f["state"] == ST_BODY and event["ack"] >= 0 and is_asked and looks_like_response(data, at, captured):
        finish_without_content(s, slot)
    i = response_target(s, slot)
    seq = data_sequence(event)
    if i >= 0 and is_too_old(s, i, seq):
        # Bytes that the originator had taken in before it asked: they answered a request that was not captured.
        pos = next_step(s, slot, seq, length)
    n_alone = 0
    while pos < length:
        state = int(f["state"])
        rest = length - pos
        rest_captured = max(0, captured - pos)
        i = response_target(s, slot)
        if state == ST_START:
            # Of what was answered unseen, no head can be told from the next one's.
            is_free = i < 0 or not s.opened[i]["has_response"]
            if is_free and rest_captured > 0 and looks_like_response(data, at + pos, rest_captured):
                if i < 0:
                    if n_alone == MAX_OPEN_PER_CONNECTION:
                        f["state"] = ST_LOST  # nobody answers so much in one segment; the output is bounded
                        return
                    n_alone += 1
                    if c["head"] >= 0:
                        _give_up_head(s, slot)
                        emit_exchange(s, slot)
                    i = take_open(s, slot, event["conn"])
                    s.opened[i]["request_done"] = 1
                    c["ahead_ack"] = event["ack"]
                begin_response(s, slot, i, event, pos)
                begin_head(s, f)
                continue
            if rest_captured > 0 and i < 0 and (data[at + pos] == CR or data[at + pos] == LF):
                pos += 1
                continue
            if i < 0:
                f["state"] = ST_LOST
                return
            # Something that is no HTTP/1 response, or was not captured: it answers all the same.
            if not s.opened[i]["has_response"]:
                begin_response(s, slot, i, event, pos)
            lose_framing(s, i, f, direction)
            continue
        if i < 0:
            f["state"] = ST_LOST
            free_scratch(s, f)
            return
        row = s.rows[i]
        if state == ST_HEAD:
            used, ended = read_head(s, f, c, data, at + pos, rest, rest_captured, direction)
            extend_message(s, slot, i, event, used)
            if ended:
                free_scratch(s, f)
                if 100 <= f["status_code"] < 200 and f["status_code"] != 101:
                    # It asks for the rest, or says to wait: no early answer.
                    row["flags"] = (int(row["flags"]) | INTERIM) & ~EARLY_RESPONSE
                    row["response_frame"] = -1
                    row["response_seq"] = -1
                    row["first_byte_ns"] = -1
                    s.opened[i]["has_response"] = 0
                    f["state"] = ST_START
                elif frame_response(f, row, c):
                    if c["protocol"] == Protocol.HTTP2.value:
                        begin_upgraded(s, slot, i)
                    else:
                        end_message(s, slot, i, direction)
            elif f["state"] != ST_HEAD:
                free_scratch(s, f)
                row["status_code"] = f["status_code"]
                lose_framing(s, i, f, direction)
        else:
            used = _take_content(s, slot, i, event, data, pos)
        pos += used
        c["last_payload_ns"] = event["ts_ns"]
        if c["protocol"] == Protocol.HTTP2.value and pos < length:
            feed_http2(s, slot, event, data, pos)
        if c["protocol"] != Protocol.HTTP1.value:
            return


@kernel
def _open_slot(s, slot):
    s.conns[slot] = BLANK_CONN[0]
    s.flows[2 * slot] = BLANK_FLOW[0]
    s.flows[2 * slot + 1] = BLANK_FLOW[0]


@kernel
def _note_closing(s, slot, event):
    """Take in a FIN or RST: who, with what acknowledged, and at which idle age."""
    c = s.conns[slot]
    direction = int(event["dir"])
    is_reset = int(event["flags"]) & RST
    if direction == ORIG:
        c["orig_closed"] = 1
        if c["orig_close_ack"] < 0 and event["ack"] >= 0 and int(event["flags"]) & ACK:
            c["orig_close_ack"] = event["ack"]
        keep_key(s, slot, BITS[Key.ORIG_RST.value if is_reset else Key.ORIG_FIN.value], event)
    else:
        if is_reset:
            c["resp_reset"] = 1
        c["resp_closed"] = 1
        keep_key(s, slot, BITS[Key.RESP_RST.value if is_reset else Key.RESP_FIN.value], event)
        i = response_target(s, slot)
        if not is_reset and i >= 0 and s.flows[2 * slot + 1]["state"] == ST_UNTIL_CLOSE:
            s.opened[i]["response_done"] = 1
            s.flows[2 * slot + 1]["state"] = ST_START
    if c["closing_seen"]:
        return
    c["closing_seen"] = 1
    i = response_target(s, slot)
    in_turn = i >= 0 and s.opened[i]["has_response"] and s.rows[i]["response_framing"] == Framing.TURN.value
    is_waiting = i >= 0 and not in_turn
    if c["protocol"] == Protocol.HTTP2.value:
        is_waiting = count_waiting(s, slot) > 0
    if is_waiting:
        c["closing_open"] = 1
    elif c["last_payload_ns"] >= 0 and not c["close_announced"] and c["hole_ns"] != event["ts_ns"]:
        c["idle_at_close_ns"] = max(0, event["ts_ns"] - c["last_payload_ns"])


@kernel
def _take_segment(s, slot, event, data):  # fmt: skip
    """Take in one segment, or the bytes of an earlier one."""
    c = s.conns[slot]
    flags = int(event["flags"])
    direction = int(event["dir"])
    fate = int(event["fate"])
    if fate == Fate.DUPLICATE_CAPTURE.value or fate == Fate.OUTSIDE_WINDOW.value:
        return
    is_segment = event["kind"] == StreamEventKind.SEGMENT.value
    is_repeated = fate == Fate.RETRANSMISSION.value or fate == Fate.SPURIOUS_RETRANSMISSION.value
    if is_segment and flags & SYN:
        if c["n_exchanges"] == 0:
            c["mid_stream"] = 0
        if is_repeated and direction == ORIG:
            keep_key(s, slot, BITS[Key.RETRANSMISSION.value], event)
            replace_key(s, slot, BITS[Key.LAST_RETRANSMISSION.value], event)
        else:
            keep_key(s, slot, BITS[Key.SYN_ACK.value if flags & ACK else Key.SYN.value], event)
    if is_segment and direction == ORIG and not flags & (SYN | FIN | RST):
        note_window(s, slot, event)
    head = int(c["head"])
    if is_segment and head >= 0 and not s.opened[head]["response_done"]:
        row = s.rows[head]
        if direction == RESP:
            if flags & ACK and event["ack"] >= 0:
                note_acknowledgement(s, row, slot, event)
            if event["window"] == 0 and not flags & (SYN | RST) and row["request_seq"] >= 0:
                keep_key(s, slot, BITS[Key.ZERO_WINDOW.value], event)
        elif is_repeated and event["payload_len"] > 0 and row["request_seq"] >= 0:
            into = sequence_difference(event["seq"], row["request_seq"])
            if 0 <= into < max(1, row["request_bytes"]):
                row["retransmissions"] += 1
                keep_key(s, slot, BITS[Key.RETRANSMISSION.value], event)
                replace_key(s, slot, BITS[Key.LAST_RETRANSMISSION.value], event)
    if event["data_len"] > 0:
        if direction == ORIG:
            _feed_request(s, slot, event, data)
        else:
            if c["protocol"] != Protocol.HTTP2.value:
                settle_before(s, slot, data_sequence(event))
            _feed_response(s, slot, event, data)
            c["resp_next"] = (data_sequence(event) + event["data_len"]) & 0xFFFFFFFF
            known = c["resp_data_ack"]
            if event["ack"] >= 0 and (known < 0 or sequence_difference(event["ack"], known) > 0):
                c["resp_data_ack"] = event["ack"]
    if is_segment and flags & (FIN | RST):
        _note_closing(s, slot, event)


@kernel
def _end_slot(s, slot, event, conn_rows):
    """Finish a connection: hand out what is open and fill in the connection's row."""
    c = s.conns[slot]
    row = conn_rows[event["row"]]
    closed = c["resp_closed"] or c["orig_closed"]
    end = int(row["end"])
    c["ending"] = CLOSED if closed or end == ConnEnd.PORT_REUSE.value else CUT
    c["orig_max_ack"] = row["orig_max_ack"]
    f = s.flows[2 * slot]
    if c["tail"] >= 0:
        _give_up_head(s, slot)
    if s.flows[2 * slot + 1]["state"] == ST_HEAD and c["head"] >= 0 and s.flows[2 * slot + 1]["n_fields"] > 0:
        s.rows[c["head"]]["status_code"] = s.flows[2 * slot + 1]["status_code"]
    if c["protocol"] == Protocol.HTTP2.value:
        settle_streams(s, slot, row)
    elif c["protocol"] == Protocol.HTTP1.value:
        lose_step(s, slot, _AT_END)
    while c["head"] >= 0:
        emit_exchange(s, slot)
    free_scratch(s, f)
    free_scratch(s, s.flows[2 * slot + 1])
    row["protocol"] = c["protocol"]
    row["n_exchanges"] = c["n_exchanges"]
    row["n_unanswered"] = c["n_unanswered"]
    row["server_offset"] = c["server_offset"]
    row["server_len"] = c["server_len"]
    row["keep_alive_s"] = c["keep_alive_s"]
    row["keep_alive_max"] = c["keep_alive_max"]
    row["idle_at_close_ns"] = c["idle_at_close_ns"]
    row["closing_open_exchange"] = c["closing_open"]
    keys_set = int(c["keys_set"])
    if c["n_exchanges"] == 0 and keys_set >> Key.SYN.value & 1 and not keys_set >> Key.SYN_ACK.value & 1:
        # A connection attempt that did not succeed; its segments are evidence.
        emit_keys(s, slot, event["conn"], _NO_DEPTH)


@entry_kernel
def frame_exchanges(
    s: FramerArrays,
    events: Annotated[np.ndarray, ArrayOf(STREAM_EVENTS.dtype)],
    start: int,
    stop: int,
    buffer: Bytes,
    piece_bytes: Bytes,
    conn_rows: Annotated[np.ndarray, ArrayOf(CONNECTIONS.dtype)],
):
    """Frame the stream events of a batch into exchanges.

    Parameters
    ----------
    s : FramerArrays
        State and output.
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        In capture order.
    start, stop : int
        Which of them.
    buffer, piece_bytes : ndarray of uint8, shape (n_byte,)
        Delivered bytes, for source 0 and 1.
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Connections that ended in this batch; their HTTP columns are filled in.

    Returns
    -------
    int
        The first event that was not taken in; `status` says why when it is not `stop`.
    """
    s.ctl[0]["status"] = F_DONE
    for n in range(start, stop):
        event = events[n]
        slot = int(event["slot"])
        kind = int(event["kind"])
        if kind == StreamEventKind.SEGMENT.value and event["data_len"] == 0 and not event["flags"] & (FIN | RST | SYN):
            # Most segments: an acknowledgement and nothing else.
            if event["fate"] == Fate.KEEP_ALIVE_ACK.value:
                note_probe(s, slot, event)
            if event["dir"] == RESP:
                i = np.int64(s.conns[slot]["head"])
                is_real = event["fate"] != Fate.OUTSIDE_WINDOW.value and event["fate"] != Fate.DUPLICATE_CAPTURE.value
                if i >= 0 and is_real and event["ack"] >= 0 and not s.opened[i]["response_done"]:
                    note_acknowledgement(s, s.rows[i], slot, event)
                    if event["window"] == 0 and s.rows[i]["request_seq"] >= 0:
                        keep_key(s, slot, BITS[Key.ZERO_WINDOW.value], event)
                continue
            if event["payload_len"] == 0:
                is_told = int(s.conns[slot]["keys_set"]) & ORIG_ZERO_WINDOW_KEY
                is_real = event["fate"] != Fate.OUTSIDE_WINDOW.value and event["fate"] != Fate.DUPLICATE_CAPTURE.value
                if (event["window"] == 0 or is_told) and is_real:
                    note_window(s, slot, event)
                continue
        elif kind == StreamEventKind.SEGMENT.value and event["dir"] == RESP and not event["flags"] & (FIN | RST | SYN):
            # Most of the others: bytes from the middle of a response.
            f = s.flows[2 * slot + 1]
            if f["state"] == ST_BODY and f["remaining"] > event["data_len"] and event["fate"] == Fate.NEW.value:
                i = np.int64(s.conns[slot]["head"])
                if i >= 0 and s.opened[i]["has_response"] and int(s.rows[i]["flags"]) & ACKNOWLEDGED:
                    f["remaining"] -= event["data_len"]
                    extend_response(s, slot, i, event, np.int64(event["data_len"]))
                    s.conns[slot]["last_payload_ns"] = event["ts_ns"]
                    s.conns[slot]["resp_next"] = (event["seq"] + event["payload_len"]) & 0xFFFFFFFF
                    continue
        if (
            s.ctl[0]["n_exchanges"] + 2 * OPEN_MARGIN > s.out_rows.shape[0]
            or s.ctl[0]["n_keys"] + KEY_MARGIN > s.out_keys.shape[0]
            or s.ctl[0]["n_text"] + TEXT_MARGIN > s.text.shape[0]
        ):
            s.ctl[0]["status"] = F_OUTPUT_FULL
            return n
        if s.ctl[0]["n_free_open"] < OPEN_MARGIN:
            s.ctl[0]["status"] = F_NEED_OPEN
            return n
        if s.ctl[0]["n_free_scratch"] < 2:
            s.ctl[0]["status"] = F_NEED_SCRATCH
            return n
        if kind == StreamEventKind.SEGMENT.value or kind == StreamEventKind.RELEASED.value:
            data = piece_bytes if event["source"] == 1 else buffer
            _take_segment(s, slot, event, data)
        elif kind == StreamEventKind.OPEN.value:
            _open_slot(s, slot)
        elif kind == StreamEventKind.HOLE.value:
            skip_hole(s, slot, event)
        else:
            _end_slot(s, slot, event, conn_rows)
    return stop
