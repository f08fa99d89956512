"""Which rows of the tables are failures, and which of a flood of them are looked at one by one.

Knows the tables; whether a row is a loss after all, and why it was lost, is decided where the rows are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.analysis.flood import (
    ENDS,
    MOST_ENDPOINTS,
    MOST_JUDGED,
    FloodSample,
    choose,
    is_failed_attempt,
    mixed,
    mixed_in,
    scale_of,
)
from pcapdiag.base.codes import Direction, ExchangeFlag, Leg, Outcome
from pcapdiag.base.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Rows = np.ndarray[Any, Any]
    Ints = NDArray[np.int64]
    Hashes = NDArray[np.uint64]

_OF_EXCHANGE = ("outcome", "protocol", "flags", "status_code", "response_framing", "request_framing")
_CROWD = "several other endpoints"
_OF_CONNECTION = (
    *("capture_idx", "conn_state", "protocol", "orig_inferred", "first_closer", "closing_kind"),
    *("closing_open_exchange", "orig_fin", "resp_fin", "orig_rst", "resp_rst"),
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Failures that are looked at one by one.

    Attributes
    ----------
    exchanges : ndarray of columns.EXCHANGES.dtype, shape (n_exchange,)
        Requests without an answer or the whole of it, and those that were answered before they were whole.
    attempts : ndarray of int64, shape (n_attempt,)
        Connections that failed to open.
    stands_for : ndarray of int64, shape (n_exchange + n_attempt,)
        How many failures each stands for, itself included: exchanges, then attempts.
    crowds : tuple of str, length n_exchange + n_attempt
        Under which name those at one of very many endpoints are found together; else empty.
    n_failures : int
        How many there are in all.
    """

    exchanges: Rows
    attempts: Ints
    stands_for: Ints
    crowds: tuple[str, ...]
    n_failures: int

    @property
    def n_judged(self) -> int:
        """How many are looked at."""
        return len(self.exchanges) + len(self.attempts)


