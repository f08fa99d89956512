"""When a capture file begins and ends, from its ends alone where it is large."""

import gzip

import pytest

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture import peek
from pcapdiag.engine.capture.peek import peek_times
from tests.engine.capture import files

WRITERS = {"pcap": files.pcap, "pcapng": files.pcapng}


@pytest.fixture
def built(tmp_path):
    """Return a file of 3000 records, its size and its first and last time."""

    def write(writer=files.pcap, pack=bytes):
        records = files.records(3000, size=100)
        path = tmp_path / "x"
        path.write_bytes(pack(writer(records)))
        return str(path), path.stat().st_size, (records[0].ts_ns, records[-1].ts_ns)

    return write


@pytest.mark.parametrize("writer", WRITERS)
def test_the_ends_of_a_large_file_tell_what_the_whole_tells(built, monkeypatch, writer):
    path, size, times = built(WRITERS[writer])
    assert peek_times(path, size, is_packed=False) == times
    monkeypatch.setattr(peek, "_WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr(peek, "_PEEK_BYTES", 1 << 12)
    monkeypatch.setattr(peek, "read_batches", pytest.fail)
    assert peek_times(path, size, is_packed=False) == times


def test_the_end_of_a_large_packed_file_is_not_known(built, monkeypatch):
    path, size, times = built(pack=gzip.compress)
    assert peek_times(path, size, is_packed=True) == times
    monkeypatch.setattr(peek, "_WHOLE_BYTES", 1 << 10)
    assert peek_times(path, size, is_packed=True) == (times[0], -1)


def test_a_file_without_frames_has_no_time(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(files.pcap([]))
    assert peek_times(str(path), 24, is_packed=False) == (-1, -1)


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(CaptureError):
        peek_times(str(tmp_path / "gone"), 1 << 30, is_packed=False)
