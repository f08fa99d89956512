"""When requests of a log really began: the log tells milliseconds, in the order of the answers; the capture tells more.

Of requests that came together, those that failed were over first, and stand first in the log. Taken as the order in
which they came, that has the balancer pick peers for them in an order that never was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.units import NS_PER_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.whatif.arrivals import Requests

_TOGETHER_NS: Final = 3 * NS_PER_MS
"""[ns] How far the two times of one request may lie apart: each of the log's is cut to milliseconds, and the proxy
takes its time from request to try."""


def timed_by_capture(requests: Requests, begun_ns: NDArray[np.int64], place: NDArray[np.int64]) -> Requests:
    """Return requests of a log with the times at which the capture shows their first tries to begin.

    At each place tries and requests that lie close together are paired in order, where there are as many of both;
    others keep the time of the log.

    Parameters
    ----------
    requests : Requests
        Of the log, on the capture's clock.
    begun_ns, place : ndarray of int64
        [ns] When first tries of the capture began, and where they went.

    Returns
    -------
    Requests
        In the same order.
    """
    if requests.open_ns or not len(begun_ns) or not len(requests.start_ns):
        return requests
    n = len(requests.start_ns)
    times = np.concatenate([requests.start_ns, begun_ns])
    places = np.concatenate([requests.place, place]).astype(np.int64)
    order = np.lexsort((times, places))
    is_apart = (np.diff(times[order]) > _TOGETHER_NS) | (np.diff(places[order]) != 0)
    cluster = np.append(0, np.cumsum(is_apart))
    is_seen = order >= n
    n_seen, n_logged = (np.bincount(cluster[which], minlength=int(cluster[-1]) + 1) for which in (is_seen, ~is_seen))
    is_paired = ((n_seen == n_logged) & (places[order][np.append(0, np.flatnonzero(is_apart) + 1)] >= 0))[cluster]
    logged, seen = order[is_paired & ~is_seen], order[is_paired & is_seen]
    is_near = np.abs(times[seen] - times[logged]) <= _TOGETHER_NS
    start_ns = requests.start_ns.copy()
    start_ns[logged[is_near]] = times[seen[is_near]]
    return replace(requests, start_ns=start_ns)
