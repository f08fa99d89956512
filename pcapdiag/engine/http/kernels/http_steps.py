"""In step: which request a responder's bytes can answer, by acknowledgement numbers, where the capture has holes.

Whoever asks has taken in all that it acknowledges: those bytes answered what was asked before (RFC 9293 section 3.4).
Knows sequence numbers; nothing of what the bytes say.
"""

import numpy as np

from pcapdiag.base.codes import ExchangeFlag, Framing, Key
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http_exchange import emit_exchange
from pcapdiag.engine.http.kernels.http_state import ST_START, ST_TURN
from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

HOLE = int(ExchangeFlag.HOLE)


@kernel
def mark_unseen(s, i):
    """Mark an exchange as answered by bytes that were not captured, or that cannot be told from others.

    Parameters
    ----------
    s : FramerArrays
    i : int
    """
    row = s.rows[i]
    s.opened[i]["has_response"] = 1
    row["response_framing"] = Framing.TURN.value
    row["flags"] = int(row["flags"]) | HOLE


@kernel
def _has_read_nothing(s, slot, ack):
    """Whether who acknowledges `ack` has read nothing since the last known request, or since the handshake."""
    c = s.conns[slot]
    before = np.int64(c["last_request_ack"])
    if before < 0 and int(c["keys_set"]) >> Key.SYN_ACK.value & 1:
        before = np.int64((s.keys[slot, Key.SYN_ACK.value]["seq"] + 1) & 0xFFFFFFFF)
    return ack >= 0 and before >= 0 and sequence_difference(ack, before) <= 0


@kernel
def is_unsure(s, slot, ack):
    """Whether requests that were not captured may be owed the answers that come next.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    ack : int
        What a request of HTTP/1 that begins acknowledges; -1 without.

    Returns
    -------
    bool
    """
    c = s.conns[slot]
    if c["unsure"]:
        return True
    return c["orig_hole"] != 0 and (c["pipelines"] != 0 or _has_read_nothing(s, slot, ack))


@kernel
def note_step(s, slot, i):
    """Take in what a request that begins had read: whether it is pipelined, and whether holes hide others before it.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    i : int
        The request's exchange, of HTTP/1.
    """
    c = s.conns[slot]
    ack = np.int64(s.rows[i]["request_ack"])
    if c["last_request_ack"] >= 0 and _has_read_nothing(s, slot, ack):
        c["pipelines"] = 1
    if is_unsure(s, slot, ack):
        c["unsure"] = 1
        mark_unseen(s, i)
    c["orig_hole"] = 0
    if ack >= 0:
        c["last_request_ack"] = ack


@kernel
def lose_step(s, slot, is_end):
    """Count pipelined requests as answered unseen, where the answer before theirs could not be read.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    is_end : bool
        At the end of a connection, else behind a hole of the responder.
    """
    c = s.conns[slot]
    head = int(c["head"])
    if head < 0 or not s.opened[head]["has_response"] or s.rows[head]["response_framing"] != Framing.TURN.value:
        return
    i = int(s.opened[head]["next"])
    if i < 0 or not int(s.rows[head]["flags"]) & HOLE or not (is_end or c["pipelines"]):
        return
    c["unsure"] = 1
    while i >= 0:
        if not s.opened[i]["has_response"]:
            mark_unseen(s, i)
        i = int(s.opened[i]["next"])


@kernel
def settle_before(s, slot, seq):
    """Hand out what was answered before the responder's byte at `seq`, where framing does not tell.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    seq : int
        Sequence number of the responder.
    """
    c = s.conns[slot]
    head = int(c["head"])
    if head < 0 or s.opened[head]["next"] < 0 or not s.opened[head]["has_response"]:
        return
    row = s.rows[head]
    if row["response_framing"] != Framing.TURN.value or row["response_seq"] < 0:
        return
    last = -1
    i = int(s.opened[head]["next"])
    while i >= 0:
        ack = s.rows[i]["request_ack"]
        if ack >= 0 and sequence_difference(ack, row["response_seq"]) > 0 and sequence_difference(ack, seq) <= 0:
            last = i
        i = int(s.opened[i]["next"])
    if last < 0:
        return
    while c["head"] != last:
        i = int(c["head"])
        if not s.opened[i]["has_response"]:
            mark_unseen(s, i)
        s.opened[i]["response_done"] = 1
        emit_exchange(s, slot)
    f = s.flows[2 * slot + 1]
    if f["state"] == ST_TURN:
        f["state"] = ST_START


@kernel
def next_step(s, slot, seq, length):
    """Return how many of the responder's bytes from `seq` on lie before the next step of the originator.

    Parameters
    ----------
    s : FramerArrays
    slot : int
    seq : int
        Sequence number of the responder.
    length : int
        [bytes] How many there are, at least one.

    Returns
    -------
    int
        [bytes] From 1 to `length`: behind them lies what an open request had acknowledged when it was sent.
    """
    least = np.int64(length)
    i = int(s.conns[slot]["head"])
    while i >= 0:
        ack = s.rows[i]["request_ack"]
        if ack >= 0:
            ahead = sequence_difference(ack, seq)
            if 0 < ahead < least:
                least = ahead
        i = int(s.opened[i]["next"])
    return least


@kernel
def is_too_old(s, i, seq):
    """Whether the responder's byte at `seq` was acknowledged by the request of exchange `i`: it answers another.

    Parameters
    ----------
    s : FramerArrays
    i : int
        Index in the pool of open exchanges.
    seq : int
        Sequence number of the responder.

    Returns
    -------
    bool
        False if a response has begun.
    """
    row = s.rows[i]
    if s.opened[i]["has_response"] or row["request_ack"] < 0 or row["request_frame"] < 0:
        return False
    return sequence_difference(row["request_ack"], seq) > 0


@kernel
def was_answered_before(conn, row):
    """Whether what answers a request that begins was taken in before it: the stream of requests lags behind a hole.

    Parameters
    ----------
    conn : record of http_state.CONN
    row : record of columns.EXCHANGES.dtype
        The request.

    Returns
    -------
    bool
        True if the responder sent more than the request acknowledges, knowing the request or in a hole.
    """
    if conn["resp_next"] < 0 or row["request_ack"] < 0:
        return False
    if sequence_difference(conn["resp_next"], row["request_ack"]) <= 0:
        return False
    ack, hole_end = conn["resp_data_ack"], conn["resp_hole_end"]
    is_known = ack >= 0 and sequence_difference(ack, row["request_seq"]) > 0
    return is_known or (hole_end >= 0 and sequence_difference(hole_end, row["request_ack"]) > 0)
