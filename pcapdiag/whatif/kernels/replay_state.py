"""What a replay works on: dtypes, codes and the one bundle of arrays.

Arrays are made by `pcapdiag.whatif.replay`. All times are ns of one clock, durations of requests are in us (a day of
ten million requests must fit).
"""

from typing import Annotated, NamedTuple

import numpy as np

from pcapdiag.engine.compiler.arguments import ArrayOf

TIME_WAIT_NS = 60_000_000_000  # [ns] net/ipv4/tcp.h, TCP_TIMEWAIT_LEN

PEER = np.dtype(
    [
        ("weight", "i4"),
        ("effective", "i4"),
        ("current", "i4"),
        ("max_fails", "i4"),
        ("fail_timeout_s", "i4"),
        ("fails", "i4"),
        ("accessed_s", "i8"),
        ("checked_s", "i8"),
        ("conns", "i4"),
        ("max_conns", "i4"),
        ("is_backup", "i1"),
        ("is_down", "i1"),
        ("place", "i2"),
    ],
    align=True,
)
"""One server of the group as a worker sees it: ngx_http_upstream_rr_peer_t. `place` is a row of PLACE."""

PLACE = np.dtype(
    [
        ("timeout_ns", "i8"),  # T as seen at the proxy: end of a response to the arrival of its FIN; -1: none
        ("spread_ns", "i8"),  # standard deviation of T
        ("late_ns", "i8"),  # by how much a server that looks now and then may be late
        ("rtt_ns", "i8"),
        ("rtt_tail_ns", "i8"),  # mean of what comes on top, which is drawn from an exponential distribution
        ("greeting_ns", "i8"),  # what a fresh connection takes beyond one round trip (TLS)
        ("drop_ns", "i8"),  # idle gap from which on requests, and FINs, vanish without a word; -1: none
        ("reset_ns", "i8"),  # idle gap from which on requests are answered by a RST, and FINs vanish; -1: none
        ("limit", "i8"),  # requests after which the upstream closes; 0: none
        ("close_ppm", "i8"),  # responses of a million that end their connection
        ("first_closing", "i8"),  # slice of `closings`: when it closed all idle connections at once
        ("n_closings", "i8"),
        ("first_outage", "i8"),  # slice of `outages`
        ("n_outages", "i8"),
    ],
    align=True,
)
"""One upstream as measured."""

OUTAGE = np.dtype([("start_ns", "i8"), ("end_ns", "i8"), ("takes_ns", "i8"), ("kind", "i8")], align=True)
"""A time in which no connection to a place could be opened, how long an attempt took to fail, and how (Failure)."""

REQUEST = np.dtype(
    [
        ("start_ns", "i8"),
        ("service_us", "i4"),  # on a warm connection; -1: unknown, and drawn from `services`
        ("fail_us", "i4"),  # after which its first `n_fails` tries fail for reasons of their own
        ("status", "i2"),  # what the upstream answers
        ("fail_kind", "i2"),  # Failure
        ("place", "i2"),  # where it went; -1: the balancer picks
        ("n_fails", "u1"),
        ("flags", "u1"),
    ],
    align=True,
)
"""One request of a client; those of one burst lie together."""

BURST = np.dtype(
    [
        ("think_ns", "i8"),  # from the end of all requests of the client's burst before; -1: there is none
        ("first", "i4"),  # its first request; it ends where the next burst begins
        ("client", "i4"),  # bursts of one client follow each other
    ],
    align=True,
)
"""Requests of one client that overlap, or follow each other too quickly to depend on each other."""

CONN = np.dtype(
    [
        ("released_ns", "i8"),
        ("fin_ns", "i8"),  # when the upstream's FIN reaches the proxy
        ("dead_ns", "i8"),  # when it leaves the pool, whoever closes
        ("opened_ns", "i8"),
        ("n_requests", "i8"),
        ("older", "i4"),  # in the pool of the worker; of free rows, the next free one
        ("newer", "i4"),
        ("older_alike", "i4"),  # among those to the same place
        ("newer_alike", "i4"),
        ("place", "i4"),
        ("worker", "i4"),
    ],
    align=True,
)

POOL = np.dtype([("newest", "i4"), ("oldest", "i4"), ("n", "i4"), ("spare", "i4")], align=True)
"""One worker's list of idle connections."""

