"""The framer: stream events to exchanges.

Knows RFC 9112 message framing, turns for everything else, and when an answer comes too late. An exchange that is
complete stays open until the next request or the end of its connection, because only then it is certain that the
originator took the answer.

Invariants
----------
* An exchange whose response is complete is the last one of its connection's queue.
* A flow holds a scratch row only while a head is incomplete.
"""

from pcapdiag.codes import ConnEnd, Direction, ExchangeFlag, Fate, Framing, Key, Method, Protocol, StreamEventKind, TcpFlag
from pcapdiag.kernels._kernel import kernel
from pcapdiag.kernels.http_exchange import (
    blank_keys,
    emit_exchange,
    free_scratch,
    note_acknowledgement,
    set_key,
    store_text,
    take_open,
)
from pcapdiag.kernels.http_head import (
    keep_line_part,
    looks_like_request,
    looks_like_response,
    parse_field,
    parse_request_line,
    parse_status_line,
)
from pcapdiag.kernels.http_state import (
    C_FREE_SCRATCH,
    C_N_EXCHANGES,
    C_N_FREE_OPEN,
    C_N_FREE_SCRATCH,
    C_N_KEYS,
    C_N_TEXT,
    C_STATUS,
    C_TEXT_BASE,
    F_DONE,
    F_NEED_OPEN,
    F_NEED_SCRATCH,
    F_OUTPUT_FULL,
    KEY_MARGIN,
    MAX_HEAD_FIELDS,
    MAX_OPEN_PER_CONNECTION,
    N_KEYS,
    OPEN_MARGIN,
    SCRATCH_BYTES,
    ST_BODY,
    ST_CHUNK_DATA,
    ST_CHUNK_END,
    ST_CHUNK_EXTENSION,
    ST_CHUNK_SIZE,
    ST_HEAD,
    ST_LOST,
    ST_START,
    ST_TRAILER,
    ST_TURN,
    ST_UNTIL_CLOSE,
    TEXT_MARGIN,
)
from pcapdiag.kernels.http_turns import (
    add_request_turn,
    add_response_turn,
    begin_request,
    begin_response,
    detect_protocol,
    extend_request,
    extend_response,
    feed_tls,
    looks_like_tls,
    response_target,
)
from pcapdiag.kernels.sequence import sequence_difference

FIN = int(TcpFlag.FIN)
SYN = int(TcpFlag.SYN)
RST = int(TcpFlag.RST)
ACK = int(TcpFlag.ACK)
ORIG = Direction.ORIG.value
RESP = Direction.RESP.value
HOLE = int(ExchangeFlag.HOLE)
INTERIM = int(ExchangeFlag.INTERIM)
UPGRADE = int(ExchangeFlag.UPGRADE)
CONNECTION_CLOSE = int(ExchangeFlag.CONNECTION_CLOSE)
CR = ord("\r")
LF = ord("\n")


@kernel
def _take_scratch(flow, free_next, ctl):
    i = int(ctl[C_FREE_SCRATCH])
    ctl[C_FREE_SCRATCH] = free_next[i]
    ctl[C_N_FREE_SCRATCH] -= 1
    flow["scratch"] = i
    flow["line_len"] = 0
    flow["target_len"] = 0
    flow["host_len"] = 0
    flow["request_id_len"] = 0


@kernel
def _begin_head(flow, free_next, ctl):
    if flow["scratch"] < 0:
        _take_scratch(flow, free_next, ctl)
    flow["line_len"] = 0
    flow["target_len"] = 0
    flow["host_len"] = 0
    flow["request_id_len"] = 0
    flow["n_fields"] = 0
    flow["content_length"] = -1
    flow["chunked"] = 0
    flow["close"] = 0
    flow["keep_alive"] = 0
    flow["minor"] = 1
    flow["status_code"] = -1
    flow["state"] = ST_HEAD


