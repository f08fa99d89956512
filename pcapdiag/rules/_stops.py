"""Whether the proxy itself stopped, when it closed a connection under a request: by its other connections and its log.

A stop, and a reload whose old workers are ended, close what is idle and what is in flight in one moment; a client that
leaves ends its own requests only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Direction, Leg
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN, ProxyKind
from pcapdiag.proxy.join.access_clock import ahead_ns
from pcapdiag.rules._dialect import proxy_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

    Ints = NDArray[np.int64]

_MOMENT_NS = 50_000_000
_LEAST_STOPPED = 3
"""So many idle connections that the proxy closes in one moment are the end of a process, not its pool's timer."""
_INSTANT_NS = 5_000_000
"""[ns] Fewer are that if they are all that the proxy had, and closed by one loop of one process."""
_LEAST_CLOSED = 2


class Testimony(Enum):
    """What is known of who ended a request that the proxy closed at no timeout of its own."""

    STOPPED = "others that were idle were closed in the same moment"
    CUT_OFF = "the access log has requests of that second without any answer, and none whose client left"
    CLIENT_LEFT = "the access log has clients of that second that left, and no request without any answer"
    NO_STOP = "the proxy went on with other connections, and its configuration ends no worker that still has requests"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class _Host:
    """Upstream connections of one address of the proxy, each array sorted, [ns]."""

    opened: Ints
    ended: Ints
    closed: Ints
    """When the proxy closed one."""
    idle: Ints
    """The same of those that were idle."""


class Stops:
    """Moments at which the proxy, or one of its processes, ended.

    Parameters
    ----------
    analysis : Analysis
        With all connections.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        rows = analysis.connections
        is_upstream = analysis.legs == Leg.UPSTREAM
        is_closed = is_upstream & (rows["first_closer"] == Direction.ORIG)
        is_idle = is_closed & (rows["closing_open_exchange"] == 0) & (rows["idle_at_close_ns"] > _MOMENT_NS)
        times: Ints = np.sort(rows["closing_ts_ns"][is_idle])
        near = np.searchsorted(times, times + _MOMENT_NS, side="right") - np.searchsorted(times, times - _MOMENT_NS)
        self._mass: Ints = times[near >= _LEAST_STOPPED]
        self._host_of = np.full(len(rows), -1, dtype=np.int64)
        self._hosts: list[_Host] = []
        mine = np.flatnonzero(is_upstream)
        _, hosts = np.unique(rows.rows[["orig_hi", "orig_lo"]][mine], return_inverse=True)
        self._host_of[mine] = hosts
        order = np.argsort(hosts, kind="stable")
        for group in np.split(mine[order], np.flatnonzero(np.diff(hosts[order])) + 1):
            if len(group):
                ends = rows["closing_ts_ns"][group]
                closed, idle = is_closed[group], is_idle[group]
                parts = (rows["first_ts_ns"][group], ends[ends >= 0], ends[closed], ends[idle])
                self._hosts.append(_Host(*map(np.sort, parts)))

    def of(self, conn: int, ts_ns: int) -> Testimony:
        """Return what is known of who ended a request that the proxy closed.

        Parameters
        ----------
        conn : int
            Its connection.
        ts_ns : int
            [ns] When the proxy closed it.

        Returns
        -------
        Testimony
        """
        if _count(self._mass, ts_ns, _MOMENT_NS):
            return Testimony.STOPPED
        host = self._hosts[self._host_of[conn]] if self._host_of[conn] >= 0 else None
        n_left = -1
        if host is not None:
            n_open = int(np.searchsorted(host.opened, ts_ns)) - int(np.searchsorted(host.ended, ts_ns - _INSTANT_NS))
            n_closed = _count(host.closed, ts_ns, _INSTANT_NS)
            n_left = n_open - _count(host.ended, ts_ns, _INSTANT_NS)
            if n_open == n_closed >= _LEAST_CLOSED and _count(host.idle, ts_ns, _INSTANT_NS):
                return Testimony.STOPPED
        told = _told(self._analysis, ts_ns)
        if told is Testimony.NOTHING and n_left > 0 and _ends_no_worker(self._analysis):
            return Testimony.NO_STOP
        return told


def _count(times: Ints, ts_ns: int, width_ns: int) -> int:
    low, high = np.searchsorted(times, (ts_ns - width_ns, ts_ns + width_ns + 1))
    return int(high - low)


def _told(analysis: Analysis, ts_ns: int) -> Testimony:
    """Return what the access log says of the requests that ended in the second of a closing, or in the next."""
    tally = analysis.log.clients if analysis.log is not None else None
    if analysis.log is None or tally is None or (not tally.has_zone and analysis.log.zone_s is None):
        return Testimony.NOTHING
    second = (ts_ns + ahead_ns(analysis.log)) // NS_PER_S
    served = [found for s in (second, second + 1) if (found := tally.seconds.get(s)) is not None]
    n_cut, n_left = sum(s.cut_off for s in served), sum(s.gave_up for s in served)
    if n_cut and not n_left:
        # Of nginx they are requests that its end cut off; HAProxy logs as much of those that a server broke off.
        return Testimony.NOTHING if proxy_kind(analysis) in OF_OTHER_KIN else Testimony.CUT_OFF
    return Testimony.CLIENT_LEFT if n_left and not n_cut else Testimony.NOTHING


def _ends_no_worker(analysis: Analysis) -> bool:
    """Tell whether a reload lets requests in flight finish: an nginx without worker_shutdown_timeout."""
    settings = analysis.settings
    return settings is not None and settings.kind is ProxyKind.NGINX and settings.shutdown_timeout_ns.value <= 0