SLOT = np.dtype(
    [
        ("start_ns", "i8"),
        ("request", "i8"),
        ("service_ns", "i8"),
        ("rtt_ns", "i8"),  # of the place of its last try
        ("tried", "i8"),  # bit per peer
        ("hash", "i8"),  # of ip_hash and hash
        ("burst", "i8"),
        ("peer", "i4"),  # -1: none is used now
        ("conn", "i4"),
        ("worker", "i4"),
        ("tries", "i4"),
        ("n_tried", "i4"),
        ("next_free", "i4"),
        ("failure", "i4"),
        ("n_hashed", "i4"),
        ("is_cached", "i1"),
        ("in_backup", "i1"),
        ("is_sent", "i1"),
        ("spare", "i1"),
    ],
    align=True,
)
"""One request on its way."""

EVENT = np.dtype([("ts_ns", "i8"), ("order", "i8"), ("id", "i8"), ("kind", "i8")], align=True)

SETTINGS = np.dtype(
    [
        ("n_workers", "i8"),
        ("has_zone", "i8"),
        ("n_peers", "i8"),
        ("is_single", "i8"),
        ("balance", "i8"),
        ("keepalive", "i8"),
        ("keepalive_ns", "i8"),  # -1: until the upstream closes
        ("keepalive_requests", "i8"),
        ("keepalive_time_ns", "i8"),
        ("next_upstream", "i8"),  # Failure bits
        ("tries", "i8"),
        ("next_timeout_ns", "i8"),  # 0: none
        ("read_timeout_ns", "i8"),
        ("quick_recovery", "i8"),  # before 1.11.5: where no peer is live, all failures are forgotten
        ("stale_again", "i8"),  # before 1.9.13: what failed on a kept connection is always tried again
        ("backup_tries", "i8"),  # before 1.7.5: tries that come with the backup peers; 0: `tries` counts them
        ("is_unbuffered", "i8"),  # bodies are sent on as they come (proxy_request_buffering off)
        ("is_open", "i8"),  # bursts begin when they began, whatever became of those before
        ("jitter_ns", "i8"),  # standard deviation of the beginning of bursts
        ("bin_ns", "i8"),
        ("origin_ns", "i8"),
        ("added_step", "i8"),
    ],
    align=True,
)

# Bits of Failure, as ngx_http_upstream.h has them in NGX_HTTP_UPSTREAM_FT_*.
ERROR = np.int64(0x02)
TIMEOUT = np.int64(0x04)
INVALID_HEADER = np.int64(0x08)
HTTP_500 = np.int64(0x10)
HTTP_502 = np.int64(0x20)
HTTP_503 = np.int64(0x40)
HTTP_504 = np.int64(0x80)
HTTP_403 = np.int64(0x100)
HTTP_404 = np.int64(0x200)
HTTP_429 = np.int64(0x400)
NON_IDEMPOTENT = np.int64(0x4000)
REFUSED = np.int64(0x10000)
"""The connection could not be opened: an ERROR before anything was sent."""
CONNECT_TIMEOUT = np.int64(0x20000)

NOT_IDEMPOTENT = np.int64(1)
"""Flag of a request: POST, LOCK or PATCH."""
HAS_BODY = np.int64(2)
"""Flag of a request: it is likely to have a body that was not all there with its head."""

ROUND_ROBIN = np.int64(0)
LEAST_CONN = np.int64(1)
IP_HASH = np.int64(2)
HASH = np.int64(3)
RANDOM = np.int64(4)
RANDOM_TWO = np.int64(5)

MOST_PEERS = 62
"""Peers of a group: as many as `tried` has bits."""
NO_LIVE_PEER = np.int64(63)

# Rows of `counts`.
LOST = 0
"""Tries without an answer, connections that could not be opened included."""
FAILED_502 = 1
FAILED_504 = 2
FAILED_OTHER = 3
RETRIED = 4
"""Requests answered by another try than their first."""
NO_LIVE = 5
OPENED = 6
REUSED = 7
CLIENTS = 8
ADDED_NS = 9
"""[ns] Time of answered requests beyond what they take on a warm connection, all together."""
IDLE_MAX = 10
TIME_WAIT_MAX = 11
RACED = 12
"""Of LOST: those that the upstream's closing crossed."""
TIMED_OUT = 13
"""Idle connections that `keepalive_ns` ends before their FIN comes, if nobody uses them."""
CROWDED_OUT = 14
"""Connections for which the pool had no room."""
USED_UP = 15
"""Connections that had served as many requests as `keepalive_requests` allows."""
GROWN_OLD = 16
"""Connections that had been open for longer than `keepalive_time_ns`."""
N_COUNTS = 17

