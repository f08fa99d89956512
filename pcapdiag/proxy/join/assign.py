"""One entry to one try: the best pairing of two ordered rows, and where it is not the only one.

Both rows are in time order, entries as the proxy wrote them and tries as it ended them, so that pairs which compete do
not cross. That makes the assignment an alignment: exact, by dynamic programming. Knows numbers only.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

MATCH = 10_000
"""Worth of a pair, whatever its cost: more pairs are better than cheaper ones."""
EQUAL = 1
"""Totals that differ by no more are equally good."""
MOST_CELLS = 4_000_000
"""Beyond this many cells a knot of entries and tries is left undetermined: what is so alike is a guess."""
MOST_CANDIDATES = 20
"""Tries that are named where an entry may be any of many."""


class EntryRow(NamedTuple):
    """What an entry may be: positions of tries in their order, and the cost of each, well below `MATCH`.

    Entries that may be the same tries share one array of positions.
    """

    tries: NDArray[np.int64]
    costs: NDArray[np.int32]


class Assigned(NamedTuple):
    """What the assignment says of one entry: its try (-1: none), the first of those that are as good, and how many."""

    chosen: int
    candidates: tuple[int, ...]
    n_candidates: int


class Alignment(NamedTuple):
    """The choice of every entry that has a possible try, and the tries that are candidates of an undecided one."""

    choices: dict[int, Assigned]
    doubtful: set[int]


def align(costs: Mapping[tuple[int, int], int]) -> Alignment:
    """Return the alignment of a table of costs.

    Parameters
    ----------
    costs : mapping of (int, int) to int
        Cost of each pair that is possible, 0 or more; numbers are positions in time order.

    Returns
    -------
    Alignment
        As `align_rows` has it.
    """
    pairs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (entry, attempt), cost in costs.items():
        pairs[entry].append((attempt, cost))
    rows = {}
    for entry, its in pairs.items():
        columns = np.array(sorted(its), dtype=np.int64)
        rows[entry] = EntryRow(columns[:, 0], columns[:, 1].astype(np.int32))
    return align_rows(rows)


def align_rows(rows: Mapping[int, EntryRow]) -> Alignment:
    """Pair entries with tries so that as many as possible have one, at the least cost, and none cross that compete.

    Parameters
    ----------
    rows : mapping of int to EntryRow
        What each entry may be, by its position in time order; none is empty.

    Returns
    -------
    Alignment
        `chosen` is -1 unless there is exactly one best answer; then `candidates` holds the others that are as good
        (none, if to have no try is the only one).
    """
    found = Alignment({}, set())
    for entries in _knots(rows):
        tries = _union([rows[entry].tries for entry in entries])
        if len(entries) * len(tries) > MOST_CELLS:
            for entry in entries:
                found.choices[entry] = _undecided(rows[entry].tries)
            found.doubtful.update(tries.tolist())
        else:
            _align_knot(entries, tries, rows, found)
    return found


def _undecided(tries: NDArray[np.int64]) -> Assigned:
    return Assigned(-1, tuple(tries[:MOST_CANDIDATES].tolist()), len(tries))


def _union(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(list({id(part): part for part in parts}.values())))


def _knots(rows: Mapping[int, EntryRow]) -> Iterator[list[int]]:
    """Yield groups of entries that share no try with another group, each in order."""
    distinct = list({id(row.tries): row.tries for row in rows.values()}.values())
    number = {id(tries): n for n, tries in enumerate(distinct)}
    parent = list(range(len(distinct)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    holder = np.full(max((int(tries[-1]) + 1 for tries in distinct), default=0), -1, dtype=np.int64)
    for n, tries in enumerate(distinct):
        for other in np.unique(holder[tries]).tolist():
            if other >= 0:
                parent[root(other)] = root(n)
        holder[tries] = n
    groups: dict[int, list[int]] = defaultdict(list)
    for entry in sorted(rows):
        groups[root(number[id(rows[entry].tries)])].append(entry)
    yield from groups.values()


def _align_knot(entries: list[int], tries: NDArray[np.int64], rows: Mapping[int, EntryRow], found: Alignment) -> None:
    n_entry, n_try = len(entries), len(tries)
    worth = np.full((n_entry, n_try), -1, dtype=np.int32)
    for i, entry in enumerate(entries):
        worth[i, np.searchsorted(tries, rows[entry].tries)] = MATCH - rows[entry].costs
    # before[i, j]: the best total of the first i entries and j tries; after[i, j]: of all but these.
    before = np.zeros((n_entry + 1, n_try + 1), dtype=np.int32)
    after = np.zeros((n_entry + 1, n_try + 1), dtype=np.int32)
    for i in range(n_entry):
        above = before[i]
        best = np.where(worth[i] >= 0, np.maximum(above[:-1] + worth[i], above[1:]), above[1:])
        np.maximum.accumulate(best, out=before[i + 1, 1:])
    for i in range(n_entry - 1, -1, -1):
        below = after[i + 1]
        best = np.where(worth[i] >= 0, np.maximum(below[1:] + worth[i], below[:-1]), below[:-1])
        after[i, :-1] = np.maximum.accumulate(best[::-1])[::-1]
    total = int(before[n_entry, n_try])
    for i, entry in enumerate(entries):
        is_good = (worth[i] >= 0) & (before[i, :-1] + worth[i] + after[i + 1, 1:] >= total - EQUAL)
        good = tries[is_good]
        may_stay_alone = int((before[i] + after[i + 1]).max()) >= total - EQUAL
        if len(good) == 1 and not may_stay_alone:
            found.choices[entry] = Assigned(int(good[0]), (int(good[0]),), 1)
        else:
            found.choices[entry] = _undecided(good)
            found.doubtful.update(good.tolist())
