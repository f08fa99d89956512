"""From tables to the objects that rules read: one `Loss` per unanswered request, failed attempt or cut response.

Decides what counts as a loss of the upstream leg; why it was lost is the rules' affair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.model import Connection, Endpoint, KeySegment, Loss
from pcapdiag.base.codes import (
    ClosingKind,
    Direction,
    ExchangeFlag,
    Framing,
    Key,
    Method,
    Outcome,
    Protocol,
)
from pcapdiag.base.units import format_address
from pcapdiag.engine.tcp.uid import connection_uid

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.candidates import Candidates
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.tables import ByteStore, Table

Rows = np.ndarray[Any, Any]
_Keys = dict[tuple[int, int], dict[Key, KeySegment]]

_GOODBYE_NS = 2_000_000
"""[ns] A FIN this soon behind the last bytes does not wait for an answer to them."""

_OF_RESPONDER = (Key.UNSOLICITED, Key.RESP_FIN, Key.RESP_RST)

# One-way or freely interleaved protocols: a turn without an answer means nothing there.
_WITHOUT_TURNS = (Protocol.HTTP2_UNREAD, Protocol.UPGRADED)


def is_loss(exchange: Rows, keys: Container[Key], *, protocol: int, first_closer: int, is_truncated: bool) -> bool:
    """Tell whether an exchange without its response, or the whole of it, is a loss.

    Parameters
    ----------
    exchange : record of columns.EXCHANGES.dtype
        One that `lacks_response`, or that is open still; its outcome and protocol are not looked at.
    keys : container of Key
        Its key segments.
    protocol, first_closer : int
        `codes.Protocol` and `codes.Direction` (-1 for nobody), as far as they are known.
    is_truncated : bool
        Whether a response had begun.

    Returns
    -------
    bool
        Where no byte was captured, only if the responder, or silence, ended the last turn, not its own sender; of bytes
        that are no protocol known here, only if the responder did so by RST, or silence.
    """
    flags = int(exchange["flags"])
    if protocol in _WITHOUT_TURNS or flags & (ExchangeFlag.GOODBYE | ExchangeFlag.NOT_OWED):
        return False
    if is_truncated or protocol not in (Protocol.UNKNOWN, Protocol.OPAQUE):
        return True
    if protocol == Protocol.OPAQUE and Key.RESP_FIN in keys:
        # Nothing says that these bytes asked for something: a transfer, a message without reply, a goodbye.
        return False
    if Key.RESP_FIN in keys or Key.RESP_RST in keys:
        return first_closer == Direction.RESP
    return bool(exchange["retransmissions"] > 0 and not flags & ExchangeFlag.ACKNOWLEDGED)


def build_losses(
    connections: Table, candidates: Candidates, key_segments: Table, texts: ByteStore
) -> tuple[tuple[Loss, ...], tuple[Loss, ...], tuple[Loss, ...]]:
    """Return the losses of the upstream leg, its truncated responses, and answers that came too early.

    Parameters
    ----------
    connections : Table
        `columns.CONNECTIONS`; row i is connection i.
    candidates : Candidates
        Failures of the upstream leg.
    key_segments : Table
        `columns.KEY_SEGMENTS`.
    texts : ByteStore
        What `text_offset` points into.

    Returns
    -------
    losses, truncated, early : tuple of Loss
        Each ordered by capture and request frame.
    """
    rows = candidates.exchanges
    attempts = candidates.attempts.tolist()
    keys = _group_keys(key_segments, np.concatenate((rows["conn"], candidates.attempts)))
    known: dict[int, Connection] = {}

    def connection_of(conn: int) -> Connection:
        if conn not in known:
            known[conn] = to_connection(connections.rows[conn], texts)
        return known[conn]

    losses: list[Loss] = []
    truncated: list[Loss] = []
    early: list[Loss] = []
    stands_for, crowds = candidates.stands_for.tolist(), candidates.crowds
    for number, row in enumerate(rows):
        connection, mine = connection_of(int(row["conn"])), keys.get((int(row["conn"]), int(row["depth"])), {})
        is_early = int(row["outcome"]) == Outcome.ANSWERED
        is_truncated = int(row["outcome"]) == Outcome.TRUNCATED
        protocol, closer = int(row["protocol"]), connection.first_closer
        is_unowed = bool(int(row["flags"]) & ExchangeFlag.NOT_OWED)
        if is_early:
            is_wanted = Key.RESP_RST in mine or Key.RESP_FIN in mine
        else:
            is_wanted = is_unowed or is_loss(
                row, mine, protocol=protocol, first_closer=closer, is_truncated=is_truncated
            )
        if not is_wanted:
            continue
        loss = replace(to_loss(row, connection, mine, texts), stands_for=stands_for[number], crowd=crowds[number])
        if is_early or not _is_goodbye(loss):
            (early if is_early else truncated if is_truncated else losses).append(loss)
    losses.extend(
        replace(_to_attempt(connection_of(conn), keys.get((conn, -1), {})), stands_for=n, crowd=crowd)
        for conn, n, crowd in zip(attempts, stands_for[len(rows) :], crowds[len(rows) :], strict=True)
    )
    return in_order(losses), in_order(truncated), in_order(early)


def with_losses(analysis: Analysis, added: Sequence[Loss]) -> Analysis:
    """Return an analysis that holds more losses, which the logs told of, and counts them at their upstreams.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    added : sequence of Loss
        None of them is among its losses yet.

    Returns
    -------
    Analysis
        Its losses in the order of the captures' frames.
    """
    n_more: Counter[Endpoint] = Counter()
    for loss in added:
        n_more[loss.connection.resp] += loss.stands_for
    return replace(
        analysis,
        losses=in_order((*analysis.losses, *added)),
        upstreams=tuple(replace(u, unanswered=u.unanswered + n_more[u.endpoint]) for u in analysis.upstreams),
    )


def in_order(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """Return losses in the order of the captures' frames."""
    return tuple(sorted(losses, key=lambda loss: (loss.connection.capture_idx, loss.request_frame)))


