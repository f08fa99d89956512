"""Upstreams: per endpoint its RTT, its idle timeout as measured, its race window and how near requests came to it.

An idle timeout is measured at closings that no request disturbed, and at those that a request crossed: the age of the
connection when the upstream closed it. It reads tables and losses; what the numbers mean for a request is the rules'
affair.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis import Endpoint, IdleTimeout, Upstream
from pcapdiag.codes import ClosingKind, Direction, Leg, Outcome
from pcapdiag.findings import Confidence
from pcapdiag.server_defaults import name_idle_timeout
from pcapdiag.units import format_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis import Loss
    from pcapdiag.columns import ByteSource, Table

    Ints = NDArray[np.int64]

_S = 1_000_000_000
_AT_ONCE_NS = 100_000_000
"""Closings this soon after the last byte belong to the response, not to an idle timer."""
_MOMENT_NS = 100_000_000
"""Closings within one moment are one event, and count as one when it comes to certainty."""
_MIN_SWEPT_NS = _S
_NEVER = np.iinfo(np.int64).max
_COLUMNS = (
    *("resp_hi", "resp_lo", "resp_port", "n_exchanges", "orig_isn", "server_offset", "server_len", "keep_alive_s"),
    *("first_closer", "closing_kind", "closing_open_exchange", "idle_at_close_ns", "closing_ts_ns"),
    *("handshake_resp_ns", "handshake_orig_ns", "rtt_min_ns"),
)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the connections of one upstream say; times in ns."""

    endpoint: Endpoint
    connections: int
    exchanges: int
    rtt: tuple[int, int, int]
    server_field: str
    keep_alive_s: int
    idle_timeout: IdleTimeout | None
    request_limit: int
    proxy_idle_close_ns: int
    idle_closes_by_upstream: int
    idle_closes_by_proxy: int


def measure_upstreams(
    connections: Table, exchanges: Table, legs: NDArray[np.int8], losses: Sequence[Loss], texts: ByteSource
) -> tuple[Upstream, ...]:
    """Return what the capture says of each upstream, ordered by address and port.

    Parameters
    ----------
    connections, exchanges : Table
        `columns.CONNECTIONS` and `columns.EXCHANGES`; exchanges are read a chunk at a time.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg`; only connections of the upstream leg count.
    losses : sequence of Loss
        Unanswered requests and failed attempts.
    texts : ByteSource
        The store that `server_offset` points into.

    Returns
    -------
    tuple of Upstream
        One per responder address and port.
    """
    index = np.flatnonzero(np.asarray(legs) == Leg.UPSTREAM)
    if not len(index):
        return ()
    columns = {name: connections[name][index] for name in _COLUMNS}
    order = np.lexsort((columns["resp_port"], columns["resp_lo"], columns["resp_hi"]))
    columns = {name: column[order] for name, column in columns.items()}
    keys = [columns[name] for name in ("resp_hi", "resp_lo", "resp_port")]
    is_first = np.ones(len(index), dtype=np.bool_)
    is_first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(is_first)
    group_of_conn = np.full(len(connections), -1, dtype=np.int64)
    group_of_conn[index[order]] = np.cumsum(is_first) - 1

    raced, unanswered = _from_losses(losses, group_of_conn, len(starts))
    ends = np.append(starts[1:], len(index))
    measured = [
        _measure({n: c[a:b] for n, c in columns.items()}, raced.get(g, ()), texts)
        for g, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
    ]
    return _with_gaps(measured, unanswered, exchanges, group_of_conn)


