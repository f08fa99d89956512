"""What the capture itself holds of a group: its requests where no log tells them, failures of their own, and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Direction, Leg, Method, Outcome
from pcapdiag.base.units import NS_PER_MS
from pcapdiag.whatif.arrivals import OwnFailure, Requests
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.places import RACES, connection_places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.base.findings import Finding
    from pcapdiag.whatif.group import MeasuredUpstream

_AT_ONCE_NS = 50 * NS_PER_MS
_SAME_NS = NS_PER_MS


def own_failures(analysis: Analysis, findings: Sequence[Finding]) -> dict[str, list[OwnFailure]]:
    """Return the failures that no setting of the pool would have changed, by endpoint."""
    found: dict[str, list[OwnFailure]] = {}
    for loss in _not_races(analysis, findings):
        found.setdefault(str(loss.connection.resp), []).append(_own_failure(loss))
    return found


def _own_failure(loss: Loss) -> OwnFailure:
    connection = loss.connection
    closings = [k for k in loss.keys.values() if k.kind_name and k.ts_ns >= loss.request_ts_ns]
    first = min(closings, key=lambda k: k.ts_ns, default=None)
    if first is None:
        takes_ns = max(connection.last_ts_ns - loss.request_ts_ns, 0)
        return OwnFailure(loss.request_ts_ns, int(state.TIMEOUT), takes_ns)
    kind = state.TIMEOUT if first.dir == Direction.ORIG else state.ERROR
    return OwnFailure(loss.request_ts_ns, int(kind), first.ts_ns - loss.request_ts_ns)


def captured_requests(
    analysis: Analysis, findings: Sequence[Finding], places: Sequence[MeasuredUpstream]
) -> Requests | None:
    """Return the requests of a group as the capture has them, all as of one client; None if there are none.

    A try after a failed one of the same request is no request.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : sequence of Finding
        What was found.
    places : sequence of MeasuredUpstream
        The group's.

    Returns
    -------
    Requests or None
        In the order in which they came.
    """
    numbers = _numbers(analysis, places)
    own = {(loss.connection.conn, loss.depth): _own_failure(loss) for loss in _not_races(analysis, findings)}
    table = _first_tries(analysis, numbers, places)
    if not table.shape[1]:
        return None
    start, duration, status, conn, depth, method = table[:6]
    rtt = np.array([place.rtt_ns for place in places], np.int64)[numbers[conn]]
    fails = [own.get(key) for key in zip(conn.tolist(), depth.tolist(), strict=True)] if own else [None] * len(start)
    return Requests(
        start_ns=start,
        end_ns=start + np.maximum(duration, 0),
        service_ns=np.where(duration >= 0, np.maximum(duration - rtt, 0), -1),
        status=np.where(status > 0, status, 200),
        client=np.zeros(len(start), np.int64),
        flags=_flags(method),
        place=numbers[conn],
        fail_kind=np.array([f.kind if f else 0 for f in fails], np.int64),
        fail_ns=np.array([f.takes_ns if f else 0 for f in fails], np.int64),
        n_fails=np.array([1 if f else 0 for f in fails], np.int64),
    )


def begun_tries(analysis: Analysis, places: Sequence[MeasuredUpstream]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[ns] Return when the first tries of requests began, by a SYN where they opened a connection, and where they went.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    places : sequence of MeasuredUpstream
        The group's.

    Returns
    -------
    tuple of (ndarray of int64, ndarray of int64)
        [ns] Beginnings, and positions in `places`.
    """
    numbers = _numbers(analysis, places)
    table = _first_tries(analysis, numbers, places)
    return _begun_ns(analysis, table), numbers[table[3]]


def _first_tries(
    analysis: Analysis, numbers: NDArray[np.int64], places: Sequence[MeasuredUpstream]
) -> NDArray[np.int64]:
    """Return the columns of a group's exchanges, in the order of their requests, without tries after failed ones."""
    columns: list[NDArray[np.int64]] = []
    names = ("request_ts_ns", "duration_ns", "status_code", "conn", "depth", "method", "text_offset", "target_len")
    for chunk in analysis.exchanges.chunks():
        mine = (numbers[chunk["conn"]] >= 0) & (chunk["request_ts_ns"] >= 0)
        mine &= np.isin(chunk["outcome"], (Outcome.ANSWERED, Outcome.UNANSWERED, Outcome.TRUNCATED))
        columns.append(np.array([chunk[name][mine] for name in names], np.int64))
    table = np.concatenate(columns, axis=1) if columns else np.zeros((len(names), 0), np.int64)
    table = table[:, np.argsort(table[0], kind="stable")]
    again = _retries(analysis, table, max((place.rtt_ns for place in places), default=0))
    return table[:, ~again]


def _begun_ns(analysis: Analysis, table: NDArray[np.int64]) -> NDArray[np.int64]:
    opened_ns = analysis.connections["first_ts_ns"][table[3]]
    begun: NDArray[np.int64] = np.where(table[4] == 0, opened_ns, table[0])
    return begun


def _flags(method: NDArray[np.int64]) -> NDArray[np.int64]:
    again = np.isin(method, (Method.POST, Method.PATCH)) * state.NOT_IDEMPOTENT
    flags: NDArray[np.int64] = again | np.isin(method, (Method.POST, Method.PUT, Method.PATCH)) * state.HAS_BODY
    return flags


def _not_races(analysis: Analysis, findings: Sequence[Finding]) -> list[Loss]:
    return [loss for loss in _otherwise(analysis, findings) if not loss.is_connect]


