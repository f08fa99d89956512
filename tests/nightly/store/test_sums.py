"""How a finding stands on the last day of traffic, and when more is worse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.nightly.store.history import list_findings
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.sums import is_more, judge_state
from tests.nightly.store.builders import result

counts = st.integers(0, 300)
chances = st.integers(0, 5000)


@pytest.mark.parametrize(
    ("exchanges", "found", "state", "day"),
    [
        ({"1": 100}, {"1": 2}, FindingState.NEW, "1"),
        ({"1": 100, "2": 100}, {"2": 2}, FindingState.NEW, "2"),
        ({"1": 100, "2": 100}, {"1": 2, "2": 2}, FindingState.ONGOING, "2"),
        ({"1": 100, "2": 100}, {"1": 2, "2": 20}, FindingState.WORSE, "2"),
        ({"1": 100, "2": 100}, {"1": 3}, FindingState.GONE, "2"),
        ({"1": 100, "2": 100}, {"1": 2}, FindingState.QUIET, "2"),
        ({"1": 100, "2": 10}, {"1": 20}, FindingState.QUIET, "2"),  # hardly anybody looked
        ({"1": 100}, {"1": 90, "2": 1}, FindingState.ONGOING, "2"),  # a day of findings alone is a day, too
    ],
)
def test_a_state_is_of_the_last_day_on_which_somebody_looked(exchanges, found, state, day):
    assert judge_state(exchanges, found) == (state, day)


def test_what_was_not_seen_for_a_week_of_traffic_is_gone():
    days = {str(day): 1 for day in range(1, 10)}
    assert judge_state(days, {"1": 1}) == (FindingState.GONE, "9")


def tail(before, chances_before, after, chances_after):
    """Return how likely so many or more are by chance, from logarithms of factorials."""
    n, share = before + after, chances_after / (chances_before + chances_after)

    def of(k):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share))

    return math.fsum(of(k) for k in range(after, n + 1))


@given(counts, st.integers(1, 5000), st.integers(1, 300), st.integers(1, 5000))
def test_more_is_worse_where_chance_makes_as_much_in_one_case_of_twenty(before, looked, after, looks):
    likely = tail(before, looked, after, looks)
    if abs(likely - 0.05) > 1e-9:
        assert is_more(before, looked, after, looks) is (likely < 0.05)


@given(counts, chances, counts, chances)
def test_one_more_is_never_less_and_more_looks_never_make_it_worse(before, looked, after, looks):
    if is_more(before, looked, after, looks):
        assert is_more(before, looked, after + 1, looks)
    elif looks:
        assert not is_more(before, looked, after, looks + 1)


def test_from_nothing_nothing_is_learnt():
    assert not is_more(0, 100, 0, 100)
    assert not is_more(0, 100, 5, 0)
    assert is_more(0, 0, 5, 100)
    assert not is_more(1, 0, 5, 100)


def test_of_many_the_tail_is_that_of_the_normal_distribution():
    assert is_more(10_000, 100_000, 10_400, 100_000)
    assert not is_more(10_000, 100_000, 10_100, 100_000)


def test_a_finding_is_the_sum_of_its_sightings_whatever_their_order(store):
    number = store.begin_scan(["/c"], "", "1")
    for key, day, count in (("b", 22, 14), ("a", 20, 1), ("c", 22, 2)):
        store.write_capture(number, result(key, day=day, count=count))
    store.finish_scan(number, found=3, waiting=0)
    (row,) = list_findings(store)
    assert (row.count, row.last_count, row.state_day, row.state) == (17, 16, "2026-11-22", FindingState.WORSE)
    assert row.message == "14 requests"  # of the capture that ends last
