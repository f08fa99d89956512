"""The same scan elsewhere: a store on PostgreSQL, captures in S3, work on a Dask cluster whose workers die."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from sqlalchemy import func, select

from pcapdiag.nightly.store.database import Database
from pcapdiag.nightly.store.store import Store
from pcapdiag.nightly.store.tables import Base
from tests.nightly.scan import places
from tests.waiting import HANG_S, wait_until

pytestmark = pytest.mark.compiled_only


def rows_of(url):
    """Return the rows of a store without clocks, numbers as numbers and paths without their folders."""
    database = Database(str(url))
    lines = []
    with database.reading() as db:
        for table in Base.metadata.sorted_tables:
            for row in db.execute(table.select()).mappings():
                kept = {k: v for k, v in row.items() if k not in {*places._CLOCKS, "job", "places"}}
                lines.append(f"{table.name} {sorted(kept.items())}")
    database.close()
    return sorted(lines)


def test_a_store_on_postgresql_holds_what_one_on_sqlite_holds(tmp_path, postgres):
    folder = places.many(tmp_path / "captures", n=4)
    url = postgres()
    first = places.scan(folder, url, "--exchanges", tmp_path / "a")
    places.scan(folder, tmp_path / "s.db", "--exchanges", tmp_path / "b")
    assert rows_of(url) == rows_of(tmp_path / "s.db")
    again = places.scan(folder, url, "--exchanges", tmp_path / "a", "--format", "json")
    assert json.loads(again.stdout)["totals"]["read"] == 0
    assert first.returncode == again.returncode == 1
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*.parquet")) for d in (tmp_path / "a", tmp_path / "b")]
    assert names[0] == names[1] != []


def n_captures(store):
    """Return how many captures a scan has written so far."""
    with store.database.reading() as db:
        return db.execute(select(func.count()).select_from(Base.metadata.tables["captures"])).scalar_one()


def test_a_scan_into_postgresql_may_be_killed(tmp_path, postgres):
    folder = places.many(tmp_path / "captures", n=4)
    reference, url = postgres(), postgres()
    start = time.monotonic()
    places.scan(folder, reference, "--no-exchanges")
    took_s = time.monotonic() - start
    rng = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(
            places.command(folder, url, "--no-exchanges"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=places.environment(),
        )
        time.sleep(rng.uniform(0.3, 0.95) * took_s)
        process.kill()
        process.wait()
    places.scan(folder, url, "--no-exchanges")
    # One may have ended before it was killed: then the last scan is one more, which found nothing new.
    found, wanted = ([r for r in rows_of(store) if not r.startswith("scans ")] for store in (url, reference))
    assert found == wanted != []


def test_a_lost_connection_to_postgresql_ends_in_a_clear_error_and_loses_nothing(tmp_path, postgres, begin):
    folder = places.many(tmp_path / "captures", n=10)
    reference, url = postgres(), postgres()
    places.scan(folder, reference, "--no-exchanges")
    process = begin(*places.command(folder, url, "--no-exchanges"))
    with closing(Store(url)) as store:
        wait_until(lambda: n_captures(store), pause_s=0.02)
    postgres.stop()
    try:
        _, err = process.communicate(timeout=HANG_S)
        refused = places.scan(folder, url, "--no-exchanges", check=(2,))
    finally:
        postgres.start()
    assert process.returncode == 2, "it was done before the server stopped"
    assert "connection to the store" in err
    assert "connection to the store" in refused.stderr
    assert "run the same command again" in refused.stderr
    places.scan(folder, url, "--no-exchanges")
    assert rows_of(url) == rows_of(reference)


@pytest.mark.long
def test_captures_in_s3_give_what_they_give_in_a_folder(tmp_path, bucket):
    folder = places.many(tmp_path / "captures", n=4)
    url = bucket(folder)
    there = json.loads(places.scan(url, tmp_path / "s3.db", "--format", "json").stdout)
    here = json.loads(places.scan(folder, tmp_path / "local.db", "--format", "json").stdout)
    assert there["totals"] == here["totals"]
    told = [[(f["identifier"], f["count"], f["state"]) for f in summary["findings"]] for summary in (there, here)]
    assert told[0] == told[1] != []
    assert [f["path"] for f in there["files"]] == [f"{url}/bad/{n}.pcap" for n in ("cut", "empty", "garbage")]
    again = json.loads(places.scan(url, tmp_path / "s3.db", "--format", "json").stdout)
    assert (again["totals"]["read"], again["totals"]["unchanged"]) == (0, there["totals"]["found"])
    # An object that was replaced is another one, whatever its name.
    places.capture(folder / "hosta" / "proxy.pcap", races=1, at_s=86_400)
    bucket(folder / "hosta")
    bucket(folder)
    changed = json.loads(places.scan(url, tmp_path / "s3.db", "--format", "json").stdout)
    assert changed["totals"]["read"] == 2


def test_the_how_to_for_s3_does_what_it_says(tmp_path, bucket):
    """Its commands, as they stand on the page."""
    incident, work = places.ROOT / "captures" / "idle_close_race_65s", tmp_path / "work"
    shutil.copytree(incident, work)
    (tmp_path / "bucket" / "proxy").mkdir(parents=True)
    (work / "proxy.pcap").rename(tmp_path / "bucket" / "proxy" / "proxy.pcap")
    bucket(tmp_path / "bucket")
    program = tmp_path / "bin" / "pcapdiag"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pcapdiag "$@"\n')
    program.chmod(0o755)
    environment = places.environment() | {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    section = (places.ROOT / "docs" / "how-to.md").read_text().split("\n## S3\n")[1]
    _, commands = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    codes, said = [], []
    for line in commands.splitlines():
        options = {"capture_output": True, "text": True, "timeout": HANG_S}
        done = subprocess.run(["/bin/sh", "-c", line], check=False, cwd=work, env=environment, **options)
        codes.append(done.returncode)
        said.append(done.stdout)
    assert codes == [1, 1, 1, 0], said
    assert "19 of 72 client requests failed" in said[0]
    assert "PD101" in said[3]
    assert "10 of 63 requests got no answer" in (work / "report.html").read_text()
    assert (work / "site" / "index.html").is_file()


def test_a_lost_connection_to_s3_ends_in_a_clear_error(tmp_path, bucket, monkeypatch):
    folder = tmp_path / "captures"
    places.capture(folder / "a.pcap")
    url = bucket(folder)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket.stop()
    done = places.scan(url, tmp_path / "s.db", check=(2,))
    assert "cannot open s3://captures" in done.stderr
    assert "connection was lost" in done.stderr


@pytest.mark.long
def test_a_cluster_that_loses_two_workers_leaves_the_store_of_an_undisturbed_scan(tmp_path, bucket, cluster, begin):
    url = bucket(places.many(tmp_path / "captures", n=8))
    places.scan(url, tmp_path / "local.db")
    workers = cluster(n_workers=3, memory_limit="1GiB")
    command = places.command(url, tmp_path / "dask.db", "--format", "json", "--scheduler", workers.scheduler_address)
    process = begin(*command)
    killed = []
    for n_wanted in (2, 6):
        n_written = places.wait_for_captures(tmp_path / "dask.db", n_wanted)
        at_work = [address for address, worker in workers.scheduler.workers.items() if worker.processing]
        nannies = {nanny.worker_address: nanny for nanny in workers.workers.values()}
        victim = next(address for address in at_work if address not in killed)
        os.kill(nannies[victim].pid, signal.SIGKILL)
        killed.append(victim)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1, err
    totals = json.loads(out)["totals"]
    assert n_written < totals["read"]
    assert totals["failed"] == 2  # garbage, and a file without a byte
    assert places.dump(tmp_path / "dask.db") == places.dump(tmp_path / "local.db")


def test_no_scheduler_is_said_at_once(tmp_path):
    places.capture(tmp_path / "captures" / "a.pcap")
    done = places.scan(tmp_path / "captures", tmp_path / "s.db", "--scheduler", "tcp://127.0.0.1:1", check=(2,))
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in done.stderr