@kernel
def _read_head(flow, conn, data, at, length, captured, scratch, text, is_request, ctl):
    """Read head lines from `at`; return bytes used, negative (-used - 1) if the head ended with them.

    `flow["state"]` becomes ST_LOST if this is no head, ST_TURN if the rest of it was not captured.
    """
    base = int(flow["scratch"]) * SCRATCH_BYTES
    pos = 0
    while pos < length:
        end = pos
        while end < captured and data[at + end] != LF:
            end += 1
        if end >= captured:
            if captured < length:
                flow["state"] = ST_TURN
                return length
            keep_line_part(data, at + pos, captured - pos, flow, scratch, base)
            return length
        if flow["line_len"] > 0:
            keep_line_part(data, at + pos, end - pos, flow, scratch, base)
            line = scratch
            line_at = base
            n = int(flow["line_len"])
            flow["line_len"] = 0
        else:
            line = data
            line_at = at + pos
            n = end - pos
        pos = end + 1
        if n > 0 and line[line_at + n - 1] == CR:
            n -= 1
        n_fields = int(flow["n_fields"])
        if n_fields == 0:
            if n == 0:
                continue
            if is_request:
                good = parse_request_line(line, line_at, n, flow, scratch, base)
            else:
                good = parse_status_line(line, line_at, n, flow)
            if not good:
                flow["state"] = ST_LOST
                return pos
        elif n == 0:
            return -pos - 1
        else:
            used = parse_field(line, line_at, n, flow, scratch, base, is_request, conn, text, ctl[C_N_TEXT])
            if used > 0:
                conn["server_offset"] = ctl[C_TEXT_BASE] + ctl[C_N_TEXT]
                ctl[C_N_TEXT] += used
        if n_fields > MAX_HEAD_FIELDS:
            flow["state"] = ST_TURN
            return length
        flow["n_fields"] = n_fields + 1
    return pos


@kernel
def _read_chunked(flow, data, at, length, captured):
    """Walk chunked content (RFC 9112 section 7.1); return bytes used, negative (-used - 1) if it ended with them."""
    pos = 0
    while pos < length:
        state = flow["state"]
        if state == ST_CHUNK_DATA:
            n = min(flow["remaining"], length - pos)
            flow["remaining"] -= n
            pos += n
            if flow["remaining"] == 0:
                flow["state"] = ST_CHUNK_END
            continue
        if pos >= captured:
            flow["state"] = ST_TURN
            return length
        c = int(data[at + pos])
        pos += 1
        if state == ST_CHUNK_SIZE:
            digit = -1
            if ord("0") <= c <= ord("9"):
                digit = c - ord("0")
            elif ord("a") <= c <= ord("f"):
                digit = c - ord("a") + 10
            elif ord("A") <= c <= ord("F"):
                digit = c - ord("A") + 10
            if digit >= 0:
                if flow["remaining"] >= 1 << 56:
                    flow["state"] = ST_TURN
                    return length
                flow["remaining"] = flow["remaining"] * 16 + digit
                flow["line_empty"] = 0
                continue
            if flow["line_empty"]:
                # Not a chunk size: the framing is lost, the message lasts until the other side speaks.
                flow["state"] = ST_TURN
                return length
            if c == LF:
                _begin_chunk(flow)
            else:
                flow["state"] = ST_CHUNK_EXTENSION
        elif state == ST_CHUNK_EXTENSION:
            if c == LF:
                _begin_chunk(flow)
        elif state == ST_CHUNK_END:
            if c == LF:
                flow["state"] = ST_CHUNK_SIZE
                flow["remaining"] = 0
                flow["line_empty"] = 1
            elif c != CR:
                flow["state"] = ST_TURN
                return length
        else:  # ST_TRAILER
            if c == LF:
                if flow["line_empty"]:
                    return -pos - 1
                flow["line_empty"] = 1
            elif c != CR:
                flow["line_empty"] = 0
    return pos


@kernel
def _begin_chunk(flow):
    if flow["remaining"] == 0:
        flow["state"] = ST_TRAILER
        flow["line_empty"] = 1
    else:
        flow["state"] = ST_CHUNK_DATA


