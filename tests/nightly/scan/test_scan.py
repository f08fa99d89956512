"""What a scan remembers: every file once, whatever is wrong with some, whatever ends it and whoever runs beside it."""

import ctypes
import json
import os
import re
import shutil
import sqlite3
import zlib
from contextlib import contextmanager

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.errors import CaptureError
from pcapdiag.nightly.scan.model import Found, Fresh, Job, ReadOptions, ScanOptions
from pcapdiag.nightly.scan.read import run_job
from pcapdiag.nightly.scan.run import run_scan
from pcapdiag.nightly.store.model import FileStamp
from pcapdiag.nightly.store.store import Store
from tests.nightly.scan import places

ALSO_TESTS = ("parts", "sift")

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Return a folder of captures and a store that holds them."""
    work = tmp_path_factory.mktemp("scan")
    folder = places.many(work / "captures")
    done = places.scan(folder, work / "store.db", "--format", "json")
    return folder, work / "store.db", json.loads(done.stdout), done


@pytest.fixture
def run(tmp_path):
    """Return a function that scans into a store of this test."""

    def scan(*named, store=tmp_path / "store.db", jobs=1, **options):
        inputs = Inputs(**{k: options.pop(k) for k in tuple(options) if hasattr(Inputs, k)})
        read = ReadOptions(inputs, **{k: options.pop(k) for k in tuple(options) if hasattr(ReadOptions, k)})
        with Store(str(store)) as opened:
            return run_scan(opened, ScanOptions(tuple(map(str, named)), read, jobs=jobs, **options))

    return scan


def ask(store, query, *values):
    db = sqlite3.connect(store)
    rows = db.execute(query, values).fetchall()
    db.close()
    return rows


def test_every_file_has_its_status_and_bad_ones_stop_nothing(scanned):
    folder, store, summary, _ = scanned
    statuses = dict(ask(store, "SELECT path, status FROM files"))
    odd = {os.path.relpath(path, folder): status for path, status in statuses.items() if status != "ok"}
    assert odd == {"bad/cut.pcap": "partial", "bad/garbage.pcap": "failed", "bad/empty.pcap": "failed"}
    assert summary["totals"] == {
        "found": 23,
        "read": 23,
        "ok": 20,
        "partial": 1,
        "failed": 2,
        "unchanged": 0,
        "waiting": 0,
        "outside": 0,
    }
    assert {os.path.relpath(f["path"], folder): f["status"] for f in summary["files"]} == odd
    assert all(f["notes"] for f in summary["files"])


def test_a_series_is_one_capture_and_a_copy_none_of_its_own(scanned):
    _, store, _, _ = scanned
    (paths,) = ask(store, "SELECT paths FROM captures WHERE series LIKE '%/ring/%'")
    assert len(json.loads(paths[0])) == 3
    keys = ask(store, "SELECT DISTINCT capture_key FROM files WHERE path LIKE '%copy.pcap' OR path LIKE '%hostb%'")
    assert len(keys) == 1
    assert len(ask(store, "SELECT * FROM captures WHERE series LIKE '%/both/%'")) == 4


def test_counts_of_upstreams_and_findings_are_those_of_the_captures(scanned):
    _, store, summary, _ = scanned
    # hostf: 2 races and 3 connections on which both requests were answered.
    assert ask(
        store,
        "SELECT day, connections, exchanges, reused, lost, idle_timeout_samples FROM upstream_days "
        "WHERE endpoint = '10.9.0.6:80'",
    ) == [("2023-11-15", 5, 10, 5, 2, 2)]
    found = {f["subject"]: (f["count"], f["state"]) for f in summary["findings"] if f["code"] == "PD101"}
    assert found["10.9.0.6:80"] == (2, "new")
    assert found["10.9.0.2:80"] == (1, "new")
    occurrences = ask(store, "SELECT count(*) FROM occurrences JOIN findings USING (identifier)")
    assert occurrences == [(sum(count for count, _ in found.values()),)]


def test_the_report_of_each_capture_is_kept(scanned):
    _, store, _, _ = scanned
    rows = ask(store, "SELECT json, report_identifier FROM reports JOIN captures ON capture_key = key")
    reports = [(json.loads(zlib.decompress(packed)), identifier) for packed, identifier in rows]
    assert len(reports) == len(ask(store, "SELECT * FROM captures"))
    assert all(report["identifier"] == identifier for report, identifier in reports)


def test_exchanges_are_one_table_for_pandas(scanned):
    import pandas as pd

    _, store, _, _ = scanned
    rows = pd.read_parquet(store.with_suffix(".exchanges"))
    assert len(rows) == ask(store, "SELECT sum(exchanges) FROM upstream_days")[0][0]
    lost = rows[(rows["upstream"] == "10.9.0.6%3A80") | (rows["upstream"] == "10.9.0.6:80")]
    assert (lost["outcome"] == "unanswered").sum() == 2
    assert set(lost["date"].astype(str)) == {"2023-11-15"}
    exact = pd.to_datetime(rows["request_ts_ns"], utc=True)
    assert (rows["request_ts"] == exact.dt.floor("us")).all()


def test_duckdb_answers_the_query_of_the_documentation(scanned):
    import duckdb

    _, store, _, _ = scanned
    page = (places.ROOT / "docs" / "store.md").read_text()
    query = re.search(r"^SELECT.*?;", page, re.DOTALL | re.MULTILINE)[0]
    told = duckdb.sql(query.replace("store.exchanges", str(store.with_suffix(".exchanges")))).fetchall()
    known = ask(store, "SELECT endpoint, sum(lost) FROM upstream_days GROUP BY endpoint HAVING sum(lost) > 0")
    assert sorted(told) == sorted(known) != []


def test_exchanges_hold_no_type_that_spark_refuses(scanned):
    """Spark itself is too large for a test: it has no times in nanoseconds, and knows no unsigned integers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, store, _, _ = scanned
    (schema,) = {pq.read_schema(path) for path in store.with_suffix(".exchanges").rglob("*.parquet")}
    assert set(schema.types) == {pa.timestamp("us", tz="UTC"), pa.int64(), pa.string()}


