"""From files to batches: what is read, what is noted, and how the thread behaves."""

import gzip
import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture import reader, sources
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from tests.engine.capture import files
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]

WRITERS = {
    "pcap": files.pcap,
    "pcap big-endian": lambda built: files.pcap(built, order=">"),
    "pcap ns": lambda built: files.pcap(built, magic=0xA1B23C4D),
    "pcap ns big-endian": lambda built: files.pcap(built, magic=0xA1B23C4D, order=">"),
    "modified pcap": lambda built: files.pcap(built, magic=0xA1B2CD34),
    "modified pcap big-endian": lambda built: files.pcap(built, magic=0xA1B2CD34, order=">"),
    "pcapng": files.pcapng,
    "pcapng big-endian": lambda built: files.pcapng(built, ">"),
    "pcapng ns": lambda built: files.pcapng(built, nanoseconds=True),
}


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "pcapdiag-reader"]


@given(built=files.record_lists(), writer=st.sampled_from(sorted(WRITERS)))
def test_every_container_gives_the_same_rows(tmp_path, built, writer):
    path = tmp_path / "x"
    path.write_bytes(WRITERS[writer](built))
    _, rows = files.read(path)
    assert rows == files.expected(built)


@given(built=files.record_lists(step_ns=1))
def test_nanoseconds_survive_exactly(tmp_path, built):
    path = tmp_path / "x"
    for data in (files.pcap(built, magic=0xA1B23C4D), files.pcapng(built, nanoseconds=True)):
        path.write_bytes(data)
        assert [row[1] for row in files.read(path)[1]] == [record.ts_ns for record in built]


@pytest.mark.parametrize(
    ("writer", "words"),
    [
        ("pcap", "pcap"),
        ("pcap ns big-endian", "pcap (ns, big-endian)"),
        ("modified pcap", "pcap (modified)"),
        ("pcapng", "pcapng"),
        ("pcapng big-endian", "pcapng (big-endian)"),
    ],
)
def test_the_format_is_told_in_words(tmp_path, writer, words):
    path = tmp_path / "x"
    path.write_bytes(WRITERS[writer](files.records(3)))
    assert files.read(path)[0].files[0].format == words


@given(built=files.record_lists(min_size=1), writer=st.sampled_from(sorted(WRITERS)), cut=st.data())
def test_a_truncated_file_gives_a_prefix_of_the_rows_and_one_note(tmp_path, built, writer, cut):
    data = WRITERS[writer](built)
    whole = tmp_path / "whole"
    whole.write_bytes(data)
    rows = files.read(whole)[1]
    path = tmp_path / "cut"
    path.write_bytes(data[: cut.draw(st.integers(4, len(data) - 1))])
    capture, prefix = files.read(path)
    assert prefix == rows[: len(prefix)]
    # A cut between two records cannot be seen.
    assert set(files.codes(capture)) <= {"truncated-file", "no-frames"}
    assert files.codes(capture).count("truncated-file") <= 1


@given(
    built=files.record_lists(max_size=8),
    writer=st.sampled_from(sorted(WRITERS)),
    damages=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=50)), max_size=4),
    block_bytes=st.sampled_from([1, 7, 64, 333, 4096, 1 << 22]),
)
def test_the_block_size_never_changes_the_result(tmp_path, built, writer, damages, block_bytes):
    data = WRITERS[writer](built)
    for where, n_bytes, garbage in damages:
        start = 24 + where % (len(data) - 23)
        data = data[:start] + garbage + data[start + n_bytes :]
    path = tmp_path / "x"
    path.write_bytes(data)
    whole, rows = files.read(path, block_bytes=1 << 20)
    pieces, rows_of_pieces = files.read(path, block_bytes=block_bytes)
    assert rows_of_pieces == rows
    assert pieces == whole


