"""Moments fall into bursts, bursts come back or not, and memory stays bounded."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.triage.timeline import GAP_S, MOST_BINS, Timeline


def timeline(moments):
    made = Timeline()
    for at_s in moments:
        made.add(at_s)
    return made


def test_moments_that_follow_each_other_are_one_run():
    made = timeline([100, 105, 115, 200, 201])
    assert made.runs() == [(100, 115, 3), (200, 201, 2)]
    assert (made.first_s, made.last_s) == (100, 201)


def test_what_comes_every_five_minutes_comes_back():
    assert timeline([300 * n + n % 2 for n in range(9)]).recurrence() == (300, 8, 8)


def test_one_miss_is_allowed_and_chance_is_none():
    assert timeline([0, 300, 600, 900, 1200, 1500, 2100]).recurrence() == (300, 5, 6)
    assert timeline([0, 40, 900, 1000, 4000, 4100, 9000]).recurrence() is None
    assert timeline([0, 300, 600, 900]).recurrence() is None
    assert timeline([]).recurrence() is None


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_every_moment_is_in_one_run_and_runs_lie_apart(moments):
    runs = timeline(moments).runs()
    assert sum(count for *_, count in runs) == len(moments)
    assert all(after[0] - before[1] > GAP_S for before, after in pairwise(runs))
    assert all(any(begin <= at <= end for begin, end, _ in runs) for at in moments)


def test_a_month_of_failures_takes_no_more_than_its_bins():
    made = timeline(range(0, 12 * MOST_BINS, 3))
    assert len(made._bins) <= MOST_BINS
    assert [count for *_, count in made.runs()] == [4 * MOST_BINS]
