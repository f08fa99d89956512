"""What a count without losses proves: exact numbers, and words for them."""

from math import comb, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.report.compare.chance import CERTAIN, chance_of_none, highest_rate, in_words, is_fewer, requests_needed


def test_one_loss_in_as_many_requests_is_a_coin_toss():
    assert chance_of_none(1, 40, 40) == 0.5
    assert chance_of_none(3, 40, 40) == 0.125


def test_nothing_is_learned_from_nothing():
    assert chance_of_none(0, 40, 40) == 1.0
    assert chance_of_none(5, 40, 0) == 1.0


@given(st.integers(1, 50), st.integers(1, 10_000))
def test_the_number_needed_is_the_least_that_decides(losses, chances):
    chances = max(chances, losses)
    needed = requests_needed(losses, chances)
    assert chance_of_none(losses, chances, needed) <= CERTAIN
    assert chance_of_none(losses, chances, needed - 1) > CERTAIN or needed == 1


def test_the_rule_of_three():
    assert isclose(highest_rate(1000), 3 / 1000, rel_tol=0.01)
    assert highest_rate(0) == 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(40, 5000), st.integers(40, 5000))
def test_fewer_is_said_only_where_it_is_no_luck(before, after, n_before, n_after):
    n, share = before + after, n_after / (n_before + n_after)
    tail = sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(after + 1))
    assert is_fewer(before, n_before, after, n_after) == (n > 0 and tail <= CERTAIN)


def test_millions_of_losses_are_compared_without_adding_up_millions_of_terms():
    assert is_fewer(2_000_000, 10**9, 1_900_000, 10**9)
    assert not is_fewer(2_000_000, 10**9, 1_999_900, 10**9)


@pytest.mark.parametrize(
    ("chance", "words"),
    [(0.9, "90 %"), (0.25, "1 in 4"), (0.0123, "1 in 81"), (1e-5, "1 in 100,000"), (0.0, "less than")],
)
def test_a_chance_in_words(chance, words):
    assert in_words(chance).startswith(words)
