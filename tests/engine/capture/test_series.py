"""Paths, folders and globs become captures; the files of a rotation become one."""

import gzip
import os
from pathlib import Path

import pytest

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.capture.series import group_captures, series_key
from tests.engine.capture import files

SECOND = 10**9


def write(folder, name, start_s, *, n=5, step_ms=100, pack=None):
    """Write a capture of `n` frames that begins `start_s` seconds after the common start."""
    built = [
        record._replace(ts_ns=record.ts_ns + int(start_s * SECOND))
        for record in files.records(n, step_ns=step_ms * 1_000_000)
    ]
    data = files.pcap(built)
    path = folder / name
    path.write_bytes(pack(data) if pack else data)
    return str(path)


def names(captures):
    return [[Path(file.path).name for file in capture.files] for capture in captures]


SERIES = {
    "tcpdump -C": ["px.pcap", "px.pcap1", "px.pcap2", "px.pcap10"],
    "tcpdump -C without suffix": ["trace", "trace1", "trace2"],
    "tcpdump -C -W": ["px.pcap00", "px.pcap01", "px.pcap02"],
    "tcpdump -G": ["px-20261120-235543.pcap", "px-20261120-235601.pcap", "px-20261121-000001.pcap"],
    "tcpdump -G with seconds": ["px_1795218943.pcap", "px_1795218944.pcap"],
    "tcpdump -G with signs": ["eth0 2026-11-20T23:55:43Z.pcap", "eth0 2026-11-20T23:56:01Z.pcap"],
    "tcpdump -G -C": ["px-20261120-235543.pcap", "px-20261120-235543.pcap1", "px-20261120-235601.pcap"],
    "dumpcap": ["px_00001_20261120235544.pcapng", "px_00002_20261120235559.pcapng"],
    "dumpcap nametimenum": ["px_20261120235544_00001.pcapng", "px_20261120235559_00002.pcapng"],
    "logrotate": ["px.pcap.1", "px.pcap.2", "px.pcap.3"],
    "parts": ["part-001.pcap", "part-002.pcap"],
    "packed": ["px.pcap1.gz", "px.pcap2.gz", "px.pcap3"],
}


@pytest.mark.parametrize("kind", sorted(SERIES))
def test_a_rotation_series_is_one_capture_in_time_order(tmp_path, kind):
    expected = SERIES[kind]
    for i, name in enumerate(expected):
        write(tmp_path, name, i * 10, pack=gzip.compress if name.endswith(".gz") else None)
    assert names(group_captures([str(tmp_path)])) == [expected]


def test_a_ring_that_has_wrapped_is_ordered_by_time(tmp_path):
    for name, start_s in (("px.pcap0", 30), ("px.pcap1", 40), ("px.pcap2", 10), ("px.pcap3", 20)):
        write(tmp_path, name, start_s)
    assert names(group_captures([str(tmp_path)])) == [["px.pcap2", "px.pcap3", "px.pcap0", "px.pcap1"]]


def test_files_given_one_by_one_in_any_order_are_a_series_too(tmp_path):
    paths = [write(tmp_path, f"px.pcap{i}", i * 10) for i in range(3)]
    assert names(group_captures(paths[::-1])) == [["px.pcap0", "px.pcap1", "px.pcap2"]]


UNRELATED = {
    "other names": ["upA.pcap", "upB.pcap"],
    "hosts": ["web1.pcap", "web2.pcap"],
    "addresses": ["10.0.0.11-20261120.pcap", "10.0.0.12-20261120.pcap"],
    "interfaces": ["eth0-20261120-235543.pcap", "eth1-20261120-235601.pcap"],
    "formats": ["px-20261120.pcap", "px-20261121.pcapng"],
}


@pytest.mark.parametrize("kind", sorted(UNRELATED))
def test_names_that_do_not_rotate_are_captures_of_their_own(tmp_path, kind):
    for i, name in enumerate(UNRELATED[kind]):
        write(tmp_path, name, i * 10)
    assert names(group_captures([str(tmp_path)])) == [[name] for name in UNRELATED[kind]]


def test_files_that_overlap_in_time_are_captures_of_their_own(tmp_path):
    write(tmp_path, "web-01.pcap", 0, n=100)
    write(tmp_path, "web-02.pcap", 5, n=100)
    assert names(group_captures([str(tmp_path)])) == [["web-01.pcap"], ["web-02.pcap"]]


