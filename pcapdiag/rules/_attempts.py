"""What the rules about failed connection attempts share: who answered the SYN, whether anybody was there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import ClosingKind, Direction, Key, Outcome
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import count_of, format_address, parse_address
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.rules._wire import proxy_closing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.analysis.model import Analysis, Endpoint, KeySegment, Loss
    from pcapdiag.engine.asides.icmp import IcmpError
    from pcapdiag.rules._rule import Group

Rows = np.ndarray[Any, Any]

RACED = "raced"
"""Group of attempts after which their client opened another address at once."""
RACED_REMEDY = (
    "Nothing failed. To spare the attempt, let the server listen in both address families, or name an address in place"
    " of a name that stands for both (127.0.0.1 in place of localhost)."
)


def refusal_of(loss: Loss) -> KeySegment | None:
    """Return the RST that refused the SYN of an attempt: it acknowledges its sequence number plus one.

    A client ignores any other RST while it waits for the SYN-ACK (RFC 9293 section 3.10.7.3).
    """
    rst = loss.keys.get(Key.RESP_RST)
    if not loss.is_connect or rst is None or Key.SYN_ACK in loss.keys:
        return None
    return rst if rst.ack == (loss.connection.orig_isn + 1) & 0xFFFFFFFF else None


def icmp_answer(loss: Loss) -> IcmpError | None:
    """Return the ICMP error that answered the SYN of an attempt, if that was the answer."""
    if not loss.is_connect or Key.SYN_ACK in loss.keys or Key.RESP_RST in loss.keys:
        return None
    return next((error for error in loss.icmp if error.kind is not IcmpKind.TOO_BIG), None)


def is_silent(loss: Loss) -> bool:
    """Tell whether nothing at all answered the SYN of an attempt."""
    answers = (Key.SYN_ACK, Key.RESP_RST)
    return loss.is_connect and not any(key in loss.keys for key in answers) and icmp_answer(loss) is None


def logged_keys(analysis: Analysis) -> frozenset[tuple[int, int]]:
    """Return the failed tries that the proxy's error log tells of, by connection and depth."""
    tries = analysis.log.tries if analysis.log is not None else ()
    return frozenset(joined.wire.key for joined in tries if joined.entries)


def is_scan(loss: Loss, logged: frozenset[tuple[int, int]]) -> bool:
    """Tell whether an attempt is part of a scan: no proxy logs what a scanner does."""
    return bool(loss.attempt & AttemptSign.SCAN) and (loss.connection.conn, loss.depth) not in logged


def is_raced(loss: Loss, logged: frozenset[tuple[int, int]]) -> bool:
    """Tell whether an attempt was the slower half of happy eyeballs; what a proxy logs as failed was none."""
    return bool(loss.attempt & AttemptSign.RACED) and (loss.connection.conn, loss.depth) not in logged


def raced_message(group: Group, how: str) -> str:
    """Return the sentence about attempts after which another address was opened."""
    port = group.losses[0].connection.resp.port
    n = len(group.losses)
    attempts = count_of(n, "connection attempt")
    return (
        f"{group.subject} {how} {attempts}; {'each time ' if n > 1 else ''}port {port} was opened at an"
        " address of the other family at once: the client tries both (happy eyeballs), and nothing was lost."
    )


def rows_of_peer(analysis: Analysis, peer: Endpoint) -> Rows:
    """Return the connections to an endpoint, as rows of `columns.CONNECTIONS`."""
    hi, lo = (np.uint64(half) for half in parse_address(peer.address))
    rows = analysis.connections.rows
    mine: Rows = rows[(rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["resp_port"] == peer.port)]
    return mine


def others_opened(analysis: Analysis, group: Group) -> str:
    """Return in words how many other connections to the same upstream opened."""
    rows = rows_of_peer(analysis, group.losses[0].connection.resp)
    # Of those that were open when the capture began, bytes tell that somebody was there.
    opened = int(np.count_nonzero((rows["syn_ack_frames"] > 0) | (rows["resp_bytes"] > 0)))
    return f"; {count_of(opened, 'other connection')} to it opened" if opened > 0 else "; none to it opened"


def icmp_words(errors: Iterable[IcmpError]) -> str:
    """Return who said what, in words: ``ICMP port unreachable (type 3 code 3) from 10.0.0.1``."""
    by_name: dict[str, dict[str, None]] = {}
    for error in errors:
        by_name.setdefault(error.name, {})[format_address(*error.sender)] = None
    parts = []
    for name, senders in by_name.items():
        shown = list(senders)
        more = f" and {len(shown) - 3} others" if len(shown) > 3 else ""
        parts.append(f"{name} from {', '.join(shown[:3])}{more}")
    return "; ".join(parts)


def last_heard_ns(analysis: Analysis, address: str) -> int:
    """Return when the capture last shows for certain that something came from an upstream's address; -1 if never.

    Openings, answers, closings and the acknowledgements of the proxy's: bare acknowledgements in between are not kept,
    so that it may have been later.
    """
    hi, lo = (np.uint64(half) for half in parse_address(address))
    rows = analysis.connections.rows
    mine = (rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["resp_frames"] > 0)
    times = [-1]
    times += rows["first_ts_ns"][mine & (rows["syn_ack_frames"] > 0)].tolist()
    times += rows["closing_ts_ns"][mine & (rows["first_closer"] == Direction.RESP)].tolist()
    closed = mine & (rows["first_closer"] == Direction.ORIG) & (rows["closing_kind"] == ClosingKind.FIN)
    times += [
        int(row["closing_ts_ns"])
        for row in rows[closed]
        if row["resp_max_ack"] >= 0 and sequence_difference(int(row["resp_max_ack"]), int(row["closing_seq"])) >= 1
    ]
    for chunk in analysis.exchanges.chunks():
        answered = mine[chunk["conn"]] & (chunk["outcome"] == Outcome.ANSWERED)
        if answered.any():
            times.append(int((chunk["request_ts_ns"][answered] + chunk["duration_ns"][answered]).max()))
    for loss in analysis.losses:
        if loss.connection.resp.address == address:
            times += [segment.ts_ns for segment in loss.keys.values() if segment.dir == Direction.RESP]
            times += [error.ts_ns for error in loss.icmp if format_address(*error.sender) == address]
    return max(times)


def is_left_waiting(loss: Loss) -> bool:
    """Tell whether the first request of a connection got nothing: no byte and no closing until the proxy gave up."""
    if loss.is_connect or loss.is_reused or loss.truncated or loss.connection.syn_ack_frames < 1:
        return False
    given_up = proxy_closing(loss)
    replies = [loss.keys[key].ts_ns for key in (Key.RESPONSE, Key.RESP_FIN, Key.RESP_RST) if key in loss.keys]
    return not replies or (given_up is not None and min(replies) >= given_up.ts_ns)


def is_down_since(analysis: Analysis, address: str, since_ns: int) -> bool:
    """Tell whether nothing came from an upstream's address since a time, and even SYNs got no answer."""
    heard = last_heard_ns(analysis, address)
    return heard < since_ns and any(
        is_silent(loss) and loss.attempt & AttemptSign.REPEATED and loss.request_ts_ns >= since_ns
        for loss in analysis.losses
        if loss.connection.resp.address == address
    )