@kernel
def _read_body(flow, data, at, length, captured):
    """Walk content in whatever framing; return bytes used, negative (-used - 1) if the message ended with them."""
    state = flow["state"]
    if state == ST_BODY:
        n = min(flow["remaining"], length)
        flow["remaining"] -= n
        return -n - 1 if flow["remaining"] == 0 else n
    if state == ST_UNTIL_CLOSE or state == ST_TURN:
        return length
    return _read_chunked(flow, data, at, length, captured)


@kernel
def _frame_request(flow, row):
    """Decide how a request ends (RFC 9112 section 6.3); return whether it ended with its head."""
    row["method"] = flow["method"]
    if flow["chunked"]:
        row["request_framing"] = Framing.CHUNKED.value
        flow["state"] = ST_CHUNK_SIZE
        flow["remaining"] = 0
        flow["line_empty"] = 1
        return False
    if flow["content_length"] > 0:
        row["request_framing"] = Framing.CONTENT_LENGTH.value
        flow["state"] = ST_BODY
        flow["remaining"] = flow["content_length"]
        return False
    if flow["content_length"] < -1:
        row["request_framing"] = Framing.TURN.value
        flow["state"] = ST_TURN
        return False
    row["request_framing"] = Framing.NO_CONTENT.value
    flow["state"] = ST_START
    return True


@kernel
def _frame_response(flow, row, conn):
    """Decide how a final response ends (RFC 9112 section 6.3); return whether it ended with its head."""
    status = int(flow["status_code"])
    row["status_code"] = status
    method = int(row["method"])
    announced = flow["close"] or (flow["minor"] == 0 and not flow["keep_alive"])
    conn["close_announced"] = 1 if announced else 0
    if announced:
        row["flags"] = int(row["flags"]) | CONNECTION_CLOSE
    if status == 101 or (method == Method.CONNECT.value and 200 <= status < 300):
        row["flags"] = int(row["flags"]) | UPGRADE
        row["response_framing"] = Framing.NO_CONTENT.value
        conn["protocol"] = Protocol.UPGRADED.value
        return True
    if method == Method.HEAD.value or status == 204 or status == 304:
        row["response_framing"] = Framing.NO_CONTENT.value
        flow["state"] = ST_START
        return True
    if flow["chunked"]:
        row["response_framing"] = Framing.CHUNKED.value
        flow["state"] = ST_CHUNK_SIZE
        flow["remaining"] = 0
        flow["line_empty"] = 1
        return False
    if flow["content_length"] >= 0:
        row["response_framing"] = Framing.CONTENT_LENGTH.value
        flow["state"] = ST_BODY
        flow["remaining"] = flow["content_length"]
        if flow["remaining"] == 0:
            flow["state"] = ST_START
            return True
        return False
    if flow["content_length"] < -1:
        row["response_framing"] = Framing.TURN.value
        flow["state"] = ST_TURN
        return False
    row["response_framing"] = Framing.UNTIL_CLOSE.value
    flow["state"] = ST_UNTIL_CLOSE
    conn["close_announced"] = 1
    return False


