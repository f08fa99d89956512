"""FastCGI, uwsgi and SCGI: where a request ends, and what its parameters call it.

Knows record headers and name-value pairs (FastCGI 1.0 sections 3.3, 3.4 and 5; the uwsgi protocol's packet header and
block of variables; the netstring of headers that an SCGI request begins with); nothing of what an application answers.
"""

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Framing, Key, Method, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels._scan import find_byte
from pcapdiag.engine.http.kernels.http_detect import MOST_SCGI_DIGITS
from pcapdiag.engine.http.kernels.http_exchange import BITS, emit_exchange, keep_key, replace_key
from pcapdiag.engine.http.kernels.http_head import HTTP_SLASH, LF, SPACE, TAB, copy_bytes, equals_folded, method_code
from pcapdiag.engine.http.kernels.http_state import (
    HOST_BYTES,
    MAX_OPEN_PER_CONNECTION,
    REQUEST_ID_BYTES,
    ST_LOST,
    ST_START,
    TARGET_BYTES,
)
from pcapdiag.engine.http.kernels.http_turns import (
    add_turn,
    begin_request,
    begin_response,
    extend_message,
    response_target,
)

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
MAX_TYPE = 11
HEADER_BYTES = 8
PROTOCOL_STATUS_AT = 4
"""[bytes] Where FCGI_END_REQUEST says how the request ended (FastCGI 1.0 section 5.5)."""
CANT_MPX_CONN, UNKNOWN_ROLE = 1, 3
"""The first and the last protocol status of a request that was rejected; between them lies FCGI_OVERLOADED."""
RESP = Direction.RESP.value
HOLE = int(ExchangeFlag.HOLE)
NOT_PROCESSED = int(ExchangeFlag.NOT_PROCESSED)


def _name(text):
    return np.frombuffer(text, dtype=np.uint8).copy()


_METHOD = _name(b"request_method")
_TARGET = _name(b"request_uri")
_HOST = _name(b"http_host")
_REQUEST_ID = _name(b"http_x_request_id")
_CONTENT_LENGTH = _name(b"content_length")
_STATUS = _name(b"status:")


_OF_FASTCGI, _OF_UWSGI, _OF_SCGI = np.int64(0), np.int64(1), np.int64(2)
"""How pairs are written: both lengths before both texts, each length before its text, or texts that end with 0."""


@kernel
def _length_at(data, at, stop, form):
    """Return the length of a name or value and where it or what follows begins; -1 if it is cut off.

    uwsgi: 16 bits; FastCGI: 7 or 31; SCGI: up to the next 0.
    """
    if form == _OF_SCGI:
        n = np.int64(find_byte(data, at, stop - at, 0))
        return (n if at + n < stop else np.int64(-1)), at
    if form == _OF_UWSGI:
        if at + 2 > stop:
            return np.int64(-1), at
        return np.int64(data[at]) + (np.int64(data[at + 1]) << 8), at + 2
    if at >= stop:
        return np.int64(-1), at
    first = np.int64(data[at])
    if first < 128:
        return first, at + 1
    if at + 4 > stop:
        return np.int64(-1), at
    length = (first & 0x7F) << 24 | np.int64(data[at + 1]) << 16 | np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])
    return length, at + 4


