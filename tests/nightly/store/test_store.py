"""The store by itself: its schema, its transactions, who holds what, and what it forgets."""

import dataclasses
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from pcapdiag.base.errors import StoreError, UsageError
from pcapdiag.nightly.store import database
from pcapdiag.nightly.store.alive import holder_name, is_dead
from pcapdiag.nightly.store.database import HEAD, Database, require_store
from pcapdiag.nightly.store.history import list_captures, list_findings, list_scans, list_upstreams
from pcapdiag.nightly.store.model import (
    DetailFile,
    FindingState,
)
from pcapdiag.nightly.store.prune import prune
from pcapdiag.nightly.store.store import Store
from pcapdiag.nightly.store.tables import Base
from tests.nightly.store.builders import result
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


def test_the_newest_migration_makes_the_tables_that_the_code_knows(tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(str(tmp_path / "store.db"))
    with database.reading() as db:
        context = MigrationContext.configure(db)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_a_store_of_a_newer_program_is_refused(tmp_path):
    Database(str(tmp_path / "store.db")).close()
    db = sqlite3.connect(tmp_path / "store.db")
    db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="a newer pcapdiag made the store"):
        Database(str(tmp_path / "store.db"))


def test_nights_of_several_captures_have_one_rate(tmp_path):
    hour = 3_600 * 10**9
    with Store(str(tmp_path / "store.db")) as store:
        scan = store.begin_scan(["/c"], "job", "1")
        first = result("a", gaps_near=3, lost_near=1, watched_ppm=50_000)
        later = {"first_ts_ns": first.last_ts_ns, "last_ts_ns": first.last_ts_ns + hour}
        store.write_capture(scan, first)
        store.write_capture(scan, result("b", gaps_near=1, lost_near=0, watched_ppm=50_000, **later))
        store.write_capture(scan, result("c", watched_ppm=900_000))
        (row,) = list_upstreams(store)
        # Four near misses in a tenth of a day, half of them in the window; what cannot tell does not dilute it.
        assert row.risk.expected == 20
        assert row.risk.low < 20 < row.risk.high
        # A second proxy in the same hour: more requests in the same time.
        store.write_capture(scan, result("d", gaps_near=4, lost_near=1, watched_ppm=50_000, **later))
        (row,) = list_upstreams(store)
        assert row.risk.expected == 40


def test_many_processes_open_a_new_store_at_once(tmp_path):
    code = "import sys; from pcapdiag.nightly.store.store import Store; Store(sys.argv[1]).close()"
    command = [sys.executable, "-c", code, str(tmp_path / "store.db")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(p.communicate(timeout=HANG_S)[1], p.returncode) for p in processes] == [(b"", 0)] * 4


def test_a_store_is_private_from_its_first_byte(store):
    mode = stat.S_IMODE(store.database.path.stat().st_mode)
    folder = stat.S_IMODE(store.database.path.parent.stat().st_mode)
    assert (oct(mode), oct(folder)) == ("0o600", "0o700")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://x/y", "a store is an SQLite file"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("postgres:/me:hunter2@host/db", "two slashes"),
        ("postgresql://me:hunter2@host:port/db", "this URL cannot be read"),
        ("postgresql://me:hun@ter2@[::1/db", "this URL cannot be read"),
    ],
)
def test_other_stores_are_refused(url, says):
    with pytest.raises(UsageError, match=says) as refused:
        Database(url)
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@127.0.0.1:1/db", "postgresql://me@127.0.0.1:1/db?password=hunter2&sslmode=disable"]
)
def test_an_error_shows_where_the_store_is_but_no_password(url):
    with pytest.raises(StoreError, match=r"connection to the store .*127\.0\.0\.1:1/db") as refused:
        Database(url)
    assert "hunter2" not in str(refused.value)


def test_a_server_that_is_silent_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(database, "_PATIENCE", {"connect_timeout": 2})
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreError, match="connection to the store"):
        Database(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db")


def test_a_writer_that_does_not_end_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_MS", 200)
    with Store(str(tmp_path / "store.db")) as store, store.database.writing():
        other = Database(str(tmp_path / "store.db"))
        with pytest.raises(StoreError, match="another process has been writing to the store"), other.writing():
            pass
        other.close()


def test_nothing_is_made_where_there_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="run `pcapdiag scan` first"):
        require_store(str(tmp_path / "store.db"))
    assert list(tmp_path.iterdir()) == []


def test_writing_a_capture_twice_is_writing_it_once(store):
    scan = store.begin_scan(["x"], "job", "1")
    store.write_capture(scan, result("a", count=3))
    once = list_findings(store), list_upstreams(store), list_captures(store)
    store.write_capture(scan, result("a", count=3))
    assert (list_findings(store), list_upstreams(store), list_captures(store)) == once
    assert [f.count for f in once[0]] == [3]