def _is_goodbye(loss: Loss) -> bool:
    """Tell whether the last bytes inside TLS, and the FIN right behind them, say goodbye.

    What they say cannot be read; who closes at once does not wait for an answer.
    """
    times = {key: segment.ts_ns for key, segment in loss.keys.items()}
    return not loss.truncated and ends_in_goodbye(loss.connection.protocol, times)


def ends_in_goodbye(protocol: int, times: Mapping[Key, int]) -> bool:
    """Tell the same of an exchange by its protocol and the times [ns] of its key segments.

    Not where the other side had begun to close before: there the closing is the answer to that.
    """
    closing = times.get(Key.ORIG_FIN, times.get(Key.ORIG_RST))
    last = times.get(Key.REQUEST_END, times.get(Key.REQUEST))
    if protocol != Protocol.TLS or closing is None or last is None or Key.RESPONSE in times:
        return False
    if any(times[key] <= closing for key in _OF_RESPONDER if key in times):
        return False
    return 0 <= closing - last <= _GOODBYE_NS


def _group_keys(key_segments: Table, conns: NDArray[Any]) -> _Keys:
    """Return the key segments of some connections by connection and depth."""
    grouped: _Keys = defaultdict(dict)
    wanted = np.unique(conns)
    for row in chain.from_iterable(c.rows[np.isin(c["conn"], wanted)].tolist() for c in key_segments.chunks()):
        values = dict(zip(key_segments.schema.names, row, strict=True))
        segment = KeySegment(
            key=Key(values["key"]),
            frame=values["frame"],
            ts_ns=values["ts_ns"],
            dir=Direction(values["dir"]),
            seq=values["seq"],
            ack=values["ack"],
            payload_len=values["payload_len"],
            flags=values["flags"],
            ttl=values["ttl"],
            window=values["window"],
            ip_id=values["ip_id"],
            fate=values["fate"],
        )
        grouped[values["conn"], values["depth"]][segment.key] = segment
    return dict(grouped)


def _read_text(texts: ByteStore, offset: int, length: int) -> str:
    """Decode text of a capture so that every byte survives; it stays hostile until a renderer escapes it."""
    return texts.read(offset, length).decode("utf-8", errors="backslashreplace")


