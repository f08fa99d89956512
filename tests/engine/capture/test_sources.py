"""How bytes come in: plain, packed, through pipes, and damaged on the way."""

import bz2
import gzip
import hashlib
import lzma
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.engine.capture.sources import open_source
from tests.engine.capture import files
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[3]


def pack_zstd(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def pack_lz4(data):
    return lz4.frame.compress(data, content_checksum=True)


PACKERS = {
    "gzip": gzip.compress,
    "zstd": pack_zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lz4": pack_lz4,
}


def unpack_all(path, *, piece=100_000):
    """Return (what comes out, the codes of the notes)."""
    with open_source(str(path)) as source:
        parts = []
        while not source.at_end:
            buffer = bytearray(piece)
            n_filled = source.fill(memoryview(buffer))
            parts.append(bytes(buffer[:n_filled]))
        return b"".join(parts), [note.code for note in source.notes()]


def random_data(n_bytes):
    return bytes(i * i * 31 % 253 for i in range(n_bytes // 4)) * 4


@pytest.mark.parametrize("name", sorted(PACKERS))
@pytest.mark.parametrize("n_bytes", [0, 1, 1000, 3_000_000])
def test_packed_bytes_come_out_as_they_went_in(tmp_path, name, n_bytes):
    data = random_data(n_bytes + 3)[:n_bytes]
    path = tmp_path / "no-suffix"
    path.write_bytes(PACKERS[name](data))
    assert unpack_all(path) == (data, [])


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_members_that_follow_one_another_are_one_stream(tmp_path, name):
    parts = [random_data(40_000), b"", b"short", random_data(100_000)]
    path = tmp_path / "x"
    path.write_bytes(b"".join(map(PACKERS[name], parts)))
    assert unpack_all(path) == (b"".join(parts), [])


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "lz4"])
def test_zeros_after_the_last_member_are_padding(tmp_path, name):
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](b"data") + bytes(20_000))
    assert unpack_all(path) == (b"data", [])


def test_zstd_frames_may_be_skippable_and_without_checksum(tmp_path):
    skippable = b"\x5f\x2a\x4d\x18" + (100_000).to_bytes(4, "little") + bytes(100_000)
    path = tmp_path / "x"
    path.write_bytes(skippable + zstandard.compress(b"one") + skippable + pack_zstd(b"two"))
    assert unpack_all(path) == (b"onetwo", [])


@given(name=st.sampled_from(sorted(PACKERS)), cut=st.data())
def test_what_was_unpacked_before_the_end_of_truncated_data_is_kept(tmp_path, name, cut):
    data = random_data(200_000)
    packed = PACKERS[name](data)
    path = tmp_path / "x"
    path.write_bytes(packed[: cut.draw(st.integers(10, len(packed) - 1))])
    prefix, codes = unpack_all(path)
    assert data.startswith(prefix)
    assert codes == ["truncated-compression"]


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_what_was_unpacked_before_damage_is_kept(tmp_path, name):
    # Noise, so that damage is far from where it begins; bzip2 and xz unpack in blocks of about a megabyte.
    data = os.urandom(3_000_000)
    packed = bytearray(PACKERS[name](data))
    at = len(packed) * 3 // 4
    packed[at : at + 1000] = os.urandom(1000)
    path = tmp_path / "x"
    path.write_bytes(packed)
    prefix, codes = unpack_all(path)
    assert codes in (["corrupt-compression"], ["truncated-compression"])
    # Checksums stand behind the data they cover, so damaged bytes may come out before the damage shows.
    n_good = at // 2
    assert prefix[:n_good] == data[:n_good]


@given(name=st.sampled_from(sorted(PACKERS)), damage=st.data())
def test_damage_anywhere_raises_nothing(tmp_path, name, damage):
    packed = bytearray(PACKERS[name](random_data(5000)))
    for _ in range(damage.draw(st.integers(1, 5))):
        at = damage.draw(st.integers(7, len(packed) - 1))
        packed[at] = damage.draw(st.integers(0, 255))
    path = tmp_path / "x"
    path.write_bytes(packed)
    _, codes = unpack_all(path)
    assert set(codes) <= {"corrupt-compression", "truncated-compression"}
    assert len(codes) <= 1


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_other_bytes_after_packed_data_are_noted(tmp_path, name):
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](b"data") + b"and something else")
    assert unpack_all(path) == (b"data", ["corrupt-compression"])


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_a_bomb_takes_no_memory(tmp_path, name):
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[name](bytes(100_000_000)))
    n_bytes = 0
    tracemalloc.start()
    with open_source(str(path)) as source:
        buffer = bytearray(1 << 16)
        while not source.at_end:
            n_bytes += source.fill(memoryview(buffer))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_bytes == 100_000_000
    assert most < 16_000_000


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_a_packed_capture_says_so_in_its_format(tmp_path, name):
    built = files.records(20)
    path = tmp_path / "x"
    path.write_bytes(PACKERS[name](files.pcap(built)))
    capture, rows = files.read(path)
    assert rows == files.expected(built)
    assert capture.files[0].format == f"pcap+{name}"
    assert capture.files[0].n_bytes == len(files.pcap(built))
    assert capture.files[0].size == path.stat().st_size


