"""The clocks: whatever the delays, the interval holds the true offset; nothing that fits no offset is called one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.analysis.ends.clock import Path, measure_clock
from pcapdiag.analysis.ends.segments import Samples
from pcapdiag.base.codes import Direction

S, MS = 1_000_000_000, 1_000_000
T0 = 1_795_218_956_886_114_000
PATH = Path(0, 0, "10.1.1.1")

delays = st.lists(st.integers(0, 300 * MS), min_size=1, max_size=30)


def samples(ts_ns, apart_ns):
    ts, apart = np.array(ts_ns, dtype=np.int64), np.array(apart_ns, dtype=np.int64)
    return Samples([ts], [apart], [np.stack([ts, apart], axis=1)], len(ts))


def both(offset_ns, up_ns, down_ns, *, step_ns=S, drift=lambda _t: 0):
    """Return samples of two clocks `offset_ns` apart whose segments took `up_ns` and `down_ns`."""
    up_ts = [T0 + n * step_ns for n in range(len(up_ns))]
    down_ts = [T0 + n * step_ns + step_ns // 2 for n in range(len(down_ns))]
    up = [d + offset_ns + drift(t - T0) for t, d in zip(up_ts, up_ns, strict=True)]
    down = [d - offset_ns - drift(t - T0) for t, d in zip(down_ts, down_ns, strict=True)]
    return {(0, Direction.ORIG): samples(up_ts, up), (0, Direction.RESP): samples(down_ts, down)}


@given(offset_ns=st.integers(-(10**14), 10**14), up=delays, down=delays)
def test_the_interval_holds_the_true_offset(offset_ns, up, down):
    clock = measure_clock(PATH, 0, both(offset_ns, up, down))
    assert clock.is_consistent
    assert abs(clock.offset_ns - offset_ns) <= clock.width_ns / 2 + 1
    assert clock.width_ns == min(up) + min(down) + 2_000
    assert clock.pairs == len(up) + len(down)


@given(offset_ns=st.integers(-(10**14), 10**14), up=delays, down=delays)
def test_delays_are_those_of_equal_ways(offset_ns, up, down):
    clock = measure_clock(PATH, 0, both(offset_ns, up, down))
    half = (min(up) + min(down)) / 2
    assert clock.to_upstream.min == pytest.approx(half, abs=2)
    assert clock.to_proxy.min == pytest.approx(half, abs=2)
    for delay in (clock.to_upstream, clock.to_proxy):
        assert delay.min <= delay.p50 <= delay.p99


@pytest.mark.parametrize("ppm", [-300, -50, 50, 300])
def test_a_drift_beyond_the_width_is_measured(ppm):
    delays = [MS + n % 7 * 100_000 for n in range(600)]
    clock = measure_clock(PATH, 0, both(5 * S, delays, delays, drift=lambda t: t * ppm // 10**6))
    assert clock.is_consistent
    assert clock.drift_ppb == pytest.approx(ppm * 1000, rel=0.02, abs=500)
    for seconds in (0, 300, 600):
        true = 5 * S + seconds * 1000 * ppm
        assert abs(clock.offset_at(T0 + seconds * S) - true) <= 2 * MS


def test_a_drift_within_the_width_is_not_assumed():
    delays = [80 * MS] * 100
    clock = measure_clock(PATH, 0, both(0, delays, delays, drift=lambda t: t * 50 // 10**6))
    assert clock.drift_ppb == 0
    assert clock.is_consistent


def test_a_clock_that_was_set_fits_no_offset():
    delays = [MS] * 200
    clock = measure_clock(PATH, 0, both(0, delays, delays, drift=lambda t: 3 * S if t > 100 * S else 0))
    assert not clock.is_consistent
    assert clock.offset_ns is clock.width_ns is clock.to_upstream is None
    assert clock.offset_at(T0) is None


def test_no_drift_is_read_from_a_short_capture():
    delays = [MS] * 20
    clock = measure_clock(PATH, 0, both(0, delays, delays, step_ns=S, drift=lambda t: t // 1000))
    assert not clock.is_consistent


@pytest.mark.parametrize("way", [Direction.ORIG, Direction.RESP])
def test_one_direction_alone_gives_no_offset(way):
    found = both(0, [MS] * 5, [MS] * 5)
    clock = measure_clock(PATH, 0, {(0, way): found[0, way]})
    assert (clock.offset_ns, clock.is_consistent, clock.pairs) == (None, True, 5)