@given(
    built=files.record_lists(min_size=6, max_size=12, min_bytes=14),
    writer=st.sampled_from(["pcap", "pcap ns big-endian", "modified pcap", "pcapng", "pcapng big-endian"]),
    garbage=st.binary(min_size=1, max_size=200),
    where=st.data(),
)
def test_garbage_costs_the_damaged_records_only(tmp_path, built, writer, garbage, where):
    """Bytes written over a part of the file, or put in between; the header and the last records are spared."""
    write = WRITERS[writer]
    starts = [len(write(built[:i])) - len(write([])) for i in range(len(built) + 1)]
    before = len(write([])) - (24 if "pcapng" in writer else 0)  # pcapng: an ISB follows the last record
    starts = [start + before for start in starts]
    data = write(built)
    start = where.draw(st.integers(starts[0], starts[-3]))
    end = where.draw(st.sampled_from([start, start + len(garbage)]))
    end = min(end, starts[-3])
    path = tmp_path / "x"
    path.write_bytes(data[:start] + garbage + data[end:])
    _, rows = files.read(path)
    found = [row[1:4] for row in rows]
    spared = [
        tuple(record)
        for record, first, last in zip(built, starts, starts[1:], strict=False)
        if last <= start or first >= end
    ]
    assert [row for row in found if row in spared] == spared


def test_passed_over_bytes_are_counted_and_located(tmp_path):
    built = files.records(8)
    head, tail = files.pcap(built[:4]), files.pcap(built)[len(files.pcap(built[:4])) :]
    path = tmp_path / "x"
    path.write_bytes(head + b"\xff" * 1234 + tail)
    capture, rows = files.read(path)
    assert len(rows) == 8
    (note,) = capture.notes
    assert (note.code, note.frame, note.offset, note.file) == ("skipped-bytes", 4, len(head), str(path))
    assert note.text.startswith("1234 bytes")


def test_a_hole_of_zeros_is_no_frame(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(4)) + bytes(5000))
    capture, rows = files.read(path)
    assert len(rows) == 4
    assert files.codes(capture) == ["skipped-bytes"]


def test_an_absurd_length_costs_one_record(tmp_path):
    built = files.records(9)
    data = bytearray(files.pcap(built))
    at = len(files.pcap(built[:3]))
    data[at + 8 : at + 12] = (5_000_000).to_bytes(4, "little")
    path = tmp_path / "x"
    path.write_bytes(data)
    capture, rows = files.read(path)
    assert [row[1:4] for row in rows] == [tuple(record) for i, record in enumerate(built) if i != 3]
    assert files.codes(capture) == ["skipped-bytes"]


def test_a_capture_within_a_payload_is_not_taken_for_records(tmp_path):
    """Someone downloads a pcap file while its download is captured, and the capture is damaged right there."""
    inner = files.pcap([record._replace(ts_ns=record.ts_ns - 10**18) for record in files.records(5)])
    built = [files.Record(files.START_NS + i * 10**6, inner, len(inner)) for i in range(6)]
    data = bytearray(files.pcap(built))
    at = len(files.pcap(built[:2]))
    data[at : at + 16] = b"\xff" * 16
    path = tmp_path / "x"
    path.write_bytes(data)
    _, rows = files.read(path)
    assert [row[1] for row in rows] == [record.ts_ns for i, record in enumerate(built) if i != 2]


def test_a_capture_within_the_payload_of_a_frame_before_a_jump_of_the_clock_is_not_taken_for_records(tmp_path):
    inner = b"".join(files.pcap_record(record) for record in files.records(5))
    built = files.records(5)
    early = files.Record(files.START_NS - 10**17, inner, len(inner))
    path = tmp_path / "x"
    path.write_bytes(files.pcap([early, *built]))
    capture, rows = files.read(path)
    assert rows == files.expected([early, *built])
    assert capture.notes == []


def test_the_output_of_a_careless_cat_is_read_on(tmp_path):
    path = tmp_path / "x"
    parts = [WRITERS[name](files.records(3)) for name in ("pcap", "pcap ns big-endian", "pcapng", "pcap")]
    path.write_bytes(b"".join(parts))
    capture, rows = files.read(path)
    assert len(rows) == 12
    # A pcapng section may follow a pcapng file, so only three of the four beginnings are odd.
    assert [note.offset for note in capture.notes if note.code == "joined-files"] == [
        len(parts[0]),
        len(parts[0] + parts[1]),
        len(parts[0] + parts[1] + parts[2]),
    ]


