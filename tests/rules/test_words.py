"""Small words that several messages need."""

import pytest

from pcapdiag.rules._words import duration_range

S = 10**9


@pytest.mark.parametrize(
    ("values_ns", "words"),
    [((), "unknown"), ((-1, -1), "unknown"), ((3 * S, -1, 3 * S), "3 s"), ((65 * S, 4 * S, -1), "4 s to 65 s")],
)
def test_a_range_has_both_ends_and_leaves_out_what_is_not_known(values_ns, words):
    assert duration_range(values_ns) == words
