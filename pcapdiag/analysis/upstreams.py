"""Upstreams: per endpoint its RTT, its idle timeout as measured, its race window and how near requests came to it.

An idle timeout is measured at closings that no request disturbed, and at those that a request crossed: the age of the
connection when the upstream closed it. It reads tables and losses; what the numbers mean for a request is the rules'
affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.closings import (
    AT_ONCE_NS,
    Lost,
    closed_at_once,
    closings_of_late,
    from_losses,
    idle_closings,
    is_kept,
)
from pcapdiag.analysis.idle_timeout import (
    MOMENT_NS,
    enclose_idle_timeout,
    estimate_idle_timeout,
    estimate_late_timeout,
    is_announced,
    measure_lateness,
)
from pcapdiag.analysis.model import Endpoint, IdleTimeout, Upstream
from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Leg, Outcome, Protocol
from pcapdiag.base.findings import Confidence
from pcapdiag.base.server_defaults import is_known_server, lateness_ns, name_idle_timeout
from pcapdiag.base.tables import PickedRows
from pcapdiag.base.units import format_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import ByteSource, Table

    Ints = NDArray[np.int64]

_WEB = (Protocol.HTTP1, Protocol.HTTP2, Protocol.HTTP2_UNREAD, Protocol.TLS, Protocol.UPGRADED)
"""What the servers of the table of defaults speak."""
_NEVER = np.iinfo(np.int64).max
_UNASKED = (400, 408)


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
    opened: int
    handshake_ns: int
    taken: Ints
    """Requests that it took and closed on at once, as rows of (idle gap, time); the gap is -1 on a fresh connection."""


def measure_upstreams(
    connections: Table,
    exchanges: Table,
    legs: NDArray[np.int8],
    losses: Sequence[Loss],
    texts: ByteSource,
    *,
    unframed: NDArray[np.bool_] | None = None,
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
    unframed : ndarray of bool, shape (n_conn,), optional
        Connections whose requests are not seen (HTTP/2 inside TLS, or not followed): they count as connections, nothing
        is learned of their bytes.

    Returns
    -------
    tuple of Upstream
        One per responder address and port.
    """
    index = np.flatnonzero(np.asarray(legs) == Leg.UPSTREAM)
    if not len(index):
        return ()
    keys = [connections[name][index] for name in ("resp_port", "resp_lo", "resp_hi")]
    order = np.lexsort(keys)
    is_first = np.ones(len(index), dtype=np.bool_)
    is_first[1:] = np.logical_or.reduce([(sorted_key := key[order])[1:] != sorted_key[:-1] for key in keys])
    index = index[order]
    starts = np.flatnonzero(is_first)
    group_of_conn = np.full(len(connections), -1, dtype=np.int64)
    group_of_conn[index] = np.cumsum(is_first) - 1

    kept = is_kept(exchanges, len(connections))
    rows = PickedRows(connections, index, is_kept=kept[index])
    rows = rows.with_column("first_closer", _first_closers(rows))
    if unframed is not None and unframed.any():
        for name, nothing in (("n_exchanges", 0), ("idle_at_close_ns", -1)):
            rows = rows.with_column(name, np.where(unframed[index], nothing, rows[name]))
    lost, unanswered = from_losses(losses, group_of_conn, len(starts), kept)
    ends = np.append(starts[1:], len(index))
    measured = [
        _measure(rows.pick(slice(a, b)), lost.get(g, Lost()), texts)
        for g, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
    ]
    if unframed is not None:
        group_of_conn[unframed] = -1
    return _with_gaps(measured, unanswered, exchanges, group_of_conn)


def _first_closers(columns: PickedRows) -> NDArray[np.int8]:
    """Return who closed each connection first, also where the capture lacks the originator's FIN.

    A FIN of the responder that acknowledges one number more than the originator's bytes answers one.
    """
    isn, ack = columns["orig_isn"], columns["closing_ack"]
    n_acknowledged = (ack - isn - 1) & 0xFFFFFFFF
    is_answer = (
        (columns["first_closer"] == Direction.RESP)
        & (columns["closing_kind"] == ClosingKind.FIN)
        & (isn >= 0)
        & (ack >= 0)
        & (n_acknowledged == ((columns["orig_bytes"] + 1) & 0xFFFFFFFF))
    )
    closers: NDArray[np.int8] = np.where(is_answer, np.int8(Direction.ORIG), columns["first_closer"])
    return closers