@kernel
def _read_pairs(s, i, data, at, stop, form):
    """Take method, target, host and request identifier from name-value pairs; return the announced content length.

    -1 if the pairs were not all there, so that nobody knows; 0 if none was announced. SCGI's comes first.
    """
    row = s.rows[i]
    content_length = np.int64(0)
    target_at = host_at = id_at = np.int64(-1)
    target_len = host_len = id_len = np.int64(0)
    gap = np.int64(1) if form == _OF_SCGI else np.int64(0)
    is_whole, is_announced = True, False
    while at < stop:
        if form != _OF_FASTCGI:
            n_name, name_at = _length_at(data, at, stop, form)
            if n_name < 0 or name_at + n_name > stop:
                is_whole = False
                break
            n_value, value_at = _length_at(data, name_at + n_name + gap, stop, form)
        else:
            n_name, after = _length_at(data, at, stop, form)
            if n_name < 0:
                is_whole = False
                break
            n_value, name_at = _length_at(data, after, stop, form)
            value_at = name_at + n_name
        if n_value < 0 or value_at + n_value > stop:
            is_whole = False
            break
        if equals_folded(data, name_at, n_name, _METHOD):
            row["method"] = method_code(data, value_at, n_value)
        elif equals_folded(data, name_at, n_name, _TARGET):
            target_at = value_at
            target_len = min(n_value, TARGET_BYTES)
        elif equals_folded(data, name_at, n_name, _HOST):
            host_at = value_at
            host_len = min(n_value, HOST_BYTES)
        elif equals_folded(data, name_at, n_name, _REQUEST_ID):
            id_at = value_at
            id_len = min(n_value, REQUEST_ID_BYTES)
        elif equals_folded(data, name_at, n_name, _CONTENT_LENGTH):
            content_length = np.int64(0)
            is_announced = True
            for k in range(min(n_value, 18)):
                digit = np.int64(data[value_at + k]) - ord("0")
                if digit < 0 or digit > 9:
                    is_whole = False
                    is_announced = False
                    break
                content_length = content_length * 10 + digit
        at = value_at + n_value + gap
    if row["text_offset"] < 0:
        ctl = s.ctl[0]
        row["text_offset"] = ctl["text_base"] + ctl["n_text"]
        row["target_len"] = target_len
        row["host_len"] = host_len
        row["request_id_len"] = id_len
        ctl["n_text"] += copy_bytes(data, target_at, target_len, s.text, ctl["n_text"])
        ctl["n_text"] += copy_bytes(data, host_at, host_len, s.text, ctl["n_text"])
        ctl["n_text"] += copy_bytes(data, id_at, id_len, s.text, ctl["n_text"])
        s.opened[i]["text_done"] = 1
    return content_length if is_whole or (form == _OF_SCGI and is_announced) else np.int64(-1)


@kernel
def _begin_uwsgi(s, i, data, at, captured):
    """Read the head of a uwsgi request; return its length with its content [bytes], -1 if nobody knows."""
    size = np.int64(data[at + 1]) + (np.int64(data[at + 2]) << 8)
    n_content = _read_pairs(s, i, data, at + 4, at + min(captured, 4 + size), _OF_UWSGI)
    return 4 + size + n_content if n_content >= 0 and captured >= 4 + size else np.int64(-1)


@kernel
def _begin_scgi(s, i, data, at, captured):
    """Read the head of an SCGI request: its length, a colon, names and values, a comma; return as `_begin_uwsgi`."""
    size = np.int64(0)
    k = np.int64(0)
    while k < min(captured, MOST_SCGI_DIGITS) and data[at + k] != ord(":"):
        size = size * 10 + np.int64(data[at + k]) - ord("0")
        k += 1
    head = k + 1 + size
    n_content = _read_pairs(s, i, data, at + min(captured, k + 1), at + min(captured, head), _OF_SCGI)
    return head + 1 + n_content if n_content >= 0 else np.int64(-1)


@kernel
def feed_single(s, slot, event, data):
    """Take in originator bytes of a uwsgi or SCGI connection: it carries one request.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    data : ndarray of uint8, shape (n_byte,)
        Where the delivered bytes lie.
    """
    c = s.conns[slot]
    f = s.flows[2 * slot]
    at = int(event["data_offset"])
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    i = np.int64(c["tail"])
    if i < 0:
        if c["n_exchanges"] > 0:
            return
        i = begin_request(s, slot, event, np.int64(0))
        if c["protocol"] == Protocol.SCGI.value:
            f["remaining"] = _begin_scgi(s, i, data, at, captured)
        else:
            f["remaining"] = _begin_uwsgi(s, i, data, at, captured)
        is_known = f["remaining"] >= 0
        s.rows[i]["request_framing"] = Framing.CONTENT_LENGTH.value if is_known else Framing.TURN.value
        if s.rows[i]["method"] < 0:
            s.rows[i]["method"] = Method.NONE.value
    extend_message(s, slot, i, event, length)
    if f["remaining"] >= 0:
        f["remaining"] = max(np.int64(0), f["remaining"] - length)
        if f["remaining"] == 0:
            s.opened[i]["request_done"] = 1
    c["last_payload_ns"] = event["ts_ns"]


@kernel
def _read_status(data, at, stop):
    """Return the status code of a response's status line or Status field (RFC 3875 section 6.3.3); -1 without one."""
    line = at
    while line < stop:
        end = line + find_byte(data, line, stop - line, LF)
        n = end - line
        value = end
        if line == at and n >= 12 and equals_folded(data, line, 5, HTTP_SLASH):
            value = line + 8
        elif n >= 10 and equals_folded(data, line, 7, _STATUS):
            value = line + 7
        elif n < 2:
            return -1
        if value < end:
            while value < end and (data[value] == SPACE or data[value] == TAB):
                value += 1
            code = 0
            for k in range(value, value + 3):
                if k >= end or data[k] < ord("0") or data[k] > ord("9"):
                    return -1
                code = code * 10 + int(data[k]) - ord("0")
            return code
        line = end + 1
    return -1


