"""How many a day, from few that were counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.rates import PerDay, RaceDensity, poisson_limits, spell_per_day


def at_most(n, mean):
    """Return the probability that a Poisson variable of this mean is at most `n`."""
    return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))


@given(st.integers(5, 400))
def test_limits_are_those_of_the_poisson_distribution(n):
    low, high = poisson_limits(n)
    # Each tail holds 2.5 %; the approximation is held to what it claims.
    assert 1 - at_most(n - 1, low * 0.99) < 0.025 < 1 - at_most(n - 1, low * 1.01)
    assert at_most(n, high * 1.01) < 0.025 < at_most(n, high * 0.99)


@pytest.mark.parametrize("n", range(1, 5))
def test_of_few_the_limits_hold_nine_of_ten_at_least(n):
    low, high = poisson_limits(n)
    assert (1 - at_most(n - 1, low)) + at_most(n, high) < 0.1
    assert low < n < high


def test_where_none_was_seen_three_may_have_been_due():
    assert poisson_limits(0) == (0.0, 3.0)
    assert at_most(0, 3.0) == pytest.approx(0.05, abs=0.001)


def test_the_window_has_its_share_of_the_gaps_near_it():
    rate = RaceDensity(gaps=40, lost=18, window_ns=160, width_ns=320, days=0.5).per_day()
    assert rate.expected == 40
    assert rate.low < 40 < rate.high
    assert RaceDensity(gaps=0, lost=0, window_ns=160, width_ns=320, days=2.0).per_day() == PerDay(0.0, 0.0, 0.75)


@pytest.mark.parametrize(
    ("gaps", "lost", "expected", "high"), [(1000, 0, 0, 3), (500, 500, 500, 546), (40, 40, 40, 55)]
)
def test_where_the_losses_contradict_the_density_they_count_alone(gaps, lost, expected, high):
    rate = RaceDensity(gaps=gaps, lost=lost, window_ns=20, width_ns=120, days=1.0).per_day()
    assert rate.expected == expected
    assert rate.high == pytest.approx(high, rel=0.01)


@pytest.mark.parametrize(
    ("width", "window", "days"), [(320, 160, 0.01), (0, 160, 1.0), (320, 0, 1.0), (320, 160, -1e-6)]
)
def test_where_too_little_was_watched_there_is_no_rate(width, window, days):
    assert RaceDensity(40, 20, window, width, days).per_day() is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4159.2, "4,159"),
        (9.6, "9.6"),
        (10.0, "10"),
        (0.05, "less than 0.1"),
        (2.96, "3"),
        (9.99, "10"),
        (0.0, "0"),
    ],
)
def test_an_estimate_is_written_as_people_write_numbers(number, text):
    assert spell_per_day(PerDay(number, number, number)) == f"{text} ({text} to {text}) per day"
