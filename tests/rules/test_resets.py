"""What a RST tells of who sent it."""

import pytest

from pcapdiag.rules._resets import hop_count


@pytest.mark.parametrize(
    ("ttl", "hops"), [(64, 0), (63, 1), (65, 63), (128, 0), (127, 1), (255, 0), (254, 1), (-1, -1)]
)
def test_hops_count_from_the_usual_initial_values(ttl, hops):
    assert hop_count(ttl) == hops