def test_a_header_alone_is_a_valid_empty_capture(tmp_path):
    for data in (files.pcap([]), files.pcapng([])):
        path = tmp_path / "x"
        path.write_bytes(data)
        capture, rows = files.read(path)
        assert rows == []
        assert files.codes(capture) == ["no-frames"]
        assert capture.files[0].link_types == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"some text\n", "text"),
        (b'{"a": 1}', "JSON"),
        (b"\x7fELF\x02\x01", "ELF"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x00" * 100, "zeros"),
        (bytes(range(1, 100)), "unknown data"),
    ],
)
def test_what_is_no_capture_is_named(tmp_path, content, words):
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=words):
        files.read(path)


def test_frames_are_numbered_over_all_files_and_files_say_what_they_hold(tmp_path):
    built = files.records(10)
    paths = [tmp_path / name for name in "abc"]
    paths[0].write_bytes(files.pcap(built[:4]))
    paths[1].write_bytes(files.pcapng([]))
    paths[2].write_bytes(files.pcap(built[4:], link_type=113))
    capture, rows = files.read(*paths)
    assert [row[0] for row in rows] == list(range(10))
    assert [(file.first_frame, file.n_frames) for file in capture.files] == [(0, 4), (4, 0), (4, 6)]
    assert [file.first_ts_ns for file in capture.files] == [built[0].ts_ns, -1, built[4].ts_ns]
    assert [file.last_ts_ns for file in capture.files] == [built[3].ts_ns, -1, built[9].ts_ns]
    assert [file.link_types for file in capture.files] == [[1], [1], [113]]
    assert [file.n_bytes for file in capture.files] == [path.stat().st_size for path in paths]
    assert capture.notes == []


def test_a_clock_that_steps_back_is_noted_once_per_file(tmp_path):
    late, early = files.records(3), [r._replace(ts_ns=r.ts_ns - 5 * 10**9) for r in files.records(6)[3:]]
    path = tmp_path / "x"
    path.write_bytes(files.pcap([*late, *early]))
    capture, rows = files.read(path)
    assert len(rows) == 6
    (note,) = capture.notes
    assert (note.code, note.frame) == ("clock-step-back", 3)


def test_times_that_jump_far_do_not_stop_the_walk(tmp_path):
    built = files.records(6)
    jumpy = [record._replace(ts_ns=(i % 3) * 10**18 + i * 1000) for i, record in enumerate(built)]
    path = tmp_path / "x"
    path.write_bytes(files.pcap(jumpy))
    _, rows = files.read(path)
    assert [row[1] for row in rows] == [record.ts_ns for record in jumpy]


def test_batches_hold_a_bounded_number_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BATCH_FRAMES", 10)
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(95)))
    sizes = [len(batch.frames) for batch in read_batches(Capture([CaptureFile(str(path))]), decode=False)]
    assert sizes == [10] * 9 + [5]


def test_a_record_longer_than_a_block_is_read(tmp_path):
    record = files.Record(files.START_NS, bytes(200_000), 200_000)
    path = tmp_path / "x"
    path.write_bytes(files.pcap([record] * 3))
    _, rows = files.read(path, block_bytes=1000)
    assert [len(row[2]) for row in rows] == [200_000] * 3


def test_few_buffers_go_round(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(3000, size=1000)))
    addresses = set()
    for batch in read_batches(Capture([CaptureFile(str(path))]), decode=False, block_bytes=20_000):
        base = batch.buffer.base if batch.buffer.base is not None else batch.buffer
        addresses.add(base.__array_interface__["data"][0])
    assert len(addresses) <= reader._N_BUFFERS


def test_closing_the_iterator_stops_the_thread(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(2000)))
    batches = read_batches(Capture([CaptureFile(str(path))]), decode=False, block_bytes=1000)
    next(batches)
    assert readers()
    batches.close()
    assert not readers()


