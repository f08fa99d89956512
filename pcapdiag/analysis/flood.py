"""Floods: what of many like failures is looked at one by one, and how many each of those stands for.

Whoever sends a million SYNs, or loses a million requests, must not take memory and time for a million objects. Failures
are told apart here by what the tables say of them; it knows no rule, and says nothing of causes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.codes import ConnState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Rows = np.ndarray[Any, Any]
    Ints = NDArray[np.int64]
    Hashes = NDArray[np.uint64]

MOST_JUDGED: Final = 6000
"""Lost requests and failed attempts up to which each is judged for itself: some 2 s and 60 MB of them."""
MOST_ENDPOINTS: Final = 200
"""Upstreams with failures that are told apart; those of all others are found together."""
ENDS: Final = ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port")
"""Columns of `columns.CONNECTIONS` that `ends_of` is a hash of."""

_ALL_KEPT = 50_000
"""Unanswered attempts up to which each keeps its row."""
_FIRST = 1000
"""Beyond that each endpoint keeps the first so many ..."""
_STRIDE = 64
"""... and every so manieth."""
_MOST_KEYS = 1 << 16
"""Endpoints that are counted one by one; a scan of more shares one counter."""
_LEAST_OF_KIND = 100
"""Of a kind so many are looked at, where there is room: each of a rare kind."""
_OCTAVE = 4
"""Parts of a doubling that a time is told apart by."""


def is_failed_attempt(conn_state: Any, orig_bytes: Any) -> Any:
    """Tell of which connections (one or an array) the attempt failed: nobody answered the SYN, or a RST did."""
    return ((conn_state == ConnState.S0) | (conn_state == ConnState.REJ)) & (orig_bytes == 0)


@dataclass(slots=True)
class _Counter:
    """Unanswered attempts at one endpoint, and those since the last one that was kept."""

    n_seen: int = 0
    n_skipped: int = 0
    last: Rows = field(default_factory=lambda: np.empty(0))


class AttemptSieve:
    """Lets the rows of connections pass, but of a flood of unanswered SYNs only some, each with those it stands for.

    Parameters
    ----------
    is_open : bool
        Let all pass.
    quoted : callable
        Returns hashes of the ends (`ends_of`) of attempts that something else in the capture tells of: they pass.
    """

    def __init__(self, *, is_open: bool = False, quoted: Callable[[], Hashes] | None = None) -> None:
        self.n_dropped = 0
        self._quoted = quoted
        self._n_attempts = 0
        self._is_open = is_open
        self._counters: dict[tuple[int, ...], _Counter] = {}

    def sift(self, rows: Rows) -> Rows:
        """Return those of the rows that are kept.

        Parameters
        ----------
        rows : ndarray of columns.CONNECTIONS.dtype, shape (n_row,)
            Connections that ended.

        Returns
        -------
        ndarray of columns.CONNECTIONS.dtype
            `n_alike` is filled in.
        """
        # Of what got any answer the answer is of interest: who sent it, over how many hops.
        is_attempt = (rows["conn_state"] == ConnState.S0) & (rows["orig_bytes"] == 0) & (rows["resp_frames"] == 0)
        attempts = np.flatnonzero(is_attempt & (rows["n_exchanges"] == 0))
        self._n_attempts += len(attempts)
        if self._is_open or self._n_attempts <= _ALL_KEPT:
            return rows
        out = rows.copy()
        is_told = np.isin(ends_of(rows), self._quoted()) if self._quoted is not None else None
        if is_told is not None:
            attempts = attempts[~is_told[attempts]]
        is_kept = np.ones(len(rows), dtype=np.bool_)
        for key, members in _by_endpoint(rows, attempts):
            is_shared = key not in self._counters and len(self._counters) >= _MOST_KEYS
            counter = self._counters.setdefault(() if is_shared else key, _Counter())
            numbers = counter.n_seen + np.arange(len(members))
            chosen = np.flatnonzero((numbers < _FIRST) | (numbers % _STRIDE == 0))
            counter.n_seen += len(members)
            is_kept[members] = False
            is_kept[members[chosen]] = True
            if len(chosen):
                n_alike = np.diff(chosen, prepend=-1) - 1
                n_alike[0] += counter.n_skipped
                out["n_alike"][members[chosen]] = -n_alike if is_shared else n_alike
                counter.n_skipped = len(members) - 1 - int(chosen[-1])
            else:
                counter.n_skipped += len(members)
            if counter.n_skipped:
                counter.last = rows[members[-1:]].copy()
        self.n_dropped += len(rows) - int(np.count_nonzero(is_kept))
        return out[is_kept]

    def finish(self) -> Iterator[Rows]:
        """Yield the rows that stand for what came after the last one that was kept; one per endpoint at most."""
        for key, counter in self._counters.items():
            if counter.n_skipped:
                n_alike = counter.n_skipped - 1
                counter.last["n_alike"] = n_alike if key else -n_alike
                self.n_dropped -= 1
                counter.n_skipped = 0
                yield counter.last


def ends_of(rows: Rows) -> Hashes:
    """Return a hash of both ends of each connection, in `columns.CONNECTIONS`."""
    return mixed(*(rows[name] for name in ENDS))


def _by_endpoint(rows: Rows, attempts: Ints) -> Iterator[tuple[tuple[int, ...], Ints]]:
    """Yield the attempts at each endpoint, in order, those that were repeated apart."""
    columns = [rows[name][attempts] for name in ("capture_idx", "resp_port", "resp_lo", "resp_hi")]
    columns.append(np.minimum(rows["syn_frames"][attempts], 2))
    if len(attempts) and all((column == column[0]).all() for column in columns):
        yield tuple(int(column[0]) for column in columns), attempts
        return
    order = np.lexsort(columns)
    is_new = np.zeros(len(order), dtype=np.bool_)
    for column in columns:
        is_new[1:] |= np.diff(column[order].astype(np.int64)) != 0
    for members in np.split(order, np.flatnonzero(is_new)):
        if len(members):
            yield tuple(int(column[members[0]]) for column in columns), attempts[members]


@dataclass(frozen=True, slots=True)
class FloodSample:
    """Which failures are looked at one by one.

    Attributes
    ----------
    chosen : ndarray of int64, shape (n_chosen,)
        Their indices, ascending.
    stands_for : ndarray of int64, shape (n_chosen,)
        How many failures each stands for, itself included.
    """

    chosen: Ints
    stands_for: Ints


def choose(kinds: Iterable[Hashes], times_ns: Ints, weights: Ints, most: int) -> FloodSample:
    """Choose failures of every kind, spread over the time, in proportion to how many there are.

    Parameters
    ----------
    kinds : iterable of ndarray of uint64, shape (n,)
        What kind each failure is, told apart more and more coarsely; the first one that leaves room for a few of each
        kind is taken.
    times_ns : ndarray of int64, shape (n,)
        [ns] When each happened.
    weights : ndarray of int64, shape (n,)
        How many failures each stands for already.
    most : int
        How many to choose, about: all of them where there are no more.

    Returns
    -------
    FloodSample
        Those chosen stand for all together; each for those of its kind that lie next to it in time.
    """
    n = len(times_ns)
    if n <= most:
        return FloodSample(np.arange(n), weights)
    for kind in kinds:
        kind_of = np.unique(kind, return_inverse=True)[1].astype(np.int32)
        n_of_kind = np.bincount(kind_of)
        if 4 * len(n_of_kind) <= most:
            break
    order = np.lexsort((times_ns, kind_of))
    kind_of = kind_of[order]
    # Of each kind the members, in order of time, are cut into so many parts of one size.
    least = min(max(most // (2 * len(n_of_kind)), 3), _LEAST_OF_KIND)
    n_parts = np.minimum(np.clip(n_of_kind * most // n, least, None), n_of_kind)
    rank = np.arange(n) - (np.cumsum(n_of_kind) - n_of_kind)[kind_of]
    is_first = rank == 0
    rank *= n_parts[kind_of]
    rank //= n_of_kind[kind_of]
    is_first[1:] |= rank[1:] != rank[:-1]
    firsts = np.flatnonzero(is_first)
    chosen, stands_for = order[firsts], np.add.reduceat(weights[order], firsts, dtype=np.int64)
    by_index = np.argsort(chosen)
    return FloodSample(chosen[by_index], stands_for[by_index])


def mixed(*columns: NDArray[Any]) -> Hashes:
    """Return a hash of each row of some columns of numbers."""
    return mixed_in(np.zeros(len(columns[0]), dtype=np.uint64), columns)


def mixed_in(hashes: Hashes, columns: Iterable[NDArray[Any]]) -> Hashes:
    """Return hashes that depend on some columns of numbers, too, which may be made one after the other."""
    value = hashes
    for column in columns:
        value = (value ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return value


def scale_of(times_ns: Ints) -> Ints:
    """Return about how long times are: four numbers for each doubling from a microsecond on, -1 for less than 0."""
    scale = np.floor(_OCTAVE * np.log2(np.maximum(times_ns, 0) / 1000 + 1)).astype(np.int64)
    return np.where(times_ns < 0, -1, scale)
