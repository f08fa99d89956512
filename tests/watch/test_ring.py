"""The ring: what goes in comes out, and never more than its bound lies on the disk."""

import subprocess
from contextlib import suppress

import numpy as np
import pytest

from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.watch.ring import Ring


def fill(ring, path, block_bytes=1 << 16):
    for batch in read_batches(Capture([CaptureFile(str(path))]), block_bytes=block_bytes):
        ring.write(batch)
        assert ring.n_bytes <= ring._max_bytes
        on_disk = sum(file.stat().st_size for file in ring._folder.iterdir())
        assert on_disk == ring.n_bytes


def frames_of(*paths):
    rows, data = [], []
    capture = Capture([CaptureFile(str(path)) for path in paths])
    for batch in read_batches(capture):
        rows.append(batch.frames.copy())
        buffer = batch.buffer.tobytes()
        data += [buffer[f["record_offset"] : f["record_offset"] + f["cap_len"]] for f in batch.frames]
    assert {note.code for note in capture.notes} <= {"clock-step-back"}  # the same capture twice
    return np.concatenate(rows), data


SAME = ("ts_ns", "cap_len", "wire_len", "link_type", "packet_direction", "src_lo", "dst_lo", "seq", "payload_len")


@pytest.mark.lab
@pytest.mark.compiled_only
@pytest.mark.parametrize(
    "name", ["proxy.pcap", "proxy_nano.pcap", "proxy_any.pcapng", "proxy_any_sll2.pcap", "proxy_s96.pcap"]
)
def test_what_goes_in_comes_out(lab, tmp_path, name):
    ring = Ring(tmp_path / "ring", 64 << 20)
    fill(ring, lab / "a_idle_race" / name)
    ring.close()
    before, bytes_before = frames_of(lab / "a_idle_race" / name)
    after, bytes_after = frames_of(*sorted((tmp_path / "ring").iterdir()))
    assert bytes_after == bytes_before
    for column in SAME:
        assert (after[column] == before[column]).all(), column


@pytest.mark.lab
@pytest.mark.compiled_only
def test_wireshark_reads_every_file_of_the_ring(lab, tmp_path):
    ring = Ring(tmp_path / "ring", 64 << 20)
    fill(ring, lab / "a_idle_race" / "proxy_any.pcapng")
    ring.close()
    for path in (tmp_path / "ring").iterdir():
        done = subprocess.run(["tshark", "-r", path], capture_output=True, text=True, check=False)
        assert (done.returncode, "malformed" in done.stdout.lower()) == (0, False), done.stderr


@pytest.mark.lab
@pytest.mark.compiled_only
def test_the_oldest_goes_for_the_newest_and_a_link_outlives_it(lab, tmp_path):
    ring = Ring(tmp_path / "ring", 1 << 20)
    path = lab / "a_big" / "proxy.pcap"
    fill(ring, path)
    first = min((tmp_path / "ring").iterdir()).name
    (tmp_path / "job").mkdir()
    names = ring.link(tmp_path / "job", 0)
    assert names[0] == first
    for _ in range(3):
        fill(ring, path)
    assert not (tmp_path / "ring" / first).exists()
    assert len(frames_of(*(tmp_path / "job" / name for name in names))[0])
    assert ring.is_full
    ring.close()


@pytest.mark.lab
@pytest.mark.compiled_only
def test_a_link_from_a_time_on_leaves_older_files_out(lab, tmp_path):
    ring = Ring(tmp_path / "ring", 1 << 20)
    fill(ring, lab / "a_big" / "proxy.pcap", block_bytes=1 << 14)
    middle = list(ring._segments)[len(ring._segments) // 2]
    (tmp_path / "job").mkdir()
    names = ring.link(tmp_path / "job", middle.last_ts_ns)
    assert names[0] == middle.path.name
    ring.close()


@pytest.mark.lab
@pytest.mark.compiled_only
def test_a_later_run_goes_on_behind_what_is_there_and_can_go_back_to_a_mark(lab, tmp_path):
    path = lab / "a_idle_race" / "proxy.pcap"
    ring = Ring(tmp_path / "ring", 64 << 20)
    batches = read_batches(Capture([CaptureFile(str(path))]), block_bytes=1 << 12)
    ring.write(next(batches))
    mark = ring.mark()
    n_marked = ring.n_frames
    for batch in batches:
        ring.write(batch)
    # `close` comes later: the first run was killed.
    again = Ring(tmp_path / "ring", 64 << 20)
    assert again.oldest_ts_ns == frames_of(path)[0]["ts_ns"][0]
    again.go_back(*mark)
    left, _ = frames_of(*sorted((tmp_path / "ring").iterdir()))
    assert len(left) == n_marked
    fill(again, path)
    again.close()
    ring.close()
    assert len(frames_of(*sorted((tmp_path / "ring").iterdir()))[0]) == n_marked + ring.n_frames


@pytest.mark.lab
@pytest.mark.compiled_only
def test_a_full_disk_costs_the_oldest_frames_and_nothing_else(lab, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        ring = Ring(disk / "ring", 64 << 20)
        path = lab / "a_big" / "proxy.pcap"
        for _ in range(12):
            for batch in read_batches(Capture([CaptureFile(str(path))]), block_bytes=1 << 16):
                ring.write(batch)
        ring.close()
        assert ring.n_lost == 0
        assert 0 < ring.n_bytes < 2 << 20
        kept, _ = frames_of(*sorted((disk / "ring").iterdir()))
        assert kept["ts_ns"][-1] == frames_of(path)[0]["ts_ns"][-1]
        # Somebody else fills the rest: frames are counted as lost, and it goes on when there is room again.
        for file in (disk / "ring").iterdir():
            file.unlink()
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        ring = Ring(disk / "ring", 64 << 20)
        for batch in read_batches(Capture([CaptureFile(str(path))])):
            ring.write(batch)
        assert ring.n_lost == len(frames_of(path)[0])
        (disk / "filler").unlink()
        for batch in read_batches(Capture([CaptureFile(str(path))])):
            ring.write(batch)
        ring.close()
        assert len(frames_of(*sorted((disk / "ring").iterdir()))[0])
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