def _measure(columns: PickedRows, lost: Lost, texts: ByteSource) -> _Measured:
    hi, lo, port = (int(columns[name][0]) for name in ("resp_hi", "resp_lo", "resp_port"))
    endpoint, rtt = Endpoint(format_address(hi, lo), port), _rtt(columns)
    handshakes = _handshakes(columns)
    cost = len(handshakes), int(handshakes.sum())
    idle = columns["idle_at_close_ns"]
    n_connections = len(idle) + int(np.abs(columns["n_alike"]).sum())
    if not columns["n_exchanges"].any():
        # A scan of all ports makes many of these: endpoints that nothing was ever asked of.
        return _Measured(
            endpoint, n_connections, 0, rtt, "", -1, None, -1, -1, 0, 0, *cost, np.empty((0, 2), dtype=np.int64)
        )
    # Found in mid-stream, beside others that speak HTTP: what was upgraded before the capture began looks like this.
    is_http = columns["protocol"] == Protocol.HTTP1
    may_be_upgraded = (columns["protocol"] == Protocol.UNKNOWN) & (columns["orig_isn"] < 0) & is_http.any()
    columns = columns.with_column("is_kept", columns["is_kept"] & ~may_be_upgraded)
    was_idle = (columns["closing_open_exchange"] == 0) & (idle >= AT_ONCE_NS) & columns["is_kept"]
    of_upstream = was_idle & (columns["first_closer"] == Direction.RESP)
    is_fin = columns["closing_kind"] == ClosingKind.FIN
    by_upstream = of_upstream & is_fin
    by_proxy = was_idle & is_fin & (columns["first_closer"] == Direction.ORIG)
    keep_alive = columns["keep_alive_s"][columns["keep_alive_s"] >= 0]
    keep_alive_s = int(keep_alive[0]) if len(keep_alive) else -1
    with_server = np.flatnonzero(columns["server_len"] > 0)
    server_field = ""
    if len(with_server):
        row = with_server[0]
        raw = texts.read(int(columns["server_offset"][row]), int(columns["server_len"][row]))
        server_field = raw.decode("utf-8", errors="backslashreplace")
    idle_timeout = None
    estimate = None
    by_rst = of_upstream & (columns["closing_kind"] == ClosingKind.RST)
    if by_upstream.any() or lost.raced:
        estimate = estimate_idle_timeout(*idle_closings(columns, by_upstream, lost), hint_s=keep_alive_s)
    elif by_rst.any():
        # Some servers end idle connections with a RST (SO_LINGER 0); one RST alone may be anything.
        estimate = estimate_idle_timeout(idle[by_rst], columns["closing_ts_ns"][by_rst], hint_s=keep_alive_s)
        if estimate is not None and estimate[3] >= Confidence.LIKELY:
            by_upstream = by_rst
        else:
            estimate = None
    taken = closed_at_once(lost, rtt[2])
    late, late_estimate = lateness_ns(server_field), None
    if late or not is_known_server(server_field):
        ages, times = closings_of_late(columns, by_upstream, lost, taken)
        late = late or measure_lateness(ages, times)
        late_estimate = estimate_late_timeout(ages, times, late) if late and len(ages) else None
    if late_estimate is not None:
        estimate = late_estimate
    if estimate is not None:
        value, spread, samples, confidence = estimate
        is_web = np.isin(columns["protocol"], _WEB).any()
        names = name_idle_timeout(value, spread, server_field) if is_web else ()
        _, times = idle_closings(columns, by_upstream, lost)
        # Several of one age at one moment: a timer that began for all at once, or the end of what held them. Only what
        # a server is known to do, or announced, tells which.
        is_one_event = len(times) > 1 and int(np.ptp(times)) <= MOMENT_NS
        if names or is_announced(value, keep_alive_s) or not is_one_event:
            idle_timeout = IdleTimeout(
                value, spread, samples, int(confidence), names, late_ns=late if late_estimate is not None else 0
            )
    return _Measured(
        endpoint=endpoint,
        connections=n_connections,
        exchanges=int(columns["n_exchanges"].sum()),
        rtt=rtt,
        server_field=server_field,
        keep_alive_s=keep_alive_s,
        idle_timeout=idle_timeout,
        request_limit=_request_limit(columns),
        proxy_idle_close_ns=_proxy_idle_close(idle[by_proxy], columns["closing_ts_ns"][by_proxy]),
        idle_closes_by_upstream=int(by_upstream.sum()),
        idle_closes_by_proxy=int(by_proxy.sum()),
        opened=cost[0],
        handshake_ns=cost[1],
        taken=taken[:, (4, 2)],
    )


