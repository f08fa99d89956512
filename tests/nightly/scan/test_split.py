"""A large capture is shared among idle workers: the store is the same, whoever read it and whatever goes wrong."""

import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pcapdiag.engine.tcp.tracker import Shard
from pcapdiag.nightly.scan import pool
from pcapdiag.nightly.scan.find import find_files
from pcapdiag.nightly.scan.model import Fresh, Job, Part, ReadOptions, ScanJobResult, ScanOptions
from pcapdiag.nightly.scan.read import run_job
from pcapdiag.nightly.scan.run import run_scan
from pcapdiag.nightly.scan.split import Shards
from pcapdiag.nightly.store.store import Store
from tests.nightly.scan import places

pytestmark = pytest.mark.compiled_only


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one large capture: as large as the threshold says."""
    return places.capture(tmp_path / "captures" / "proxy.pcap", races=12, answered=60).parent


@pytest.fixture
def handed_out(monkeypatch):
    """Return the list of jobs that workers get from now on."""
    jobs = []
    submit = pool.Workers.submit
    monkeypatch.setattr(pool.Workers, "submit", lambda self, job: (jobs.append(job), submit(self, job))[1])
    return jobs


def scan(folder, store, *, jobs=2, split_bytes=1):
    with Store(str(store)) as opened:
        return run_scan(opened, ScanOptions((str(folder),), ReadOptions(), jobs=jobs, split_bytes=split_bytes))


def make_job(path, **options):
    (found,) = find_files([str(path)], known=(), on_problem=print).values()
    part = Part("k" * 32, (str(path),))
    return Job("series", ReadOptions(), "1", (Fresh(found),), part=part, **options)


def test_idle_workers_share_a_large_capture_and_the_store_is_that_of_one(folder, tmp_path, handed_out):
    scan(folder, tmp_path / "shared.db", jobs=3)
    assert [job.shard and job.shard[:2] for job in handed_out] == [None, (0, 3), (1, 3), (2, 3), None]
    assert len(handed_out[-1].shards) == 3
    assert min(shard.n_rows[0] for shard in handed_out[-1].shards) > 0
    handed_out.clear()
    scan(folder, tmp_path / "alone.db", jobs=1)
    assert [job.shard for job in handed_out] == [None]
    assert places.dump(tmp_path / "shared.db") == places.dump(tmp_path / "alone.db")
    assert list(tmp_path.rglob("shard-*")) == []


def test_a_series_is_shared_as_one_capture(tmp_path, handed_out):
    for number in range(3):
        name = f"ring_{number:05d}_20231114221320.pcap"
        places.capture(tmp_path / "ring" / name, races=2, at_s=100 * number, orig_port=40_000 + 100 * number)
    scan(tmp_path / "ring", tmp_path / "shared.db")
    assert sum(job.shard is not None for job in handed_out) == 2
    scan(tmp_path / "ring", tmp_path / "alone.db", split_bytes=0)
    assert places.dump(tmp_path / "shared.db") == places.dump(tmp_path / "alone.db")


def test_nobody_shares_while_there_is_other_work(tmp_path, handed_out):
    for number in range(6):
        places.capture(tmp_path / "captures" / f"host{number}x" / "proxy.pcap", resp=f"10.9.0.{number + 1}")
    scan(tmp_path / "captures", tmp_path / "store.db")
    assert sum(job.shard is None and job.split_bytes == 0 for job in handed_out) >= 3


def test_a_small_capture_is_read_by_one_worker(folder, tmp_path, handed_out):
    scan(folder, tmp_path / "store.db", split_bytes=10**9)
    assert [job.shard for job in handed_out] == [None]


def test_a_share_that_cannot_be_read_leaves_the_capture_to_one_worker(folder):
    job = make_job(folder / "proxy.pcap")
    shares = Shards()
    split = ScanJobResult(split=job)
    first, second = shares.take(job, split, 2)
    assert (first.shard[:2], second.shard[:2]) == ((0, 2), (1, 2))
    assert first.shard.seed == second.shard.seed
    assert shares.take(first, run_job(first), 1) == []
    (again,) = shares.take(second, ScanJobResult(), 2)
    assert (again.shard, again.shards, again.split_bytes) == (None, (), 0)
    (result,) = run_job(again).captures
    assert result.exchanges == 144


def test_a_worker_that_dies_of_its_share_leaves_the_capture_to_another(folder, tmp_path, monkeypatch, handed_out):
    """What the pool says of a worker that was killed is put in the place of what it read."""
    wait = pool.Workers.wait

    def lose_one(self, timeout_s):
        return [(job, pool._died(job) if job.shard else result) for job, result in wait(self, timeout_s)]

    monkeypatch.setattr(pool.Workers, "wait", lose_one)
    summary = scan(folder, tmp_path / "shared.db")
    assert [job.shard and job.shard[:2] for job in handed_out] == [None, (0, 2), (1, 2), None]
    assert summary.files == ()
    scan(folder, tmp_path / "alone.db", split_bytes=0)
    assert places.dump(tmp_path / "shared.db") == places.dump(tmp_path / "alone.db")


def test_shares_of_a_file_that_grew_meanwhile_are_not_joined(folder, tmp_path):
    path = folder / "proxy.pcap"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    job = make_job(path, staging=str(tmp_path / "staging"))
    shares = Shards()
    first, second = shares.take(job, ScanJobResult(split=job), 2)
    assert shares.take(first, run_job(first), 1) == []
    path.write_bytes(whole)
    (again,) = shares.take(second, run_job(second), 2)
    assert again.shards == ()
    assert list((tmp_path / "staging").iterdir()) == []


def test_what_cannot_be_opened_says_so_once(folder):
    job = make_job(folder / "proxy.pcap", shard=Shard(0, 2, 1))
    shutil.rmtree(folder)
    assert run_job(job).shard is None
    (record,) = run_job(replace(job, shard=None)).failed
    assert record.notes[0].code == "unreadable"


@pytest.mark.parametrize("moment", [0.4, 0.8])
def test_a_scan_that_is_killed_while_it_shares_ends_in_the_same_store(folder, tmp_path, moment):
    option = ("--split-size", "1K")
    places.scan(folder, tmp_path / "whole.db")
    reference = places.dump(tmp_path / "whole.db")
    rng = random.Random(moment)
    places.kill_after(moment + rng.uniform(0, 0.2), folder, tmp_path / "killed.db", *option)
    places.scan(folder, tmp_path / "killed.db", *option)
    scans = [line for line in places.dump(tmp_path / "killed.db") if not line.startswith("scans")]
    assert scans == [line for line in reference if not line.startswith("scans")]
    assert list(Path(tmp_path).rglob("shard-*")) == []


@pytest.mark.long
def test_a_cluster_shares_a_capture_in_an_object_store(folder, tmp_path, bucket, cluster):
    url = bucket(folder)
    address = cluster(n_workers=2).scheduler_address
    option = ("--split-size", "1K")
    done = places.scan(url, tmp_path / "shared.db", "--scheduler", address, *option)
    assert "Traceback" not in done.stderr
    places.scan(url, tmp_path / "alone.db", "--split-size", "0")
    assert places.dump(tmp_path / "shared.db") == places.dump(tmp_path / "alone.db")


def test_a_size_that_is_none_is_refused(tmp_path):
    done = places.scan(tmp_path, tmp_path / "s.db", "--split-size", "many", check=(2,))
    assert isinstance(done, subprocess.CompletedProcess)
    assert "'many' is no size" in done.stderr