def test_a_truncated_packed_capture_gives_the_frames_before_and_two_notes(tmp_path):
    built = files.records(2000)
    packed = gzip.compress(files.pcap(built))
    path = tmp_path / "x"
    path.write_bytes(packed[: len(packed) // 2])
    capture, rows = files.read(path)
    assert rows == files.expected(built)[: len(rows)]
    assert len(rows) > 100
    assert set(files.codes(capture)) == {"truncated-compression", "truncated-file"}


def test_packed_text_is_named(tmp_path):
    path = tmp_path / "x.pcap.gz"
    path.write_bytes(gzip.compress(b"hello\n"))
    with pytest.raises(CaptureError, match="gzip of text"):
        files.read(path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nowhere://bucket/x.pcap", "nothing here knows nowhere://"),
        ("sftp://ops:hunter2@host/x.pcap", "leave the password out of the URL"),
        ("https://example.com/x.pcap?token=hunter2", "a query may hold a secret"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_with_a_way_out_and_without_its_secret(url, says):
    with pytest.raises(UsageError, match=says) as refused:
        open_source(url)
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(CaptureError, match="No such file"):
        open_source(str(tmp_path / "gone"))
    with pytest.raises(CaptureError, match="is a folder"):
        open_source(str(tmp_path))


def n_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(3)))
    (tmp_path / "text").write_text("text")
    before = n_descriptors()
    files.read(path)
    for bad in (tmp_path, tmp_path / "text"):
        with pytest.raises(CaptureError):
            files.read(bad)
    assert n_descriptors() == before


PROGRAM = """
from tests.engine.capture import files
capture, rows = files.read("-", with_digest=True)
print(len(rows), capture.files[0].format, capture.files[0].sha256, *files.codes(capture))
"""


def run_with_stdin(**options):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=False, cwd=ROOT, timeout=HANG_S, **options
    )


def test_standard_input_is_read_from_a_pipe_and_hashed():
    data = files.pcap(files.records(5000))
    words = run_with_stdin(input=gzip.compress(data, mtime=0)).stdout.split()
    assert words[:2] == [b"5000", b"pcap+gzip"]
    assert len(words[2]) == 64


def test_standard_input_may_be_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(50)))
    with path.open("rb") as file:
        words = run_with_stdin(stdin=file).stdout.split()
    assert words == [b"50", b"pcap", hashlib.sha256(path.read_bytes()).hexdigest().encode()]


def test_an_empty_standard_input_is_an_error_that_says_what_to_look_at():
    assert b"is the command before the pipe writing a capture" in run_with_stdin(stdin=subprocess.DEVNULL).stderr


def test_an_unreadable_descriptor_ends_the_input_with_a_note(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(files.pcap(files.records(100)))
    read = os.readv
    calls = []

    def fail_later(fd, buffers):
        calls.append(fd)
        if len(calls) > 2:
            raise OSError(5, "Input/output error")
        return read(fd, buffers)

    monkeypatch.setattr(os, "readv", fail_later)
    capture, rows = files.read(path, block_bytes=1000)
    assert len(rows) > 10
    assert "read-error" in files.codes(capture)


def test_reading_takes_memory_for_a_few_blocks_only(tmp_path):
    """The capture is 20 times as large as the bound."""
    path = tmp_path / "x"
    record = files.pcap_record(files.Record(files.START_NS, bytes(60_000), 60_000))
    with path.open("wb") as file:
        file.write(files.pcap([]))
        for _ in range(5000):
            file.write(record)
    program = f"""
import resource
from tests.engine.capture import files
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
capture = Capture([CaptureFile({str(path)!r})])
n = sum(len(batch.frames) for batch in read_batches(capture, decode=False, block_bytes=1 << 20))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT)
    n_frames, kilobytes = map(int, done.stdout.split())
    assert n_frames == 5000
    assert kilobytes < 15_000
