"""How far an access log's clock is from the capture's, told by the requests that both hold."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.whatif.access_log_clock import AS_IT_IS, FARTHEST_NS, AccessLogClock, find_shift
from tests.conftest import ROOT
from tests.whatif.test_groups import case

pytestmark = pytest.mark.compiled_only

MS, S = 10**6, 10**9
UP = "10.0.0.1:80"


def at_random(n, seed=1, span_s=60):
    return np.sort(np.random.default_rng(seed).integers(0, span_s * S, n))


@example(shift_ms=7428, seed=50, n=48)  # chance puts half of the answers near others of the log
@given(shift_ms=st.integers(-599_000, 599_000), seed=st.integers(0, 50), n=st.integers(20, 60))
def test_a_shift_is_found_where_it_is_the_only_one(shift_ms, seed, n):
    captured = at_random(n, seed)
    logged = captured + shift_ms * MS + np.random.default_rng(seed).integers(0, MS, n)
    found = find_shift({UP: captured}, {UP: logged})
    assert found.fits
    if found.ahead_ns:
        assert abs(found.ahead_ns - shift_ms * MS) <= 11 * MS
    else:
        assert abs(shift_ms) <= 260, "only near nothing it fits as it is"


def test_a_log_of_other_requests_fits_nowhere():
    assert find_shift({UP: at_random(40)}, {UP: at_random(40, 2) + 100 * S}) == AccessLogClock(0, fits=False)


def test_requests_in_a_rhythm_fit_many_shifts_and_so_none_is_believed():
    ticks = np.arange(60) * S
    assert find_shift({UP: ticks}, {UP: ticks + 10 * S + 400 * MS}) == AccessLogClock(0, fits=False)


def test_what_is_the_same_is_left_alone():
    ends = at_random(40)
    assert find_shift({UP: ends}, {UP: ends + 3 * MS}) == AS_IT_IS


@pytest.mark.parametrize(
    ("captured", "logged"),
    [({}, {}), ({UP: at_random(3)}, {UP: at_random(3) + 9 * S}), ({UP: at_random(40)}, {"10.0.0.2:80": at_random(40)})],
)
def test_too_little_says_nothing(captured, logged):
    assert find_shift(captured, logged) == AS_IT_IS


def test_beyond_the_farthest_nothing_is_found():
    ends = at_random(40)
    assert not find_shift({UP: ends}, {UP: ends + FARTHEST_NS + 100 * S}).ahead_ns


def shifted(tmp_path, seconds):
    text = (ROOT / "captures" / "idle_close_race_before" / "access.log").read_text()
    path = tmp_path / "access.log"
    path.write_text(re.sub(r"^\d+\.\d+", lambda m: f"{float(m[0]) + seconds:.3f}", text, flags=re.MULTILINE))
    return str(path)


@pytest.mark.parametrize("seconds", [0.4, 3, -3, 100])
def test_without_an_error_log_no_request_is_lost_at_the_edge(tmp_path, seconds):
    _, (group,) = case("idle_close_race_before", access_logs=(shifted(tmp_path, seconds),), error_logs=())
    _, (as_it_is,) = case("idle_close_race_before", error_logs=())
    assert len(group.arrivals.requests) == len(as_it_is.arrivals.requests)
    assert group.observed == as_it_is.observed
    moved = np.abs(group.arrivals.requests["start_ns"] - as_it_is.arrivals.requests["start_ns"])
    assert moved.max() < 20 * MS


def test_a_log_of_another_day_is_not_asked_for_once_more(tmp_path):
    log = shifted(tmp_path, 86_400)
    _, (group,) = case("idle_close_race_before", access_logs=(log,), error_logs=())
    assert group.arrivals.source == "capture"
    assert any("the access log that was given holds" in text for text in group.assumptions)
    assert not any("give --access-log" in text for text in group.assumptions)