def _rtt(columns: PickedRows) -> tuple[int, int, int]:
    """Return min, median and 99th percentile of the path's RTT: both halves of the handshake, wherever one captured."""
    samples = _handshakes(columns)
    if not len(samples):
        samples = columns["rtt_min_ns"][columns["rtt_min_ns"] >= 0]
    if not len(samples):
        return -1, -1, -1
    samples = np.sort(samples)
    return int(samples[0]), int(samples[len(samples) // 2]), int(samples[len(samples) * 99 // 100])


def _handshakes(columns: PickedRows) -> Ints:
    """Return the time from SYN to the last ACK of each handshake that was seen."""
    halves = columns["handshake_resp_ns"], columns["handshake_orig_ns"]
    samples: Ints = np.where(halves[1] >= 0, halves[0] + halves[1], halves[0])[halves[0] >= 0]
    return samples


def _request_limit(columns: PickedRows) -> int:
    """Return the constant number of exchanges after which the upstream closes at once; -1 if there is none."""
    idle, n_exchanges = columns["idle_at_close_ns"], columns["n_exchanges"]
    at_once = (
        (columns["first_closer"] == Direction.RESP)
        & (columns["closing_kind"] == ClosingKind.FIN)
        & (columns["closing_open_exchange"] == 0)
        & (idle < AT_ONCE_NS)
        & (n_exchanges > 0)
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


def _is_unasked(chunk: Table) -> NDArray[np.bool_]:
    """Tell which rows are answers that nobody asked for: a server's last word before it closes.

    408 says that no request came in time (RFC 9110 section 15.5.9), 400 that what came is none: often the rest of a
    body behind an early answer. The first of a connection may belong to a request before the capture.
    """
    unasked: NDArray[np.bool_] = (
        (chunk["outcome"] == Outcome.RESPONSE_ONLY)
        & np.isin(chunk["status_code"], _UNASKED)
        & (chunk["flags"] & ExchangeFlag.CONNECTION_CLOSE != 0)
        & (chunk["depth"] > 0)
    )
    return unasked


def _with_gaps(
    measured: Sequence[_Measured], unanswered: Ints, exchanges: Table, group_of_conn: Ints
) -> tuple[Upstream, ...]:
    """Add what the idle gaps of the exchanges say: reuse, near misses, and gaps that no such timeout would allow."""
    n_group = len(measured)
    near, upper = (np.full(n_group, _NEVER) for _ in range(2))
    windows: list[tuple[int, int]] = []
    for group, m in enumerate(measured):
        windows.append((-1, -1))
        if m.idle_timeout is None:
            continue
        timeout, rtt = m.idle_timeout.value_ns, max(m.rtt[1], 0)
        late = m.idle_timeout.late_ns > 0
        windows[group] = (
            max((m.idle_timeout.earliest_ns if late else timeout) - rtt, 0),
            m.idle_timeout.latest_ns if late else timeout,
        )
        margin = _margin_ns(timeout, rtt)
        # Gaps are never negative; and times of a damaged capture may be centuries apart, more than 64 bits add up to.
        near[group] = near_miss_above_ns(timeout, rtt)
        upper[group] = min(m.idle_timeout.latest_ns + max(margin, 60_000_000), _NEVER)
    reused, near_misses, in_zone, beyond, n_announced, unasked = (np.zeros(n_group, dtype=np.int64) for _ in range(6))
    ends = np.array([end for _, end in windows], dtype=np.int64)
    longest, unprobed, longest_used, last_announced, deepest = (np.full(n_group, -1, np.int64) for _ in range(5))
    first_announced = np.full(n_group, _NEVER)
    n_answered, last_answered = np.zeros(n_group, dtype=np.int64), np.full(n_group, -1, dtype=np.int64)
    for chunk in exchanges.chunks():
        gaps = chunk["idle_before_ns"]
        group = group_of_conn[chunk["conn"]]
        # Requests on fresh connections tell as well that somebody is there.
        unasked += np.bincount(group[_is_unasked(chunk) & (group >= 0)], minlength=n_group)
        served = np.flatnonzero((chunk["outcome"] == Outcome.ANSWERED) & (group >= 0))
        np.maximum.at(last_answered, group[served], chunk["request_ts_ns"][served])
        depth = chunk["depth"].astype(np.int64)
        np.maximum.at(deepest, group[group >= 0], depth[group >= 0])
        announced = np.flatnonzero((chunk["flags"] & ExchangeFlag.CONNECTION_CLOSE != 0) & (group >= 0))
        n_announced += np.bincount(group[announced], minlength=n_group)
        np.minimum.at(first_announced, group[announced], depth[announced])
        np.maximum.at(last_announced, group[announced], depth[announced])
        known = np.flatnonzero((gaps >= 0) & (group >= 0))
        gaps, group = gaps[known], group[known]
        answered = np.isin(chunk["outcome"][known], (Outcome.ANSWERED, Outcome.TRUNCATED, Outcome.PENDING))
        reused += np.bincount(group, minlength=n_group)
        np.maximum.at(longest_used, group, gaps)
        is_unprobed = chunk["flags"][known] & ExchangeFlag.PROBED == 0
        np.maximum.at(unprobed, group[answered & is_unprobed], gaps[answered & is_unprobed])
        gaps, group = gaps[answered], group[answered]
        n_answered += np.bincount(group, minlength=n_group)
        is_near = gaps > near[group]
        near_misses += np.bincount(group[is_near], minlength=n_group)
        in_zone += np.bincount(group[is_near & (gaps <= ends[group])], minlength=n_group)
        beyond += np.bincount(group[gaps > upper[group]], minlength=n_group)
        np.maximum.at(longest, group, gaps)
    upstreams: list[Upstream] = []
    for group, m in enumerate(measured):
        # The upstream says `Connection: close` always at the same depth, and no connection goes deeper.
        is_limit = n_announced[group] >= 3 and 1 <= first_announced[group] == last_announced[group] == deepest[group]
        timeout_or_none, window = _unless_refuted(m.idle_timeout, int(beyond[group])), windows[group]
        is_measured = timeout_or_none is not None
        if timeout_or_none is None:
            timeout_or_none = _enclosed(m, int(n_answered[group]), int(longest[group]), int(last_answered[group]))
            if timeout_or_none is not None:
                window = max(timeout_or_none.value_ns - max(m.rtt[1], 0), 0), timeout_or_none.latest_ns
        upstreams.append(
            Upstream(
                endpoint=m.endpoint,
                connections=m.connections,
                exchanges=m.exchanges - int(unasked[group]),
                unanswered=int(unanswered[group]),
                rtt_min_ns=m.rtt[0],
                rtt_p50_ns=m.rtt[1],
                rtt_p99_ns=m.rtt[2],
                server_field=m.server_field,
                keep_alive_s=m.keep_alive_s,
                idle_timeout=timeout_or_none,
                requests_per_connection_limit=int(deepest[group]) + 1 if is_limit else m.request_limit,
                race_window_ns=window if timeout_or_none is not None else (-1, -1),
                near_misses=int(near_misses[group]) if is_measured else 0,
                near_in_zone=int(in_zone[group]) if is_measured else 0,
                reused=int(reused[group]),
                longest_answered_gap_ns=int(longest[group]),
                longest_path_gap_ns=int(unprobed[group]),
                proxy_idle_close_ns=m.proxy_idle_close_ns,
                idle_closes_by_upstream=m.idle_closes_by_upstream,
                idle_closes_by_proxy=m.idle_closes_by_proxy,
                longest_gap_ns=int(longest_used[group]),
                opened=m.opened,
                handshake_ns=m.handshake_ns,
            )
        )
    return tuple(upstreams)


def _enclosed(m: _Measured, n_answered: int, longest_ns: int, last_answered_ns: int) -> IdleTimeout | None:
    """Return the timeout that idle gaps alone enclose, where no closing measured one."""
    gaps, times = m.taken[:, 0], m.taken[:, 1]
    # Who closes on a fresh connection, too, does not look at the gap; who answers no more after that is gone.
    if not len(gaps) or (gaps < 0).any() or last_answered_ns <= times.min():
        return None
    found = enclose_idle_timeout(n_answered, longest_ns, gaps, times)
    if found is None:
        return None
    value, spread, samples, confidence = found
    return IdleTimeout(value, spread, samples, int(confidence), (), is_enclosed=True)


def _margin_ns(timeout_ns: int, rtt_ns: int) -> int:
    return max(rtt_ns, timeout_ns // 50)


def near_miss_above_ns(timeout_ns: int, rtt_ns: int) -> int:
    """[ns] Return the idle gap above which an answered request is a near miss."""
    return max(timeout_ns - rtt_ns - _margin_ns(timeout_ns, rtt_ns), -1)


def _unless_refuted(timeout: IdleTimeout | None, n_beyond: int) -> IdleTimeout | None:
    """Doubt a timeout that requests outlived: one survivor may have met another process, many refute it."""
    if timeout is None or not n_beyond:
        return timeout
    if n_beyond > timeout.samples:
        return None
    return IdleTimeout(timeout.value_ns, timeout.spread_ns, timeout.samples, int(Confidence.POSSIBLE), timeout.named_as)
