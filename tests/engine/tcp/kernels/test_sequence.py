"""Sequence arithmetic is RFC 9293 section 3.4's, wherever a number stands."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.engine.tcp.kernels.sequence import sequence_difference

MOD = 2**32
NUMBERS = st.integers(0, MOD - 1)


@given(NUMBERS, st.integers(-(2**31), 2**31 - 1))
@example(0, -1)
@example(MOD - 1, 1)
@example(5, -(2**31))
@example(0x80000000, 2**31 - 1)
def test_the_difference_is_how_far_one_is_ahead_across_the_wrap(b, ahead):
    assert sequence_difference((b + ahead) % MOD, b) == ahead


@given(NUMBERS, NUMBERS)
def test_numbers_from_columns_and_plain_integers_differ_alike(a, b):
    assert int(sequence_difference(np.int64(a), np.int64(b))) == sequence_difference(a, b)