@kernel
def _feed_request(
    conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
):  # fmt: skip
    """Frame originator bytes."""
    c = conns[slot]
    f = flows[2 * slot]
    at = event["data_offset"]
    length = int(event["data_len"])
    captured = int(event["data_cap"])
    protocol = int(c["protocol"])
    if protocol == Protocol.UPGRADED.value:
        return
    if protocol == Protocol.TLS.value:
        feed_tls(conns, flows, opened, rows, keys, slot, ORIG, event, data, 0, out_rows, out_keys, ctl)
        return
    tail = int(c["tail"])
    if f["state"] == ST_LOST or (f["state"] == ST_TURN and (tail < 0 or opened[tail]["has_response"])):
        f["state"] = ST_START
    pos = 0
    while pos < length:
        state = int(f["state"])
        rest = length - pos
        rest_captured = max(0, captured - pos)
        if state == ST_START:
            maybe_http = protocol == Protocol.HTTP1.value or protocol == Protocol.UNKNOWN.value
            if maybe_http and rest_captured > 0:
                if protocol == Protocol.HTTP1.value and (data[at + pos] == CR or data[at + pos] == LF):
                    pos += 1  # RFC 9112 section 2.2: empty lines before a request line
                    continue
                if looks_like_request(data, at + pos, rest_captured):
                    if c["n_open"] >= MAX_OPEN_PER_CONNECTION:
                        f["state"] = ST_LOST
                        return
                    c["protocol"] = Protocol.HTTP1.value
                    protocol = Protocol.HTTP1.value
                    begin_request(
                        conns, flows, opened, rows, keys, slot, event, pos, Framing.UNKNOWN.value, out_rows, out_keys,
                        ctl,
                    )
                    _begin_head(f, free_next, ctl)
                    continue
            if protocol == Protocol.UNKNOWN.value and rest_captured > 0:
                c["protocol"] = detect_protocol(data, at + pos, rest_captured)
                protocol = int(c["protocol"])
                if protocol == Protocol.TLS.value:
                    if c["mid_stream"] and data[at + pos] == 23:
                        c["tls_application"] = 1
                    feed_tls(
                        conns, flows, opened, rows, keys, slot, ORIG, event, data, pos, out_rows, out_keys, ctl
                    )
                    return
            if protocol == Protocol.HTTP1.value and (c["tail"] >= 0 or rest_captured > 0):
                # Bytes between messages, or the middle of one whose beginning was not captured.
                f["state"] = ST_LOST
                return
            f["state"] = ST_TURN
            continue
        if state == ST_TURN:
            add_request_turn(
                conns, flows, opened, rows, keys, slot, event, pos, rest, out_rows, out_keys, ctl
            )
            return
        i = int(c["tail"])
        if state == ST_HEAD:
            used = _read_head(f, c, data, at + pos, rest, rest_captured, scratch, text, True, ctl)
            head_ended = used < 0
            if head_ended:
                used = -used - 1
            extend_request(opened, rows, keys, conns, slot, i, event, used)
            pos += used
            if head_ended or f["state"] != ST_HEAD:
                row = rows[i]
                store_text(row, f, scratch, text, ctl)
                opened[i]["text_done"] = 1
                free_scratch(f, free_next, ctl)
                row["method"] = f["method"] if f["n_fields"] > 0 else Method.NONE.value
                if not head_ended:
                    row["request_framing"] = Framing.TURN.value
                    f["state"] = ST_TURN
                elif _frame_request(f, row):
                    opened[i]["request_done"] = 1
        else:
            used = _read_body(f, data, at + pos, rest, rest_captured)
            done = used < 0
            if done:
                used = -used - 1
            extend_request(opened, rows, keys, conns, slot, i, event, used)
            pos += used
            if done:
                opened[i]["request_done"] = 1
                f["state"] = ST_START
            elif f["state"] == ST_TURN:
                rows[i]["request_framing"] = Framing.TURN.value
        c["last_payload_ns"] = event["ts_ns"]


@kernel
def _end_response(conns, opened, rows, keys, slot, i, out_rows, out_keys, ctl):
    """Mark a response complete; hand its exchange out if another one waits behind it."""
    opened[i]["response_done"] = 1
    if opened[i]["next"] >= 0:
        emit_exchange(conns, opened, rows, keys, slot, -1, 0, out_rows, out_keys, ctl)


