"""The idle timeout is where the ages are dense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.analysis.idle_timeout import (
    enclose_idle_timeout,
    estimate_idle_timeout,
    estimate_late_timeout,
    measure_lateness,
)
from pcapdiag.base.findings import Confidence

MS, S = 1_000_000, 1_000_000_000


def estimate(ages_ms, closed_ms=None, **settings):
    ages = np.array([round(a * MS) for a in ages_ms], dtype=np.int64)
    times = range(0, 10_000 * len(ages), 10_000) if closed_ms is None else closed_ms
    return estimate_idle_timeout(ages, np.array([t * MS for t in times], dtype=np.int64), **settings)


def test_no_ages_give_no_timeout():
    assert estimate([]) is None


def test_three_equal_ages_at_three_moments_confirm_it():
    value, spread, samples, confidence = estimate([4_001, 4_003, 4_009])
    assert (value, spread, samples, confidence) == (4_003 * MS, 8 * MS, 3, Confidence.CONFIRMED)


def test_the_value_is_the_cluster_and_not_the_mean():
    value, _, samples, confidence = estimate([212, 700, 1_500, 4_001, 4_002, 4_003, 4_004, 4_005])
    assert (value, samples, confidence) == (4_003 * MS, 5, Confidence.CONFIRMED)


def test_one_moment_is_one_observation():
    assert estimate([4_001, 4_002, 4_003], [0, 10, 20])[3] is Confidence.LIKELY
    assert estimate([4_001, 4_002], [0, 10])[3] is Confidence.POSSIBLE
    assert estimate([4_001])[3] is Confidence.POSSIBLE


def test_two_moments_make_it_likely():
    assert estimate([4_001, 4_002])[3] is Confidence.LIKELY


def test_scattered_ages_give_none():
    assert estimate([250, 900, 1_700, 3_100]) is None
    assert estimate([1_000, 4_000]) is None


def test_a_reload_is_left_out():
    reload = [(age, 50_000) for age in (200, 800, 1_500, 2_300, 3_100)]
    timer = [(4_001, 1_000), (4_002, 21_000), (4_003, 33_000)]
    ages, times = zip(*reload, *timer, strict=True)
    assert estimate(ages, times)[:3:2] == (4_002 * MS, 3)
    assert estimate(*zip(*reload, strict=True)) is None


def test_a_sweep_gives_the_youngest_it_closed():
    ages = [120_300, 125_100, 131_700, 138_000, 141_900, 147_700, 149_900, 122_000]
    value, spread, samples, confidence = estimate(ages)
    assert (value, spread, samples, confidence) == (120_300 * MS, 29_600 * MS, 8, Confidence.LIKELY)


def test_a_few_kills_are_no_sweep():
    assert estimate([4_617, 4_795, 5_400, 5_900]) is None


def test_the_keep_alive_field_raises_the_confidence():
    assert estimate([5_001], hint_s=5)[3] is Confidence.LIKELY
    assert estimate([6_001], hint_s=5)[3] is Confidence.LIKELY
    assert estimate([9_001], hint_s=5)[3] is Confidence.POSSIBLE


def test_jitter_widens_the_spread_and_nothing_else():
    value, spread, samples, confidence = estimate([4_000, 4_012, 4_031, 4_044, 4_059])
    assert confidence is Confidence.CONFIRMED
    assert samples == 5
    assert 4_000 * MS <= value <= 4_059 * MS
    assert spread == 59 * MS


@given(
    timeout_ms=st.integers(500, 3_600_000),
    late_us=st.lists(st.integers(0, 20_000), min_size=3, max_size=40),
    later=st.integers(0, 10**9),
)
def test_an_exact_timer_is_found_whatever_it_is_and_whenever(timeout_ms, late_us, later):
    ages = [timeout_ms + late / 1000 for late in late_us]
    value, spread, samples, confidence = estimate(ages, [later + 10_000 * i for i in range(len(ages))])
    assert timeout_ms * MS <= value <= (timeout_ms + 20) * MS
    assert spread <= 20 * MS
    assert samples == len(ages)
    assert confidence is Confidence.CONFIRMED


@given(
    ages=st.lists(st.integers(100, 100_000), max_size=30),
    gaps=st.lists(st.integers(0, 5_000), min_size=30, max_size=30),
    later=st.integers(-(10**9), 10**9),
)
def test_the_clock_does_not_matter(ages, gaps, later):
    times = np.cumsum(gaps)[: len(ages)].tolist()
    assert estimate(ages, times) == estimate(ages, [t + later for t in times])


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_samples_never_exceed_the_ages(n):
    rng = np.random.default_rng(n)
    found = estimate(rng.integers(100, 60_000, n).tolist())
    assert found is None or 1 <= found[2] <= n


def late(ages_ms, late_ms, closed_ms=None):
    ages = np.array([round(a * MS) for a in ages_ms], dtype=np.int64)
    times = range(0, 10_000 * len(ages), 10_000) if closed_ms is None else closed_ms
    return estimate_late_timeout(ages, np.array([t * MS for t in times], dtype=np.int64), round(late_ms * MS))


@given(st.integers(1_500, 100_000), st.lists(st.integers(0, 1_000), min_size=5, max_size=40))
def test_closings_within_a_servers_granularity_are_one_timer(timeout_ms, lateness_ms):
    ages = [timeout_ms + x for x in lateness_ms]
    found = late(ages, 1_000)
    if found is None:
        # So close together at so many moments that it was exact.
        assert max(ages) - min(ages) <= 100
    else:
        assert found[:3] == (min(ages) * MS, (max(ages) - min(ages)) * MS, len(ages))


def test_closings_wider_apart_than_the_server_is_late_are_none():
    assert late([5_000, 5_400, 7_000, 9_000, 12_000], 1_100) is None


def test_a_granularity_longer_than_the_timeout_fits_anything_and_says_nothing():
    assert late([500, 700, 900, 1_300], 1_100) is None


def enclose(answered_ms, lost_ms, every_s=30):
    gaps = np.array([round(g * MS) for g in lost_ms], dtype=np.int64)
    times = np.arange(len(lost_ms), dtype=np.int64) * every_s * S
    return enclose_idle_timeout(len(answered_ms), round(max(answered_ms, default=-1e-6) * MS), gaps, times)


def test_a_clean_split_of_the_gaps_encloses_the_timeout():
    answered = [900, 20_000, 39_400, 12_000, 31_000, 5_000, 38_000]
    assert enclose(answered, [44_200, 51_700, 41_600]) == (39_400 * MS, 2_200 * MS, 3, Confidence.LIKELY)


@pytest.mark.parametrize(
    ("answered", "lost", "every_s"),
    [
        ([900, 20_000, 45_000, 12_000, 31_000, 5_000, 38_000], [44_200, 51_700, 41_600], 30),
        ([39_400], [44_200, 51_700], 30),
        ([], [44_200, 51_700, 41_600], 30),
        ([900, 20_000, 39_400, 12_000], [44_200], 30),
        ([900, 20_000, 39_400, 12_000, 31_000, 5_000, 38_000], [44_200, 51_700, 41_600], 0),
        ([9, 20, 39, 12, 31, 5, 38], [44, 51, 41], 30),
    ],
    ids=["overlap", "too few", "none answered", "one lost", "one moment", "shorter than a second"],
)
def test_gaps_that_chance_or_one_event_could_split_enclose_nothing(answered, lost, every_s):
    assert enclose(answered, lost, every_s) is None


def lateness(ages_ms, every_ms=10_000):
    ages = np.array([round(a * MS) for a in ages_ms], dtype=np.int64)
    return measure_lateness(ages, np.arange(len(ages), dtype=np.int64) * every_ms * MS)


def test_the_lateness_of_an_unknown_server_is_measured():
    ages = [5_340, 5_410, 5_550, 5_690, 5_800, 5_910, 6_040, 6_080]
    assert 740 * MS <= lateness(ages) <= 1_000 * MS


@pytest.mark.parametrize(
    "ages_ms",
    [
        [4_000, 4_001, 4_002, 4_001, 4_003, 4_000, 4_900, 4_600],
        [5_340, 5_410, 5_550, 5_690],
        [200, 5_340, 900, 5_550, 12_000, 5_800, 30_000, 6_040],
        [250, 300, 320, 400, 450, 500, 600],
    ],
    ids=["exact, and two others", "few", "anything", "short"],
)
def test_closings_that_are_no_late_timer_have_no_lateness(ages_ms):
    assert lateness(ages_ms) == 0


def test_one_moment_measures_no_lateness():
    assert lateness([5_340, 5_410, 5_550, 5_690, 5_800, 5_910, 6_040, 6_080], every_ms=1) == 0
