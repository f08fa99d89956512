"""The files of a folder: each once, in their order, whatever a rotation does to names."""

import gzip
import os
import threading

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.watch import feed as feed_module
from pcapdiag.watch.feed import FolderFeed
from pcapdiag.watch.state import State

pytestmark = pytest.mark.compiled_only

HEADER = bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 01000000")


def capture(first_s, n=10):
    """Return a pcap of n frames, one a second."""
    record = b"".join((first_s + k).to_bytes(4, "little") + bytes(4) + b"\x3c\0\0\0" * 2 + bytes(60) for k in range(n))
    return HEADER + record


def read_all(feed, most):
    """Return (name, frames skipped, times in s) of streams until there were so many."""
    streams = []
    for stream in feed.streams():
        times = []
        for batch in read_batches(Capture([CaptureFile(stream.path)])):
            times += (batch.frames["ts_ns"] // 10**9).tolist()
            if len(streams) == most - 1:
                threading.Timer(0.2, feed.stop).start()
        stream.source.n_frames = len(times)
        streams.append((os.path.basename(stream.name), stream.n_skip, times))  # noqa: PTH119 - a text
    return streams


def test_files_are_read_in_the_order_of_their_times_whatever_they_are_called(tmp_path):
    for name, first in (("x.pcap0", 300), ("x.pcap1", 100), ("x.pcap2", 200)):
        (tmp_path / name).write_bytes(capture(first))
    names = [name for name, _, _ in read_all(FolderFeed(str(tmp_path), State()), 3)]
    assert names == ["x.pcap1", "x.pcap2", "x.pcap0"]


def test_what_was_read_is_known_under_another_name_and_compressed(tmp_path):
    (tmp_path / "x.pcap0").write_bytes(capture(100))
    (tmp_path / "x.pcap1").write_bytes(capture(200))
    first = FolderFeed(str(tmp_path), State())
    read_all(first, 2)
    assert [source.is_done for source in first.sources] == [True, False]
    (tmp_path / "x.pcap0.gz").write_bytes(gzip.compress(capture(100)))
    (tmp_path / "x.pcap0").unlink()
    (tmp_path / "x.pcap1").rename(tmp_path / "x.pcap7")
    with (tmp_path / "x.pcap7").open("ab") as file:
        file.write(capture(210, 5)[len(HEADER) :])
    ((name, n_skip, times),) = read_all(FolderFeed(str(tmp_path), State(sources=first.sources)), 1)
    assert (name, n_skip, times) == ("x.pcap7", 10, [*range(200, 215)])


def test_a_name_that_is_written_anew_is_another_file(tmp_path):
    (tmp_path / "x.pcap0").write_bytes(capture(100))
    (tmp_path / "x.pcap1").write_bytes(capture(200))
    first = FolderFeed(str(tmp_path), State())
    read_all(first, 2)
    first.sources[1].is_done = True
    (tmp_path / "x.pcap0").write_bytes(capture(300))
    ((name, n_skip, times),) = read_all(FolderFeed(str(tmp_path), State(sources=first.sources)), 1)
    assert (name, n_skip, times[0]) == ("x.pcap0", 0, 300)


def test_a_file_is_followed_while_it_grows(tmp_path):
    whole = capture(100, 50)
    path = tmp_path / "x.pcap"
    path.write_bytes(whole[:200])

    def grow():
        with path.open("ab") as file:
            file.write(whole[200:1000])
            file.flush()
            file.write(whole[1000:])

    threading.Timer(0.3, grow).start()
    feed = FolderFeed(str(tmp_path), State())
    threading.Timer(1.5, feed.stop).start()
    ((_, _, times),) = read_all(feed, 2)
    assert times == [*range(100, 150)]


def test_two_series_in_a_folder_are_refused_and_a_glob_names_one(tmp_path):
    (tmp_path / "eth0-0001.pcap").write_bytes(capture(100))
    (tmp_path / "lan1-0001.pcap").write_bytes(capture(100))
    with pytest.raises(UsageError, match="more than one series of captures"):
        FolderFeed(str(tmp_path), State())
    ((name, _, _),) = read_all(FolderFeed(str(tmp_path / "lan1-*"), State()), 1)
    assert name == "lan1-0001.pcap"


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no folder; give - for standard input"):
        FolderFeed(str(tmp_path / "nothing"), State())


def test_a_second_series_is_not_followed_and_is_named(tmp_path):
    (tmp_path / "eth0_20261121_080000.pcap").write_bytes(capture(100))
    feed = FolderFeed(str(tmp_path), State())

    def come():
        (tmp_path / "eth1_20261121_080010.pcap").write_bytes(capture(110))
        (tmp_path / "eth0_20261121_080020.pcap").write_bytes(capture(120))

    threading.Timer(0.3, come).start()
    names = [name for name, _, _ in read_all(feed, 2)]
    assert names == ["eth0_20261121_080000.pcap", "eth0_20261121_080020.pcap"]
    assert [os.path.basename(path) for path in feed.unwatched] == ["eth1_20261121_080010.pcap"]  # noqa: PTH119
    # After a restart it is still this one, and no reason to end.
    again = FolderFeed(str(tmp_path), State(sources=feed.sources, series=feed._state.series))
    assert again._next() == (str(tmp_path / "eth0_20261121_080020.pcap"), 120 * 10**9)


def test_a_file_that_got_a_date_when_it_was_rotated_is_of_the_same_series(tmp_path):
    (tmp_path / "proxy-20261120.pcap").write_bytes(capture(100))
    (tmp_path / "proxy.pcap").write_bytes(capture(200))
    names = [name for name, _, _ in read_all(FolderFeed(str(tmp_path), State()), 2)]
    assert names == ["proxy-20261120.pcap", "proxy.pcap"]


def test_a_series_of_which_no_file_is_left_makes_place_for_another(tmp_path):
    state = State(series=str(tmp_path / "eth0.pcap"))
    (tmp_path / "eth1_0001.pcap").write_bytes(capture(100))
    assert [name for name, _, _ in read_all(FolderFeed(str(tmp_path), state), 1)] == ["eth1_0001.pcap"]


def test_of_many_files_each_is_read_once_and_the_memory_of_them_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(feed_module, "_MOST_SOURCES", 20)
    for n in range(60):
        path = tmp_path / f"x_{n:05}.pcap"
        path.write_bytes(capture(1000 + 10 * n, 1))
        os.utime(path, (1000 + 10 * n,) * 2)
    state = State()
    feed = FolderFeed(str(tmp_path), state)
    for n in range(60):
        path, first_ns = feed._next()
        assert path.endswith(f"x_{n:05}.pcap")
        if n == 59:
            feed.stop()
        for stream in feed._follow(path, first_ns):
            stream.source.n_frames = 1
        feed.sources[-1].is_done = True
    assert len(feed.sources) == 20
    state.sources = feed.sources
    assert len({source.head for source in feed.sources}) == 20
    assert FolderFeed(str(tmp_path), state)._next() is None, "a restart reads none of them again"
