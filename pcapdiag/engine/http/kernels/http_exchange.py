"""Exchanges: opened by a request, closed by a response or by the end; and the key segments of lost ones.

Knows requests and responses as byte ranges with times and acknowledgements; nothing of how they are framed.
"""

import numpy as np

from pcapdiag.base.codes import ExchangeFlag, Framing, Key, Outcome, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http_head import copy_bytes
from pcapdiag.engine.http.kernels.http_state import (
    BLANK_EXCHANGE,
    BLANK_OPEN,
    CLOSED,
    CUT,
    GOES_ON,
    HOST_AT,
    N_KEYS,
    REQUEST_ID_AT,
    SCRATCH_BYTES,
    TARGET_AT,
)
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

ACKNOWLEDGED = int(ExchangeFlag.ACKNOWLEDGED)
ACKNOWLEDGED_PART = int(ExchangeFlag.ACKNOWLEDGED_PART)
LATE_ANSWER = int(ExchangeFlag.LATE_ANSWER)
REQUEST_OPEN = int(ExchangeFlag.REQUEST_OPEN)
MID_STREAM = int(ExchangeFlag.MID_STREAM)
EARLY_RESPONSE = int(ExchangeFlag.EARLY_RESPONSE)
PIPELINED = int(ExchangeFlag.PIPELINED)
NOT_OWED = int(ExchangeFlag.NOT_OWED)

# A last segment that is also the first one is listed once, as the first.
_FIRST_OF = np.full(N_KEYS, -1, dtype=np.int64)
_FIRST_OF[Key.REQUEST_END.value] = Key.REQUEST.value
_FIRST_OF[Key.LAST_RETRANSMISSION.value] = Key.RETRANSMISSION.value
_FIRST_OF[Key.RESPONSE_END.value] = Key.RESPONSE.value

BITS = np.arange(N_KEYS, dtype=np.int64)
REQUEST_KEYS = np.int64(
    1 << Key.REQUEST
    | 1 << Key.REQUEST_END
    | 1 << Key.RETRANSMISSION
    | 1 << Key.LAST_RETRANSMISSION
    | 1 << Key.ACK
    | 1 << Key.RESPONSE
    | 1 << Key.RESPONSE_END
    | 1 << Key.ZERO_WINDOW
    | 1 << Key.ORIG_ZERO_WINDOW
    | 1 << Key.RESP_RESET_STREAM
    | 1 << Key.ORIG_RESET_STREAM
    | 1 << Key.KEEP_ALIVE_ACK
    | 1 << Key.RESP_END_REQUEST
    | 1 << Key.ORIG_ABORT
    | 1 << Key.RESP_STDERR
    | 1 << Key.CREDIT_USED
)
"""Key segments of one request; the others are the connection's."""
ACK_KEY = np.int64(1 << Key.ACK)
KEEP_ALIVE_ACK_KEY = np.int64(1 << Key.KEEP_ALIVE_ACK)
ORIG_ZERO_WINDOW_KEY = np.int64(1 << Key.ORIG_ZERO_WINDOW)
RESPONSE_END_KEY = np.int64(1 << Key.RESPONSE_END)


@kernel
def write_key(k, event):
    """Copy what a key segment keeps of an event.

    Parameters
    ----------
    k : record of columns.KEY_SEGMENTS.dtype
    event : record of columns.STREAM_EVENTS.dtype
    """
    k["frame"] = event["frame"]
    k["ts_ns"] = event["ts_ns"]
    k["seq"] = event["seq"]
    k["ack"] = event["ack"]
    k["payload_len"] = event["payload_len"]
    k["window"] = event["window"]
    k["ip_id"] = event["ip_id"]
    k["flags"] = event["flags"]
    k["ttl"] = event["ttl"]
    k["dir"] = event["dir"]
    k["fate"] = event["fate"]


