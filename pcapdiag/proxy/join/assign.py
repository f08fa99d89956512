"""One entry to one try: the best pairing of two ordered rows, and where it is not the only one.

Both rows are in time order, entries as the proxy wrote them and tries as it ended them, so that pairs which compete do
not cross. That makes the assignment an alignment: exact, by dynamic programming. Knows numbers only.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MATCH = 10_000
"""Worth of a pair, whatever its cost: more pairs are better than cheaper ones."""
EQUAL = 1
"""Totals that differ by no more are equally good."""
MOST_CELLS = 4_000_000
"""Beyond this many cells a knot of entries and tries is left undetermined: minutes of work for a guess."""


class Choice(NamedTuple):
    """What the assignment says of one entry: its try (-1: none), and all tries that are as good."""

    chosen: int
    candidates: tuple[int, ...]


def align(costs: Mapping[tuple[int, int], int]) -> dict[int, Choice]:
    """Pair entries with tries so that as many as possible have one, at the least cost, and none cross that compete.

    Parameters
    ----------
    costs : mapping of (int, int) to int
        Cost of each pair that is possible, 0 or more and well below `MATCH`; numbers are positions in time order.

    Returns
    -------
    dict of int to Choice
        For every entry that has a possible try. `chosen` is -1 unless there is exactly one best answer; then
        `candidates` holds the others that are as good (none, if to have no try is the only one).
    """
    choices: dict[int, Choice] = {}
    for entries, tries in _components(costs):
        choices.update(_align_component(entries, tries, costs))
    return choices


def _components(costs: Mapping[tuple[int, int], int]) -> list[tuple[list[int], list[int]]]:
    """Return groups of entries and tries that do not touch each other, each in order."""
    tries_of: dict[int, list[int]] = defaultdict(list)
    entries_of: dict[int, list[int]] = defaultdict(list)
    for entry, attempt in costs:
        tries_of[entry].append(attempt)
        entries_of[attempt].append(entry)
    seen: set[int] = set()
    components = []
    for start in sorted(tries_of):
        if start in seen:
            continue
        seen.add(start)
        members, queue, attempts = [start], [start], set()
        while queue:
            for attempt in tries_of[queue.pop()]:
                if attempt in attempts:
                    continue
                attempts.add(attempt)
                fresh = [e for e in entries_of[attempt] if e not in seen]
                seen.update(fresh)
                members += fresh
                queue += fresh
        components.append((sorted(members), sorted(attempts)))
    return components


def _align_component(entries: list[int], tries: list[int], costs: Mapping[tuple[int, int], int]) -> dict[int, Choice]:
    n_entry, n_try = len(entries), len(tries)
    if n_entry * n_try > MOST_CELLS:
        return {e: Choice(-1, tuple(t for t in tries if (e, t) in costs)) for e in entries}
    worth = [[MATCH - costs[e, t] if (e, t) in costs else -1 for t in tries] for e in entries]
    # before[i][j]: the best total of the first i entries and j tries; after[i][j]: of all but these.
    before = [[0] * (n_try + 1) for _ in range(n_entry + 1)]
    for i in range(n_entry):
        row, above, gains = before[i + 1], before[i], worth[i]
        for j in range(n_try):
            best = max(above[j + 1], row[j])
            if gains[j] >= 0:
                best = max(best, above[j] + gains[j])
            row[j + 1] = best
    after = [[0] * (n_try + 1) for _ in range(n_entry + 1)]
    for i in range(n_entry - 1, -1, -1):
        row, below, gains = after[i], after[i + 1], worth[i]
        for j in range(n_try - 1, -1, -1):
            best = max(below[j], row[j + 1])
            if gains[j] >= 0:
                best = max(best, below[j + 1] + gains[j])
            row[j] = best
    total = before[n_entry][n_try]
    choices = {}
    for i, entry in enumerate(entries):
        good = [
            j
            for j in range(n_try)
            if worth[i][j] >= 0 and before[i][j] + worth[i][j] + after[i + 1][j + 1] >= total - EQUAL
        ]
        may_stay_alone = max(before[i][j] + after[i + 1][j] for j in range(n_try + 1)) >= total - EQUAL
        is_certain = len(good) == 1 and not may_stay_alone
        choices[entry] = Choice(tries[good[0]] if is_certain else -1, tuple(tries[j] for j in good))
    return choices