def test_a_folder_for_exchanges_that_cannot_be_written_ends_the_scan_and_blames_no_capture(tmp_path):
    places.capture(tmp_path / "captures" / "a.pcap")
    (tmp_path / "file").write_text("")
    store = tmp_path / "store.db"
    done = places.scan(tmp_path / "captures", store, "--exchanges", tmp_path / "file" / "x", check=(2,))
    assert f"cannot write the exchanges to {tmp_path}/file/x/.staging/1 (Not a directory)" in done.stderr
    assert ask(store, "SELECT * FROM files") == []


def test_the_store_is_its_owners_alone(scanned):
    _, store, _, _ = scanned
    parts = [store, *(path for path in store.with_suffix(".exchanges").rglob("*") if path.is_file())]
    assert {path.stat().st_mode & 0o777 for path in parts} == {0o600}


def test_what_did_not_change_is_not_read_again_and_the_exit_code_stays(scanned):
    folder, store, _, first = scanned
    before = places.dump(store)
    again = places.scan(folder, store, "--format", "jsonl")
    assert first.returncode == again.returncode == 1
    last = json.loads(again.stdout.splitlines()[-1])
    assert (last["kind"], last["totals"]["read"], last["totals"]["unchanged"]) == ("scan", 0, 23)
    assert [line for line in places.dump(store) if not line.startswith("scans ")] == [
        line for line in before if not line.startswith("scans ")
    ]


def test_a_file_that_was_only_touched_or_moved_is_not_read_again(tmp_path, run):
    file = places.capture(tmp_path / "captures" / "a.pcap")
    run(file.parent)
    file.touch()
    assert run(file.parent).totals.read == 0
    moved = file.rename(file.with_name("b.pcap"))
    run(moved.parent)
    rows = ask(tmp_path / "store.db", "SELECT count(DISTINCT capture_key), count(*) FROM files")
    assert rows == [(1, 2)]
    assert ask(tmp_path / "store.db", "SELECT count(*) FROM captures") == [(1,)]


