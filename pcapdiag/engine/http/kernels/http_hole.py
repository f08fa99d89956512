"""Holes: stream bytes that were never captured, taken in as what they must have been.

Content is skipped by its stated length, answers step by step by what requests say they had taken in; where neither
tells, framing is lost and only the other side says where a message ends.
"""

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Framing, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http2 import skip_in_frame
from pcapdiag.engine.http.kernels.http_exchange import free_scratch, store_text
from pcapdiag.engine.http.kernels.http_gateway import skip_in_record
from pcapdiag.engine.http.kernels.http_message import end_message, lose_framing
from pcapdiag.engine.http.kernels.http_state import (
    ST_BODY,
    ST_CHUNK_DATA,
    ST_CHUNK_END,
    ST_HEAD,
    ST_LOST,
    ST_TURN,
    ST_UNTIL_CLOSE,
)
from pcapdiag.engine.http.kernels.http_steps import is_too_old, lose_step, next_step, settle_before
from pcapdiag.engine.http.kernels.http_turns import COUNTS, add_turn, begin_response, extend_message, response_target

ORIG = Direction.ORIG.value
RESP = Direction.RESP.value
HOLE = int(ExchangeFlag.HOLE)

# Of a fixed width: a literal, or a narrower integer, would have every kernel that takes it compiled once more.
_START = np.int64(0)
_BEHIND_HOLE = np.int64(0)


@kernel
def _skip_part(s, slot, event, pos, length):
    """Take in that `length` stream bytes are missing, `pos` bytes into a hole: content may be skipped by its length."""
    c = s.conns[slot]
    direction = int(event["dir"])
    f = s.flows[2 * slot + direction]
    state = int(f["state"])
    if direction == ORIG:
        i = np.int64(c["tail"])
        if i >= 0 and s.opened[i]["request_done"]:
            i = -1
    else:
        i = response_target(s, slot)
    if c["protocol"] == Protocol.TLS.value:
        in_record = f["tls_header"] == 0 and f["remaining"] >= length
        if direction == RESP and (f["tls_counts"] == COUNTS or not in_record):
            add_turn(s, slot, event, pos, length)
        if in_record:
            f["remaining"] -= length
        else:
            f["state"] = ST_LOST
            f["tls_header"] = 0
            f["remaining"] = 0
        if i >= 0:
            s.rows[i]["flags"] = int(s.rows[i]["flags"]) | HOLE
        return
    if c["protocol"] == Protocol.FASTCGI.value and skip_in_record(s, slot, i, event):
        return
    if i >= 0 and state == ST_HEAD:
        # What was read of a head before the hole is known.
        if direction == RESP:
            s.rows[i]["status_code"] = f["status_code"]
        elif f["n_fields"] > 0:
            store_text(s, s.rows[i], f)
            s.opened[i]["text_done"] = 1
            s.rows[i]["method"] = f["method"]
    free_scratch(s, f)
    if i < 0:
        f["state"] = ST_LOST
        return
    if direction == RESP and is_too_old(s, i, (event["seq"] + pos) & 0xFFFFFFFF):
        return
    s.rows[i]["flags"] = int(s.rows[i]["flags"]) | HOLE
    if direction == RESP:
        # The originator acknowledged these bytes: there was an answer, captured or not.
        if not s.opened[i]["has_response"]:
            begin_response(s, slot, i, event, pos)
            s.rows[i]["response_framing"] = Framing.TURN.value
        c["last_payload_ns"] = event["ts_ns"]
        c["hole_ns"] = event["ts_ns"]
    extend_message(s, slot, i, event, length)
    if (state == ST_BODY or state == ST_CHUNK_DATA) and f["remaining"] >= length:
        f["remaining"] -= length
        if f["remaining"] == 0:
            if state == ST_BODY:
                end_message(s, slot, i, direction)
            else:
                f["state"] = ST_CHUNK_END
    elif state != ST_UNTIL_CLOSE:
        lose_framing(s, i, f, direction)
    if c["protocol"] == Protocol.FASTCGI.value:
        f["state"] = ST_LOST


@kernel
def skip_hole(s, slot, event):
    """Take in that stream bytes are missing: step by step where requests say what they had taken in.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS
        Its `data_len` bytes were never captured.
    """
    c = s.conns[slot]
    if c["protocol"] == Protocol.UPGRADED.value or c["protocol"] == Protocol.HTTP2_UNREAD.value:
        return
    if c["protocol"] == Protocol.HTTP2.value:
        skip_in_frame(s, slot, event)
        return
    length = np.int64(event["data_len"])
    if event["dir"] == ORIG or c["protocol"] == Protocol.FASTCGI.value:
        _skip_part(s, slot, event, _START, length)
        state = int(s.flows[2 * slot]["state"])
        if event["dir"] == ORIG and (state == ST_TURN or state == ST_LOST):
            c["orig_hole"] = 1
        return
    pos = _START
    while pos < length:
        seq = (event["seq"] + pos) & 0xFFFFFFFF
        settle_before(s, slot, seq)
        part = next_step(s, slot, seq, length - pos)
        _skip_part(s, slot, event, pos, part)
        pos += part
    c["resp_next"] = (event["seq"] + length) & 0xFFFFFFFF
    c["resp_hole_end"] = c["resp_next"]
    if c["protocol"] == Protocol.HTTP1.value:
        lose_step(s, slot, _BEHIND_HOLE)