@kernel
def feed_single_response(s, slot, event, data):
    """Take in responder bytes of a uwsgi or SCGI connection: they answer as HTTP or CGI does, and end with it.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    data : ndarray of uint8, shape (n_byte,)
        Where the delivered bytes lie.
    """
    i = response_target(s, slot)
    is_first = i >= 0 and not s.opened[i]["has_response"]
    add_turn(s, slot, event, np.int64(0), np.int64(event["data_len"]))
    if is_first and s.opened[i]["has_response"]:
        at = int(event["data_offset"])
        s.rows[i]["status_code"] = _read_status(data, at, at + int(event["data_cap"]))


@kernel
def _lose_records(s, slot, i, direction):
    """Take in that record headers cannot be found any more: only the other side can tell where a message ends."""
    f = s.flows[2 * slot + direction]
    f["state"] = ST_LOST
    f["tls_header"] = 0
    f["remaining"] = 0
    if i >= 0 and direction == RESP:
        s.rows[i]["response_framing"] = Framing.TURN.value
    elif i >= 0:
        s.rows[i]["request_framing"] = Framing.TURN.value


@kernel
def _whose_record(s, slot, direction, kind, number):
    """Return the exchange that a record belongs to, -1 if none: management records (number 0) ask for no page.

    FCGI_ABORT_REQUEST is no part of the request that it ends.
    """
    if number == 0 or (direction != RESP and kind == ABORT_REQUEST):
        return np.int64(-1)
    c = s.conns[slot]
    i = np.int64(c["tail"])
    if direction != RESP and i >= 0 and s.opened[i]["record_id"] == number:
        return i  # of several with this number, all but the last have ended
    i = np.int64(c["head"])
    while i >= 0:
        known = s.opened[i]["record_id"]
        # One that was counted without its first record has no number that is known.
        is_open = direction != RESP or not s.opened[i]["response_done"]
        if is_open and (known == number or known < 0):
            return i
        i = np.int64(s.opened[i]["next"])
    return np.int64(-1)


@kernel
def _begin_record(s, slot, event, pos, f, direction):
    """Take in a whole record header whose first byte lies at `pos`; return the exchange that the record belongs to."""
    c = s.conns[slot]
    kind = int(f["tls_type"])
    number = int(f["frame_stream"])
    f["frame_length"] = f["remaining"]
    f["frame_value"] = -1
    if direction != RESP and kind == BEGIN_REQUEST:
        i = np.int64(begin_request(s, slot, event, pos))
        s.rows[i]["request_framing"] = Framing.RECORDS.value
        s.opened[i]["record_id"] = number
    else:
        i = np.int64(_whose_record(s, slot, direction, kind, number))
    if direction != RESP and kind == ABORT_REQUEST:
        k = np.int64(c["head"])
        if k >= 0 and not s.opened[k]["response_done"] and s.opened[k]["record_id"] == number:
            keep_key(s, slot, BITS[Key.ORIG_ABORT.value], event)
    if direction == RESP and i >= 0 and kind == STDOUT and f["content_length"] > 0 and not s.opened[i]["has_response"]:
        begin_response(s, slot, i, event, pos)
        s.rows[i]["response_framing"] = Framing.RECORDS.value
        f["n_fields"] = 0  # no output yet: the first has the head
    if direction != RESP or (i >= 0 and s.opened[i]["has_response"]):
        if i >= 0:
            extend_message(s, slot, i, event, np.int64(HEADER_BYTES))
    elif i >= 0 and i == c["head"] and kind != END_REQUEST:
        replace_key(s, slot, BITS[Key.RESP_STDERR.value], event)
    return i


@kernel
def _end_record(s, slot, i, event, f, direction):
    """Take in the end of a record: the last one of a request is empty, that of a response says so."""
    if i < 0:
        return
    kind = int(f["tls_type"])
    if direction != RESP:
        if kind == STDIN and f["content_length"] == 0:
            s.opened[i]["request_done"] = 1
        return
    if kind != END_REQUEST:
        return
    c = s.conns[slot]
    s.opened[i]["response_done"] = 1
    if not s.opened[i]["has_response"]:
        status = int(f["frame_value"])
        s.rows[i]["stream_error"] = status
        if CANT_MPX_CONN <= status <= UNKNOWN_ROLE:
            s.rows[i]["flags"] = int(s.rows[i]["flags"]) | NOT_PROCESSED
        if i == c["head"]:
            replace_key(s, slot, BITS[Key.RESP_END_REQUEST.value], event)
    while c["head"] >= 0 and s.opened[c["head"]]["response_done"] and s.opened[c["head"]]["next"] >= 0:
        emit_exchange(s, slot)