def test_packed_files_that_overlap_in_time_are_captures_of_their_own(tmp_path):
    write(tmp_path, "web-01.pcap.gz", 0, n=100, pack=gzip.compress)
    write(tmp_path, "web-02.pcap.gz", 5, n=100, pack=gzip.compress)
    assert len(group_captures([str(tmp_path)])) == 2


def test_large_files_that_overlap_are_seen_from_their_ends(tmp_path):
    """More than is read in full to learn when a file ends."""
    for i, overlaps in enumerate((False, True)):
        folder = tmp_path / str(i)
        folder.mkdir()
        record = bytes(60_000)
        for name, start_s in (("px.pcap0", 0), ("px.pcap1", 100 if overlaps else 1000)):
            built = [files.Record(files.START_NS + (start_s + j) * SECOND, record, len(record)) for j in range(400)]
            (folder / name).write_bytes(files.pcap(built))
        assert len(group_captures([str(folder)])) == (2 if overlaps else 1)


def test_a_copy_beside_its_packed_form_is_no_series(tmp_path):
    write(tmp_path, "px.pcap", 0)
    write(tmp_path, "px.pcap.gz", 0, pack=gzip.compress)
    assert len(group_captures([str(tmp_path)])) == 2


def test_a_little_disorder_at_the_seam_is_allowed(tmp_path):
    write(tmp_path, "px.pcap0", 0, n=11)
    write(tmp_path, "px.pcap1", 0.5, n=11)
    assert len(group_captures([str(tmp_path)])) == 1


def test_a_file_without_frames_keeps_its_place_by_name(tmp_path):
    write(tmp_path, "px-20261120-235543.pcap", 0)
    (tmp_path / "px-20261120-235601.pcap").write_bytes(files.pcap([]))
    write(tmp_path, "px-20261120-235619.pcap", 36)
    (group,) = names(group_captures([str(tmp_path)]))
    assert group == sorted(group)
    assert len(group) == 3


def test_the_newest_file_of_a_series_may_hold_no_byte_yet(tmp_path):
    paths = [write(tmp_path, f"px.pcap{i}", i * 10) for i in range(2)]
    (tmp_path / "px.pcap2").write_bytes(b"")
    for specs in ([str(tmp_path)], [*paths, str(tmp_path / "px.pcap2")]):
        (capture,) = group_captures(specs)
        assert names([capture]) == [["px.pcap0", "px.pcap1"]]
        assert [(note.code, note.file) for note in capture.notes] == [("empty-file", str(tmp_path / "px.pcap2"))]


def test_an_empty_file_that_was_named_is_an_error(tmp_path):
    (tmp_path / "x.pcap").write_bytes(b"")
    with pytest.raises(CaptureError, match="is empty"):
        group_captures([str(tmp_path / "x.pcap")])


def test_a_folder_gives_its_captures_only_and_not_those_below(tmp_path):
    write(tmp_path, "b.pcap", 0)
    write(tmp_path, "a", 5)
    write(tmp_path, "c.gz", 9, pack=gzip.compress)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "logs.gz").write_bytes(gzip.compress(b"text"))
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", "d.pcap", 0)
    assert names(group_captures([str(tmp_path)])) == [["a"], ["b.pcap"], ["c.gz"]]


def test_a_folder_or_glob_without_captures_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(CaptureError, match="holds no capture"):
        group_captures([str(tmp_path)])
    with pytest.raises(CaptureError, match="matches no capture"):
        group_captures([str(tmp_path / "*.txt")])
    with pytest.raises(CaptureError, match="matches no file"):
        group_captures([str(tmp_path / "*.pcap")])


def test_a_glob_gives_the_captures_that_it_matches(tmp_path):
    write(tmp_path, "a.pcap", 0)
    write(tmp_path, "b.pcap", 0)
    write(tmp_path, "c.cap", 0)
    assert names(group_captures([str(tmp_path / "*.pcap")])) == [["a.pcap"], ["b.pcap"]]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    assert names(group_captures([write(tmp_path, "a[1].pcap", 0)])) == [["a[1].pcap"]]


