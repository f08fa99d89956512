"""Nothing of the lab is left behind, however a recording ends."""

import os
import signal
import subprocess
import sys

import pytest

from tests.lab.network import PREFIX, remove_leftovers
from tests.lab.record import ROOT
from tests.waiting import HANG_S, is_alive, wait_until

pytestmark = pytest.mark.live


def all_namespaces():
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listing.splitlines()]


def namespaces_of(pid):
    return [name for name in all_namespaces() if name.startswith(f"{PREFIX}-{pid}-")]


def processes_in(namespaces):
    """Return the processes of namespaces; one that went away since it was listed, as a trial's does, has none."""
    found = []
    for name in namespaces:
        done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or name not in all_namespaces(), done.stderr
        found += map(int, done.stdout.split())
    return found


@pytest.fixture
def recorder(recordings, tmp_path):  # noqa: ARG001 - skips where there is no lab
    """Start a recording; its process, temporary folder, namespaces, and what runs in them."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "tests.lab.record", "idle_race", "--into", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)})
    # nginx and its worker on both machines, and tcpdump.
    wait_until(lambda: len(processes_in(namespaces_of(process.pid))) >= 6)
    namespaces = namespaces_of(process.pid)
    yield process, temporary, namespaces, processes_in(namespaces)
    process.kill()
    process.wait(HANG_S)
    remove_leftovers()


def test_a_recording_that_is_told_to_stop_takes_everything_with_it(recorder):
    process, temporary, namespaces, pids = recorder
    assert namespaces
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_S) == 1
    assert namespaces_of(process.pid) == []
    assert not any(map(is_alive, pids))
    assert list(temporary.iterdir()) == []


def test_what_a_killed_one_left_behind_the_next_removes(recorder):
    process, _, namespaces, pids = recorder
    process.kill()
    process.wait(HANG_S)
    remove_leftovers()
    assert namespaces
    assert namespaces_of(process.pid) == []
    wait_until(lambda: not any(map(is_alive, pids)))
