"""Requests of a log get the times of their tries on the wire, and with them the order in which they came."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.whatif.arrivals import Requests
from pcapdiag.whatif.captured import begun_tries
from pcapdiag.whatif.wire_times import timed_by_capture
from tests.conftest import ROOT

MS = 10**6
COLUMNS = ("end_ns", "service_ns", "status", "client", "flags", "fail_kind", "fail_ns", "n_fails")


def logged(rows, open_ns=0):
    """Return requests given as (start [us], place)."""
    start, place = np.array(rows, np.int64).reshape(-1, 2).T
    zeros = {name: np.zeros(len(start), np.int64) for name in COLUMNS}
    return Requests(start_ns=start * 1000, place=place, open_ns=open_ns, **zeros)


def timed(rows, tries, **more):
    """Return the starts [us] of requests of a log beside tries of a capture, both given as (start [us], place)."""
    begun, place = np.array(tries, np.int64).reshape(-1, 2).T
    return (timed_by_capture(logged(rows, **more), begun * 1000, place).start_ns // 1000).tolist()


def test_of_requests_that_came_together_the_capture_tells_the_order():
    """The first line of the log failed, so it was over first; it came last."""
    assert timed([(500, 0), (500, 1), (500, 2)], [(110, 1), (240, 2), (380, 0)]) == [380, 110, 240]


def test_two_at_one_place_get_its_tries_in_order():
    assert timed([(500, 0), (1500, 0)], [(610, 0), (1120, 0)]) == [610, 1120]


@pytest.mark.parametrize(
    ("why", "rows", "tries"),
    [
        ("no live upstream was left for it", [(500, -1)], [(510, -1), (510, 0)]),
        ("the capture lacks a try", [(500, 0), (900, 0)], [(510, 0)]),
        ("the log lacks a line", [(500, 0)], [(510, 0), (600, 0)]),
        ("the try is too far away", [(500, 0)], [(9000, 0)]),
        ("the try is of another place", [(500, 0)], [(510, 1)]),
        ("there is no capture of it", [(500, 0)], []),
    ],
)
def test_what_cannot_be_paired_keeps_the_time_of_the_log(why, rows, tries):
    assert timed(rows, tries) == [start for start, _ in rows], why


def test_a_log_that_tells_the_second_only_was_spread_and_is_left_alone():
    assert timed([(500, 0)], [(510, 0)], open_ns=1000 * MS) == [500]
    assert timed([], [(510, 0)]) == []


@given(
    gaps=st.lists(st.integers(10_000, 50_000), min_size=1, max_size=20),
    late=st.lists(st.integers(-1000, 1000), min_size=20, max_size=20),
    places=st.lists(st.integers(0, 3), min_size=20, max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_lines_in_any_order_find_their_own_tries(gaps, late, places, order):
    begun = np.cumsum(gaps).tolist()
    pairs = list(zip(begun, late, places, strict=False))
    order.shuffle(pairs)
    rows = [(start + by, place) for start, by, place in pairs]
    assert timed(rows, [(start, place) for start, _, place in pairs]) == [start for start, _, _ in pairs]


@pytest.mark.compiled_only
def test_every_first_try_of_a_recording_is_the_request_of_a_line():
    folder = ROOT / "captures" / "idle_close_race_before"
    inputs = Inputs(access_logs=(str(folder / "access.log"),), proxy_conf=str(folder / "nginx.conf"))
    result = analyze_captures([str(folder / "proxy.pcap")], inputs)
    (group,) = groups_of(result, inputs)
    begun_ns, place = begun_tries(result.captured.analysis, group.places)
    without_peer = group.observed["no_live_upstreams"]
    exact = np.isin(group.arrivals.requests["start_ns"], begun_ns)
    assert len(begun_ns) == len(place) == exact.sum()
    assert 0 < len(exact) - exact.sum() <= without_peer
