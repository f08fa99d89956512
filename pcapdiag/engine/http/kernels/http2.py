"""HTTP/2 in the clear: frames, as they lie in the segments of both directions.

Knows frame headers and the payload bytes that end a stream (RFC 9113 sections 4 and 6); of header blocks only what can
be told without the tables of a connection (RFC 7541): the status of most responses. A request's block is kept as it is
for who reads it later, with all blocks before it.

Frames whose header cannot be found any more (missing bytes, lengths that no frame of their type has) end the reading of
the connection: nothing is guessed.
"""

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http2_streams import (
    begin_stream_response,
    change_stream_credit,
    end_request,
    end_response,
    extend_request,
    extend_stream_response,
    find_stream,
    forget_credit,
    grant_credit,
    lose_frames,
    open_stream,
    reset_stream,
    take_goaway,
    take_status,
    use_credit,
)
from pcapdiag.engine.http.kernels.http_exchange import free_scratch
from pcapdiag.engine.http.kernels.http_head import copy_bytes
from pcapdiag.engine.http.kernels.http_message import begin_head
from pcapdiag.engine.http.kernels.http_state import BLOCK_BYTES, MAX_OPEN_PER_CONNECTION, SCRATCH_BYTES

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PREFACE = 255
"""Not a frame: the 24 bytes before the originator's first one (RFC 9113 section 3.4)."""
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20
HEADER_BYTES = 9
SETTING_BYTES = 6
INITIAL_WINDOW_SIZE = 4
PREFACE_BYTES = 24
PRIORITY_BYTES = 5
VALUE_BYTES = 8
ORIG = Direction.ORIG.value
RESP = Direction.RESP.value
HOLE = int(ExchangeFlag.HOLE)
UPGRADE = int(ExchangeFlag.UPGRADE)

# The static table's entries for :status, numbers 8 to 14 (RFC 7541 appendix A).
_FIRST_STATUS, _LAST_STATUS = 8, 14
_STATIC_STATUS = np.array([200, 204, 206, 304, 400, 404, 500], dtype=np.int64)


@kernel
def looks_like_settings(data, at, captured):
    """Return whether bytes begin with a SETTINGS frame, with which each side's frames begin.

    Parameters
    ----------
    data : ndarray of uint8, shape (n_byte,)
    at, captured : int
        [bytes] Where, and how many bytes may be read.

    Returns
    -------
    bool
    """
    if captured < HEADER_BYTES or data[at] != 0 or data[at + 3] != SETTINGS or data[at + 4] != 0:
        return False
    length = int(data[at + 1]) << 8 | int(data[at + 2])
    stream = int(data[at + 5]) | int(data[at + 6]) | int(data[at + 7]) | int(data[at + 8])
    return length % 6 == 0 and length <= 1024 and stream == 0


