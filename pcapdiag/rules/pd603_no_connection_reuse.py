"""PD603: the proxy opens a connection for each request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.checks import check_intervals
from pcapdiag.base.codes import ConnEnd, Direction
from pcapdiag.base.findings import Confidence, Finding, Severity
from pcapdiag.base.tables import PickedRows, group_rows
from pcapdiag.base.units import NS_PER_S, about, count_of, format_endpoint
from pcapdiag.rules._dialect import is_tcp_mode
from pcapdiag.rules._kept import announced_ends, is_readable, mean_handshake_ns, to_upstreams
from pcapdiag.rules._reuse_words import TCP_MODE, reuse_advice
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

    Ints = NDArray[np.int64]

_FEWEST = 10
"""So many connections with one request each are no chance."""
_MOST_REUSED = 20
"""Of so many connections one may have carried more: what a health check, or a person, kept open."""
_TIME_WAIT_NS = 60 * NS_PER_S
"""[ns] How long Linux keeps a port of the side that closed first (TCP_TIMEWAIT_LEN)."""


class NoConnectionReuse(Rule):
    """Each request has a connection of its own: a handshake is paid for it, and a port.

    What it looks for
    -----------------
    At least ten connections of a proxy to an upstream whose begin and end were captured, all but one in twenty with
    exactly one request. Health checks do not count, nor TLS, where requests are not told apart.

    Why it matters
    --------------
    Across a long path the handshake doubles the time of a short request, and each closed connection holds a port for a
    minute at the side that closed first (TIME_WAIT). No request is lost to it; an idle-close race cannot happen either.

    Evidence
    --------
    Requests per connection, the time of the handshakes, who closed first, and whether the responses announced the end
    of the connection (`Connection: close`, HTTP/1.0).

    When it is wrong
    ----------------
    Clients that ask once behind a proxy in TCP mode look the same: there the proxy has nothing to keep, and where its
    configuration says so nothing is said. A capture that begins after the long-lived connections were opened, and holds
    none of their packets, misses what is reused.

    Remedy
    ------
    nginx: `keepalive` in the upstream block, `proxy_http_version 1.1` and an empty `Connection` field; then an idle
    limit below that of the upstream (PD110).

    References
    ----------
    RFC 9112 sections 9.3 and 9.6, nginx ngx_http_upstream_module `keepalive`.
    """

    code = "PD603"
    name = "no-connection-reuse"
    title = "Each request opens a connection of its own"
    severity = Severity.INFO
    needs = ("the handshakes",)

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream whose connections carry one request each."""
        if not analysis.has_proxy or is_tcp_mode(analysis):
            return
        columns = _whole_connections(analysis)
        if len(columns) < _FEWEST:
            return
        found, n_exchanges = [], columns["n_exchanges"]
        for rows in group_rows(columns, ("resp_port", "resp_lo", "resp_hi")):
            once = n_exchanges[rows] == 1
            if once.sum() >= _FEWEST and (~once).sum() * _MOST_REUSED <= len(once):
                found.append(columns.pick(rows))
        if found:
            closes = announced_ends(analysis)
            yield from (self._finding(analysis, picked, closes[picked.index]) for picked in found)

    def missing(self, analysis: Analysis) -> str:
        """Return why reuse could not be judged."""
        if not analysis.has_proxy:
            return "nothing says that what opens these connections could keep them, or needs to"
        if is_tcp_mode(analysis):
            return TCP_MODE
        if not len(_whole_connections(analysis)):
            return "no connection to an upstream was captured from its handshake to its end with a readable request"
        return ""

    def _finding(self, analysis: Analysis, columns: PickedRows, announced: NDArray[np.bool_]) -> Finding:
        first = analysis.connections.rows[columns.index[0]]
        endpoint = format_endpoint(int(first["resp_hi"]), int(first["resp_lo"]), int(first["resp_port"]))
        n = len(columns)
        mean = mean_handshake_ns(columns)
        by_proxy = columns["first_closer"] == Direction.ORIG
        is_proxy = bool(by_proxy.sum() * 2 > n)
        n_announced = int(announced.sum())
        who = "the proxy" if is_proxy else "the upstream"
        cost = f", {about(mean)} of handshake for each" if mean >= 0 else ""
        how = ""
        if n_announced * 2 > n:
            how = (
                f" {n_announced:,} of the responses announced it (Connection: close, or HTTP/1.0): an answer to what"
                " the proxy asked for, or the upstream's own setting."
            )
        times = columns["closing_ts_ns"][by_proxy if is_proxy else ~by_proxy]
        n_ports = _most_within(times, _TIME_WAIT_NS)
        n_first = max(int(by_proxy.sum()), n - int(by_proxy.sum()))
        words = GroupText(
            message=(
                f"{count_of(n, 'connection')} to {endpoint} carried one request each{cost}; {who} closed"
                f" {n_first:,} of them first, and holds a {'port' if is_proxy else 'socket'} for each for a minute"
                f" (TIME_WAIT): up to {n_ports:,} at a time.{how}"
            ),
            refuted_by="Two requests on one connection.",
            remedy=reuse_advice(analysis, endpoint),
            details={
                "connections": n,
                "handshake_mean_ns": mean,
                "closed_first_by_proxy": int(by_proxy.sum()),
                "announced": n_announced,
                "most_closed_per_minute": n_ports,
            },
        )
        return replace(
            self.finding(endpoint, words, (), Confidence.LIKELY),
            count=n,
            first_ts_ns=int(columns["first_ts_ns"].min()),
            last_ts_ns=int(columns["last_ts_ns"].max()),
        )


def _whole_connections(analysis: Analysis) -> PickedRows:
    """Return the connections to upstreams that carried a readable request and were captured from SYN to closing."""
    table = analysis.connections
    is_whole = (
        to_upstreams(analysis)
        & is_readable(analysis)
        & (table["orig_isn"] >= 0)
        & (table["n_exchanges"] > 0)
        & (table["closing_ts_ns"] >= 0)
        & (table["end"] != ConnEnd.EVICTED)
        & (table["hole_bytes"] == 0)
    )
    index = np.flatnonzero(is_whole)
    if len(index) >= _FEWEST:
        index = index[check_intervals(analysis)[index] == 0]
    return PickedRows(table, index)


def _most_within(times: Ints, span_ns: int) -> int:
    """Return how many of some times lie within one span at most."""
    ordered = np.sort(times)
    return int((np.searchsorted(ordered, ordered + span_ns, side="right") - np.arange(len(ordered))).max(initial=0))
