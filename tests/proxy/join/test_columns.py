"""Tries at one peer as columns, against what is asked of each alone."""

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.join.columns import Moments, Texts
from pcapdiag.proxy.join.symptoms import Moment

moments = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.booleans()), max_size=12)


@given(moments, st.integers(-5, 60), st.integers(0, 20))
def test_moments_that_share_a_time_are_found(listed, low, width):
    of_rows = [Moment(begin, begin + lasts, is_open) for begin, lasts, is_open in listed]
    found = Moments.of(list(enumerate(of_rows))).meeting(low, low + width)
    expected = [row for row, m in enumerate(of_rows) if m.high >= low and m.low <= low + width]
    assert found.at.tolist() == expected
    assert [Moment(*map(int, its[:2]), bool(its[2])) for its in zip(*found[1:4], strict=True)] == [
        of_rows[row] for row in expected
    ]


@given(st.lists(st.text("ab/", max_size=4), max_size=8), st.text("ab/", max_size=3))
def test_texts_are_known_by_number_and_by_their_beginning(texts, asked):
    known = Texts(texts)
    assert [known.id_of(text) for text in texts] == known.ids.tolist()
    assert (known.id_of(asked) in known.ids.tolist()) == (asked in texts) or not asked
    first, last = known.span_of(asked)
    assert [first <= number < last for number in known.ids.tolist()] == [text.startswith(asked) for text in texts]