def test_closing_the_iterator_ends_a_wait_for_a_silent_pipe(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, files.pcap(files.records(3)))
    batches = read_batches(Capture([CaptureFile(str(fifo))]), decode=False)
    assert len(next(batches).frames) == 3
    batches.close()
    os.close(writer)
    assert not readers()


def test_a_pipe_hands_over_frames_before_more_bytes_come(tmp_path):
    """The last frame too, although the header after it has not arrived."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    built = files.records(9)
    capture = Capture([CaptureFile(str(fifo))])
    batches = read_batches(capture, decode=False, with_digest=True)
    os.write(writer, files.pcap(built[:4]))
    assert len(next(batches).frames) == 4
    os.write(writer, b"".join(files.pcap_record(record) for record in built[4:8]))
    assert len(next(batches).frames) == 4
    closer = os.open(fifo, os.O_WRONLY)
    os.write(closer, files.pcap_record(built[8]))
    assert len(next(batches).frames) == 1
    os.close(closer)
    os.close(writer)
    assert next(batches, None) is None
    assert len(capture.files[0].sha256) == 64


def test_an_error_in_the_thread_reaches_the_consumer(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(3)))

    def fail(*_, **__):
        msg = "on purpose"
        raise RuntimeError(msg)

    monkeypatch.setattr(reader.Walker, "walk", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        files.read(path)
    assert not readers()


def test_an_interrupt_of_the_consumer_stops_the_thread(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(2000)))

    def consume():
        for _ in read_batches(Capture([CaptureFile(str(path))]), decode=False, block_bytes=1000):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    wait_until(lambda: not readers())


def test_a_growing_file_is_followed_until_it_is_quiet(tmp_path, monkeypatch):
    built = files.records(8)
    data = files.pcap(built)
    path = tmp_path / "x"
    path.write_bytes(data[:300])

    def grow():
        with path.open("ab", buffering=0) as file:
            for i in range(300, len(data), 50):
                time.sleep(0.02)
                file.write(data[i : i + 50])

        grown_s.append(time.monotonic())

    grown_s = []
    # The clock by which the file is quiet stands still as long as it grows: this thread may have to wait for its turn.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() - grown_s[0] if grown_s else 0.0)
    monkeypatch.setattr(sources, "time", clock)
    thread = threading.Thread(target=grow)
    thread.start()
    capture, rows = files.read(path, follow_s=1.0)
    thread.join()
    assert rows == files.expected(built)
    assert files.codes(capture) == ["growing-file"]


def test_without_follow_a_growing_file_is_read_up_to_its_last_whole_record(tmp_path):
    data = files.pcap(files.records(8))
    path = tmp_path / "x"
    path.write_bytes(data[:-10])
    capture, rows = files.read(path)
    assert len(rows) == 7
    assert files.codes(capture) == ["truncated-file"]


def test_progress_is_told_in_stored_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(100)))
    seen = []
    capture = Capture([CaptureFile(str(path), size=path.stat().st_size)])
    for _ in read_batches(capture, decode=False, block_bytes=1000, on_progress=lambda *now: seen.append(now)):
        pass
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert len(seen) > 3


def test_decoded_rows_keep_what_the_container_says(lab):
    path = str(lab / "a_idle_race" / "proxy_any.pcapng")
    plain = [batch.frames[["ts_ns", "cap_len", "wire_len"]].copy() for batch in read_batches(capture_of(path))]
    bare = [
        batch.frames[["ts_ns", "cap_len", "wire_len"]].copy() for batch in read_batches(capture_of(path), decode=False)
    ]
    assert [part.tolist() for part in plain] == [part.tolist() for part in bare]


def capture_of(path):
    return Capture([CaptureFile(str(path))])


def tshark_rows(path):
    """Return (number, ns or -1, wire_len, cap_len) of each frame as tshark sees it."""
    fields = ["frame.number", "frame.time_epoch", "frame.len", "frame.cap_len"]
    arguments = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", str(path), "-T", "fields", *arguments], capture_output=True, text=True, check=False
    )
    rows = []
    for line in done.stdout.splitlines():
        number, seconds, wire_len, cap_len = line.split("\t")
        whole, _, part = seconds.partition(".")
        ts_ns = int(whole) * 10**9 + int(part.ljust(9, "0")) if seconds else -1
        rows.append((int(number), ts_ns, int(wire_len), int(cap_len)))
    return rows, done.stderr


def our_rows(path):
    _, rows = files.read(path)
    return [(frame + 1, ts_ns, wire_len, len(data)) for frame, ts_ns, data, wire_len, _, _ in rows]


@pytest.mark.lab
def test_the_lab_captures_hold_the_frames_that_tshark_sees(lab, tshark):  # noqa: ARG001 - the oracle must be there
    paths = [path for name in ("a_idle_race", "a_big") for path in sorted((lab / name).rglob("*.pcap*"))]
    assert len(paths) > 30
    for path in paths[::3]:
        assert our_rows(path) == tshark_rows(path)[0], path


DECISIONS = {
    # Wireshark shows custom blocks as frames; they hold no packet.
    "test017.pcapng": (0, 4),
    "test018.pcapng": (4, 8),
    "test102.pcapng": (5, 8),
    # A record whose header is all zeros is no frame: this file is 592 zeros too long.
    "bgp_vpn_rt-oobr.pcap": (1, 38),
    # tshark does not read these link types at all.
    "vtp_asan-2.pcap": (1, 0),
    "juniper_monitor_invalid_cookie_length.pcap": (1, 0),
    "juniper_es_oobr.pcap": (1, 0),
    "dsa.pcap": (8, 0),
    "dsa-high-vid.pcap": (4, 0),
    "edsa-high-vid.pcap": (4, 0),
}
SAME_COUNT = {
    # The four bytes of an ATM pseudo header are captured bytes of the frame for us, and none for tshark.
    "atm-heapoverflow.pcap",
    # Fractions of a second of a second and more are carried over; tshark prints them behind the point as they are.
    "timestamp_invalid_micro.pcap",
    "timestamp_invalid_nano.pcap",
}
SETS = ["hadrielk+pcapng-test-generator", "google+gopacket", "rusticata+pcap-parser", "the-tcpdump-group+tcpdump"]


def captures_of(corpus, name):
    return [path for path in sorted((corpus / name).rglob("*")) if path.suffix in {".pcap", ".pcapng", ".cap"}]


@pytest.mark.corpus
@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_public_captures_hold_the_frames_that_tshark_sees_but_for_listed_decisions(corpus, tshark, name):  # noqa: ARG001
    """Those of the largest set that are decided otherwise, and every tenth of the others: tshark starts for each."""
    paths = captures_of(corpus, name)
    assert paths
    if len(paths) > 100:
        named = {*DECISIONS, *SAME_COUNT}
        paths = [path for n, path in enumerate(paths) if path.name in named or n % 10 == 0]
    compare_with_tshark(paths)


@pytest.mark.corpus
@pytest.mark.long
@pytest.mark.parametrize("name", SETS)
def test_all_public_captures_hold_the_frames_that_tshark_sees(corpus, tshark, name):  # noqa: ARG001
    compare_with_tshark(captures_of(corpus, name))


def compare_with_tshark(paths):
    for path in paths:
        ours, (theirs, _) = our_rows(path), tshark_rows(path)
        if path.name in DECISIONS:
            assert (len(ours), len(theirs)) == DECISIONS[path.name], path
        elif path.name in SAME_COUNT:
            assert len(ours) == len(theirs), path
        else:
            assert ours == theirs, path


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data)[:-9]], ids=["plain", "gzip", "cut"]
)
def test_the_digest_is_that_of_the_file_as_stored(tmp_path, pack):
    stored = pack((ROOT / "captures" / "idle_close_race_65s" / "proxy.pcap").read_bytes()) + b"what follows"
    path = tmp_path / "x.pcap"
    path.write_bytes(stored)
    capture = Capture([CaptureFile(str(path))])
    for block_bytes in (1, 5000, 1 << 22):
        for _batch in read_batches(capture, with_digest=True, block_bytes=block_bytes):
            pass
        assert capture.files[0].sha256 == hashlib.sha256(stored).hexdigest()
