"""In step: which request a responder's bytes can answer, by acknowledgement numbers, where the capture has holes.

Whoever asks has taken in all that it acknowledges: those bytes answered what was asked before (RFC 9293 section 3.4).
Knows sequence numbers; nothing of what the bytes say.
"""

import numpy as np

from pcapdiag.base.codes import ExchangeFlag, Framing
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