@kernel
def _feed_response(
    conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
):  # fmt: skip
    """Frame responder bytes."""
    c = conns[slot]
    f = flows[2 * slot + 1]
    at = event["data_offset"]
    length = int(event["data_len"])
    captured = int(event["data_cap"])
    protocol = int(c["protocol"])
    if protocol == Protocol.UPGRADED.value:
        return
    if protocol == Protocol.UNKNOWN.value and captured > 0:
        if looks_like_response(data, at, captured) and captured >= 5:
            protocol = Protocol.HTTP1.value
            c["protocol"] = protocol
        elif looks_like_tls(data, at, captured):
            protocol = Protocol.TLS.value
            c["protocol"] = protocol
            if c["mid_stream"] and data[at] == 23:
                c["tls_application"] = 1
    if protocol == Protocol.TLS.value:
        feed_tls(conns, flows, opened, rows, keys, slot, RESP, event, data, 0, out_rows, out_keys, ctl)
        return
    if protocol != Protocol.HTTP1.value:
        add_response_turn(conns, flows, opened, rows, keys, slot, event, 0, length)
        return
    if f["state"] == ST_LOST:
        f["state"] = ST_START
    pos = 0
    while pos < length:
        state = int(f["state"])
        rest = length - pos
        rest_captured = max(0, captured - pos)
        i = response_target(conns, opened, slot)
        if state == ST_START:
            if rest_captured > 0 and looks_like_response(data, at + pos, rest_captured):
                if i < 0:
                    if c["head"] >= 0:
                        emit_exchange(conns, opened, rows, keys, slot, -1, 0, out_rows, out_keys, ctl)
                    i = take_open(conns, opened, rows, slot, event["conn"], ctl)
                    opened[i]["request_done"] = 1
                if not opened[i]["has_response"]:
                    begin_response(conns, opened, rows, keys, slot, i, event, pos, Framing.UNKNOWN.value)
                _begin_head(f, free_next, ctl)
                continue
            if rest_captured > 0 and i < 0 and (data[at + pos] == CR or data[at + pos] == LF):
                pos += 1
                continue
            if i < 0:
                f["state"] = ST_LOST
                return
            # Something that is no HTTP/1 response, or was not captured: it answers all the same.
            if not opened[i]["has_response"]:
                begin_response(conns, opened, rows, keys, slot, i, event, pos, Framing.TURN.value)
            rows[i]["response_framing"] = Framing.TURN.value
            f["state"] = ST_TURN
            continue
        if i < 0:
            f["state"] = ST_LOST
            free_scratch(f, free_next, ctl)
            return
        row = rows[i]
        if state == ST_HEAD:
            used = _read_head(f, c, data, at + pos, rest, rest_captured, scratch, text, False, ctl)
            head_ended = used < 0
            if head_ended:
                used = -used - 1
            extend_response(opened, rows, keys, slot, i, event, used)
            pos += used
            c["last_payload_ns"] = event["ts_ns"]
            if head_ended:
                free_scratch(f, free_next, ctl)
                if 100 <= f["status_code"] < 200 and f["status_code"] != 101:
                    row["flags"] = int(row["flags"]) | INTERIM
                    row["response_frame"] = -1
                    row["response_seq"] = -1
                    row["first_byte_ns"] = -1
                    opened[i]["has_response"] = 0
                    f["state"] = ST_START
                elif _frame_response(f, row, c):
                    _end_response(conns, opened, rows, keys, slot, i, out_rows, out_keys, ctl)
                    if c["protocol"] == Protocol.UPGRADED.value:
                        return
            elif f["state"] != ST_HEAD:
                free_scratch(f, free_next, ctl)
                if f["n_fields"] > 0:
                    row["status_code"] = f["status_code"]
                row["response_framing"] = Framing.TURN.value
                f["state"] = ST_TURN
        else:
            used = _read_body(f, data, at + pos, rest, rest_captured)
            done = used < 0
            if done:
                used = -used - 1
            extend_response(opened, rows, keys, slot, i, event, used)
            pos += used
            c["last_payload_ns"] = event["ts_ns"]
            if done:
                f["state"] = ST_START
                _end_response(conns, opened, rows, keys, slot, i, out_rows, out_keys, ctl)
            elif f["state"] == ST_TURN:
                row["response_framing"] = Framing.TURN.value