@kernel
def read_status(value, n):
    """Return the status that a response's header block begins with, -1 if only the connection's tables tell.

    Parameters
    ----------
    value : int
        Its first 8 bytes as a number, the first byte highest.
    n : int
        [bytes] How many of them there are.

    Returns
    -------
    int
    """
    k = 0
    byte = (value >> 56) & 0xFF
    while k < n and byte & 0xE0 == 0x20:
        # A change of the table's size (RFC 7541 section 6.3), an integer of one to three bytes.
        k += 1
        goes_on = byte & 0x1F == 0x1F
        byte = (value >> (56 - 8 * k)) & 0xFF if k < VALUE_BYTES else 0
        while goes_on and k < n:
            goes_on = byte & 0x80 != 0
            k += 1
            byte = (value >> (56 - 8 * k)) & 0xFF if k < VALUE_BYTES else 0
    if k >= n:
        return -1
    if byte & 0x80:
        index = byte & 0x7F
        return _STATIC_STATUS[index - _FIRST_STATUS] if _FIRST_STATUS <= index <= _LAST_STATUS else -1
    index = byte & 0x3F if byte & 0x40 else byte & 0x0F
    if index < _FIRST_STATUS or index > _LAST_STATUS or k + 1 >= n:
        return -1
    k += 1
    byte = (value >> (56 - 8 * k)) & 0xFF
    length = byte & 0x7F
    if length < 2 or length > 3 or k + length >= n:
        return -1
    # The bits that hold the value, at the top of 24.
    shift = 56 - 8 * (k + length)
    bits = (value >> shift) & ((1 << (8 * length)) - 1)
    bits <<= 24 - 8 * length
    status = 0
    left = 24
    for _ in range(3):
        if byte & 0x80:
            # Appendix B: 0 to 2 are their value in five bits, 3 to 9 are 25 to 31 in six.
            digit = (bits >> (left - 5)) & 0x1F
            left -= 5
            if digit > 2:
                left -= 1
                digit = ((bits >> left) & 0x3F) - 22
        else:
            left -= 8
            digit = ((bits >> left) & 0xFF) - 48
        if digit < 0 or digit > 9:
            return -1
        status = status * 10 + digit
    if byte & 0x80:
        # What is left is less than a byte, of ones (section 5.2).
        unused = left - (24 - 8 * length)
        if unused < 0 or unused > 7 or (bits >> (24 - 8 * length)) & ((1 << unused) - 1) != (1 << unused) - 1:
            return -1
    elif length != 3:
        return -1
    return status if status >= 100 else -1


@kernel
def _is_frame(f, kind, direction):
    """Return whether a frame of this type has the length and stream that it must have (RFC 9113 section 6)."""
    length = int(f["frame_length"])
    stream = int(f["frame_stream"])
    if f["in_block"]:
        return kind == CONTINUATION and stream == f["block_stream"]
    if not f["frame_begun"]:
        return kind == SETTINGS and stream == 0 and length % 6 == 0 and int(f["frame_flags"]) & 1 == 0
    if kind == DATA or kind == HEADERS:
        return stream != 0 and (direction == RESP or stream & 1 == 1)
    if kind == PRIORITY:
        return stream != 0 and length == PRIORITY_BYTES
    if kind == RST_STREAM:
        return stream != 0 and length == 4
    if kind == SETTINGS:
        return stream == 0 and length % 6 == 0
    if kind == PUSH_PROMISE:
        return stream != 0 and length >= 4 and direction == RESP
    if kind == PING:
        return stream == 0 and length == 8
    if kind == GOAWAY:
        return stream == 0 and length >= 8
    if kind == WINDOW_UPDATE:
        return length == 4
    return kind != CONTINUATION  # types that are not known are passed over (RFC 9113 section 4.1)


@kernel
def _begin_frame(s, slot, event, direction, begin, pos):
    """Take in that the header of a frame is whole; return 1 if it opened a stream, 0 if not, -1 if it is no frame."""
    c = s.conns[slot]
    f = s.flows[2 * slot + direction]
    kind = int(f["tls_type"])
    stream = int(f["frame_stream"])
    flags = int(f["frame_flags"])
    if not _is_frame(f, kind, direction):
        return -1
    f["frame_begun"] = 1
    f["frame_value"] = 0
    f["tls_counts"] = 0  # 1: a request's block, to be kept; 2: a response's head
    n_opened = 0
    if kind == DATA or kind == HEADERS or kind == CONTINUATION:
        i, _ = find_stream(s, slot, stream)
        if direction == ORIG:
            if kind == HEADERS and i < 0 and stream > c["last_stream"]:
                i = open_stream(s, slot, event, stream, begin, pos)
                if i < 0:
                    return -1
                c["last_stream"] = stream
                n_opened = 1
                f["tls_counts"] = 1 if c["heads_kept"] else 0
            elif i >= 0:
                extend_request(s, slot, i, event, np.int64(HEADER_BYTES), pos)
        elif i >= 0 and not s.opened[i]["response_done"]:
            if not s.opened[i]["has_response"]:
                begin_stream_response(s, slot, i, event, begin)
                f["tls_counts"] = 2 if kind == HEADERS else 0
            extend_stream_response(s, slot, i, event, np.int64(HEADER_BYTES))
        if kind == HEADERS:
            is_whole = flags & END_HEADERS != 0
            f["in_block"] = 0 if is_whole else 1
            f["block_stream"] = stream
            f["block_ends_stream"] = 1 if flags & END_STREAM else 0
            if direction == ORIG and (f["tls_counts"] != 1 or not is_whole or flags & PADDED):
                # The tables that later blocks rest on are not known any more.
                c["heads_kept"] = 0
                f["tls_counts"] = 0
    return n_opened


