"""What a scan has to read."""

import time

import pytest

from pcapdiag.nightly.scan.model import Found, ReadOptions, ScanOptions
from pcapdiag.nightly.scan.plan import make_plan, plan_copies, series_name
from pcapdiag.nightly.store.model import FileRecord, FileStamp, FileStatus
from pcapdiag.nightly.store.store import Store

OLD_NS = 1_700_000_000 * 10**9


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "store.db")) as opened:
        yield opened


@pytest.fixture
def find(tmp_path):
    """Return a function that writes files and finds them: their contents by name."""

    def find(mtime_ns=OLD_NS, **contents):
        found = {}
        for name, data in contents.items():
            path = tmp_path / f"{name}.pcap"
            path.write_bytes(data)
            found[str(path)] = Found(str(path), FileStamp(len(data), mtime_ns))
        return found

    return find


def plan_of(store, found, *, version="1", read=None, **options):
    return make_plan(store, found, ScanOptions(("/c",), read or ReadOptions(), **options), version=version, staging="")


def names(plan):
    return sorted(fresh.found.path.rpartition("/")[2] for job in plan.jobs for fresh in job.fresh)


def remember(store, found, *, version="1", **changes):
    """Write down that the files were read."""
    number = store.begin_scan(["/c"], "", version)
    records = [
        FileRecord(file.path, file.stamp, changes.get("status", FileStatus.OK), retry=changes.get("retry", False))
        for file in found.values()
    ]
    store.write_files(number, version, records)


def test_new_files_are_read_those_of_a_series_in_one_job(store, find):
    plan = plan_of(store, find(ring_00001=b"1", ring_00002=b"22", other=b"333"))
    assert names(plan) == ["other.pcap", "ring_00001.pcap", "ring_00002.pcap"]
    assert sorted(len(job.fresh) for job in plan.jobs) == [1, 2]


def test_a_series_is_of_one_folder():
    assert series_name("/c/ring_00001.pcap") == series_name("/c/ring_00002.pcap")
    assert len({series_name(path) for path in ("/c/ring_00001.pcap", "/d/ring_00001.pcap", "/c/other.pcap")}) == 3


@pytest.mark.parametrize(
    ("changes", "is_read"),
    [({}, False), ({"retry": True}, True), ({"status": FileStatus.FAILED}, False), ({"version": "0"}, True)],
)
def test_what_was_read_is_read_again_if_that_may_end_differently(store, find, changes, is_read):
    found = find(a=b"1")
    remember(store, found, **changes)
    assert (names(plan_of(store, found)) == ["a.pcap"]) is is_read


def test_another_stamp_or_the_wish_to_read_again_is_enough(store, find):
    remember(store, find(a=b"1"))
    assert names(plan_of(store, find(OLD_NS + 1, a=b"1"))) == ["a.pcap"]
    assert names(plan_of(store, find(a=b"1"), rescan=True)) == ["a.pcap"]


def test_what_is_still_written_to_waits_and_what_is_too_old_is_outside(store, find):
    plan = plan_of(store, find(time.time_ns(), a=b"1"), settle_s=3600)
    assert (names(plan), plan.waiting, plan.outside) == ([], 1, 0)
    plan = plan_of(store, find(a=b"1"), read=ReadOptions(since_ns=OLD_NS + 1))
    assert (names(plan), plan.waiting, plan.outside) == ([], 0, 1)


def test_of_copies_the_first_by_name_is_read_and_the_others_when_it_was(store, find):
    found = find(b=b"same", a=b"same", c=b"else")
    plan = plan_of(store, found)
    assert names(plan) == ["a.pcap", "c.pcap"]
    ((copy, original),) = plan.copies
    assert [file.path.rpartition("/")[2] for file in (copy, original)] == ["b.pcap", "a.pcap"]
    options = ScanOptions(("/c",), ReadOptions())
    assert plan_copies(store, plan, options, version="1", staging="") == []
    assert plan.waiting == 1
    remember(store, {original.path: original})
    (job,) = plan_copies(store, plan, options, version="1", staging="")
    assert [fresh.found for fresh in job.fresh] == [copy]


def test_empty_files_are_no_copies(store, find):
    assert plan_of(store, find(a=b"", b=b"")).copies == []