def to_connection(row: Rows, texts: ByteStore) -> Connection:
    """Return a row of `columns.CONNECTIONS` as rules read it."""
    values = dict(zip(row.dtype.names, row.item(), strict=True))  # five times as quick as each by itself
    orig = (values["orig_hi"], values["orig_lo"], values["orig_port"])
    resp = (values["resp_hi"], values["resp_lo"], values["resp_port"])
    return Connection(
        conn=values["conn"],
        uid=connection_uid(orig, resp, values["first_ts_ns"]),
        orig=Endpoint(format_address(orig[0], orig[1]), orig[2]),
        resp=Endpoint(format_address(resp[0], resp[1]), resp[2]),
        first_ts_ns=values["first_ts_ns"],
        last_ts_ns=values["last_ts_ns"],
        first_frame=values["first_frame"],
        orig_isn=values["orig_isn"],
        resp_isn=values["resp_isn"],
        orig_max_ack=values["orig_max_ack"],
        resp_max_ack=values["resp_max_ack"],
        handshake_resp_ns=values["handshake_resp_ns"],
        handshake_orig_ns=values["handshake_orig_ns"],
        rtt_min_ns=values["rtt_min_ns"],
        resp_ttl=values["resp_ttl"],
        syn_frames=values["syn_frames"],
        syn_ack_frames=values["syn_ack_frames"],
        n_exchanges=values["n_exchanges"],
        n_holes=values["n_holes"],
        first_closer=Direction(values["first_closer"]),
        closing_kind=ClosingKind(values["closing_kind"]),
        closing_frame=values["closing_frame"],
        closing_ts_ns=values["closing_ts_ns"],
        protocol=Protocol(values["protocol"]),
        capture_idx=values["capture_idx"],
        orig_inferred=bool(values["orig_inferred"]),
        server=_read_text(texts, values["server_offset"], values["server_len"]),
        keep_alive_s=values["keep_alive_s"],
    )


def to_loss(row: Rows, connection: Connection, keys: dict[Key, KeySegment], texts: ByteStore) -> Loss:
    """Return a row of `columns.EXCHANGES` as a loss."""
    target_len, host_len = int(row["target_len"]), int(row["host_len"])
    at = int(row["text_offset"])
    has_text = at >= 0
    return Loss(
        connection=connection,
        depth=int(row["depth"]),
        request_frame=int(row["request_frame"]),
        request_ts_ns=int(row["request_ts_ns"]),
        idle_before_ns=int(row["idle_before_ns"]),
        request_seq=int(row["request_seq"]),
        request_end_seq=int(row["request_end_seq"]),
        request_ack=int(row["request_ack"]),
        response_bytes=int(row["response_bytes"]),
        retransmissions=int(row["retransmissions"]),
        method=Method(int(row["method"])),
        target=_read_text(texts, at, target_len) if has_text else "",
        host=_read_text(texts, at + target_len, host_len) if has_text else "",
        request_id=_read_text(texts, at + target_len + host_len, int(row["request_id_len"])) if has_text else "",
        status_code=int(row["status_code"]),
        flags=ExchangeFlag(int(row["flags"])),
        truncated=int(row["outcome"]) == Outcome.TRUNCATED,
        is_head_whole=int(row["response_framing"]) != Framing.UNKNOWN,
        keys=keys,
        stream=int(row["stream"]),
        stream_error=int(row["stream_error"]),
        is_framed=int(row["request_framing"]) != Framing.TURN,
        response_last_ns=int(row["request_ts_ns"]) + int(row["duration_ns"]) if int(row["duration_ns"]) >= 0 else -1,
    )


def _to_attempt(connection: Connection, keys: dict[Key, KeySegment]) -> Loss:
    syn = keys.get(Key.SYN)
    return Loss(
        connection=connection,
        depth=-1,
        request_frame=syn.frame if syn else connection.first_frame,
        request_ts_ns=syn.ts_ns if syn else connection.first_ts_ns,
        idle_before_ns=-1,
        request_seq=-1,
        request_end_seq=-1,
        request_ack=-1,
        response_bytes=0,
        retransmissions=max(0, connection.syn_frames - 1),
        method=Method.NONE,
        target="",
        host="",
        request_id="",
        status_code=-1,
        flags=ExchangeFlag(0),
        truncated=False,
        keys=keys,
    )
