"""What is replayed, as plain data: a group of servers as it is set, the places behind it as measured, the arrivals.

Knows no file, no packet and no log: `places` and `arrivals` fill these from an analysis and its logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

BALANCES = ("round_robin", "least_conn", "ip_hash", "hash", "random", "random two")
"""In the order of the codes in `kernels.replay_state`."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of the group, as in `proxy.conf.settings.Server`.

    `place` is the position of what was measured of it; -1: it is added, and taken to be like the first.
    """

    endpoint: str
    place: int
    weight: int = 1
    max_fails: int = 1
    fail_timeout_s: int = 10
    max_conns: int = 0
    is_backup: bool = False
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How the proxy treats a group.

    Attributes
    ----------
    peers : tuple of Peer
        In the order of the configuration.
    balance : str
        One of `BALANCES`.
    is_picked : bool
        Whether the balancer picks; else each request goes where it went, for nobody knows how it was picked.
    is_lua : bool
        Whether peers are picked in Lua, which counts no failures (OpenResty, APISIX, Kong, ingress-nginx).
    workers, has_zone : int, bool
        Processes with pools of their own, and whether they share what they know of the peers.
    keepalive : int
        Idle connections that a worker keeps.
    keepalive_timeout_ns, keepalive_time_ns : int
        [ns] -1: no limit.
    keepalive_requests : int
        -1: no limit.
    next_upstream : frozenset of str
        As the directive has it.
    tries : int
        Most tries; 0: as many as there are peers.
    next_timeout_ns, read_timeout_ns, connect_timeout_ns : int
        [ns] A `next_timeout_ns` of 0 is none.
    is_buffered : bool
        Whether a request is read whole before it is sent on.
    version : tuple of int
        Of nginx.
    upstream_timeout_ns : int or None
        [ns] Idle timeout of the upstreams in place of the measured one; None: as measured.
    """

    peers: tuple[Peer, ...]
    balance: str = "round_robin"
    is_picked: bool = True
    is_lua: bool = False
    workers: int = 1
    has_zone: bool = False
    keepalive: int = 32
    keepalive_timeout_ns: int = 60_000_000_000
    keepalive_requests: int = 1000
    keepalive_time_ns: int = 3_600_000_000_000
    next_upstream: frozenset[str] = frozenset({"error", "timeout"})
    tries: int = 0
    next_timeout_ns: int = 0
    read_timeout_ns: int = 60_000_000_000
    connect_timeout_ns: int = 60_000_000_000
    is_buffered: bool = True
    version: tuple[int, ...] = (1, 22, 1)
    upstream_timeout_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """No connection could be opened: from when to when [ns], how long an attempt took [ns], whether it met silence.

    Silence takes as long as the proxy waits (`GroupSettings.connect_timeout_ns`), and `takes_ns` is -1.
    """

    start_ns: int
    end_ns: int
    takes_ns: int
    is_silent: bool


@dataclass(frozen=True, slots=True)
class MeasuredUpstream:
    """One upstream as measured; times as in `kernels.replay_state.PLACE`.

    `answered_ns` is the longest idle gap after which it answered; from there to `drop_ns` or `reset_ns` nobody knows.
    """

    endpoint: str
    timeout_ns: int = -1
    spread_ns: int = 0
    late_ns: int = 0
    rtt_ns: int = 0
    rtt_tail_ns: int = 0
    greeting_ns: int = 0
    drop_ns: int = -1
    reset_ns: int = -1
    limit: int = 0
    close_ppm: int = 0
    closings: tuple[int, ...] = ()
    outages: tuple[Outage, ...] = ()
    answered_ns: int = -1

    @property
    def forgets_ns(self) -> int:
        """[ns] The shortest idle gap after which something had forgotten a connection; -1 if nothing did."""
        return min((ns for ns in (self.drop_ns, self.reset_ns) if ns >= 0), default=-1)


@dataclass(frozen=True)
class Arrivals:
    """Requests of clients.

    Attributes
    ----------
    requests, bursts : ndarray of REQUEST and BURST
        As in `kernels.replay_state`; those of one burst lie together.
    services : ndarray of int64
        [ns] What requests took upstream, round trip not counted; for those of which it is unknown.
    n_clients : int
        Clients of the bursts are below it.
    client_key : ndarray of int64, shape (n_clients,)
        What ip_hash sees.
    first_place : int
        Where the first of all went; -1: unknown.
    source : str
        ``access log`` or ``capture``.
    """

    requests: NDArray[np.void]
    bursts: NDArray[np.void]
    services: NDArray[np.int64]
    n_clients: int
    client_key: NDArray[np.int64]
    first_place: int = -1
    source: str = "capture"


@dataclass(frozen=True)
class ServerGroup:
    """One group of servers, all that was measured of it, and what is assumed."""

    name: str
    settings: GroupSettings
    places: tuple[MeasuredUpstream, ...]
    arrivals: Arrivals
    assumptions: tuple[str, ...] = ()
    observed: Mapping[str, int] = field(default_factory=dict)
    """Counts by name, as the capture and the logs have them."""
    lost_beside: int = 0
    """Tries lost for reasons of their own whose requests are not among the arrivals: no setting saves them."""
