"""What the rules about failed connection attempts share: who answered the SYN, whether anybody was there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import ClosingKind, Direction, Key, Outcome
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import about, count_of, format_address, parse_address
from pcapdiag.engine.asides.collect import AsideKind
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.rules._peers import hop_count, own_ttls, rows_of_peer
from pcapdiag.rules._rule import GroupText
from pcapdiag.rules._wire import proxy_closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss
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


def foreign_refusal(analysis: Analysis, loss: Loss) -> tuple[int, int]:
    """Return the TTLs of a RST that refused an attempt and of the upstream's own packets; -1 and -1 if they agree.

    They tell two senders apart where the RST came over another number of hops than everything that the same address
    and port sent to the same proxy on connections that opened.
    """
    rst = refusal_of(loss)
    if rst is None or hop_count(rst.ttl) < 0:
        return -1, -1
    own = own_ttls(analysis, loss)
    if not own or hop_count(rst.ttl) in {hop_count(ttl) for ttl in own}:
        return -1, -1
    return rst.ttl, min(own)


def icmp_answer(loss: Loss) -> IcmpError | None:
    """Return the ICMP error that answered the SYN of an attempt, if that was the answer."""
    if not loss.is_connect or Key.SYN_ACK in loss.keys or Key.RESP_RST in loss.keys:
        return None
    return next((error for error in loss.icmp if error.kind is not IcmpKind.TOO_BIG), None)


def is_silent(loss: Loss) -> bool:
    """Tell whether nothing at all answered the SYN of an attempt."""
    answers = (Key.SYN_ACK, Key.RESP_RST)
    is_answered = any(key in loss.keys for key in answers) or is_challenged(loss)
    return loss.is_connect and not is_answered and icmp_answer(loss) is None


def is_challenged(loss: Loss) -> bool:
    """Tell whether a SYN met an older connection between the same ports, whose segments were all the answer to it.

    An endpoint that still holds that connection answers with its acknowledgement (RFC 5961 section 4).
    """
    answers = (Key.SYN_ACK, Key.RESP_RST)
    return loss.is_connect and loss.connection.resp_ttl >= 0 and not any(key in loss.keys for key in answers)


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
    n = group.n_losses
    attempts = count_of(n, "connection attempt")
    return (
        f"{group.subject} {how} {attempts}; {'each time ' if n > 1 else ''}port {port} was opened at an"
        " address of the other family at once: the client tries both (happy eyeballs), and nothing was lost."
    )


def others_opened(analysis: Analysis, group: Group) -> str:
    """Return in words how many other connections to the same upstream opened; empty for several upstreams."""
    if group.losses[0].crowd:
        return ""
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


def cut_words(errors: Iterable[IcmpError]) -> str:
    """Return by what ICMP errors were tied to these SYNs, where the capture cut their quotations; else nothing."""
    cut = [error for error in errors if error.is_cut]
    if not cut:
        return ""
    by = "addresses, the sender's port and time" if all(error.src[2] >= 0 for error in cut) else "addresses and time"
    return f" The snap length cut what the ICMP errors quote: that they are about these SYNs is told by {by}."


def heard_ns(analysis: Analysis, address: str) -> NDArray[np.int64]:
    """Return when something came from an upstream's address for certain, in order [ns].

    Openings, answers, closings and the acknowledgements of the proxy's: bare acknowledgements in between are not kept,
    so that there may have been more.
    """
    hi, lo = (np.uint64(half) for half in parse_address(address))
    rows = analysis.connections.rows
    mine = (rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["resp_frames"] > 0)
    closed = mine & (rows["first_closer"] == Direction.ORIG) & (rows["closing_kind"] == ClosingKind.FIN)
    times = [
        rows["first_ts_ns"][mine & (rows["syn_ack_frames"] > 0)],
        rows["closing_ts_ns"][mine & (rows["first_closer"] == Direction.RESP)],
        [
            int(row["closing_ts_ns"])
            for row in rows[closed]
            if row["resp_max_ack"] >= 0 and sequence_difference(int(row["resp_max_ack"]), int(row["closing_seq"])) >= 1
        ],
    ]
    for chunk in analysis.exchanges.chunks():
        answered = mine[chunk["conn"]] & (chunk["outcome"] == Outcome.ANSWERED)
        times.append(chunk["request_ts_ns"][answered] + chunk["duration_ns"][answered])
    for loss in analysis.losses:
        if loss.connection.resp.address == address:
            times.append([segment.ts_ns for segment in loss.keys.values() if segment.dir == Direction.RESP])
            times.append([error.ts_ns for error in loss.icmp if format_address(*error.sender) == address])
    # Whatever a message says, cut as it may be: who sends it is there.
    times.append([a.ts_ns for a in analysis.asides if a.kind is AsideKind.ICMP and a.src[:2] == (int(hi), int(lo))])
    return np.sort(np.concatenate([np.asarray(part, dtype=np.int64) for part in times]))


def was_there(analysis: Analysis, attempts: Sequence[Loss]) -> bool:
    """Tell whether something came from the upstream while it left SYNs without an answer.

    That is during one of the attempts; or between them, if it accepted no connection there: then it had not just been
    away and come back.
    """
    peer = attempts[0].connection.resp
    heard = heard_ns(analysis, peer.address)
    spans = [(loss.request_ts_ns, max(loss.connection.last_ts_ns, loss.request_ts_ns)) for loss in attempts]
    if any(_n_within(heard, low, high) for low, high in spans):
        return True
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    rows = rows_of_peer(analysis, peer)
    opened = np.sort(rows["first_ts_ns"][rows["syn_ack_frames"] > 0])
    return _n_within(heard, low, high) > 0 and not _n_within(opened, low, high)


def silence_ns(analysis: Analysis, address: str, at_ns: int) -> tuple[int, int]:
    """Return between which times nothing came from an upstream's address around a moment; -1 for no such time."""
    heard = heard_ns(analysis, address)
    place = int(np.searchsorted(heard, at_ns, side="right"))
    return int(heard[place - 1]) if place else -1, int(heard[place]) if place < len(heard) else -1