def test_a_grown_file_gives_the_store_of_one_that_was_read_whole(tmp_path, run):
    whole = places.capture(tmp_path / "whole" / "proxy.pcap", races=3).read_bytes()
    file = tmp_path / "captures" / "proxy.pcap"
    file.parent.mkdir()
    file.write_bytes(whole[: len(whole) // 2])
    first = run(file.parent)
    assert first.totals.partial == 1
    file.write_bytes(whole)
    second = run(file.parent)
    assert (second.totals.read, second.totals.ok) == (1, 1)
    run(file.parent, store=tmp_path / "once.db")

    def told(store):
        lines = places.dump(store)
        return [line.replace("'scan': 2", "'scan': 1") for line in lines if not line.startswith("scans ")]

    # Its name was given when less of it was there; all else is the same.
    (key,), (other,) = (ask(tmp_path / s, "SELECT key FROM captures")[0] for s in ("store.db", "once.db"))
    strip = [line.replace(key, "KEY") for line in told(tmp_path / "store.db")]
    assert strip == [line.replace(other, "KEY") for line in told(tmp_path / "once.db")]


def test_a_new_member_of_a_series_continues_it_and_nothing_is_counted_twice(tmp_path, run):
    folder = tmp_path / "captures"
    whole = [f"cap_{i:05d}_20231114.pcap" for i in range(3)]
    for i, name in enumerate(whole[:2]):
        places.capture(folder / name, races=1, answered=1, at_s=100 * i, orig_port=40_000 + 100 * i)
    run(folder)
    places.capture(folder / whole[2], races=1, answered=1, at_s=200, orig_port=50_000)
    assert run(folder).totals.read == 1
    rows = ask(tmp_path / "store.db", "SELECT paths, context_paths, after_ts_ns FROM captures ORDER BY first_ts_ns")
    assert [len(json.loads(paths)) for paths, _, _ in rows] == [2, 1]
    assert json.loads(rows[1][1]) == [str(folder / whole[1])]
    assert ask(tmp_path / "store.db", "SELECT sum(count) FROM findings WHERE code = 'PD101'") == [(3,)]
    assert ask(tmp_path / "store.db", "SELECT sum(exchanges), sum(lost) FROM upstream_days") == [(12, 3)]
    assert run(folder).totals.read == 0


def test_a_connection_that_reaches_into_a_new_member_is_one_connection(tmp_path, run):
    whole = places.capture(tmp_path / "x" / "proxy.pcap", races=1, answered=0).read_bytes()
    header, records = whole[:24], whole[24:]
    # The request and the FIN that crossed it lie in the second file.
    cut = 0
    for _ in range(6):
        cut += 16 + int.from_bytes(records[cut + 8 : cut + 12], "little")
    folder = tmp_path / "captures"
    folder.mkdir()
    (folder / "cap_00001_20231114.pcap").write_bytes(header + records[:cut])
    assert run(folder).findings == ()
    (folder / "cap_00002_20231114.pcap").write_bytes(header + records[cut:])
    (finding,) = run(folder).findings
    assert (finding.code, finding.count) == ("PD101", 1)


def test_a_ring_file_with_new_content_keeps_what_the_old_one_told(tmp_path, run):
    file = places.capture(tmp_path / "captures" / "a.pcap", races=2)
    run(file)
    places.capture(file, races=1, at_s=86_400)
    summary = run(file)
    assert summary.totals.read == 1
    assert [(f.count, f.last_count, f.state.value) for f in summary.findings] == [(3, 1, "ongoing")]


def test_another_version_reads_again_and_counts_once(tmp_path, run, monkeypatch):
    folder = tmp_path / "captures"
    places.many(folder, n=2)
    run(folder)
    before = ask(tmp_path / "store.db", "SELECT identifier, count FROM findings ORDER BY identifier")
    monkeypatch.setattr("pcapdiag.nightly.scan.run.__version__", "9.9.9")
    assert run(folder, jobs=2).totals.unchanged == 0
    assert ask(tmp_path / "store.db", "SELECT identifier, count FROM findings ORDER BY identifier") == before
    assert ask(tmp_path / "store.db", "SELECT DISTINCT program_version FROM captures") == [("9.9.9",)]
    assert run(folder).totals.read == 0


@contextmanager
def as_nobody():
    """Open files with the rights of nobody, in this thread, whoever runs the tests."""
    libc = ctypes.CDLL(None)
    own = libc.setfsuid(65534)
    yield
    libc.setfsuid(own)


def test_a_file_that_may_not_be_read_fails_and_is_tried_again(tmp_path):
    path = tmp_path / "a.pcap"
    places.capture(path)
    path.chmod(0)
    found = Found(str(path), FileStamp(path.stat().st_size, path.stat().st_mtime_ns))
    with as_nobody():
        result = run_job(Job("s", ReadOptions(), "1", (Fresh(found),)))
    assert [(r.status.value, r.retry, r.notes[0].text) for r in result.failed] == [
        ("failed", True, f"cannot open {path}: Permission denied")
    ]


def test_a_file_that_went_away_meanwhile_fails_and_is_tried_again(tmp_path, run):
    here = places.capture(tmp_path / "captures" / "a.pcap")
    gone = tmp_path / "captures" / "b.pcap"
    with Store(str(tmp_path / "store.db")) as store:
        scan = store.begin_scan([], "", "0.1.0")
        result = run_job(Job("s", ReadOptions(), "0.1.0", (Fresh(Found(str(gone), FileStamp(100, 1))),)))
        store.write_files(scan, "0.1.0", result.failed)
        store.finish_scan(scan, found=1, waiting=0)
    assert [(r.retry, r.notes[0].text) for r in result.failed] == [
        (True, f"cannot open {gone}: No such file or directory")
    ]
    shutil.copy(here, gone)
    gone.touch()
    assert run(tmp_path / "captures").totals.ok == 2


def test_nothing_that_could_be_read_is_an_error_and_so_is_a_place_without_captures(tmp_path, run):
    bad = tmp_path / "captures" / "x.pcap"
    bad.parent.mkdir()
    with pytest.raises(CaptureError, match="no capture in"):
        run(bad.parent)
    bad.write_bytes(b"garbage")
    with pytest.raises(CaptureError, match="none of the 1 files could be read"):
        run(bad.parent)
    with pytest.raises(CaptureError, match="No such file"):
        run(tmp_path / "gone")


def test_a_file_that_is_still_written_to_waits_if_asked_for(tmp_path, run):
    old = places.capture(tmp_path / "captures" / "old" / "a.pcap")
    os.utime(old, (1, 1))
    places.capture(tmp_path / "captures" / "new" / "a.pcap", resp="10.9.0.2")
    totals = run(tmp_path / "captures", settle_s=60).totals
    assert (totals.read, totals.waiting) == (1, 1)
    assert run(tmp_path / "captures").totals.read == 1


def test_a_time_range_leaves_other_captures_alone(tmp_path, run):
    for day in range(3):
        places.capture(tmp_path / "captures" / f"day{day}x" / "a.pcap", at_s=86_400 * day, resp=f"10.9.0.{day + 1}")
    start = places.START_NS
    summary = run(tmp_path / "captures", since_ns=start + places.DAY_NS, until_ns=start + 2 * places.DAY_NS)
    assert (summary.totals.read, summary.outside) == (1, 2)
    assert {finding.subject for finding in summary.findings} == {"10.9.0.2:80"}
    assert run(tmp_path / "captures").totals.read == 2


def test_logs_are_found_by_the_days_of_a_capture(tmp_path, run):
    case = places.ROOT / "captures" / "idle_close_race_65s"
    (tmp_path / "captures").mkdir()
    shutil.copy(case / "proxy.pcap", tmp_path / "captures")
    for day in ("20261120", "20261121"):
        (tmp_path / "logs" / day).mkdir(parents=True)
    run(tmp_path / "captures", error_logs=(str(tmp_path / "logs/%Y%m%d/error.log*"),), store=tmp_path / "none.db")
    (report,) = ask(tmp_path / "none.db", "SELECT json FROM reports")
    assert json.loads(zlib.decompress(report[0]))["log"]["entries"] == []
    first_day = json.loads(zlib.decompress(report[0]))["captures"][0]["first_ts"][:10].replace("-", "")
    shutil.copy(case / "error.log", tmp_path / "logs" / first_day / "error.log.1")
    run(tmp_path / "captures", error_logs=(str(tmp_path / "logs/%Y%m%d/error.log*"),))
    (report,) = ask(tmp_path / "store.db", "SELECT json FROM reports")
    assert len(json.loads(zlib.decompress(report[0]))["log"]["entries"]) > 10
