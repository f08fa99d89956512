"""How captures, nights and findings hang together."""

from pcapdiag.base.findings import Note
from pcapdiag.nightly.store.links import (
    SightingLink,
    list_capture_days,
    list_failed_files,
    list_html_reports,
    list_sighting_links,
)
from pcapdiag.nightly.store.model import FileRecord, FileStamp, FileStatus
from tests.nightly.store.builders import UPSTREAM, result


def test_sightings_lead_from_day_and_finding_to_the_capture(store):
    number = store.begin_scan(["/c"], "", "1")
    for key, day, count in (("b", 21, 2), ("a", 20, 1), ("c", 22, 0)):
        store.write_capture(number, result(key, day=day, count=count))
    identifier = f"PD101/{UPSTREAM}"
    assert list_sighting_links(store) == (
        SightingLink("2026-11-20", identifier, "a", 1, 1, "1 requests"),
        SightingLink("2026-11-21", identifier, "b", 2, 2, "2 requests"),
    )
    # A capture in which nothing failed was looked at all the same.
    assert list_capture_days(store) == (("2026-11-20", "a"), ("2026-11-21", "b"), ("2026-11-22", "c"))
    assert list_html_reports(store) == frozenset()


def test_of_files_that_failed_some_are_named_and_all_are_counted(store):
    number = store.begin_scan(["/c"], "", "1")
    notes = (Note("read-error", "first"), Note("read-error", "second"))
    stamp = FileStamp(1, 1)
    files = [
        FileRecord(f"/c/{name}.pcap", stamp, status, notes=notes)
        for name, status in (("b", FileStatus.FAILED), ("a", FileStatus.FAILED), ("ok", FileStatus.OK))
    ]
    store.write_files(number, "1", files)
    assert list_failed_files(store, 1) == ((("/c/a.pcap", "first; second"),), 2)
    assert list_failed_files(store, 9)[1] == 2