# Rows of `control`.
FREE_CONN = 0
FREE_SLOT = 1
N_EVENTS = 2
ORDER = 3
N_CHOSEN = 4
N_CONTROL = 5


class ReplayArrays(NamedTuple):
    """All that one replay reads and writes.

    Attributes
    ----------
    settings : ndarray of SETTINGS, shape (1,)
    peers : ndarray of PEER, shape (n_workers or 1 with a zone, n_peers) flattened
        State; the caller fills in what is configured.
    places, closings, outages, requests, bursts, services : ndarray
        What was captured; only read.
    first_bursts : ndarray of int64
        First burst of each client, in the order in which they begin.
    client_worker, client_key : ndarray, shape (n_clients,)
        Worker that serves a client, and what a balancer sees of it: of ip_hash the factor and the summand of its step,
        65536 * factor + summand (`replay_pick`).
    left : ndarray of int32, shape (n_clients,)
        Working memory: requests of each client's present burst that are not done.
    conns, slots : ndarray
        Working memory.
    pools : ndarray of POOL, shape (n_workers,)
    heads : ndarray of int32, shape (n_workers * n_places,)
        Newest idle connection of a worker to a place; -1.
    heap : ndarray of EVENT
        Working memory.
    idle_steps, time_wait_steps : ndarray of int64
        Changes per bin of time; zero before.
    added_us : ndarray of int32
        [us] Result: what each `added_step`-th request took beyond what it takes on a warm connection; -1 of those that
        were not answered.
    chosen : ndarray of int64
        Result: 64 times the request and the peer, or 63 where none was live, in the order of picking, as far as it has
        room.
    counts : ndarray of int64, shape (N_COUNTS,)
        Result.
    random : ndarray of uint64, shape (1,)
        State of the generator (Marsaglia's xorshift), not zero.
    control : ndarray of int64, shape (N_CONTROL,)
        Counters; zero before.
    """

    settings: Annotated[np.ndarray, ArrayOf(SETTINGS)]
    peers: Annotated[np.ndarray, ArrayOf(PEER)]
    places: Annotated[np.ndarray, ArrayOf(PLACE)]
    closings: Annotated[np.ndarray, ArrayOf(np.int64)]
    outages: Annotated[np.ndarray, ArrayOf(OUTAGE)]
    requests: Annotated[np.ndarray, ArrayOf(REQUEST)]
    bursts: Annotated[np.ndarray, ArrayOf(BURST)]
    services: Annotated[np.ndarray, ArrayOf(np.int64)]
    first_bursts: Annotated[np.ndarray, ArrayOf(np.int64)]
    client_worker: Annotated[np.ndarray, ArrayOf(np.int32)]
    client_key: Annotated[np.ndarray, ArrayOf(np.int64)]
    left: Annotated[np.ndarray, ArrayOf(np.int32)]
    conns: Annotated[np.ndarray, ArrayOf(CONN)]
    slots: Annotated[np.ndarray, ArrayOf(SLOT)]
    pools: Annotated[np.ndarray, ArrayOf(POOL)]
    heads: Annotated[np.ndarray, ArrayOf(np.int32)]
    heap: Annotated[np.ndarray, ArrayOf(EVENT)]
    idle_steps: Annotated[np.ndarray, ArrayOf(np.int64)]
    time_wait_steps: Annotated[np.ndarray, ArrayOf(np.int64)]
    added_us: Annotated[np.ndarray, ArrayOf(np.int32)]
    chosen: Annotated[np.ndarray, ArrayOf(np.int64)]
    counts: Annotated[np.ndarray, ArrayOf(np.int64)]
    random: Annotated[np.ndarray, ArrayOf(np.uint64)]
    control: Annotated[np.ndarray, ArrayOf(np.int64)]
