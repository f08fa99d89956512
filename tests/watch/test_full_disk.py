"""A recorder on a full disk goes on recording, says so, and makes the report when there is room again."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from replay import read_records

from tests.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]


@pytest.fixture
def small_disk(tmp_path):
    """Return a disk of 24 MB; that takes root, as CI is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    """Take all the room that is left, and what the ring gives up as well."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with suppress(OSError):
        while True:
            os.write(handle, bytes(4096))
    os.close(handle)


def shift(data, seconds):
    """Return a record of a little-endian pcap some seconds later."""
    return (int.from_bytes(data[:4], "little") + seconds).to_bytes(4, "little") + data[4:]


def an_hour_and_a_race(lab):
    """Return 6 MB of traffic in which nothing fails, and the records of a race that follow it."""
    header, healthy = read_records(lab / "j_healthy" / "proxy.pcap")
    _, race = read_records(lab / "a_idle_race" / "proxy.pcap")
    span_s = int(healthy[-1][0] - healthy[0][0]) + 60
    begins_s = int(race[0][0] - healthy[0][0]) - 40 * span_s
    quiet = [shift(data, begins_s + turn * span_s) for turn in range(40) for _, data in healthy]
    return header + b"".join(quiet), [data for _, data in race]


def test_a_failure_on_a_full_disk_is_reported_when_there_is_room_again(lab, small_disk, watching):
    before, records = an_hour_and_a_race(lab)
    out, filler = small_disk / "out", small_disk / "filler"
    options = ("--ring", "4MB", "--grace", "1s")
    recorder = watching("-", out, *options, pipe=True)
    half = len(records) // 2
    recorder.write(before)
    wait_until(lambda: sum(path.stat().st_size for path in (out / ".watch" / "ring").iterdir()) > 3 << 20)
    fill(filler)
    recorder.write(b"".join(records[:half]))

    def said():
        return sum("no room on the disk" in line for line in recorder.errors)

    wait_until(said, meanwhile=lambda: fill(filler))
    for _ in range(30):  # it goes on trying, and says it once a minute
        fill(filler)
        time.sleep(0.1)
    assert recorder.process.poll() is None, recorder.errors
    assert recorder.incidents == []
    assert said() == 1
    filler.unlink()
    wait_until(lambda: recorder.incidents)
    recorder.write(b"".join(records[half:]))
    assert recorder.end() == 1, recorder.errors
    assert sum(incident["count"] for incident in recorder.incidents) == 13
    assert {incident["code"] for incident in recorder.incidents} == {"PD101"}
    assert all((out / incident["path"]).exists() for incident in recorder.incidents)
    assert not list(out.rglob("*.part"))
    assert not list((out / ".watch" / "jobs").iterdir())


@pytest.mark.long
def test_a_recorder_that_ends_on_a_full_disk_leaves_what_waits_to_the_next_run(lab, small_disk, watching):
    before, records = an_hour_and_a_race(lab)
    out, filler = small_disk / "out", small_disk / "filler"
    options = ("--ring", "4MB", "--grace", "1h")
    first = watching("-", out, *options, pipe=True)
    first.write(before + b"".join(records))
    state = out / ".watch" / "state.json"
    wait_until(lambda: state.exists() and b'"unanswered' in state.read_bytes())
    fill(filler)
    first.process.stdin.close()
    wait_until(lambda: first.process.poll() is not None, meanwhile=lambda: fill(filler))
    assert first.end() == 2
    assert "wait for the next run" in "".join(first.errors)
    filler.unlink()
    second = watching("-", out, *options, pipe=True)
    second.write(before[:24])
    assert second.end() == 1, second.errors
    assert sum(incident["count"] for incident in second.incidents) == 13
