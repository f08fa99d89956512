"""The offset of two clocks from intervals."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.join.clock import (
    STEP_NS,
    Interval,
    estimate_clock,
    find_plateaus,
    merge_columns,
    merge_intervals,
    settle_crowd,
)

S = 1_000_000_000

rows = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda p: Interval(p[0], p[0] + p[1])), max_size=4),
    max_size=6,
).map(lambda rows: [merge_intervals(row) for row in rows])


@given(rows)
def test_a_plateau_is_where_most_rows_overlap(rows):
    def covered(at):
        return sum(any(i.low <= at <= i.high for i in row) for row in rows)

    most = max(covered(at) for at in range(60))
    plateaus = find_plateaus(rows)
    assert {at for p in plateaus for at in range(p.low, p.high + 1)} == (
        {at for at in range(60) if covered(at) == most} if most else set()
    )
    assert all(p.pairs == most for p in plateaus)


@pytest.mark.parametrize("zone_s", [0, 28800, -12600, 20700])
@pytest.mark.parametrize("off_s", [0, 137, -200])
def test_zone_and_offset_are_told_apart(zone_s, off_s):
    true = (zone_s + off_s) * S
    # Three entries, stamped in whole seconds, each with its own event and a wrong one.
    events = [3.2, 10.7, 31.9]
    table = []
    for at in events:
        stamp = int(at + off_s + zone_s) if at + off_s + zone_s >= 0 else int(at + off_s + zone_s) - 1
        table.append([Interval(int((stamp - e) * S), int((stamp + 1 - e) * S)) for e in events])
    clock = estimate_clock([merge_intervals(row) for row in table])
    assert clock.zone_s == zone_s
    assert abs(clock.offset_ns - off_s * S) <= S
    assert abs(clock.total_ns - true) <= clock.width_ns // 2 + 1
    assert clock.pairs == 3
    assert not clock.is_ambiguous


def test_one_entry_that_fits_at_two_offsets_is_ambiguous():
    clock = estimate_clock([[Interval(100 * S, 101 * S), Interval(130 * S, 131 * S)]])
    assert clock.is_ambiguous
    assert clock.pairs == 1


def test_clocks_that_agree_are_preferred():
    clock = estimate_clock([[Interval(-S // 2, S // 2), Interval(130 * S, 131 * S)]])
    assert clock.offset_ns == 0
    assert not clock.is_ambiguous


def test_a_known_zone_is_kept():
    clock = estimate_clock([[Interval(28937 * S, 28938 * S)]], zone_s=28800)
    assert clock.zone_s == 28800
    assert clock.offset_ns == 137 * S + S // 2


def test_an_entry_that_agrees_with_no_other_is_a_conflict():
    near = [Interval(0, S)]
    assert estimate_clock([near, near, [Interval(500 * S, 501 * S)]]).conflicts == 1


def test_without_pairs_there_is_no_clock():
    assert estimate_clock([]) is None
    assert estimate_clock([[Interval(10**6 * S, 10**6 * S + 1)]]) is None


@given(rows, rows)
def test_of_entries_and_tries_the_fewer_count(entries, tries):
    def covered(rows, at):
        return sum(any(i.low <= at <= i.high for i in row) for row in rows)

    found = find_plateaus(entries, tries)
    if any(tries):
        most = max(min(covered(entries, at), covered(tries, at)) for at in range(60))
        assert {p.pairs for p in found} == ({most} if most else set())


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1))
def test_intervals_in_columns_are_merged_alike(pairs):
    intervals = [Interval(low, low + width) for low, width in pairs]
    columns = np.array(intervals, dtype=np.int64)
    assert merge_columns(columns[:, 0], columns[:, 1]) == merge_intervals(intervals)


seconds = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4)), min_size=1, max_size=9)
times = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5 * S)), max_size=9)


@given(seconds, times, st.lists(st.integers(-20, 20), min_size=1, max_size=9, unique=True))
def test_a_crowd_is_settled_by_how_many_fall_on_each_second(stamps, ends, steps):
    offsets = [step * STEP_NS for step in steps]
    logged = Counter(stamps)

    def score(offset):
        seen = Counter((peer, (at + offset) // S) for peer, at in ends)
        return sum(min(n, seen[key]) for key, n in logged.items())

    best, width, _ = settle_crowd(stamps, ends, offsets)
    assert score(best) == max(map(score, offsets))
    assert abs(best) == min(abs(o) for o in offsets if score(o) == score(best))
    assert width >= 2 * STEP_NS