@kernel
def _skip_hole(conns, flows, opened, rows, keys, free_next, slot, event, out_rows, out_keys, ctl):
    """Take in that stream bytes are missing: content may be skipped by its length, any other framing is lost."""
    c = conns[slot]
    direction = int(event["dir"])
    f = flows[2 * slot + direction]
    length = int(event["data_len"])
    state = int(f["state"])
    if c["protocol"] == Protocol.UPGRADED.value:
        return
    if direction == ORIG:
        i = int(c["tail"])
        if i >= 0 and opened[i]["request_done"]:
            i = -1
    else:
        i = response_target(conns, opened, slot)
    if c["protocol"] == Protocol.TLS.value:
        if f["tls_header"] == 0 and f["remaining"] >= length:
            f["remaining"] -= length
            if f["tls_counts"] and direction == RESP:
                add_response_turn(conns, flows, opened, rows, keys, slot, event, 0, length)
        else:
            f["state"] = ST_LOST
            f["tls_header"] = 0
            f["remaining"] = 0
            if direction == RESP:
                add_response_turn(conns, flows, opened, rows, keys, slot, event, 0, length)
                f["state"] = ST_LOST
        if i >= 0:
            rows[i]["flags"] = int(rows[i]["flags"]) | HOLE
        return
    free_scratch(f, free_next, ctl)
    if i < 0:
        f["state"] = ST_LOST
        return
    rows[i]["flags"] = int(rows[i]["flags"]) | HOLE
    if direction == ORIG:
        extend_request(opened, rows, keys, conns, slot, i, event, length)
        if (state == ST_BODY or state == ST_CHUNK_DATA) and f["remaining"] >= length:
            f["remaining"] -= length
            if state == ST_BODY and f["remaining"] == 0:
                opened[i]["request_done"] = 1
                f["state"] = ST_START
            elif f["remaining"] == 0:
                f["state"] = ST_CHUNK_END
        else:
            rows[i]["request_framing"] = Framing.TURN.value
            f["state"] = ST_TURN
        return
    # The originator acknowledged these bytes: there was an answer, captured or not.
    if not opened[i]["has_response"]:
        begin_response(conns, opened, rows, keys, slot, i, event, 0, Framing.TURN.value)
    extend_response(opened, rows, keys, slot, i, event, length)
    c["last_payload_ns"] = event["ts_ns"]
    if (state == ST_BODY or state == ST_CHUNK_DATA) and f["remaining"] >= length:
        f["remaining"] -= length
        if state == ST_BODY and f["remaining"] == 0:
            f["state"] = ST_START
            _end_response(conns, opened, rows, keys, slot, i, out_rows, out_keys, ctl)
        elif f["remaining"] == 0:
            f["state"] = ST_CHUNK_END
    elif state != ST_UNTIL_CLOSE:
        rows[i]["response_framing"] = Framing.TURN.value
        f["state"] = ST_TURN


@kernel
def _open_slot(conns, flows, keys, slot):
    c = conns[slot]
    c["last_payload_ns"] = -1
    c["idle_at_close_ns"] = -1
    c["orig_close_ack"] = -1
    c["server_offset"] = -1
    c["head"] = -1
    c["tail"] = -1
    c["n_open"] = 0
    c["n_exchanges"] = 0
    c["n_unanswered"] = 0
    c["keep_alive_s"] = -1
    c["keep_alive_max"] = -1
    c["server_len"] = 0
    c["in_use"] = 1
    c["protocol"] = 0
    c["mid_stream"] = 1
    c["closing_seen"] = 0
    c["closing_open"] = 0
    c["close_announced"] = 0
    c["orig_closed"] = 0
    c["resp_closed"] = 0
    c["resp_reset"] = 0
    c["tls_application"] = 0
    c["tls_13"] = 0
    c["n_syn"] = 0
    for direction in range(2):
        f = flows[2 * slot + direction]
        f["remaining"] = 0
        f["content_length"] = -1
        f["scratch"] = -1
        f["line_len"] = 0
        f["target_len"] = 0
        f["host_len"] = 0
        f["request_id_len"] = 0
        f["n_fields"] = 0
        f["status_code"] = -1
        f["tls_header"] = 0
        f["tls_type"] = 0
        f["state"] = ST_START
        f["chunked"] = 0
        f["close"] = 0
        f["keep_alive"] = 0
        f["minor"] = 1
        f["method"] = -1
        f["line_empty"] = 0
        f["tls_counts"] = 0
    blank_keys(keys, slot)


