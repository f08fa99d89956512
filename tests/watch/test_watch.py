"""The flight recorder as a program: lab incidents through live pipes and growing folders, killed and started again."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pcapdiag

sys.path.insert(0, str(Path(__file__).parent.parent))
from replay import play, read_log, read_records
from watch_process import failures_of

from tests.waiting import wait_until

ALSO_TESTS = ("intake", "maker", "recorder")

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]

SPEED = 60


def expected(lab, name):
    case = lab / name
    logs = [case / "proxy" / "error.log"]
    return failures_of(pcapdiag.analyze(case / "proxy.pcap", error_logs=logs).to_json())


@pytest.mark.parametrize("name", ["a_idle_race", "c2_middlebox_drop", "h_connect_fail"])
def test_every_failure_of_a_live_pipe_is_recorded_with_its_code(lab, tmp_path, watching, name):
    header, records = read_records(lab / name / "proxy.pcap")
    log = tmp_path / "error.log"
    log.touch()
    recorder = watching("-", tmp_path / "out", "--error-log", str(log), "--grace", "20s", pipe=True)
    recorder.write(header)
    with log.open("ab", buffering=0) as file:
        play(SPEED, (records, recorder.write), (read_log(lab / name / "proxy" / "error.log"), file.write))
    assert recorder.end() == 1, recorder.errors
    found = recorder.failures()
    wanted = expected(lab, name)
    assert wanted
    assert {key: codes - found.get(key, set()) for key, codes in wanted.items() if codes - found.get(key, set())} == {}
    for incident in recorder.incidents:
        folder = tmp_path / "out" / incident["path"]
        assert {path.name for path in folder.iterdir()} >= {"report.html", "report.md", "report.json", "MANIFEST"}
        done = subprocess.run(
            ["tshark", "-r", folder / "evidence.pcapng", "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert incident["code"] in done.stdout or incident["code"] >= "PD6"
    lines = (tmp_path / "out" / "incidents.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == recorder.incidents


def test_a_healthy_proxy_makes_no_incident(lab, tmp_path, watching):
    recorder = watching("-", tmp_path / "out", pipe=True)
    recorder.write((lab / "j_healthy" / "proxy.pcap").read_bytes())
    assert recorder.end() == 0, recorder.errors
    assert recorder.incidents == []


def rotate_into(folder, records_of, per_file, names):
    """Return a `write` that begins another file after so many records, as tcpdump -C does."""
    header, files = records_of, itertools.cycle(names)
    state = {"n": 0, "file": None}

    def write(record):
        if state["n"] % per_file == 0:
            if state["file"] is not None:
                state["file"].close()
            state["file"] = (folder / next(files)).open("wb", buffering=0)
            state["file"].write(header)
        state["file"].write(record)
        state["n"] += 1

    write.state = state
    return write


def has_read(recorder, n_frames, log):
    """Return whether it has written down that it read so many frames of its folder, and that it follows this log."""
    state = recorder.remembers()
    followed = {position["inode"] for position in state["logs"].values()}
    return sum(file["n_frames"] for file in state["sources"]) == n_frames and log.stat().st_ino in followed


def test_a_folder_is_followed_through_rotation_of_captures_and_log_and_a_kill(lab, tmp_path, watching):
    case = lab / "a_idle_race"
    header, records = read_records(case / "proxy.pcap")
    lines = read_log(case / "proxy" / "error.log")
    folder, out, log = tmp_path / "captures", tmp_path / "out", tmp_path / "error.log"
    folder.mkdir()
    log.touch()
    options = ("--error-log", str(log), "--grace", "20s", "--cool-down", "30s")
    write = rotate_into(folder, header, 150, [f"x.pcap{n}" for n in range(10)])
    half = len(records) // 2
    middle = records[half][0]
    opened = [log.open("ab", buffering=0)]

    def write_log(line):
        if len(opened) == 1 and opened[0].tell() > 1000:
            log.rename(tmp_path / "error.log.1")
            opened.append(log.open("ab", buffering=0))
        opened[-1].write(line)

    first = watching(folder, out, *options)
    play(SPEED, (records[:half], write), ([line for line in lines if line[0] < middle], write_log))
    first.process.kill()
    assert first.end() == -signal.SIGKILL
    second = watching(folder, out, *options)
    play(SPEED, (records[half:], write), ([line for line in lines if line[0] >= middle], write_log))
    wait_until(lambda: has_read(second, len(records), log))
    # What was read is put aside, compressed, under another name: it is not read again.
    subprocess.run(["gzip", folder / "x.pcap0"], check=True)
    assert second.end(signal.SIGTERM) == 1, second.errors
    for file in (*opened, write.state["file"]):
        file.close()
    found, wanted = second.failures(), expected(lab, "a_idle_race")
    assert {key for key in wanted if key not in found} == set()
    assert sum(i["count"] for i in first.incidents + second.incidents) == len(found)
    assert len(opened) == 2


def test_a_second_recorder_is_kept_out(tmp_path, watching):
    watching("-", tmp_path / "out", pipe=True)
    command = [sys.executable, "-m", "pcapdiag", "watch", "-", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"another recorder writes to" in done.stderr


def test_a_signal_ends_it_and_what_waits_is_reported(lab, tmp_path, watching):
    recorder = watching("-", tmp_path / "out", "--grace", "1h", "--bundle", pipe=True)
    recorder.write((lab / "a_idle_race" / "proxy.pcap").read_bytes())
    wait_until(lambda: recorder.n_waiting == 13)
    recorder.process.send_signal(signal.SIGHUP)
    assert recorder.incidents == []
    assert recorder.end(signal.SIGTERM) == 1, recorder.errors
    (incident,) = recorder.incidents
    assert (incident["code"], incident["count"]) == ("PD101", 13)
    assert incident["path"].endswith(".zip")
    assert (tmp_path / "out" / incident["path"]).stat().st_mode & 0o077 == 0


def test_what_is_no_capture_ends_in_a_clear_error(tmp_path, watching):
    recorder = watching("-", tmp_path / "out", pipe=True)
    recorder.write(b"this is no capture at all, not by any means")
    assert recorder.end() == 2
    assert "is not a capture" in "".join(recorder.errors) or "no capture" in "".join(recorder.errors)


def test_memory_and_disk_stay_within_bounds(lab, tmp_path, watching):
    """A quarter of an hour of traffic, again and again: 60 MB through a ring of 8 MB."""
    header, records = read_records(lab / "a_big" / "proxy.pcap")
    span_s = records[-1][0] - records[0][0] + 60
    out = tmp_path / "out"
    recorder = watching("-", out, "--ring", "8MB", "--keep", "2", "--cool-down", "1h", "--grace", "1s", pipe=True)
    recorder.write(header)
    status = Path(f"/proc/{recorder.process.pid}/status")
    sizes = []
    for turn in range(240):
        recorder.write(b"".join(shift(data, int(turn * span_s)) for _, data in records))
        if turn % 8 == 0:
            rss = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            ring = sum(map(size_of, (out / ".watch" / "ring").iterdir()))
            sizes.append((rss, ring))
    assert recorder.end() == 1, recorder.errors
    early = max(rss for rss, _ in sizes[5:12])
    late = max(rss for rss, _ in sizes[12:])
    # An allocator's high-water mark moves by a few MB from run to run; what is kept of each turn's 250 kB would add up.
    assert late < early + (16 << 10)  # [kB]
    assert max(ring for _, ring in sizes) <= 8 << 20
    assert len([path for path in out.iterdir() if path.is_dir() and path.name != ".watch"]) <= 2
    shutil.rmtree(out)


@pytest.mark.long
def test_known_trouble_that_is_about_to_leave_the_ring_does_not_wait_for_the_end_of_its_cool_down(
    lab, tmp_path, watching
):
    """The ring reaches back less than the cool-down: what is only counted would be gone when it is reported."""
    header, healthy = read_records(lab / "j_healthy" / "proxy.pcap")
    _, race = read_records(lab / "a_idle_race" / "proxy.pcap")
    begins_s, span_s = int(race[0][0]), int(healthy[-1][0] - healthy[0][0]) + 60
    to_race_s = begins_s - int(healthy[0][0])
    options = ("--ring", "4MB", "--cool-down", "12h", "--grace", "1s")
    recorder = watching("-", tmp_path / "out", *options, pipe=True)

    def pass_time(first, last):
        for turn in range(first, last):
            recorder.write(b"".join(shift(data, to_race_s + turn * span_s) for _, data in healthy))

    recorder.write(header)
    pass_time(-10, 0)
    recorder.write(b"".join(data for _, data in race))
    wait_until(lambda: len(recorder.incidents) == 1)
    later = 7200 // span_s + 1
    pass_time(later - 12, later)
    recorder.write(b"".join(shift(data, later * span_s) for _, data in race))
    pass_time(later + 1, later + 6)
    wait_until(lambda: recorder.n_waiting == 13)
    assert len(recorder.incidents) == 1, "it is only counted"
    # At most 18 more fit beside it.
    for turn in range(later + 6, later + 18):
        if len(recorder.incidents) == 1:
            pass_time(turn, turn + 1)
            time.sleep(1)
    wait_until(lambda: len(recorder.incidents) == 2)
    assert recorder.end() == 1, recorder.errors
    assert [incident["count"] for incident in recorder.incidents] == [13, 13]
    assert not any("left the ring" in line for line in recorder.errors)


def size_of(path):
    """Return the size of a file; 0 if the ring has dropped it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def shift(data, seconds):
    """Return a record of a little-endian pcap some seconds later."""
    return (int.from_bytes(data[:4], "little") + seconds).to_bytes(4, "little") + data[4:]