@kernel
def replace_key(s, slot, bit, event):
    """Make the segment of an event this key segment, whatever was there.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    bit : int
        Key number as an element of BITS, so that the kernel is compiled once and not once per key.
    event : record of columns.STREAM_EVENTS.dtype
    """
    key = int(bit)
    if event["frame"] < 0:
        # A hole: what stood here is not the segment any more, and the one that would be was not captured.
        s.conns[slot]["keys_set"] = int(s.conns[slot]["keys_set"]) & ~(1 << key)
        return
    s.conns[slot]["keys_set"] = int(s.conns[slot]["keys_set"]) | (1 << key)
    write_key(s.keys[slot, key], event)


@kernel
def keep_key(s, slot, bit, event):
    """Make the segment of an event this key segment, unless there is one.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    bit : int
        As in `replace_key`.
    event : record of columns.STREAM_EVENTS.dtype
    """
    if not int(s.conns[slot]["keys_set"]) >> int(bit) & 1:
        replace_key(s, slot, bit, event)


@kernel
def forget_keys(s, slot, mask):
    """Forget the key segments whose bits are set in `mask`.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    mask : int
        One bit per key.
    """
    s.conns[slot]["keys_set"] = int(s.conns[slot]["keys_set"]) & ~mask


@kernel
def follow_with(s, row, slot):
    """Make the next pipelined exchange the one whose key segments are kept; its row knows where it began.

    Parameters
    ----------
    s : FramerArrays
    row : record of columns.EXCHANGES.dtype
    slot : int
    """
    c = s.conns[slot]
    c["keys_set"] = (int(c["keys_set"]) & ~REQUEST_KEYS) | (1 << Key.REQUEST.value)
    k = s.keys[slot, Key.REQUEST.value]
    k["frame"] = row["request_frame"]
    k["ts_ns"] = row["request_ts_ns"]
    k["seq"] = row["request_seq"]
    k["ack"] = row["request_ack"]


@kernel
def emit_keys(s, slot, conn, depth):
    """Write the key segments of a connection's first open exchange out.

    Parameters
    ----------
    s : FramerArrays
    slot, conn : int
    depth : int
        Depth of the exchange, -1 for a connection attempt.
    """
    keys_set = int(s.conns[slot]["keys_set"])
    n = s.ctl[0]["n_keys"]
    for k in range(N_KEYS):
        if not keys_set >> k & 1:
            continue
        first = _FIRST_OF[k]
        if first >= 0 and keys_set >> first & 1 and s.keys[slot, k]["frame"] == s.keys[slot, first]["frame"]:
            continue
        s.out_keys[n] = s.keys[slot, k]
        s.out_keys[n]["key"] = k
        s.out_keys[n]["conn"] = conn
        s.out_keys[n]["depth"] = depth
        n += 1
    s.ctl[0]["n_keys"] = n


@kernel
def take_open(s, slot, conn):
    """Take an exchange from the pool and append it to the connection's queue; return its index.

    Parameters
    ----------
    s : FramerArrays
    slot, conn : int

    Returns
    -------
    int
        Index in the pool; the row is blank but for its place on the connection.
    """
    c = s.conns[slot]
    ctl = s.ctl[0]
    i = ctl["free_open"]
    ctl["free_open"] = s.opened[i]["next"]
    ctl["n_free_open"] -= 1
    s.opened[i] = BLANK_OPEN[0]
    s.rows[i] = BLANK_EXCHANGE[0]
    row = s.rows[i]
    row["conn"] = conn
    row["depth"] = c["n_exchanges"]
    if c["mid_stream"] and c["n_exchanges"] == 0:
        row["flags"] = MID_STREAM
    row["protocol"] = c["protocol"]
    if c["tail"] >= 0:
        s.opened[c["tail"]]["next"] = i
    else:
        c["head"] = i
    c["tail"] = i
    c["n_open"] += 1
    c["n_exchanges"] += 1
    return i


