"""Running the compiled replay: many draws of what a capture cannot know, and what they have in common.

What is drawn anew each time: which worker serves a client, by how much an idle timeout and a round trip vary, how long
what nobody measured takes, whether clients wait for answers before they go on, and by how much they are late.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.errors import UsageError
from pcapdiag.whatif.group import BALANCES
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.kernels.replay import replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.whatif.group import GroupSettings, MeasuredUpstream, ServerGroup

SEED: Final = 20_240_811
OPEN_SHARE: Final = 0.15
"""Share of the draws that let requests arrive when they arrived, whatever became of those before."""
MOST_REPLAYED: Final = 12_000_000
"""Requests, draws counted, that a scenario may take: some seconds."""
DRAWS: Final = 200
FEWEST_DRAWS: Final = 10
MOST_ADDED: Final = 1_000_000
"""Requests of which each draw keeps what they took: enough for a 99th percentile."""
_MOST_TURNS: Final = 1000
_N_BINS: Final = 1 << 16

_FAILURES: Final = {
    "error": state.ERROR,
    "timeout": state.TIMEOUT,
    "invalid_header": state.INVALID_HEADER,
    "http_500": state.HTTP_500,
    "http_502": state.HTTP_502,
    "http_503": state.HTTP_503,
    "http_504": state.HTTP_504,
    "http_403": state.HTTP_403,
    "http_404": state.HTTP_404,
    "http_429": state.HTTP_429,
    "non_idempotent": state.NON_IDEMPOTENT,
}
NEXT_UPSTREAM: Final = (*_FAILURES, "off")
"""Conditions of proxy_next_upstream."""


@dataclass(frozen=True)
class Draws:
    """Results of all draws.

    Attributes
    ----------
    counts : ndarray of int64, shape (n, N_COUNTS)
        Rows as `kernels.replay_state` names them.
    added_p99_ns : ndarray of float64, shape (n,)
        [ns] Of answered requests.
    chosen : ndarray of int64
        Of the first draw, where it was asked for.
    """

    counts: NDArray[np.int64]
    added_p99_ns: NDArray[np.float64]
    chosen: NDArray[np.int64]


def run(group: ServerGroup, settings: GroupSettings, *, draws: int = 0, seed: int = SEED, n_chosen: int = 0) -> Draws:
    """Replay a group's arrivals under some settings.

    Parameters
    ----------
    group : ServerGroup
        What was captured.
    settings : GroupSettings
        Under which they arrive.
    draws : int
        How many; 0: as many as are reasonable.
    seed : int
        The same seed gives the same draws.
    n_chosen : int
        How many picks of peers of the first draw are wanted.

    Returns
    -------
    Draws

    Raises
    ------
    UsageError
        The group has more peers than are replayed.
    """
    if len(settings.peers) > state.MOST_PEERS or len(group.places) > state.MOST_PEERS:
        msg = f"{group.name}: {len(settings.peers)} servers; what-if replays groups of up to {state.MOST_PEERS}"
        raise UsageError(msg)
    n = draws or draws_for(len(group.arrivals.requests))
    prepared = Prepared(group, settings)
    seeds = np.random.SeedSequence(seed).generate_state(n, np.uint64)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, n)) as pool:
        results = list(pool.map(lambda d: prepared.draw(int(seeds[d]), n_chosen if d == 0 else 0), range(n)))
    return Draws(
        np.array([counts for counts, _, _ in results]),
        np.array([p99 for _, p99, _ in results]),
        results[0][2],
    )


def draws_for(n_requests: int) -> int:
    """Return how many draws a number of requests gets."""
    return max(min(DRAWS, MOST_REPLAYED // max(n_requests, 1)), FEWEST_DRAWS)


class Prepared:
    """The arrays that all draws read, and how those that they write are made."""

    def __init__(self, group: ServerGroup, settings: GroupSettings) -> None:
        self.group = group
        # A server that is added is like the first one, but has connections of its own.
        added = [n for n, peer in enumerate(settings.peers) if peer.place < 0]
        measured = (*group.places, *(replace(group.places[0], closings=(), outages=()) for _ in added))
        numbers = {n: len(group.places) + i for i, n in enumerate(added)}
        peers = tuple(replace(peer, place=numbers.get(n, peer.place)) for n, peer in enumerate(settings.peers))
        self.settings = settings = replace(settings, peers=peers)
        self.places, self.closings, self.outages = _place_rows(measured, settings)
        self.requests = np.ascontiguousarray(group.arrivals.requests)
        if settings.is_picked and len(self.requests) and (self.requests["place"] >= 0).any():
            self.requests = self.requests.copy()
            self.requests["place"] = -1
        bursts = group.arrivals.bursts
        starts = self.requests["start_ns"]
        first = np.append(0, np.flatnonzero(bursts["client"][1:] != bursts["client"][:-1]) + 1)[: len(bursts)]
        began = starts[bursts["first"][first]]
        self.first_bursts = np.ascontiguousarray(first[np.argsort(began, kind="stable")], np.int64)
        self.added_step = 1 + len(self.requests) // MOST_ADDED
        self.origin_ns = int(starts.min()) if len(starts) else 0
        span_ns = (int(starts.max()) - self.origin_ns if len(starts) else 0) + 2 * state.TIME_WAIT_NS
        self.bin_ns = span_ns // _N_BINS + 1
        self.rows = _setting_row(settings, self.origin_ns, self.bin_ns, _jitter_ns(group.places))
        self.size = 1024

    def draw(self, seed: int, n_chosen: int) -> tuple[NDArray[np.int64], float, NDArray[np.int64]]:
        """Replay once, with more room where there was not enough."""
        size = self.size
        while True:
            arrays = self.arrays(seed, size, n_chosen)
            if replay(arrays) == 0:
                break
            size *= 4
            self.size = max(self.size, size)
        added = arrays.added_us[arrays.added_us >= 0]
        p99 = float(np.partition(added, len(added) * 99 // 100)[len(added) * 99 // 100]) * 1000 if len(added) else 0.0
        return arrays.counts, p99, arrays.chosen[: int(arrays.control[state.N_CHOSEN])]

    def _first_worker(self, workers: NDArray[np.int32]) -> int:
        """Return the worker that serves the first of all clients."""
        first = self.group.arrivals.bursts["client"][self.first_bursts[0]] if len(self.first_bursts) else 0
        return int(workers[first]) if len(workers) else 0

    def arrays(self, seed: int, size: int, n_chosen: int) -> state.ReplayArrays:
        """Return the arrays of one draw, with room for so many requests at once and so many picks."""
        rng = np.random.default_rng(seed)
        s, arrivals = self.settings, self.group.arrivals
        rows = self.rows.copy()
        rows["added_step"] = self.added_step
        rows["is_open"] = rng.random() < OPEN_SHARE
        workers = rng.integers(s.workers, size=arrivals.n_clients, dtype=np.int32)
        return state.ReplayArrays(
            settings=rows,
            peers=_peer_rows(s, arrivals.first_place, self._first_worker(workers), rng),
            places=self.places,
            closings=self.closings,
            outages=self.outages,
            requests=self.requests,
            bursts=arrivals.bursts,
            services=arrivals.services,
            first_bursts=self.first_bursts,
            client_worker=workers,
            client_key=arrivals.client_key,
            left=np.zeros(arrivals.n_clients, np.int32),
            conns=np.zeros(size + min(s.keepalive * s.workers, 1 << 20), state.CONN),
            slots=np.zeros(size, state.SLOT),
            pools=np.zeros(s.workers, state.POOL),
            heads=np.zeros(s.workers * len(self.places), np.int32),
            heap=np.zeros(2 * size, state.EVENT),
            idle_steps=np.zeros(_N_BINS, np.int64),
            time_wait_steps=np.zeros(_N_BINS, np.int64),
            added_us=np.full(len(self.requests) // self.added_step + 1, -1, np.int32),
            chosen=np.zeros(n_chosen, np.int64),
            counts=np.zeros(state.N_COUNTS, np.int64),
            random=rng.integers(1, 1 << 63, 1, np.uint64),
            control=np.zeros(state.N_CONTROL, np.int64),
        )


def _jitter_ns(places: Sequence[MeasuredUpstream]) -> int:
    """[ns] By how much clients are late or early: a tenth of the longest round trip, a millisecond at least."""
    return max(1_000_000, max((place.rtt_ns for place in places), default=0) // 10)


def _place_rows(places: Sequence[MeasuredUpstream], s: GroupSettings) -> tuple[NDArray[np.void], ...]:
    rows = np.zeros(len(places), state.PLACE)
    closings: list[int] = []
    outages: list[tuple[int, int, int, int]] = []
    for row, place in zip(rows, places, strict=True):
        for name in ("spread_ns", "late_ns", "rtt_ns", "rtt_tail_ns", "greeting_ns", "drop_ns", "reset_ns"):
            row[name] = getattr(place, name)
        row["limit"], row["close_ppm"] = place.limit, place.close_ppm
        row["timeout_ns"] = place.timeout_ns if s.upstream_timeout_ns is None else s.upstream_timeout_ns
        row["first_closing"], row["n_closings"] = len(closings), len(place.closings)
        closings += sorted(place.closings)
        row["first_outage"], row["n_outages"] = len(outages), len(place.outages)
        for outage in place.outages:
            kind = state.CONNECT_TIMEOUT if outage.is_silent else state.REFUSED
            takes_ns = s.connect_timeout_ns if outage.is_silent else outage.takes_ns
            outages.append((outage.start_ns, outage.end_ns, takes_ns, int(kind)))
    return rows, np.array(closings, np.int64), np.array(outages, state.OUTAGE)


def _setting_row(s: GroupSettings, origin_ns: int, bin_ns: int, jitter_ns: int) -> NDArray[np.void]:
    rows = np.zeros(1, state.SETTINGS)
    row = rows[0]
    conditions = set(s.next_upstream)
    if s.version < (1, 9, 13):
        conditions.add("non_idempotent")  # until then every request was tried again
    counted = [peer for peer in s.peers if not peer.is_down or s.version < (1, 19, 6)]
    n_backup = sum(peer.is_backup for peer in counted)
    n_up = len(counted) - (n_backup if s.version < (1, 7, 5) else 0)
    values: dict[str, Any] = {
        "n_workers": s.workers,
        "has_zone": s.has_zone,
        "n_peers": len(s.peers),
        "is_single": len(s.peers) == 1 and not s.peers[0].is_backup,
        "balance": BALANCES.index(s.balance),
        "keepalive": s.keepalive,
        "keepalive_ns": s.keepalive_timeout_ns,
        "keepalive_requests": s.keepalive_requests,
        "keepalive_time_ns": s.keepalive_time_ns,
        "next_upstream": sum(int(_FAILURES[c]) for c in conditions if c in _FAILURES and "off" not in s.next_upstream),
        "tries": min(n_up, s.tries) if s.tries else n_up,
        "next_timeout_ns": s.next_timeout_ns,
        "read_timeout_ns": s.read_timeout_ns,
        "quick_recovery": s.version < (1, 11, 5),
        "stale_again": s.version < (1, 9, 13),
        "backup_tries": n_backup if s.version < (1, 7, 5) else 0,
        "is_unbuffered": not s.is_buffered,
        "jitter_ns": jitter_ns,
        "bin_ns": bin_ns,
        "origin_ns": origin_ns,
    }
    for name, value in values.items():
        row[name] = value
    if not s.is_picked:
        row["is_single"] = 0
    return rows


def _peer_rows(s: GroupSettings, first_place: int, first_worker: int, rng: np.random.Generator) -> NDArray[np.void]:
    rows = np.zeros(len(s.peers), state.PEER)
    for row, peer in zip(rows, s.peers, strict=True):
        row["weight"] = row["effective"] = peer.weight
        row["max_fails"], row["fail_timeout_s"] = peer.max_fails, peer.fail_timeout_s
        row["max_conns"], row["is_backup"], row["is_down"] = peer.max_conns, peer.is_backup, peer.is_down
        row["place"] = peer.place
    copies = rows if s.has_zone else np.tile(rows, s.workers)
    if s.is_picked:
        for worker, own in enumerate(copies.reshape(-1, len(rows))):
            # Whom the others served last, nobody knows.
            _turn(own, first_place if s.has_zone or worker == first_worker else -1, rng)
    return copies


def _turn(rows: NDArray[np.void], first_place: int, rng: np.random.Generator) -> None:
    """Set the round robin to where the first request found it; anywhere if nobody knows."""
    usable = np.flatnonzero((rows["is_backup"] == 0) & (rows["is_down"] == 0))
    total = int(rows["weight"][usable].sum())
    if len(usable) == 0 or total > 1 << 16:
        return
    is_known = first_place >= 0 and (rows["place"][usable] == first_place).any()
    steps = total if is_known else int(rng.integers(min(total, _MOST_TURNS)))
    for _ in range(steps):
        current = rows["current"][usable] + rows["effective"][usable]
        best = int(np.argmax(current))
        if is_known and rows["place"][usable[best]] == first_place:
            return
        current[best] -= total
        rows["current"][usable] = current
