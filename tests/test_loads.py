"""Loads on a pipe: what is written is what is said of it, and memory follows what is open, not what went through.

How far a paced writer falls behind depends on the machine and is measured by ``python -m tests.loads``, not here.
"""

import io
from itertools import islice, pairwise

import dpkt
import pytest

from tests.loads import GB, WATCH_RING, Traffic, check_totals, run_load

pytestmark = pytest.mark.compiled_only

ANALYZE = ("analyze", "-", "--format", "json")
SETTLED_BYTES = GB // 5
"""From here on all buffers have been touched and stores spill."""
MORE_KIB = 32 << 10
ROW_BYTES = 1024
"""[bytes] What the report at the end may take for each connection; see `docs/architecture.md` section 4."""


@pytest.fixture(scope="module")
def traffic():
    return Traffic(races=2)


def growth_kib(load, since_bytes):
    """Return by how much the most memory rose while reading, once so much was written."""
    settled = [kib for written, kib in load.resident_kib if written >= since_bytes]
    return settled[-1] - settled[0]


def test_repetitions_follow_one_another_and_are_of_different_proxies(traffic):
    times, ends = [], []
    for block in islice(traffic.blocks(), 2):
        frames = list(dpkt.pcap.Reader(io.BytesIO(traffic.head + block)))
        assert len(frames) == traffic.truth["frames"]
        times += [ts for ts, _ in frames]
        packets = [dpkt.ethernet.Ethernet(data).data for _, data in frames[:5000]]
        ends.append({frozenset((ip.src, ip.dst)) for ip in packets})
    assert all(one <= other for one, other in pairwise(times))
    proxies = [frozenset.intersection(*pairs) for pairs in ends]
    assert len(proxies[0]) == len(proxies[1]) == 1
    assert proxies[0] != proxies[1]
    assert len(ends[0]) == 16
    assert {pair - proxies[0] for pair in ends[0]} == {pair - proxies[1] for pair in ends[1]}


def test_a_gigabyte_on_a_pipe_takes_no_more_memory_than_its_first_fifth(traffic):
    load = run_load(traffic, ANALYZE, n_bytes=GB)
    check_totals(traffic, load)
    assert growth_kib(load, SETTLED_BYTES) < MORE_KIB


def test_a_report_that_lacks_frames_is_noticed(traffic):
    load = run_load(traffic, ANALYZE, n_bytes=1)
    check_totals(traffic, load)
    with pytest.raises(RuntimeError, match="reported of"):
        check_totals(traffic, load._replace(n_repeats=2))


def test_a_paced_writer_says_of_every_piece_how_late_it_was(traffic, tmp_path):
    load = run_load(traffic, ("watch", "-", "--out", str(tmp_path), "--ring", WATCH_RING), rate=50_000_000, seconds=0.5)
    assert load.n_repeats == -1
    assert len(load.lags_s) == 500
    ring = sum(path.stat().st_size for path in (tmp_path / ".watch" / "ring").iterdir())
    assert ring > 500 * 50_000


@pytest.mark.long
def test_twenty_gigabytes_on_a_pipe_take_no_more_memory_than_the_first(traffic):
    load = run_load(traffic, ANALYZE, n_bytes=20 * GB)
    check_totals(traffic, load)
    assert growth_kib(load, GB) < MORE_KIB
    n_rows = load.n_repeats * traffic.truth["connections"]
    assert load.most_kib - load.resident_kib[-1][1] < MORE_KIB + (n_rows * ROW_BYTES >> 10)
