"""Connections to upstreams that are kept, or are not, as tables have them: what several rules count.

Knows columns; what a number means for a request is the rules' affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from pcapdiag.base.codes import OF_GATEWAYS, CapturePoint, ExchangeFlag, Leg, Protocol
from pcapdiag.base.tables import PickedRows
from pcapdiag.base.units import parse_address

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Endpoint

    Bools = NDArray[np.bool_]
    Ints = NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max


def to_upstreams(analysis: Analysis) -> Bools:
    """Tell which connections lead to an upstream; shape (n_conn,)."""
    is_to: Bools = np.asarray(analysis.legs) == Leg.UPSTREAM
    return is_to


def is_readable(analysis: Analysis) -> Bools:
    """Tell on which connections requests are told apart by what they say; shape (n_conn,). HTTP/2 ends otherwise."""
    return np.isin(analysis.connections["protocol"], (Protocol.HTTP1, *OF_GATEWAYS))


def is_seen_at_proxy(analysis: Analysis) -> Bools:
    """Tell which connections were captured at their proxy; shape (n_conn,)."""
    points = [number for number, point in enumerate(analysis.capture_points) if point is CapturePoint.PROXY]
    return np.isin(analysis.connections["capture_idx"], points)


def of_endpoint(analysis: Analysis, endpoint: Endpoint) -> PickedRows:
    """Return the connections to one upstream."""
    table = analysis.connections
    hi, lo = parse_address(endpoint.address)
    its = (table["resp_port"] == endpoint.port) & (table["resp_lo"] == lo) & (table["resp_hi"] == hi)
    return PickedRows(table, np.flatnonzero(to_upstreams(analysis) & its))


def announced_ends(analysis: Analysis) -> Bools:
    """Tell on which connections a response announced the end; shape (n_conn,). Worked out once, a chunk at a time."""
    if __name__ not in analysis.memo:
        announced = np.zeros(len(analysis.connections), dtype=np.bool_)
        for chunk in analysis.exchanges.chunks():
            announced[chunk["conn"][chunk["flags"] & ExchangeFlag.CONNECTION_CLOSE != 0]] = True
        analysis.memo[__name__] = announced
    return cast("Bools", analysis.memo[__name__])


def mean_handshake_ns(columns: PickedRows) -> int:
    """Return how long handshakes took in the mean [ns], of those that were seen whole; -1 if none was."""
    halves = columns["handshake_resp_ns"], columns["handshake_orig_ns"]
    is_seen = (halves[0] >= 0) & (halves[1] >= 0)
    return int((halves[0] + halves[1])[is_seen].mean()) if is_seen.any() else -1


def n_open_at(columns: PickedRows, times: Ints) -> Ints:
    """Return how many connections were open at some times [ns]; those that begin or close just then are among them."""
    begin = np.sort(columns["first_ts_ns"])
    end = np.sort(np.where(columns["closing_ts_ns"] >= 0, columns["closing_ts_ns"], _NEVER))
    return np.searchsorted(begin, times, side="right") - np.searchsorted(end, times, side="left")


def most_open(columns: PickedRows) -> int:
    """Return how many connections were open at once at most."""
    return int(n_open_at(columns, columns["first_ts_ns"]).max(initial=0))