@kernel
def skip_in_record(s, slot, i, event):
    """Skip a hole that lies inside one record; return whether it does.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        The exchange whose message it is, -1 for none.
    event : record of columns.STREAM_EVENTS.dtype
        The hole.

    Returns
    -------
    bool
        If not, the framing of this direction is lost.
    """
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    length = np.int64(event["data_len"])
    is_begun = direction != RESP or (i >= 0 and s.opened[i]["has_response"])
    if f["state"] != ST_LOST and f["tls_header"] == 0 and f["remaining"] > length and is_begun:
        f["remaining"] -= length
        if i >= 0:
            s.rows[i]["flags"] = int(s.rows[i]["flags"]) | HOLE
            extend_message(s, slot, i, event, length)
        return True
    _lose_records(s, slot, i, direction)
    return False


@kernel
def feed_fastcgi(s, slot, event, data):
    """Walk the FastCGI records of an event.

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
    at = int(event["data_offset"])
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    pos = np.int64(0)
    if f["state"] == ST_LOST:
        is_header = captured >= HEADER_BYTES and data[at] == 1 and 1 <= data[at + 1] <= MAX_TYPE
        if not is_header or direction == RESP or data[at + 1] != BEGIN_REQUEST:
            add_turn(s, slot, event, pos, length)
            f["state"] = ST_LOST
            return
        f["state"] = ST_START
        f["remaining"] = 0
        f["tls_header"] = 0
    while pos < length:
        if f["remaining"] > 0 and f["tls_header"] == 0:
            i = np.int64(_whose_record(s, slot, direction, int(f["tls_type"]), int(f["frame_stream"])))
            n = min(f["remaining"], length - pos)
            before = f["frame_length"] - f["remaining"]
            status_at = pos + PROTOCOL_STATUS_AT - before
            if f["tls_type"] == END_REQUEST and pos <= status_at < min(pos + n, captured):
                f["frame_value"] = data[at + status_at]
            f["remaining"] -= n
            if i >= 0 and (direction != RESP or s.opened[i]["has_response"]):
                extend_message(s, slot, i, event, n)
            elif i >= 0 and i == c["head"] and f["tls_type"] != END_REQUEST:
                replace_key(s, slot, BITS[Key.RESP_STDERR.value], event)
            pos += n
            if f["remaining"] == 0:
                _end_record(s, slot, i, event, f, direction)
            continue
        byte = int(data[at + pos]) if pos < captured else -1
        have = int(f["tls_header"])
        if direction != RESP and have == 1 and byte == BEGIN_REQUEST and c["n_open"] >= MAX_OPEN_PER_CONNECTION:
            # Nobody asks for so much at once; what is open is bounded.
            _lose_records(s, slot, np.int64(c["tail"]), direction)
            break
        if byte < 0 or (have == 0 and byte != 1):
            _lose_records(s, slot, response_target(s, slot) if direction == RESP else np.int64(c["tail"]), direction)
            add_turn(s, slot, event, pos, length - pos)
            f["state"] = ST_LOST
            return
        if have == 0:
            f["remaining"] = 0
        elif have == 1:
            f["tls_type"] = byte
        elif have == 2:
            f["frame_stream"] = byte << 8
        elif have == 3:
            f["frame_stream"] += byte
        elif have == 4:
            f["remaining"] = byte << 8
        elif have == 5:
            f["remaining"] += byte
        elif have == 6:
            f["content_length"] = f["remaining"]
            f["remaining"] += byte
        have += 1
        pos += 1
        if have == HEADER_BYTES:
            have = 0
            # The number is negative where the header began in an earlier segment.
            i = np.int64(_begin_record(s, slot, event, pos - HEADER_BYTES, f, direction))
            kind = int(f["tls_type"])
            stop = at + min(captured, pos + f["content_length"])
            if i >= 0 and f["content_length"] > 0:
                if direction != RESP and kind == PARAMS and s.rows[i]["text_offset"] < 0:
                    _read_pairs(s, i, data, at + pos, stop, _OF_FASTCGI)
                if direction == RESP and kind == STDOUT and f["n_fields"] == 0:
                    f["n_fields"] = 1
                    s.rows[i]["status_code"] = _read_status(data, at + pos, stop)
            if f["remaining"] == 0:
                f["tls_header"] = 0
                _end_record(s, slot, i, event, f, direction)
        f["tls_header"] = have
    c["last_payload_ns"] = event["ts_ns"]