@kernel
def _keep_block(s, slot, data, start, n):
    """Keep bytes of a request's header block; write it out when it is whole."""
    c = s.conns[slot]
    f = s.flows[2 * slot]
    have = int(f["line_len"])
    if int(f["frame_length"]) > BLOCK_BYTES:
        c["heads_kept"] = 0
        f["tls_counts"] = 0
        return
    is_last = f["remaining"] == n
    if f["scratch"] < 0:
        if not is_last:
            begin_head(s, f)
        have = 0
    if f["scratch"] >= 0:
        copy_bytes(data, start, n, s.scratch, int(f["scratch"]) * SCRATCH_BYTES + have)
        f["line_len"] = have + n
    if not is_last:
        return
    skip = PRIORITY_BYTES if int(f["frame_flags"]) & HAS_PRIORITY else 0
    length = int(f["frame_length"]) - skip
    i, _ = find_stream(s, slot, int(f["frame_stream"]))
    if length < 0 or i < 0:
        c["heads_kept"] = 0
        free_scratch(s, f)
        return
    ctl = s.ctl[0]
    s.rows[i]["text_offset"] = ctl["text_base"] + ctl["n_text"]
    s.text[ctl["n_text"]] = length & 0xFF
    s.text[ctl["n_text"] + 1] = length >> 8
    ctl["n_text"] += 2
    if f["scratch"] >= 0:
        copy_bytes(s.scratch, int(f["scratch"]) * SCRATCH_BYTES + skip, length, s.text, ctl["n_text"])
        free_scratch(s, f)
    else:
        copy_bytes(data, start + skip, length, s.text, ctl["n_text"])
    ctl["n_text"] += length


@kernel
def _take_payload(s, slot, event, data, direction, pos, n, n_captured):
    """Take in `n` payload bytes, of which `n_captured` can be read, that lie `pos` bytes into the event's data."""
    f = s.flows[2 * slot + direction]
    kind = int(f["tls_type"])
    if kind == DATA or kind == HEADERS or kind == CONTINUATION:
        i, _ = find_stream(s, slot, int(f["frame_stream"]))
        if i >= 0 and direction == ORIG:
            extend_request(s, slot, i, event, n, pos + n)
        elif i >= 0 and not s.opened[i]["response_done"]:
            extend_stream_response(s, slot, i, event, n)
        if i >= 0 and n_captured < n:
            s.rows[i]["flags"] = int(s.rows[i]["flags"]) | HOLE
    if direction == RESP and (kind == SETTINGS or kind == WINDOW_UPDATE):
        if n_captured < n:
            forget_credit(s, slot)
        into = int(f["frame_length"]) - f["remaining"]
        start = int(event["data_offset"]) + pos
        for k in range(n_captured):
            f["frame_value"] = (f["frame_value"] & 0xFFFFFFFFFF) << 8 | np.int64(data[start + k])
            is_setting = kind == SETTINGS and (into + k) % SETTING_BYTES == SETTING_BYTES - 1
            if is_setting and f["frame_value"] >> 32 == INITIAL_WINDOW_SIZE:
                change_stream_credit(s, slot, f["frame_value"] & 0xFFFFFFFF)
        if n_captured < n:
            f["frame_value"] = -1  # no setting begins so
    if kind == HEADERS or kind == RST_STREAM or kind == GOAWAY:
        if n_captured < n and (kind != HEADERS or f["tls_counts"] == 1):
            if kind != HEADERS:
                return False
            s.conns[slot]["heads_kept"] = 0
            f["tls_counts"] = 0
            free_scratch(s, f)
        flags = int(f["frame_flags"])
        skip = 0
        if kind == HEADERS:
            skip = (1 if flags & PADDED else 0) + (PRIORITY_BYTES if flags & HAS_PRIORITY else 0)
        into = int(f["frame_length"]) - f["remaining"] - skip  # of the value's bytes
        start = int(event["data_offset"]) + pos
        if into < VALUE_BYTES:
            first = max(0, -into)
            for k in range(first, min(n_captured, VALUE_BYTES - into)):
                f["frame_value"] |= np.int64(data[start + k]) << (56 - 8 * (into + k))
        if f["tls_counts"] == 1:
            _keep_block(s, slot, data, start, n)
    return True


