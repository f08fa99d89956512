"""Sequence numbers modulo 2^32."""

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.sequence import sequence_difference

numbers = st.integers(0, 2**32 - 1)


@given(numbers, st.integers(-(2**31), 2**31 - 1))
def test_a_distance_is_found_across_the_wrap(start, distance):
    assert sequence_difference((start + distance) % 2**32, start) == distance


@given(numbers, numbers)
def test_half_the_circle_away_is_behind(a, b):
    assert sequence_difference(a, a) == 0
    if (a - b) % 2**32 != 2**31:
        assert sequence_difference(a, b) == -sequence_difference(b, a)
    else:
        assert sequence_difference(a, b) == sequence_difference(b, a) == -(2**31)
