"""Which closings of connections say something of an upstream's idle timer, and how old the connections were then.

Knows tables and losses, no timer: what the ages mean is measured where this is called.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import ExchangeFlag, Framing, Key, Outcome, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import PickedRows, Table

    Ints = NDArray[np.int64]

AT_ONCE_NS = 100_000_000
"""Closings this soon after the last byte belong to the response, not to an idle timer."""
_DEATH_NS = 100_000_000
"""Connections closed this close to one that held a request were closed by the end of a process, not by a timer."""
_ANSWERED_AT_ONCE_NS = 50_000_000
"""A server whose timer is up closes this soon after a request woke it, the way there and back apart."""


@dataclass(slots=True)
class Lost:
    """Closings that the losses of one upstream tell of; ns.

    Raced ones as (conn, age, time); deaths as times; those with an acknowledged request in hand as (conn, age, time,
    wait, gap), the gap -1 on a fresh connection.
    """

    raced: list[tuple[int, int, int]] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    taken: list[tuple[int, int, int, int, int]] = field(default_factory=list)


def is_kept(exchanges: Table, n_conn: int) -> NDArray[np.bool_]:
    """Return which connections say something of an idle timer when they are closed: those that were to be kept.

    Not the ones whose last word was `Connection: close`, or that ended with their response, or inside it, or that
    carry something else by now (101, CONNECT), or whose response nobody understood. Where most responses are not
    understood the capture has cut them off, and that says nothing of the upstream.
    """
    kept, unread = np.ones(n_conn, dtype=np.bool_), np.zeros(n_conn, dtype=np.bool_)
    n_read = n_unread = 0
    for chunk in exchanges.chunks():
        is_http = chunk["protocol"] == Protocol.HTTP1
        is_answered = is_http & (chunk["outcome"] == Outcome.ANSWERED)
        is_unread = is_answered & (chunk["status_code"] < 0)
        n_unread += int(is_unread.sum())
        n_read += int((is_answered & ~is_unread).sum())
        unread[chunk["conn"][is_unread]] = True
        ends = (
            (chunk["flags"] & (ExchangeFlag.CONNECTION_CLOSE | ExchangeFlag.UPGRADE) != 0)
            | (chunk["protocol"] == Protocol.UPGRADED)
            | (chunk["outcome"] == Outcome.TRUNCATED)
            | (is_http & (chunk["response_framing"] == Framing.UNTIL_CLOSE))
        )
        kept[chunk["conn"][ends]] = False
    return kept & ~unread if n_unread <= n_read else kept


def from_losses(
    losses: Sequence[Loss], group_of_conn: Ints, n_group: int, kept: NDArray[np.bool_]
) -> tuple[dict[int, Lost], Ints]:
    """Return per upstream the closings that its losses tell of, and how many losses it has.

    Parameters
    ----------
    losses : sequence of Loss
        Unanswered requests and failed attempts.
    group_of_conn : ndarray of int64, shape (n_conn,)
        Which upstream each connection goes to; -1 for none.
    n_group : int
        How many upstreams there are.
    kept : ndarray of bool, shape (n_conn,)
        Connections whose closings may be of an idle timer: `is_kept`.
    """
    lost: dict[int, Lost] = defaultdict(Lost)
    unanswered = np.zeros(n_group, dtype=np.int64)
    for loss in losses:
        group = int(group_of_conn[loss.connection.conn])
        if group < 0:
            continue
        unanswered[group] += loss.stands_for
        closing = loss.crossing
        if closing is not None:
            # A GOAWAY with an error ends no idle connection: an age, a limit or a failure does.
            is_idle = not (loss.flags & ExchangeFlag.NOT_PROCESSED and loss.stream_error > 0)
            if loss.idle_before_ns >= 0 and kept[loss.connection.conn] and is_idle:
                age = closing.ts_ns - (loss.request_ts_ns - loss.idle_before_ns)
                lost[group].raced.append((loss.connection.conn, age, closing.ts_ns))
        elif loss.is_acknowledged and Key.RESP_END_REQUEST not in loss.keys:
            ends = [loss.keys[k].ts_ns for k in (Key.RESP_FIN, Key.RESP_RST) if k in loss.keys]
            lost[group].deaths += ends
            if ends and not loss.truncated and (kept[loss.connection.conn] or not loss.is_reused):
                end = loss.keys.get(Key.REQUEST_END)
                wait = min(ends) - (loss.request_ts_ns if end is None else max(end.ts_ns, loss.request_ts_ns))
                idle = loss.idle_before_ns if loss.is_reused else -1
                age = min(ends) - (loss.request_ts_ns - idle) if idle >= 0 else -1
                lost[group].taken.append((loss.connection.conn, age, min(ends), wait, idle))
    return lost, unanswered


def idle_closings(columns: PickedRows, is_by_upstream: NDArray[np.bool_], lost: Lost) -> tuple[Ints, Ints]:
    """Return ages and times of the upstream's idle closings: undisturbed ones and raced ones, each connection once."""
    raced = np.array(lost.raced, dtype=np.int64).reshape(-1, 3)
    raced = raced[raced[:, 1] >= AT_ONCE_NS]
    alone = is_by_upstream & ~np.isin(columns["conn"], raced[:, 0])
    ages = np.concatenate((columns["idle_at_close_ns"][alone], raced[:, 1]))
    times = np.concatenate((columns["closing_ts_ns"][alone], raced[:, 2]))
    if not lost.deaths:
        return ages, times
    deaths = np.sort(np.array(lost.deaths, dtype=np.int64))
    after = np.searchsorted(deaths, times - _DEATH_NS, side="left")
    natural = (after == len(deaths)) | (deaths[np.minimum(after, len(deaths) - 1)] > times + _DEATH_NS)
    return ages[natural], times[natural]


def closed_at_once(lost: Lost, rtt_ns: int) -> Ints:
    """Return the rows of `lost.taken` at which the upstream closed as soon as it had the request."""
    taken = np.array(lost.taken, dtype=np.int64).reshape(-1, 5)
    return taken[taken[:, 3] <= 2 * max(rtt_ns, 0) + _ANSWERED_AT_ONCE_NS]


def closings_of_late(
    columns: PickedRows, is_by_upstream: NDArray[np.bool_], lost: Lost, taken: Ints
) -> tuple[Ints, Ints]:
    """Return ages and times of all closings that may be of a timer which is looked at only now and then.

    A request wakes the server: one that comes in after the timer was up is taken by the kernel and closed on at once,
    and all other idle connections with it. That is the timer too, and not the end of a process. None, where no
    connection was closed without a request in hand.
    """
    at_once = set(taken[:, 2].tolist())
    deaths = [ts for ts in lost.deaths if ts not in at_once]
    ages, times = idle_closings(columns, is_by_upstream, Lost(lost.raced, deaths))
    if not len(ages):
        return ages, times
    after_gap = taken[taken[:, 1] >= AT_ONCE_NS]
    return np.concatenate((ages, after_gap[:, 1])), np.concatenate((times, after_gap[:, 2]))