def test_what_a_capture_no_longer_shows_is_no_finding_any_more(store):
    scan = store.begin_scan(["x"], "job", "1")
    store.write_capture(scan, result("a", count=3))
    store.write_capture(scan, result("a", count=0))
    assert list_findings(store) == ()


def test_a_transaction_that_fails_leaves_nothing(store):
    scan = store.begin_scan(["x"], "job", "1")
    broken = result("a")
    broken = dataclasses.replace(broken, sightings=(*broken.sightings, *broken.sightings))
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        store.write_capture(scan, broken)
    assert (list_captures(store), store.known_files(), list_upstreams(store)) == ((), {}, ())


def test_text_that_no_database_takes_is_stored_visibly(store):
    scan = store.begin_scan(["x"], "job", "1")
    odd = dataclasses.replace(result("a").sightings[0], message="a\0b\udcffc")
    store.write_capture(scan, result("a", sightings=(odd,)))
    assert [f.message for f in list_findings(store)] == ["a\\x00b\\xffc"]


def test_a_living_holder_is_known_and_a_dead_one_at_once():
    name, now = holder_name(), time.time_ns()
    assert not is_dead(name, now + 1, now)
    assert is_dead(name, now - 1, now)
    machine, pid, started = name.rsplit(" ", 2)
    assert is_dead(f"{machine} {pid} {int(started) + 1}", now + 1, now)  # another process of the same number
    assert not is_dead(f"elsewhere {pid} 1", now + 1, now)
    assert is_dead("", now + 1, now)
    child = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    stat_line = (f"/proc/{child.pid}/stat", child.pid)
    with open(stat_line[0]) as file:  # noqa: PTH123 - the zombie's own file
        began = file.read().rpartition(")")[2].split()[19]
    assert is_dead(f"{machine} {child.pid} {began}", now + 1, now)
    child.wait()


@pytest.mark.parametrize(
    ("counts", "exchanges", "state"),
    [
        ({20: 5}, {20: 100}, FindingState.NEW),
        ({20: 5, 21: 5}, {20: 100, 21: 100}, FindingState.ONGOING),
        ({20: 5, 21: 7}, {20: 100, 21: 100}, FindingState.ONGOING),
        ({20: 5, 21: 20}, {20: 100, 21: 100}, FindingState.WORSE),
        ({20: 5, 21: 20}, {20: 100, 21: 400}, FindingState.ONGOING),
        ({20: 5}, {20: 100, 21: 100}, FindingState.GONE),
        ({20: 5}, {20: 100, 21: 10}, FindingState.QUIET),
        ({20: 5, 21: 5}, {20: 0, 21: 0}, FindingState.ONGOING),
    ],
)
def test_the_state_follows_from_rates_not_from_counts(store, counts, exchanges, state):
    scan = store.begin_scan(["x"], "job", "1")
    # The later day first: when a capture is read has nothing to do with when it was made.
    for day in sorted(exchanges, reverse=True):
        store.write_capture(scan, result(f"d{day}", day=day, count=counts.get(day, 0), exchanges=exchanges[day]))
    store.finish_scan(scan, found=len(exchanges), waiting=0)
    (finding,) = list_findings(store)
    last = max(exchanges)
    assert (finding.state, finding.state_day, finding.last_count) == (state, f"2026-11-{last}", counts.get(last, 0))
    assert finding.count == sum(counts.values())


def test_what_is_old_or_too_much_is_forgotten_but_not_read_again(store):
    scan = store.begin_scan(["x"], "job", "1")
    for day in (10, 19, 20):
        name = f"date=2026-11-{day}/upstream=x/d{day}-0.parquet"
        detail = DetailFile(name, 1000, content=b"x" * 1000)
        store.write_capture(scan, result(f"d{day}", day=day, count=day, details=(detail,)))
    store.finish_scan(scan, found=3, waiting=0)
    assert prune(store, keep_days=30).captures == 0
    assert prune(store, keep_days=5) == type(prune(store))(1, 1000)
    assert [c.key for c in list_captures(store)] == ["d19", "d20"]
    assert [f.count for f in list_findings(store)] == [39]
    assert prune(store, keep_bytes=1500).captures == 1
    assert [c.key for c in list_captures(store)] == ["d20"]
    left = sorted(str(p.relative_to(store.details.path)) for p in store.details.path.rglob("*"))
    assert left == ["date=2026-11-20", "date=2026-11-20/upstream=x", "date=2026-11-20/upstream=x/d20-0.parquet"]
    assert len(store.known_files()) == 3


def test_scans_are_listed_with_what_they_did(store):
    scan = store.begin_scan(["/c", "s3://b"], "job", "1")
    store.write_capture(scan, result("a"))
    store.finish_scan(scan, found=5, waiting=1)
    (row,) = list_scans(store)
    assert (row.number, row.state, row.places) == (1, "finished", ("/c", "s3://b"))
    assert (row.found, row.read, row.ok, row.unchanged, row.waiting) == (5, 1, 1, 3, 1)
    assert row.ended_at_ns >= row.started_at_ns
