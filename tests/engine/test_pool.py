"""Memory of kernels grows behind what is there, and every row of it is either used or free."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.pool import grown, link_free


def test_rows_stay_and_new_ones_are_zero():
    rows = np.array([(1, 2), (3, 4)], dtype=[("a", "i4"), ("b", "i8")])
    more = grown(rows, 3)
    assert more.tolist() == [(1, 2), (3, 4), (0, 0), (0, 0), (0, 0)]
    more[0] = (9, 9)
    assert rows[0].tolist() == (1, 2)
    assert grown(np.ones((2, 5), dtype=np.uint8), 1).shape == (3, 5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_row_is_on_the_free_list_once(sizes):
    following, first = np.zeros(0, dtype=np.int32), -1
    for n_more in sizes:
        start = len(following)
        following = grown(following, n_more)
        first = link_free(following, start, first)
    seen = []
    while first >= 0:
        seen.append(first)
        first = int(following[first])
    assert sorted(seen) == list(range(sum(sizes)))
