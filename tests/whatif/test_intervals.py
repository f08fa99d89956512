"""What is said of draws: a mean, and an interval that nine of ten lie in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.whatif.intervals import quantity, room_of, share_within

RARE = 0.05


def counts(least=2):
    return st.lists(st.integers(0, 60), min_size=least, max_size=200).map(lambda values: np.array(values, np.int64))


@given(counts())
def test_the_mean_lies_in_the_interval_and_counts_have_whole_ends(values):
    told = quantity(values)
    assert 0 <= told.low <= told.expected + RARE
    assert told.expected <= told.high + RARE
    assert told.expected == pytest.approx(values.mean())
    assert (told.low % 1, told.high % 1) == (0, 0)


@given(counts(40))
def test_nine_of_ten_draws_lie_in_the_interval_of_many(values):
    assert share_within(values, quantity(values)) >= 0.9


@given(counts())
def test_an_interval_is_no_wider_than_it_may_be(values):
    room = room_of(values)
    told = quantity(values, room=room)
    assert told.high - told.low <= room == max(6.0, values.mean())
    assert told.low <= told.expected + RARE
    assert told.expected <= told.high + RARE


def test_what_is_rare_is_no_part_of_an_interval():
    assert quantity(np.array([0] * 199 + [1], np.int64)).high == 0
    assert quantity(np.array([0] * 180 + [1] * 20, np.int64)).high == 1


def test_an_interval_that_is_cut_keeps_most_draws():
    values = np.array([0] * 20 + [10] * 80, np.int64)
    told = quantity(values, room=6.0)
    assert (told.low, told.high) == (5, 11) or told.low <= 10 <= told.high
    assert share_within(values, told) == 0.8


def test_the_shortest_interval_leaves_out_the_rare():
    told = quantity(np.array([0] * 95 + [40] * 5, np.int64))
    assert (told.low, told.expected, told.high) == (0, 2, 2)


def test_what_never_varies_is_exact():
    told = quantity(np.zeros(50, np.int64))
    assert (told.low, told.high) == (0, 0)
    told = quantity(np.full(10, 7, np.int64))
    assert (told.low, told.high) == (7, 7)


def test_few_draws_take_the_interval_of_the_next_one():
    """Ten draws of standard deviation 1.054 around 5: Student's t of nine degrees, and the draw's own chance."""
    values = np.array([4.0, 6.0] * 5)
    half = 1.833 * values.std(ddof=1) * (1 + 1 / 10) ** 0.5
    told = quantity(values)
    assert (told.low, told.high) == pytest.approx((5 - half, 5 + half))


def test_nothing_is_below_zero_or_above_what_there_is():
    values = np.array([0, 10] * 5, np.int64)
    told = quantity(values, at_most=10)
    assert (told.low, told.high) == (0, 10)
    shares = quantity(np.array([0.9, 1.0] * 5), at_most=1.0)
    assert shares.high == 1.0