@kernel
def _store_part(s, scratch_at, length):
    """Append bytes of the scratch rows to the text store; return how many."""
    ctl = s.ctl[0]
    copy_bytes(s.scratch, scratch_at, length, s.text, ctl["n_text"])
    ctl["n_text"] += length
    return length


@kernel
def store_text(s, row, flow):
    """Write target, host and request identifier of a request head to the text store.

    Parameters
    ----------
    s : FramerArrays
    row : record of columns.EXCHANGES.dtype
        Gets `text_offset` and the three lengths.
    flow : record of http_state.FLOW
        The originator's flow, with a scratch row.
    """
    row["text_offset"] = s.ctl[0]["text_base"] + s.ctl[0]["n_text"]
    base = int(flow["scratch"]) * SCRATCH_BYTES
    row["target_len"] = _store_part(s, base + TARGET_AT, int(flow["target_len"]))
    row["host_len"] = _store_part(s, base + HOST_AT, int(flow["host_len"]))
    row["request_id_len"] = _store_part(s, base + REQUEST_ID_AT, int(flow["request_id_len"]))


@kernel
def free_scratch(s, flow):
    """Return the flow's scratch row to the pool, if it has one.

    Parameters
    ----------
    s : FramerArrays
    flow : record of http_state.FLOW
    """
    i = int(flow["scratch"])
    if i >= 0:
        ctl = s.ctl[0]
        s.free_next[i] = ctl["free_scratch"]
        ctl["free_scratch"] = i
        ctl["n_free_scratch"] += 1
        flow["scratch"] = -1
    flow["line_len"] = 0


@kernel
def _is_late(conn, row):
    """Whether the originator had closed without this response and never acknowledged a byte of it.

    A half-closed originator acknowledges the response; one that is gone answers RST or nothing.
    """
    if not conn["orig_closed"] or row["response_seq"] < 0:
        return False
    close_ack = conn["orig_close_ack"]
    if close_ack >= 0 and sequence_difference(row["response_seq"], close_ack) < 0:
        return False
    orig_max_ack = conn["orig_max_ack"]
    return orig_max_ack < 0 or sequence_difference(orig_max_ack, row["response_seq"]) <= 0


@kernel
def emit_exchange(s, slot):
    """Take the first exchange of the connection's queue out of it and write its final row.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    """
    c = s.conns[slot]
    ctl = s.ctl[0]
    ending = int(c["ending"])
    i = int(c["head"])
    extra = s.opened[i]
    row = s.rows[i]
    protocol = int(c["protocol"])
    framing = int(row["response_framing"])
    is_http_after_all = row["protocol"] == Protocol.OPAQUE.value and protocol == Protocol.HTTP1.value
    if row["protocol"] == Protocol.UNKNOWN.value or is_http_after_all:
        row["protocol"] = protocol
    if extra["has_response"]:
        row["outcome"] = Outcome.ANSWERED.value
        if not extra["response_done"] and ending > 0:
            if framing == Framing.UNTIL_CLOSE.value:
                if c["resp_reset"]:
                    row["outcome"] = Outcome.TRUNCATED.value
                elif ending == CUT:
                    row["outcome"] = Outcome.PENDING.value
            elif framing != Framing.TURN.value:
                row["outcome"] = Outcome.TRUNCATED.value if ending == CLOSED else Outcome.PENDING.value
        if ending != GOES_ON and row["request_frame"] >= 0 and _is_late(c, row):
            row["outcome"] = Outcome.UNANSWERED.value
            row["flags"] = int(row["flags"]) | LATE_ANSWER
        if row["request_ts_ns"] >= 0 and extra["response_last_ns"] >= 0:
            row["duration_ns"] = max(0, extra["response_last_ns"] - row["request_ts_ns"])
    if row["request_frame"] < 0:
        row["outcome"] = Outcome.RESPONSE_ONLY.value
    elif not extra["request_done"] and row["request_framing"] != Framing.TURN.value and not extra["response_done"]:
        row["flags"] = int(row["flags"]) | REQUEST_OPEN
    outcome = int(row["outcome"])
    is_pipelined = int(row["flags"]) & PIPELINED and protocol != Protocol.HTTP2.value
    if outcome == Outcome.UNANSWERED.value and is_pipelined and c["close_announced"]:
        row["flags"] = int(row["flags"]) | NOT_OWED
    n = ctl["n_exchanges"]
    s.out_rows[n] = row
    ctl["n_exchanges"] = n + 1
    ctl["n_emitted"] += 1
    if outcome == Outcome.UNANSWERED.value or outcome == Outcome.TRUNCATED.value:
        if outcome == Outcome.UNANSWERED.value:
            c["n_unanswered"] += 1
            ctl["n_unanswered"] += 1
        emit_keys(s, slot, row["conn"], row["depth"])
    elif ending == CLOSED and int(row["flags"]) & EARLY_RESPONSE and (c["resp_reset"] or not extra["request_done"]):
        # Answered before the request was whole: the end may have cost the originator that answer.
        emit_keys(s, slot, row["conn"], row["depth"])
    c["head"] = extra["next"]
    if c["head"] < 0:
        c["tail"] = -1
    else:
        follow_with(s, s.rows[c["head"]], slot)
    c["n_open"] -= 1
    extra["next"] = ctl["free_open"]
    ctl["free_open"] = i
    ctl["n_free_open"] += 1