def _otherwise(analysis: Analysis, findings: Sequence[Finding]) -> list[Loss]:
    """Return the losses that are no race with a closing, failed connection attempts among them."""
    made_again = {(o.conn, o.depth) for f in findings if f.facts.exposure in RACES for o in f.occurrences}
    return [loss for loss in analysis.losses if (loss.connection.conn, loss.depth) not in made_again]


def count_otherwise(
    analysis: Analysis, findings: Sequence[Finding], places: Sequence[MeasuredUpstream]
) -> dict[str, int]:
    """Count the lost tries that met no closing of an idle connection: no setting of the pool would have saved them.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : sequence of Finding
        What was found.
    places : sequence of MeasuredUpstream
        The group's.

    Returns
    -------
    dict of str to int
        One count.
    """
    ours = {place.endpoint for place in places}
    mine = (loss for loss in _otherwise(analysis, findings) if str(loss.connection.resp) in ours)
    return {"lost_otherwise": sum(loss.stands_for for loss in mine)}


def _numbers(analysis: Analysis, places: Sequence[MeasuredUpstream]) -> NDArray[np.int64]:
    """For each connection the position of its place in the group; -1 for others."""
    of_analysis = connection_places(analysis)
    position = {place.endpoint: n for n, place in enumerate(places)}
    table = np.array([position.get(str(u.endpoint), -1) for u in analysis.upstreams] + [-1], np.int64)
    numbers: NDArray[np.int64] = table[of_analysis]
    return numbers


def _retries(analysis: Analysis, table: NDArray[np.int64], rtt_ns: int) -> NDArray[np.bool_]:
    """Tell which rows are further tries: the same request at once after a failure of it ended.

    On a new connection it is sent a round trip later, with TLS two or three, but the connection is opened at once.
    """
    within_ns = 3 * rtt_ns + _AT_ONCE_NS
    begun_ns = _begun_ns(analysis, table)
    again = np.zeros(table.shape[1], bool)
    row_of = {key: n for n, key in enumerate(zip(table[3].tolist(), table[4].tolist(), strict=True))}
    for loss in analysis.losses:
        n = row_of.get((loss.connection.conn, loss.depth), -1)
        if n < 0:
            continue
        end_ns = loss.request_ts_ns + _own_failure(loss).takes_ns
        low = int(np.searchsorted(table[0], end_ns - _SAME_NS))
        high = int(np.searchsorted(table[0], end_ns + within_ns))
        for m in range(max(low, n + 1), high):
            is_at_once = -_SAME_NS <= begun_ns[m] - end_ns <= _AT_ONCE_NS
            is_same = table[5, m] == table[5, n] and _target(analysis, table, m) == loss.target
            if is_at_once and is_same and not again[m]:
                again[m] = True
                break
    return again


def _target(analysis: Analysis, table: NDArray[np.int64], row: int) -> str:
    offset, length = int(table[6, row]), int(table[7, row])
    return analysis.texts.read(offset, length).decode("latin-1") if offset >= 0 else ""


def count_seen(analysis: Analysis, places: Sequence[MeasuredUpstream]) -> Mapping[str, int]:
    """Count what the capture shows: connections opened and kept, requests on kept ones, failures."""
    numbers = _numbers(analysis, places)
    c = analysis.connections
    mine = (np.asarray(analysis.legs) == Leg.UPSTREAM) & (numbers >= 0)
    reused = answered = 0
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    for chunk in analysis.exchanges.chunks():
        rows = mine[chunk["conn"]]
        kept = rows & (chunk["idle_before_ns"] >= 0)
        reused += int(kept.sum())
        answered += int((rows & (chunk["request_ts_ns"] >= 0)).sum())
        ends.append(chunk["request_ts_ns"][kept])
        starts.append(chunk["request_ts_ns"][kept] - chunk["idle_before_ns"][kept])
    closed = mine & (c["idle_at_close_ns"] >= 0) & (c["closing_ts_ns"] >= 0)
    ends.append(c["closing_ts_ns"][closed])
    starts.append(c["closing_ts_ns"][closed] - c["idle_at_close_ns"][closed])
    by_proxy = mine & (c["first_closer"] == Direction.ORIG) & (c["closing_ts_ns"] >= 0)
    waiting = c["closing_ts_ns"][by_proxy]
    ours = {place.endpoint for place in places}
    lost = [loss for loss in analysis.losses if str(loss.connection.resp) in ours]
    return {
        "lost_tries": sum(loss.stands_for for loss in lost),
        "connections_opened": int((mine & (c["orig_isn"] >= 0) & (c["resp_isn"] >= 0)).sum()),
        "requests": answered,
        "reused": reused,
        "idle_connections_max": _most_at_once(np.concatenate(starts), np.concatenate(ends)),
        "time_wait_max": _most_at_once(waiting, waiting + state.TIME_WAIT_NS),
        "longest_gap_ns": max(
            (u.longest_answered_gap_ns for u in analysis.upstreams if str(u.endpoint) in ours), default=-1
        ),
    }


def _most_at_once(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """Return how many spans overlap at most."""
    if not len(starts):
        return 0
    times = np.concatenate([starts, ends])
    steps = np.concatenate([np.ones(len(starts), np.int64), -np.ones(len(ends), np.int64)])
    order = np.lexsort((steps, times))
    return int(np.cumsum(steps[order]).max())
