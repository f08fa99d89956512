"""HTTP/1.x messages: where a head ends, how its content is framed, where the content ends (RFC 9112 sections 6 and 7).

Knows one flow's bytes and state; exchanges only as the row that a head fills in, and that is handed out
when its messages have ended.
"""

from pcapdiag.base.codes import Direction, ExchangeFlag, Framing, Method, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels._scan import find_byte
from pcapdiag.engine.http.kernels.http_exchange import emit_exchange
from pcapdiag.engine.http.kernels.http_head import keep_line_part, parse_field, parse_request_line, parse_status_line
from pcapdiag.engine.http.kernels.http_state import (
    MAX_HEAD_FIELDS,
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
)

ORIG = Direction.ORIG.value
UPGRADE = int(ExchangeFlag.UPGRADE)
CONNECTION_CLOSE = int(ExchangeFlag.CONNECTION_CLOSE)
CR = ord("\r")
LF = ord("\n")


@kernel
def begin_head(s, flow):
    """Make a flow ready to read a head, with a scratch row.

    Parameters
    ----------
    s : FramerArrays
    flow : record of http_state.FLOW
    """
    if flow["scratch"] < 0:
        ctl = s.ctl[0]
        i = ctl["free_scratch"]
        ctl["free_scratch"] = s.free_next[i]
        ctl["n_free_scratch"] -= 1
        flow["scratch"] = i
    flow["line_len"] = 0
    flow["target_len"] = 0
    flow["host_len"] = 0
    flow["request_id_len"] = 0
    flow["n_fields"] = 0
    flow["content_length"] = -1
    flow["chunked"] = 0
    flow["close"] = 0
    flow["keep_alive"] = 0
    flow["h2c"] = 0
    flow["minor"] = 1
    flow["status_code"] = -1
    flow["state"] = ST_HEAD


@kernel
def read_head(s, flow, conn, data, at, length, captured, direction):
    """Read head lines.

    Parameters
    ----------
    s : FramerArrays
    flow : record of http_state.FLOW
        In ST_HEAD. Becomes ST_LOST if this is no head, ST_TURN if the rest of it was not captured.
    conn : record of http_state.CONN
    data : ndarray of uint8, shape (n_byte,)
    at, length, captured : int
        [bytes] Where the bytes lie, how many there are, how many of them may be read.
    direction : int
        ORIG for a request, RESP for a response.

    Returns
    -------
    used : int
        [bytes] How many were used.
    ended : bool
        Whether the head ended with them.
    """
    base = int(flow["scratch"]) * SCRATCH_BYTES
    pos = 0
    while pos < length:
        end = pos + find_byte(data, at + pos, captured - pos, LF)
        if end >= captured:
            keep_line_part(data, at + pos, captured - pos, flow, s.scratch, base)
            if captured < length:
                if flow["n_fields"] == 0 and direction != ORIG:
                    # The status stands in the first bytes, and a small snap length leaves those.
                    parse_status_line(s.scratch, base, int(flow["line_len"]), flow)
                flow["state"] = ST_TURN
                return length, False
            return length, False
        if flow["line_len"] > 0:
            keep_line_part(data, at + pos, end - pos, flow, s.scratch, base)
            line = s.scratch
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
            if direction == ORIG:
                good = parse_request_line(line, line_at, n, flow, s.scratch, base)
            else:
                good = parse_status_line(line, line_at, n, flow)
            if not good:
                flow["state"] = ST_LOST
                return pos, False
        elif n == 0:
            return pos, True
        else:
            ctl = s.ctl[0]
            used = parse_field(line, line_at, n, flow, s.scratch, base, direction == ORIG, conn, s.text, ctl["n_text"])
            if used > 0:
                conn["server_offset"] = ctl["text_base"] + ctl["n_text"]
                ctl["n_text"] += used
        if n_fields > MAX_HEAD_FIELDS:
            flow["state"] = ST_TURN
            return length, False
        flow["n_fields"] = n_fields + 1
    return pos, False


@kernel
def _read_chunked(flow, data, at, length, captured):
    """Walk chunked content (RFC 9112 section 7.1); return how many bytes it used, and whether it ended."""
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
            return length, False
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
                    return length, False
                flow["remaining"] = flow["remaining"] * 16 + digit
                flow["line_empty"] = 0
                continue
            if flow["line_empty"]:
                # Not a chunk size: the framing is lost, the message lasts until the other side speaks.
                flow["state"] = ST_TURN
                return length, False
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
                return length, False
        else:  # ST_TRAILER
            if c == LF:
                if flow["line_empty"]:
                    return pos, True
                flow["line_empty"] = 1
            elif c != CR:
                flow["line_empty"] = 0
    return pos, False