def test_a_file_named_twice_is_read_once(tmp_path):
    path = write(tmp_path, "a.pcap", 0)
    (tmp_path / "link.pcap").symlink_to(path)
    specs = [path, str(tmp_path), str(tmp_path / "*.pcap"), os.path.relpath(path), "-", "-"]
    assert names(group_captures(specs)) == [["a.pcap"], ["-"]]


def test_a_named_file_that_is_no_capture_is_an_error(tmp_path):
    path = tmp_path / "x.pcap"
    path.write_text("hello")
    with pytest.raises(CaptureError, match="looks like text"):
        group_captures([str(path)])
    with pytest.raises(CaptureError, match="No such file"):
        group_captures([str(tmp_path / "gone.pcap")])


@pytest.fixture
def bucket():
    """Return a function that puts captures into an object store in memory, and its URL."""
    import fsspec

    fs = fsspec.filesystem("memory")

    def put(**contents):
        for name, content in contents.items():
            fs.pipe(f"/bucket/{name.replace('__', '.')}", content)
        return "memory://bucket"

    yield put
    fs.rm("/bucket", recursive=True)


def test_a_folder_of_an_object_store_holds_captures_and_series(bucket, tmp_path):
    first, second = (Path(write(tmp_path, "x.pcap", start, n=3)).read_bytes() for start in (0, 10))
    url = bucket(a00001_20261120__pcap=first, a00002_20261120__pcap=second, notes__txt=b"no capture")
    (capture,) = group_captures([url])
    assert [f.path.rpartition("/")[2] for f in capture.files] == ["a00001_20261120.pcap", "a00002_20261120.pcap"]
    assert sum(len(batch.frames) for batch in read_batches(capture, with_digest=True)) == 6
    assert all(len(f.sha256) == 64 for f in capture.files)


def test_an_object_that_is_missing_or_no_capture_is_refused(bucket):
    url = bucket(notes__txt=b"no capture")
    with pytest.raises(CaptureError, match="there is no such object"):
        group_captures([f"{url}/gone.pcap"])
    with pytest.raises(CaptureError, match=r"notes\.txt"):
        group_captures([f"{url}/notes.txt"])
    with pytest.raises(CaptureError, match="leads to no capture"):
        group_captures([url])


def test_pipes_are_captures_of_their_own_and_not_touched(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    captures = group_captures([str(fifo), "-"])
    assert names(captures) == [["fifo"], ["-"]]
    assert [capture.files[0].size for capture in captures] == [-1, -1]


def test_files_of_several_formats_may_be_one_series(tmp_path):
    built = files.records(4)
    (tmp_path / "px.pcap1").write_bytes(files.pcapng(built[:2]))
    (tmp_path / "px.pcap2").write_bytes(files.pcap(built[2:], order=">", link_type=113))
    (capture,) = group_captures([str(tmp_path)])
    _, rows = files.read(*[file.path for file in capture.files])
    assert [row[1] for row in rows] == [record.ts_ns for record in built]


def test_the_key_replaces_times_and_counters_only():
    assert series_key("px-20261120-235543.pcap") == "px-#-#.pcap"
    assert series_key("px.pcap12") == series_key("px.pcap") == series_key("px.pcap3.gz") == "px.pcap"
    assert series_key("10.0.0.23-20261120.pcap") == "10.0.0.23-#.pcap"
    assert series_key("web1.pcap") == "web1.pcap"
    assert series_key("2026.pcap") == "#.pcap"
    assert series_key("1234") == "#"


@pytest.mark.lab
@pytest.mark.parametrize(
    ("folder", "n_files"), [("a_idle_race/rotG", 8), ("a_idle_race/rotNG", 8), ("a_big/rotNG", 2), ("a_big/rotC", 1)]
)
def test_the_rotations_of_the_lab_are_one_capture_each(lab, folder, n_files):
    (capture,) = group_captures([str(lab / folder)])
    assert len(capture.files) == n_files
    assert [file.path for file in capture.files] == sorted(file.path for file in capture.files)
    assert sum(file.size for file in capture.files) == sum(path.stat().st_size for path in (lab / folder).iterdir())


@pytest.mark.lab
def test_the_forms_of_one_lab_capture_are_captures_of_their_own(lab):
    captures = group_captures([str(lab / "a_idle_race")])
    assert all(len(capture.files) == 1 for capture in captures)
    assert len(captures) == 11


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(UsageError, match="empty name"):
        group_captures([""])
