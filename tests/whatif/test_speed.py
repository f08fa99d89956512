"""A day of ten million requests, and a sweep over a hundred thousand, within the time and memory that they may take.

CPU time, not elapsed time: nothing here depends on who else uses the machine. Figures are printed with ``-s``.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.keys import parse_sweep
from tests.conftest import ROOT
from tests.waiting import HANG_S
from tests.whatif.days import make_day

pytestmark = [pytest.mark.long, pytest.mark.compiled_only]

MOST_MB = 500


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the most memory of a process is told by Linux")
def test_a_day_of_ten_million_requests():
    """In a process of its own, for the memory of this one is that of all tests before."""
    command = [sys.executable, "-m", "tests.whatif.days"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANG_S)
    took_s, most_mb, n_clients = map(float, done.stdout.split())
    print(f"10 million requests: {took_s:.1f} s of CPU, {most_mb:.0f} MB")
    assert n_clients == 10_000_000
    assert took_s < 60
    assert most_mb < MOST_MB


def test_a_sweep_of_eighty_points_over_a_hundred_thousand_requests():
    group = make_day(100_000)
    sweep = parse_sweep("proxy.keepalive_timeout=100ms:8s:100ms")
    assert len(sweep[1]) == 80
    before_s = time.process_time()
    answer = compute([group], [], sweep=sweep)
    took_s = time.process_time() - before_s
    print(f"a sweep of 80 points: {took_s:.1f} s of CPU")
    assert len(answer.scenarios) == 82
    assert took_s < 2 * 20, "20 s on two cores"