@kernel
def _end_frame(s, slot, event, direction):
    """Take in that a frame is whole."""
    f = s.flows[2 * slot + direction]
    kind = int(f["tls_type"])
    flags = int(f["frame_flags"])
    value = np.int64(f["frame_value"])
    stream = np.int64(f["frame_stream"])
    if kind == WINDOW_UPDATE and direction == RESP:
        grant_credit(s, slot, stream, value & 0x7FFFFFFF)
    if kind == PING or kind == SETTINGS or kind == WINDOW_UPDATE or kind == PREFACE:
        return
    if kind == GOAWAY:
        if direction == RESP:
            take_goaway(s, slot, event, (value >> 32) & 0x7FFFFFFF, value & 0xFFFFFFFF)
        return
    if kind == RST_STREAM:
        i, previous = find_stream(s, slot, stream)
        if i >= 0:
            reset_stream(s, slot, event, i, previous, (value >> 32) & 0xFFFFFFFF)
        return
    ends_block = (kind == HEADERS or kind == CONTINUATION) and flags & END_HEADERS != 0
    if ends_block:
        f["in_block"] = 0
    is_end = kind == DATA and flags & END_STREAM != 0
    if kind == DATA and direction == ORIG:
        i, _ = find_stream(s, slot, stream)
        use_credit(s, slot, event, i, np.int64(f["frame_length"]), is_end)
    is_end |= ends_block and f["block_ends_stream"] == 1
    if kind == HEADERS and f["tls_counts"] == 2:
        i, _ = find_stream(s, slot, stream)
        if i >= 0:
            skip = (1 if flags & PADDED else 0) + (PRIORITY_BYTES if flags & HAS_PRIORITY else 0)
            n = min(int(f["frame_length"]) - skip, VALUE_BYTES)
            take_status(s, i, read_status(value, n))
    if is_end:
        i, previous = find_stream(s, slot, stream)
        if i < 0:
            return
        if direction == ORIG:
            end_request(s, i)
        elif s.opened[i]["has_response"] and not s.opened[i]["response_done"]:
            end_response(s, slot, i, previous)


@kernel
def is_preface_due(f):
    """Return whether nothing of an originator's frames has been read, not even the preface, which may come alone.

    Parameters
    ----------
    f : record of FLOW_STATE
        Its direction.

    Returns
    -------
    bool
    """
    return not f["frame_begun"] and f["remaining"] == 0 and f["tls_header"] == 0 and f["tls_type"] != PREFACE