@kernel
def note_acknowledgement(s, row, slot, event):
    """Take in that the responder acknowledged up to `event["ack"]`.

    Parameters
    ----------
    s : FramerArrays
    row : record of columns.EXCHANGES.dtype
        The first open exchange.
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        A segment of the responder with an acknowledgement number.
    """
    if row["request_seq"] < 0:
        return
    s.conns[slot]["resp_ack"] = event["ack"]
    if sequence_difference(event["ack"], row["request_end_seq"]) >= 0:
        row["flags"] = int(row["flags"]) | ACKNOWLEDGED
        keep_key(s, slot, BITS[Key.ACK.value], event)
    elif sequence_difference(event["ack"], row["request_seq"]) > 0:
        row["flags"] = int(row["flags"]) | ACKNOWLEDGED_PART


@kernel
def note_window(s, slot, event):
    """Take in whether the originator can still take bytes of the response that is on its way.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        A segment of the originator without SYN, FIN and RST.
    """
    i = int(s.conns[slot]["head"])
    if i < 0 or not s.opened[i]["has_response"] or s.opened[i]["response_done"]:
        return
    if event["window"] == 0:
        keep_key(s, slot, BITS[Key.ORIG_ZERO_WINDOW.value], event)
    else:
        forget_keys(s, slot, ORIG_ZERO_WINDOW_KEY)


@kernel
def note_probe(s, slot, event):
    """Take in that a keep-alive probe was answered, if no request waits.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    event : record of columns.STREAM_EVENTS.dtype
        A keep-alive acknowledgement of either side.
    """
    i = int(s.conns[slot]["head"])
    in_turn = i >= 0 and s.opened[i]["has_response"] and s.rows[i]["response_framing"] == Framing.TURN.value
    if i < 0 or s.opened[i]["response_done"] or in_turn:
        replace_key(s, slot, BITS[Key.KEEP_ALIVE_ACK.value], event)


@kernel
def data_sequence(event):
    """Return the sequence number of the first byte an event delivers.

    Parameters
    ----------
    event : record of columns.STREAM_EVENTS.dtype

    Returns
    -------
    int
        Sequence number; the delivered bytes are the last ones of a segment's payload.
    """
    seq = event["seq"]
    if event["source"] == 1 or event["frame"] < 0:
        return seq
    skip = int(event["payload_len"]) - int(event["data_len"]) + ((int(event["flags"]) >> 1) & 1)
    return (seq + skip) & 0xFFFFFFFF