@kernel
def _note_closing(conns, flows, opened, keys, slot, event):
    """Take in a FIN or RST: who, with what acknowledged, and at which idle age."""
    c = conns[slot]
    direction = int(event["dir"])
    is_reset = int(event["flags"]) & RST
    if direction == ORIG:
        c["orig_closed"] = 1
        if c["orig_close_ack"] < 0 and event["ack"] >= 0 and int(event["flags"]) & ACK:
            c["orig_close_ack"] = event["ack"]
        set_key(keys, slot, Key.ORIG_RST.value if is_reset else Key.ORIG_FIN.value, event, False)
    else:
        if is_reset:
            c["resp_reset"] = 1
        c["resp_closed"] = 1
        set_key(keys, slot, Key.RESP_RST.value if is_reset else Key.RESP_FIN.value, event, False)
        i = response_target(conns, opened, slot)
        if not is_reset and i >= 0 and flows[2 * slot + 1]["state"] == ST_UNTIL_CLOSE:
            opened[i]["response_done"] = 1
            flows[2 * slot + 1]["state"] = ST_START
    if c["closing_seen"]:
        return
    c["closing_seen"] = 1
    i = response_target(conns, opened, slot)
    in_turn = i >= 0 and opened[i]["has_response"] and flows[2 * slot + 1]["state"] == ST_TURN
    if i >= 0 and not in_turn:
        c["closing_open"] = 1
    elif c["last_payload_ns"] >= 0 and not c["close_announced"]:
        c["idle_at_close_ns"] = max(0, event["ts_ns"] - c["last_payload_ns"])


@kernel
def _take_segment(
    conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
):  # fmt: skip
    """Take in one segment, or the bytes of an earlier one."""
    c = conns[slot]
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
        c["n_syn"] += 1
        if is_repeated and direction == ORIG:
            set_key(keys, slot, Key.RETRANSMISSION.value, event, False)
            set_key(keys, slot, Key.LAST_RETRANSMISSION.value, event, True)
        else:
            set_key(keys, slot, Key.SYN_ACK.value if flags & ACK else Key.SYN.value, event, False)
    head = int(c["head"])
    if is_segment and head >= 0 and not opened[head]["response_done"]:
        row = rows[head]
        if direction == RESP:
            if flags & ACK and event["ack"] >= 0:
                note_acknowledgement(row, keys, slot, event)
        elif is_repeated and event["payload_len"] > 0 and row["request_seq"] >= 0:
            into = sequence_difference(event["seq"], row["request_seq"])
            if 0 <= into < max(1, row["request_bytes"]):
                row["retransmissions"] += 1
                set_key(keys, slot, Key.RETRANSMISSION.value, event, False)
                set_key(keys, slot, Key.LAST_RETRANSMISSION.value, event, True)
    if event["data_len"] > 0:
        if direction == ORIG:
            _feed_request(
                conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
            )
        else:
            _feed_response(
                conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
            )
    if is_segment and flags & (FIN | RST):
        _note_closing(conns, flows, opened, keys, slot, event)


@kernel
def _end_slot(conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, conn_rows, out_rows, out_keys, ctl):
    """Finish a connection: hand out what is open and fill in the connection's row."""
    c = conns[slot]
    row = conn_rows[event["row"]]
    closed = c["resp_closed"] or c["orig_closed"]
    end = int(row["end"])
    ending = 1 if closed or end == ConnEnd.PORT_REUSE.value else 2
    f = flows[2 * slot]
    tail = int(c["tail"])
    if tail >= 0 and f["scratch"] >= 0 and not opened[tail]["text_done"]:
        # A request head that never ended: keep what was read of it.
        store_text(rows[tail], f, scratch, text, ctl)
        if f["n_fields"] > 0:
            rows[tail]["method"] = f["method"]
    if flows[2 * slot + 1]["state"] == ST_HEAD and c["head"] >= 0 and flows[2 * slot + 1]["n_fields"] > 0:
        rows[c["head"]]["status_code"] = flows[2 * slot + 1]["status_code"]
    while c["head"] >= 0:
        emit_exchange(conns, opened, rows, keys, slot, row["orig_max_ack"], ending, out_rows, out_keys, ctl)
    free_scratch(f, free_next, ctl)
    free_scratch(flows[2 * slot + 1], free_next, ctl)
    row["protocol"] = c["protocol"]
    row["n_exchanges"] = c["n_exchanges"]
    row["n_unanswered"] = c["n_unanswered"]
    row["server_offset"] = c["server_offset"]
    row["server_len"] = c["server_len"]
    row["keep_alive_s"] = c["keep_alive_s"]
    row["keep_alive_max"] = c["keep_alive_max"]
    row["idle_at_close_ns"] = c["idle_at_close_ns"]
    row["closing_open_exchange"] = c["closing_open"]
    if c["n_exchanges"] == 0 and keys[slot, Key.SYN.value]["frame"] >= 0 and keys[slot, Key.SYN_ACK.value]["frame"] < 0:
        # A connection attempt that did not succeed; its segments are evidence.
        m = ctl[C_N_KEYS]
        for k in range(N_KEYS):
            if keys[slot, k]["frame"] < 0:
                continue
            out_keys[m] = keys[slot, k]
            out_keys[m]["conn"] = event["conn"]
            out_keys[m]["depth"] = -1
            m += 1
        ctl[C_N_KEYS] = m
    c["in_use"] = 0