def estimate_idle_timeout(
    ages_ns: Ints, closed_ts_ns: Ints, *, hint_s: int = -1
) -> tuple[int, int, int, Confidence] | None:
    """Return the idle timeout that the ages of closed connections point to.

    The timeout is where the ages are dense, not their mean: a reload closes connections of any age, a sweep closes
    them late. Many closings in one moment are one observation.

    Parameters
    ----------
    ages_ns : ndarray of int64, shape (n,)
        [ns] Time from the last payload byte to the upstream's closing.
    closed_ts_ns : ndarray of int64, shape (n,)
        [ns] Times of those closings.
    hint_s : int
        [s] Timeout announced in the Keep-Alive field, -1 if none.

    Returns
    -------
    tuple of (int, int, int, Confidence) or None
        Value [ns], spread [ns], samples, confidence; None where the ages are scattered.
    """
    ages_ns, closed_ts_ns = _without_mass_closings(ages_ns, closed_ts_ns)
    if not len(ages_ns):
        return None
    order = np.argsort(ages_ns, kind="stable")
    ages, moments = ages_ns[order], _moments(closed_ts_ns)[order]
    first, n_tight = _densest(ages, np.maximum(60_000_000, ages // 64))
    tight = ages[first : first + n_tight]
    n_moments = len(np.unique(moments[first : first + n_tight]))
    spread = int(tight[-1] - tight[0])
    share = n_tight / len(ages)
    # Were the ages spread evenly, this many would lie in a window of that width.
    expected = len(ages) * max(60_000_000, int(tight[0]) // 64) / max(int(ages[-1] - ages[0]), 1)
    is_dense = share >= 0.5 or n_tight >= 5 * expected
    hinted = hint_s >= 0 and -_AT_ONCE_NS <= int(tight[0]) - hint_s * _S <= 3 * _S // 2
    if n_tight >= 3 and n_moments >= 3 and is_dense:
        return int(np.median(tight)), spread, n_tight, Confidence.CONFIRMED
    swept = _swept(ages, moments)
    if swept is not None:
        return swept
    if is_dense and (n_moments >= 2 or n_tight == len(ages)):
        confidence = Confidence.LIKELY if n_moments >= 2 or n_tight >= 3 else Confidence.POSSIBLE
        if hinted:
            confidence = Confidence(min(confidence + 1, Confidence.CONFIRMED))
        return int(np.median(tight)), spread, n_tight, confidence
    return None


def _densest(ages: Ints, width: Ints) -> tuple[int, int]:
    """Return where the fullest window of sorted `ages` begins, and how many it holds."""
    counts = np.searchsorted(ages, ages + width, side="right") - np.arange(len(ages))
    first = int(np.argmax(counts))
    return first, int(counts[first])


def _swept(ages: Ints, moments: Ints) -> tuple[int, int, int, Confidence] | None:
    """Return the timeout of a server that looks for idle connections only now and then: the youngest it closed."""
    long_enough = ages >= _MIN_SWEPT_NS
    ages, moments = ages[long_enough], moments[long_enough]
    if len(ages) < 4:
        return None
    first, n_wide = _densest(ages, np.maximum(6 * _S // 5, ages * 3 // 10))
    if n_wide < 0.7 * len(long_enough) or len(np.unique(moments[first : first + n_wide])) < 4:
        return None
    wide = ages[first : first + n_wide]
    return int(wide[0]), int(wide[-1] - wide[0]), n_wide, Confidence.LIKELY


def _moments(closed_ts: Ints) -> Ints:
    """Return the moment of each closing, counted from the first: the result must not depend on the clock."""
    moments: Ints = (closed_ts - closed_ts.min()) // _MOMENT_NS
    return moments


def _without_mass_closings(ages: Ints, closed_ts: Ints) -> tuple[Ints, Ints]:
    """Leave out moments in which several connections of quite different ages were closed: a reload, not a timer."""
    if len(ages) < 3:
        return ages, closed_ts
    moment = _moments(closed_ts)
    order = np.lexsort((ages, moment))
    ages, closed_ts = ages[order], closed_ts[order]
    _, start, moment, size = np.unique(moment[order], return_index=True, return_inverse=True, return_counts=True)
    middle = ages[start + size // 2][moment]
    near = np.abs(ages - middle) * 20 <= middle * 7
    n_near = np.bincount(moment, weights=near, minlength=len(size))
    kept = ((size < 3) | (n_near >= 0.6 * size))[moment]
    return ages[kept], closed_ts[kept]


def _measure(columns: dict[str, NDArray[np.int64]], raced: Sequence[tuple[int, int]], texts: ByteSource) -> _Measured:
    idle = columns["idle_at_close_ns"]
    is_idle_fin = (
        (columns["closing_kind"] == ClosingKind.FIN) & (columns["closing_open_exchange"] == 0) & (idle >= _AT_ONCE_NS)
    )
    by_upstream = is_idle_fin & (columns["first_closer"] == Direction.RESP)
    by_proxy = is_idle_fin & (columns["first_closer"] == Direction.ORIG)
    keep_alive = columns["keep_alive_s"][columns["keep_alive_s"] >= 0]
    keep_alive_s = int(keep_alive[0]) if len(keep_alive) else -1
    with_server = np.flatnonzero(columns["server_len"] > 0)
    server_field = ""
    if len(with_server):
        row = with_server[0]
        raw = texts.read(int(columns["server_offset"][row]), int(columns["server_len"][row]))
        server_field = raw.decode("latin-1")
    hi, lo, port = (int(columns[name][0]) for name in ("resp_hi", "resp_lo", "resp_port"))
    n_by_upstream = int(by_upstream.sum())
    idle_timeout = None
    if n_by_upstream or raced:
        ages = np.array([age for age, _ in raced], dtype=np.int64)
        closed = np.array([ts for _, ts in raced], dtype=np.int64)
        estimate = estimate_idle_timeout(
            np.concatenate((idle[by_upstream], ages)),
            np.concatenate((columns["closing_ts_ns"][by_upstream], closed)),
            hint_s=keep_alive_s,
        )
        if estimate is not None:
            value, spread, samples, confidence = estimate
            names = name_idle_timeout(value, spread, server_field)
            idle_timeout = IdleTimeout(value, spread, samples, int(confidence), names)
    return _Measured(
        endpoint=Endpoint(format_address(hi, lo), port),
        connections=len(idle),
        exchanges=int(columns["n_exchanges"].sum()),
        rtt=_rtt(columns),
        server_field=server_field,
        keep_alive_s=keep_alive_s,
        idle_timeout=idle_timeout,
        request_limit=_request_limit(columns),
        proxy_idle_close_ns=_proxy_idle_close(idle[by_proxy], columns["closing_ts_ns"][by_proxy]),
        idle_closes_by_upstream=n_by_upstream,
        idle_closes_by_proxy=int(by_proxy.sum()),
    )


def _rtt(columns: dict[str, NDArray[np.int64]]) -> tuple[int, int, int]:
    """Return min, median and 99th percentile of the path's RTT: both halves of the handshake, wherever one captured."""
    halves = columns["handshake_resp_ns"], columns["handshake_orig_ns"]
    samples = np.where(halves[1] >= 0, halves[0] + halves[1], halves[0])[halves[0] >= 0]
    if not len(samples):
        samples = columns["rtt_min_ns"][columns["rtt_min_ns"] >= 0]
    if not len(samples):
        return -1, -1, -1
    samples = np.sort(samples)
    return int(samples[0]), int(samples[len(samples) // 2]), int(samples[len(samples) * 99 // 100])


def _request_limit(columns: dict[str, NDArray[np.int64]]) -> int:
    """Return the constant number of exchanges after which the upstream closes at once; -1 if there is none."""
    idle, n_exchanges = columns["idle_at_close_ns"], columns["n_exchanges"]
    at_once = (
        (columns["first_closer"] == Direction.RESP)
        & (columns["closing_kind"] == ClosingKind.FIN)
        & (columns["closing_open_exchange"] == 0)
        & (idle >= 0)
        & (idle < _AT_ONCE_NS)
        & (columns["orig_isn"] >= 0)
    )
    if at_once.sum() < 3:
        return -1
    limit = int(n_exchanges[at_once].max())
    # One request per connection is no keep-alive at all; a connection that carried more refutes the limit.
    if (
        limit < 2
        or int(n_exchanges.max()) > limit
        or (n_exchanges[at_once] == limit).sum() < max(3, 0.8 * at_once.sum())
    ):
        return -1
    return limit


def _proxy_idle_close(ages: Ints, closed_ts: Ints) -> int:
    if not len(ages):
        return -1
    estimate = estimate_idle_timeout(ages, closed_ts)
    return estimate[0] if estimate is not None else int(np.median(ages))


def _from_losses(
    losses: Sequence[Loss], group_of_conn: Ints, n_group: int
) -> tuple[dict[int, list[tuple[int, int]]], Ints]:
    """Return per upstream (age [ns], time [ns]) of closings that a request crossed, and how many losses it has."""
    raced: dict[int, list[tuple[int, int]]] = defaultdict(list)
    unanswered = np.zeros(n_group, dtype=np.int64)
    for loss in losses:
        group = int(group_of_conn[loss.connection.conn])
        if group < 0:
            continue
        unanswered[group] += 1
        closing = loss.crossing
        if closing is not None and loss.idle_before_ns >= 0:
            age = closing.ts_ns - (loss.request_ts_ns - loss.idle_before_ns)
            if age >= _AT_ONCE_NS:
                raced[group].append((age, closing.ts_ns))
    return raced, unanswered


def _with_gaps(
    measured: Sequence[_Measured], unanswered: Ints, exchanges: Table, group_of_conn: Ints
) -> tuple[Upstream, ...]:
    """Add what the idle gaps of the exchanges say: reuse, near misses, and gaps that no such timeout would allow."""
    n_group = len(measured)
    lower, near, upper = (np.full(n_group, _NEVER) for _ in range(3))
    windows: list[tuple[int, int]] = []
    for group, m in enumerate(measured):
        windows.append((-1, -1))
        if m.idle_timeout is None:
            continue
        timeout, rtt = m.idle_timeout.value_ns, max(m.rtt[1], 0)
        windows[group] = (max(timeout - rtt, 0), timeout)
        lower[group] = timeout - rtt
        near[group] = timeout - rtt - max(rtt, timeout // 50)
        upper[group] = timeout + m.idle_timeout.spread_ns + max(rtt, timeout // 50, 60_000_000)
    reused, in_window, near_misses, beyond = (np.zeros(n_group, dtype=np.int64) for _ in range(4))
    longest = np.full(n_group, -1, dtype=np.int64)
    for chunk in exchanges.chunks():
        gaps = chunk["idle_before_ns"]
        group = group_of_conn[chunk["conn"]]
        known = np.flatnonzero((gaps >= 0) & (group >= 0))
        gaps, group = gaps[known], group[known]
        answered = np.isin(chunk["outcome"][known], (Outcome.ANSWERED, Outcome.TRUNCATED, Outcome.PENDING))
        reused += np.bincount(group, minlength=n_group)
        in_window += np.bincount(group[(gaps > lower[group]) & (gaps <= upper[group])], minlength=n_group)
        gaps, group = gaps[answered], group[answered]
        near_misses += np.bincount(group[gaps > near[group]], minlength=n_group)
        beyond += np.bincount(group[gaps > upper[group]], minlength=n_group)
        np.maximum.at(longest, group, gaps)
    upstreams: list[Upstream] = []
    for group, m in enumerate(measured):
        timeout_or_none, window = _unless_refuted(m.idle_timeout, int(beyond[group])), windows[group]
        upstreams.append(
            Upstream(
                endpoint=m.endpoint,
                connections=m.connections,
                exchanges=m.exchanges,
                unanswered=int(unanswered[group]),
                rtt_min_ns=m.rtt[0],
                rtt_p50_ns=m.rtt[1],
                rtt_p99_ns=m.rtt[2],
                server_field=m.server_field,
                keep_alive_s=m.keep_alive_s,
                idle_timeout=timeout_or_none,
                requests_per_connection_limit=m.request_limit,
                race_window_ns=window if timeout_or_none is not None else (-1, -1),
                near_misses=int(near_misses[group]) if timeout_or_none is not None else 0,
                reused=int(reused[group]),
                longest_answered_gap_ns=int(longest[group]),
                gaps_in_window=int(in_window[group]) if timeout_or_none is not None else 0,
                proxy_idle_close_ns=m.proxy_idle_close_ns,
                idle_closes_by_upstream=m.idle_closes_by_upstream,
                idle_closes_by_proxy=m.idle_closes_by_proxy,
            )
        )
    return tuple(upstreams)


def _unless_refuted(timeout: IdleTimeout | None, n_beyond: int) -> IdleTimeout | None:
    """Doubt a timeout that requests outlived: one survivor may have met another process, many refute it."""
    if timeout is None or not n_beyond:
        return timeout
    if n_beyond > timeout.samples:
        return None
    return IdleTimeout(timeout.value_ns, timeout.spread_ns, timeout.samples, int(Confidence.POSSIBLE), timeout.named_as)