def lacks_response(outcome: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Tell which exchanges got no response, or not the whole of it."""
    result: NDArray[np.bool_] = (outcome == Outcome.UNANSWERED) | (outcome == Outcome.TRUNCATED)
    return result


def find_candidates(
    connections: Table,
    exchanges: Table,
    key_segments: Table,
    legs: NDArray[np.int8],
    last_ts_ns: int,
    *,
    told: Hashes | None = None,
    judge_all: bool = False,
) -> Candidates:
    """Return the failures of the upstream leg: all of them, or of a flood some of each kind.

    Parameters
    ----------
    connections, exchanges, key_segments : Table
        `columns.CONNECTIONS` (row i is connection i), `EXCHANGES` and `KEY_SEGMENTS`.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg`.
    last_ts_ns : int
        [ns] The captures' end.
    told : ndarray of uint64, optional
        Hashes of the ends (`flood.ends_of`) of connections that something else tells of: they are kinds of their own.
    judge_all : bool
        Take all of them, whatever that costs.

    Returns
    -------
    Candidates
    """
    lost = _lost_exchanges(exchanges, legs)
    n_lost = len(lost.number)
    failed = is_failed_attempt(connections["conn_state"], connections["orig_bytes"]) & (legs == Leg.UPSTREAM)
    attempts = np.flatnonzero(failed)
    n_alike = connections["n_alike"][attempts].astype(np.int64)
    weights = _joined([np.ones(n_lost, dtype=np.int32), (1 + np.abs(n_alike)).astype(np.int32)])
    endpoints = _joined([_endpoints(connections, conns) for conns in (lost.conn, attempts)])
    in_crowd = _find_crowd(endpoints, weights, n_lost + np.flatnonzero(n_alike < 0))
    endpoints[in_crowd] = 0
    if len(weights) <= MOST_JUDGED or judge_all:
        choice = FloodSample(np.arange(len(weights)), weights)
    else:
        ends = _joined([_endpoints(connections, conns, ENDS) for conns in (lost.conn, attempts)])
        is_told = np.isin(ends, told) if told is not None else np.zeros(len(ends), dtype=np.bool_)
        del ends
        of_lost = _kinds_of_exchanges(connections, key_segments, lost, endpoints[:n_lost], is_told[:n_lost])
        of_attempts = _kinds_of_attempts(
            connections, key_segments, attempts, endpoints[n_lost:], is_told[n_lost:], last_ts_ns
        )
        kinds = (_joined(list(pair)) for pair in zip(of_lost, of_attempts, strict=True))
        times_ns = _joined([lost.request_ts_ns, connections["first_ts_ns"][attempts]])
        choice = choose(kinds, times_ns, weights, MOST_JUDGED)
    of_exchange = choice.chosen[choice.chosen < n_lost]
    of_attempt = choice.chosen[choice.chosen >= n_lost] - n_lost
    return Candidates(
        exchanges=exchanges.take(lost.number[of_exchange]).rows,
        attempts=attempts[of_attempt],
        stands_for=choice.stands_for,
        crowds=tuple(_CROWD if is_in else "" for is_in in in_crowd[choice.chosen].tolist()),
        n_failures=int(weights.sum(dtype=np.int64)),
    )


class _Lost(NamedTuple):
    """Exchanges that may have been lost, each column as small as it can be: a million of them are 40 MB."""

    number: Ints
    conn: NDArray[np.int32]
    depth: NDArray[np.int32]
    request_ts_ns: Ints
    request_end_seq: NDArray[np.uint32]
    idle_scale: NDArray[np.int16]
    facts: Hashes


def _lost_exchanges(exchanges: Table, legs: NDArray[np.int8]) -> _Lost:
    """Return the exchanges that may have been lost."""
    columns: tuple[list[NDArray[Any]], ...] = tuple([] for _ in _Lost._fields)
    start = 0
    for chunk in chain(exchanges.chunks(), [Table(exchanges.schema, exchanges.schema.empty())]):
        is_early = (chunk["outcome"] == Outcome.ANSWERED) & (chunk["flags"] & ExchangeFlag.EARLY_RESPONSE != 0)
        index = np.flatnonzero(lacks_response(chunk["outcome"]) | is_early)
        index = index[legs[chunk["conn"][index]] == Leg.UPSTREAM]
        rows = chunk.take(index)
        facts = mixed(*(rows[name] for name in _OF_EXCHANGE), np.minimum(rows["retransmissions"], 3), rows["depth"] > 0)
        lost = _Lost(
            number=start + index,
            conn=rows["conn"].copy(),
            depth=rows["depth"].copy(),
            request_ts_ns=rows["request_ts_ns"].copy(),
            request_end_seq=(rows["request_end_seq"] & 0xFFFFFFFF).astype(np.uint32),
            idle_scale=scale_of(rows["idle_before_ns"]).astype(np.int16),
            facts=facts,
        )
        for parts, name in zip(columns, _Lost._fields, strict=True):
            parts.append(getattr(lost, name))
        start += len(chunk)
    return _Lost(*map(_joined, columns))


def _endpoints(connections: Table, conns: NDArray[Any], names: tuple[str, ...] = ENDS[3:]) -> Hashes:
    """Return a hash of the upstream of each connection, or of both of its ends as `flood.ends_of` does."""
    return mixed_in(np.zeros(len(conns), np.uint64), (connections[name][conns] for name in names))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return some arrays as one, and let go of them: of a million failures each column counts."""
    joined = parts[0] if not any(map(len, parts[1:])) else np.concatenate(parts)
    parts.clear()
    return joined


def _find_crowd(endpoints: Hashes, weights: Ints, index_of_spread: Ints) -> NDArray[np.bool_]:
    """Tell which failures are at endpoints too many to be told apart: the least struck ones."""
    in_crowd = np.zeros(len(endpoints), dtype=np.bool_)
    in_crowd[index_of_spread] = True
    n_others = int(len(np.unique(endpoints)) - MOST_ENDPOINTS)
    if n_others > 0:
        _, first, number = np.unique(endpoints, return_index=True, return_inverse=True)
        struck = np.bincount(number, weights=weights)
        # The last ones of the order: least struck, and of those struck alike the ones that came last.
        is_other = np.ones(len(first), dtype=np.bool_)
        is_other[np.lexsort((first, -struck))[:MOST_ENDPOINTS]] = False
        in_crowd |= is_other[number]
    return in_crowd


def _kinds_of_exchanges(
    connections: Table, key_segments: Table, lost: _Lost, endpoints: Hashes, is_told: NDArray[np.bool_]
) -> Iterator[Hashes]:
    """Yield what kind each lost exchange is: told apart by times, too, by what was seen where, and by that alone."""
    ids = _ids(lost.conn, lost.depth)
    seen, when = _kinds_of_keys(key_segments, connections["resp_ttl"], ids, lost.request_end_seq, lost.request_ts_ns)
    facts = mixed_in(lost.facts, (seen, connections["n_holes"][lost.conn] > 0, is_told))
    facts = mixed_in(facts, (connections[name][lost.conn] for name in _OF_CONNECTION))
    del seen
    yield mixed_in(facts, (endpoints, lost.idle_scale, when))
    yield mixed_in(facts, (endpoints,))
    yield facts


def _kinds_of_keys(
    key_segments: Table, resp_ttl: NDArray[Any], ids: Ints, end_seq: NDArray[Any], since_ns: Ints
) -> tuple[Hashes, Hashes]:
    """Return what the key segments of each failure are, and when they came: sums over hashes of each."""
    order = np.argsort(ids)
    seen, when = (np.zeros(len(ids), dtype=np.uint64) for _ in range(2))
    if not len(ids):
        return seen, when
    for chunk in key_segments.chunks():
        mine = _ids(chunk["conn"], chunk["depth"])
        owner = order[np.minimum(np.searchsorted(ids, mine, sorter=order), len(ids) - 1)]
        is_of_lost = ids[owner] == mine
        rows, owner = chunk.rows[is_of_lost], owner[is_of_lost]
        past_end = (rows["ack"] - end_seq[owner]) & 0xFFFFFFFF
        acknowledges = np.where(rows["ack"] < 0, -1, past_end < 1 << 31)
        of_usual_ttl = rows["ttl"] == resp_ttl[rows["conn"]]
        key = rows["key"]
        ttl = np.where(rows["dir"] == Direction.RESP, rows["ttl"], -1)
        np.add.at(seen, owner, mixed(key, rows["dir"], rows["flags"], rows["fate"], acknowledges, of_usual_ttl, ttl))
        np.add.at(when, owner, mixed(key, scale_of(rows["ts_ns"] - since_ns[owner])))
    return seen, when


def _ids(conn: NDArray[Any], depth: NDArray[Any]) -> Ints:
    result: Ints = conn.astype(np.int64) << 32 | (depth.astype(np.int64) & 0xFFFFFFFF)
    return result


def _kinds_of_attempts(
    connections: Table,
    key_segments: Table,
    attempts: Ints,
    endpoints: Hashes,
    is_told: NDArray[np.bool_],
    last_ts_ns: int,
) -> Iterator[Hashes]:
    """Yield the same for attempts: how long they went on, and before the capture's end, tells them apart, too."""
    first_ns = connections["first_ts_ns"][attempts]
    # Of an answer: what it is, what it acknowledges, and how far away its sender is.
    after_syn = (connections["orig_isn"][attempts] + 1) & 0xFFFFFFFF
    ids = _ids(attempts, np.full(len(attempts), -1))
    seen, _ = _kinds_of_keys(key_segments, connections["resp_ttl"], ids, after_syn, first_ns)
    of_row = ("capture_idx", "conn_state", "resp_ttl", "syn_frames")
    facts = mixed_in(seen, (*(connections[name][attempts] for name in of_row), is_told))
    lasted, before_end = connections["last_ts_ns"][attempts] - first_ns, last_ts_ns - first_ns
    yield mixed_in(facts, (endpoints, scale_of(lasted), scale_of(before_end)))
    yield mixed_in(facts, (endpoints,))
    yield facts