def _n_within(times: NDArray[np.int64], low: int, high: int) -> int:
    return int(np.searchsorted(times, high, side="right") - np.searchsorted(times, low, side="left"))


def is_left_waiting(loss: Loss) -> bool:
    """Tell whether the first request of a connection got nothing: no byte and no closing until the proxy gave up."""
    if loss.is_connect or loss.is_reused or loss.truncated or loss.connection.syn_ack_frames < 1:
        return False
    given_up = proxy_closing(loss)
    replies = [loss.keys[key].ts_ns for key in (Key.RESPONSE, Key.RESP_FIN, Key.RESP_RST) if key in loss.keys]
    return not replies or (given_up is not None and min(replies) >= given_up.ts_ns)


def syns_while_silent(analysis: Analysis, address: str, at_ns: int) -> tuple[int, int]:
    """Return how many attempts got nothing while nothing at all came from an upstream, and for how long [ns] that was.

    0 and 0 where it is only slow: no SYN was repeated in vain in that silence.
    """
    since, until = silence_ns(analysis, address, at_ns)
    until = until if until >= 0 else analysis.last_ts_ns + 1
    n = sum(
        is_silent(loss) and bool(loss.attempt & AttemptSign.REPEATED) and since < loss.request_ts_ns < until
        for loss in analysis.losses
        if loss.connection.resp.address == address
    )
    return (n, until - max(since, analysis.first_ts_ns)) if n else (0, 0)


def down_words(analysis: Analysis, group: Group, did: str) -> GroupText | None:
    """Return what to say of lost requests whose upstream was gone; None where it was not, or nothing shows it.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    group : Group
        The requests; all of them have to lie in the same silence.
    did : str
        What became of them, a clause.

    Returns
    -------
    GroupText or None
        No longer timeout helps there.
    """
    address = group.losses[0].connection.resp.address
    ends = [claim.closing.ts_ns if claim.closing is not None else -1 for claim in group.claims]
    silences = {silence_ns(analysis, address, end) for end in (min(ends), max(ends))}
    # A machine that is there acknowledges the FIN with which the proxy gives up.
    if min(ends) < 0 or len(silences) > 1 or max(since for since, _ in silences) >= min(ends):
        return None
    n, silence = syns_while_silent(analysis, address, max(ends))
    if not n:
        return None
    attempts = count_of(n, "connection attempt")
    return GroupText(
        message=(
            f"{did} Nothing at all came from {address} for {about(silence)}, and {attempts} to it got no answer either:"
            " it is down, cut off, or accepts nothing. It is not slow."
        ),
        refuted_by="Any packet of the upstream in that time, in a capture at the upstream.",
        remedy=(
            f"Find out what happened to {group.subject} at that moment: a machine that went down or froze, a route or a"
            " packet filter that was changed. No longer timeout helps; a shorter one lets the proxy ask another peer"
            " sooner."
        ),
    )