@kernel
def frame_exchanges(
    events, start, stop, buffer, piece_bytes, conns, flows, opened, rows, keys, scratch, free_next, text, conn_rows,
    out_rows, out_keys, ctl,
):  # fmt: skip
    """Frame the stream events of a batch into exchanges.

    Parameters
    ----------
    events : ndarray of columns.STREAM_EVENTS.dtype, shape (n_event,)
        In capture order.
    start, stop : int
        Which of them.
    buffer, piece_bytes : ndarray of uint8, shape (n_byte,)
        Delivered bytes, for source 0 and 1.
    conns : ndarray of http_state.CONN, shape (n_slot,)
    flows : ndarray of http_state.FLOW, shape (2 * n_slot,)
    opened : ndarray of http_state.OPEN, shape (n_open,)
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
    conn_rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
        Connections that ended in this batch; their HTTP columns are filled in.
    out_rows : ndarray of columns.EXCHANGES.dtype, shape (n_out,)
        Output: finished exchanges.
    out_keys : ndarray of columns.KEY_SEGMENTS.dtype, shape (n_key,)
        Output: key segments of unanswered and truncated exchanges and of failed attempts.
    ctl : ndarray of int64, shape (CONTROL_WORDS,)

    Returns
    -------
    int
        The first event that was not taken in; `ctl[C_STATUS]` says why when it is not `stop`.
    """
    ctl[C_STATUS] = F_DONE
    for n in range(start, stop):
        if (
            ctl[C_N_EXCHANGES] + OPEN_MARGIN > out_rows.shape[0]
            or ctl[C_N_KEYS] + KEY_MARGIN > out_keys.shape[0]
            or ctl[C_N_TEXT] + TEXT_MARGIN > text.shape[0]
        ):
            ctl[C_STATUS] = F_OUTPUT_FULL
            return n
        if ctl[C_N_FREE_OPEN] < OPEN_MARGIN:
            ctl[C_STATUS] = F_NEED_OPEN
            return n
        if ctl[C_N_FREE_SCRATCH] < 2:
            ctl[C_STATUS] = F_NEED_SCRATCH
            return n
        event = events[n]
        slot = int(event["slot"])
        kind = int(event["kind"])
        data = piece_bytes if event["source"] == 1 else buffer
        if kind == StreamEventKind.SEGMENT.value or kind == StreamEventKind.RELEASED.value:
            _take_segment(
                conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, data, out_rows, out_keys, ctl
            )
        elif kind == StreamEventKind.OPEN.value:
            _open_slot(conns, flows, keys, slot)
        elif kind == StreamEventKind.HOLE.value:
            _skip_hole(conns, flows, opened, rows, keys, free_next, slot, event, out_rows, out_keys, ctl)
        else:
            _end_slot(
                conns, flows, opened, rows, keys, scratch, free_next, text, slot, event, conn_rows, out_rows, out_keys,
                ctl,
            )
    return stop