@kernel
def feed_http2(s, slot, event, data, pos):
    """Walk the HTTP/2 frames of an event.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
    data : ndarray of uint8, shape (n_byte,)
        Where the delivered bytes lie.
    pos : int
        [bytes] Where among them frames begin: behind a response that switches to HTTP/2.
    """
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    at = int(event["data_offset"])
    length = np.int64(event["data_len"])
    captured = np.int64(event["data_cap"])
    n_opened = 0
    if direction == ORIG and is_preface_due(f):
        if captured <= pos or data[at + pos] != ord("P"):
            lose_frames(s, slot)
            return
        if s.conns[slot]["n_exchanges"] == 0:
            s.conns[slot]["mid_stream"] = 0  # the preface is the connection's first word
        f["tls_type"] = PREFACE
        f["frame_length"] = PREFACE_BYTES
        f["remaining"] = PREFACE_BYTES
    while pos < length:
        if f["remaining"] > 0 and f["tls_header"] == 0:
            n = min(np.int64(f["remaining"]), length - pos)
            n_captured = min(n, max(np.int64(0), captured - pos))
            if not _take_payload(s, slot, event, data, direction, pos, n, n_captured):
                lose_frames(s, slot)
                return
            pos += n
            f["remaining"] -= n
            if f["remaining"] == 0:
                _end_frame(s, slot, event, direction)
            continue
        have = int(f["tls_header"])
        if have == 0:
            f["frame_length"] = 0
            f["frame_stream"] = 0
            f["begin_ts_ns"] = event["ts_ns"]
            f["begin_frame"] = event["frame"]
            f["begin_ack"] = event["ack"]
        begin = pos - have
        while have < HEADER_BYTES and pos < captured:
            byte = int(data[at + pos])
            if have < 3:
                f["frame_length"] = int(f["frame_length"]) << 8 | byte
            elif have == 3:
                f["tls_type"] = byte
            elif have == 4:
                f["frame_flags"] = byte
            elif have == 5:
                f["frame_stream"] = byte & 0x7F  # the highest bit is reserved
            else:
                f["frame_stream"] = int(f["frame_stream"]) << 8 | byte
            have += 1
            pos += 1
        f["tls_header"] = have
        if have < HEADER_BYTES:
            if pos < length:
                lose_frames(s, slot)
            return
        f["tls_header"] = 0
        opened = _begin_frame(s, slot, event, direction, begin, pos)
        n_opened += max(opened, 0)
        if opened < 0 or n_opened > MAX_OPEN_PER_CONNECTION:
            # No frame; or more streams at once than are told apart, so that the output is bounded.
            lose_frames(s, slot)
            return
        f["remaining"] = f["frame_length"]
        if f["remaining"] == 0:
            _end_frame(s, slot, event, direction)


@kernel
def skip_in_frame(s, slot, event):
    """Skip a hole that lies inside the payload of one frame of content; any other ends the reading of the connection.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        The hole.
    """
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    length = np.int64(event["data_len"])
    if f["tls_header"] > 0 or f["tls_type"] != DATA or f["remaining"] <= length or not f["frame_begun"]:
        lose_frames(s, slot)
        return
    i, _ = find_stream(s, slot, int(f["frame_stream"]))
    if i >= 0:
        s.rows[i]["flags"] = int(s.rows[i]["flags"]) | HOLE
        if direction == ORIG:
            extend_request(s, slot, i, event, length, length)
        elif not s.opened[i]["response_done"]:
            extend_stream_response(s, slot, i, event, length)
    f["remaining"] -= length


@kernel
def begin_upgraded(s, slot, i):
    """Make an exchange whose response switches to HTTP/2 its first stream (RFC 7540 section 3.2).

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        Its response comes as frames.
    """
    c = s.conns[slot]
    row = s.rows[i]
    row["stream"] = 1
    row["status_code"] = -1
    row["flags"] = int(row["flags"]) & ~UPGRADE
    row["protocol"] = Protocol.HTTP2.value
    c["last_stream"] = 1
    c["heads_kept"] = 0  # its own head is text, and stands where blocks would
    take_status(s, i, 101)