@kernel
def _begin_chunk(flow):
    if flow["remaining"] == 0:
        flow["state"] = ST_TRAILER
        flow["line_empty"] = 1
    else:
        flow["state"] = ST_CHUNK_DATA


@kernel
def read_body(flow, data, at, length, captured):
    """Walk content in whatever framing the flow is in.

    Parameters
    ----------
    flow : record of http_state.FLOW
    data : ndarray of uint8, shape (n_byte,)
    at, length, captured : int
        [bytes] Where the bytes lie, how many there are, how many of them may be read.

    Returns
    -------
    used : int
        [bytes] How many were used.
    ended : bool
        Whether the message ended with them.
    """
    state = flow["state"]
    if state == ST_BODY:
        n = min(flow["remaining"], length)
        flow["remaining"] -= n
        return n, flow["remaining"] == 0
    if state == ST_UNTIL_CLOSE or state == ST_TURN:
        return length, False
    return _read_chunked(flow, data, at, length, captured)


@kernel
def _begin_content(flow):
    """Begin the content that the fields announce; return its framing."""
    if flow["chunked"]:
        flow["state"] = ST_CHUNK_SIZE
        flow["remaining"] = 0
        flow["line_empty"] = 1
        return Framing.CHUNKED.value
    if flow["content_length"] < 0:
        # Not to be read: the message lasts until the other side speaks.
        flow["state"] = ST_TURN
        return Framing.TURN.value
    flow["state"] = ST_BODY
    flow["remaining"] = flow["content_length"]
    return Framing.CONTENT_LENGTH.value


@kernel
def frame_request(flow, row):
    """Decide how a request ends (RFC 9112 section 6.3).

    Parameters
    ----------
    flow : record of http_state.FLOW
        What its head said; gets its next state.
    row : record of columns.EXCHANGES.dtype

    Returns
    -------
    bool
        Whether it ended with its head.
    """
    row["method"] = flow["method"]
    if flow["chunked"] or flow["content_length"] > 0 or flow["content_length"] < -1:
        row["request_framing"] = _begin_content(flow)
        return False
    row["request_framing"] = Framing.NO_CONTENT.value
    flow["state"] = ST_START
    return True


@kernel
def frame_response(flow, row, conn):
    """Decide how a final response ends (RFC 9112 section 6.3).

    Parameters
    ----------
    flow : record of http_state.FLOW
        What its head said; gets its next state.
    row : record of columns.EXCHANGES.dtype
        Its exchange; the method matters.
    conn : record of http_state.CONN

    Returns
    -------
    bool
        Whether it ended with its head.
    """
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
        conn["protocol"] = Protocol.HTTP2.value if status == 101 and flow["h2c"] else Protocol.UPGRADED.value
        flow["state"] = ST_START
        return True
    if method == Method.HEAD.value or status == 204 or status == 304:
        row["response_framing"] = Framing.NO_CONTENT.value
        flow["state"] = ST_START
        return True
    if flow["chunked"] or flow["content_length"] != -1:
        row["response_framing"] = _begin_content(flow)
        if flow["state"] == ST_BODY and flow["remaining"] == 0:
            flow["state"] = ST_START
            return True
        return False
    row["response_framing"] = Framing.UNTIL_CLOSE.value
    flow["state"] = ST_UNTIL_CLOSE
    conn["close_announced"] = 1
    return False


@kernel
def end_message(s, slot, i, direction):
    """Mark a message complete; hand its exchange out if it was the response and another exchange waits behind it.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        Index in the pool of open exchanges.
    direction : int
    """
    s.flows[2 * slot + direction]["state"] = ST_START
    if direction == ORIG:
        s.opened[i]["request_done"] = 1
    else:
        s.opened[i]["response_done"] = 1
        if s.opened[i]["next"] >= 0:
            emit_exchange(s, slot)


@kernel
def lose_framing(s, i, flow, direction):
    """Take in that only the other side can tell where a message ends.

    Parameters
    ----------
    s : FramerArrays
    i : int
        Index in the pool of open exchanges.
    flow : record of http_state.FLOW
    direction : int
    """
    flow["state"] = ST_TURN
    if direction == ORIG:
        s.rows[i]["request_framing"] = Framing.TURN.value
    else:
        s.rows[i]["response_framing"] = Framing.TURN.value
