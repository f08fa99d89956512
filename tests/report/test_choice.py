"""What a report lists of very many occurrences: first and last, those with evidence, and counts that stay."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.report.choice import MOST_IN_ALL, MOST_OF_FINDING, listed
from tests.report import builders


def finding(n, n_proved=0, stands_for=1):
    some = builders.occurrence()
    bare = replace(some, evidence=(), stands_for=stands_for)
    proved = replace(some, stands_for=stands_for)
    occurrences = (*[proved] * n_proved, *[bare] * (n - n_proved))
    return replace(builders.finding(), occurrences=occurrences, count=n * stands_for)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 200), st.integers(1, 9)), max_size=9))
def test_counts_stay_and_lists_are_bounded(sizes):
    findings = [finding(n, min(n, n_proved), stands_for) for n, n_proved, stands_for in sizes]
    shown = listed(findings)
    for before, after in zip(findings, shown, strict=True):
        assert sum(o.stands_for for o in after.occurrences) == before.count == after.count
        assert len(after.occurrences) <= min(MOST_OF_FINDING, len(before.occurrences))
        if len(before.occurrences) <= 5:
            assert after.occurrences == before.occurrences
    assert sum(len(f.occurrences) for f in shown) <= MOST_IN_ALL


def test_those_with_evidence_and_the_ends_are_among_them():
    numbered = finding(5000, 40)
    occurrences = tuple(replace(o, request_frame=n) for n, o in enumerate(numbered.occurrences))
    (shown,) = listed([replace(numbered, occurrences=occurrences)])
    frames = [o.request_frame for o in shown.occurrences]
    assert frames == sorted(frames)
    assert set(range(40)) <= set(frames)
    assert frames[-1] == 4999


def test_all_are_listed_where_that_was_asked_for():
    many = finding(3000)
    assert listed([many], list_all=True) == (many,)
