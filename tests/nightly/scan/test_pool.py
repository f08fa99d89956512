"""Who does the jobs: processes that end when they are told to, and a cluster that may be gone at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcapdiag.base.errors import ScanError
from pcapdiag.base.version import __version__
from pcapdiag.nightly.scan import pool
from pcapdiag.nightly.scan.model import Found, Fresh, Job, ReadOptions
from pcapdiag.nightly.store.model import FileStamp
from tests.nightly.scan import places
from tests.waiting import HANG_S, is_alive, wait_until

pytestmark = pytest.mark.compiled_only


def job_of(path, *, size=1, version="1"):
    fresh = Fresh(Found(str(path), FileStamp(size, 0)))
    return Job(str(path), ReadOptions(), version, (fresh,))


def finish(workers, jobs):
    """Do jobs as a scan does and return their results."""
    left = list(jobs)
    results = []

    def go_on():
        while left and workers.has_room:
            workers.submit(left.pop(0))
        results.extend(workers.wait(1))

    wait_until(lambda: not (left or workers.n_running), pause_s=0, meanwhile=go_on)
    return results


def test_one_process_does_any_number_of_jobs():
    jobs = [job_of(f"/c/{i}.pcap", size=0) for i in range(450)]
    with pool.Workers(jobs=1, scheduler="") as workers:
        results = finish(workers, jobs)
    assert [result.failed[0].notes[0].code for _, result in results] == ["empty-file"] * 450
    assert sorted(job.series for job, _ in results) == sorted(job.series for job in jobs)


def test_after_an_error_nobody_waits_for_what_is_being_read(tmp_path):
    os.mkfifo(tmp_path / "endless.pcap")  # whoever opens it waits for ever
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(ZeroDivisionError), pool.Workers(jobs=2, scheduler="") as workers:
            _read_for_ever(workers, tmp_path / "endless.pcap")
        assert _workers() == []
        assert other.poll() is None  # nobody else's process is ended
    finally:
        other.communicate(b"\n")


def _read_for_ever(workers, path):
    for _ in range(3):
        workers.submit(job_of(path))
    wait_until(lambda: len(_workers()) == 2)
    assert workers.wait(1) == []
    raise ZeroDivisionError


def test_a_worker_that_is_killed_between_jobs_costs_no_job():
    with pool.Workers(jobs=1, scheduler="") as workers:
        finish(workers, [job_of("/c/a.pcap", size=0)])
        killed = _workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, killed)))
        time.sleep(0.1)  # most often the pool has noticed by then, which is the other of the two cases
        results = finish(workers, [job_of(f"/c/{i}.pcap", size=0) for i in range(5)])
        workers.submit(job_of("/c/b.pcap", size=0))
        before = _workers()
        finish(workers, [job_of(f"/c/{i}.pcap", size=0) for i in range(5)])
        assert _workers() == before != []  # the pool is as good as new: its worker does one job after the other
    assert [result.failed[0].notes[0].code for _, result in results] == ["empty-file"] * 5


def test_what_is_typed_at_a_scan_ends_it_in_one_line(tmp_path):
    folder = places.many(tmp_path / "captures", n=8)
    command = places.command(folder, tmp_path / "store.db")
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=places.environment(), start_new_session=True
    )
    places.wait_for_captures(tmp_path / "store.db", 2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C: to the workers, too
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (130, b"")
    assert [line for line in err.decode().splitlines() if "bad/" not in line] == ["pcapdiag: interrupted"]


@pytest.mark.long
@pytest.mark.parametrize("is_remote", [False, True])
def test_memory_of_a_worker_does_not_grow_with_what_it_has_read(tmp_path, cluster, is_remote):
    n = 16
    paths = [places.capture(tmp_path / f"{i}" / "a.pcap", races=8, answered=40, at_s=i) for i in range(3 * n)]
    workers = cluster(n_workers=1, memory_limit="1GiB") if is_remote else None
    sizes = []
    with pool.Workers(jobs=1, scheduler=workers.scheduler_address if workers else "") as hands:
        for first in range(0, 3 * n, n):
            jobs = [job_of(path, size=path.stat().st_size, version=__version__) for path in paths[first : first + n]]
            results = finish(hands, jobs)
            assert all(result.captures for _, result in results)
            (worker,) = [nanny.pid for nanny in workers.workers.values()] if workers else _workers()
            sizes.append(int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
    print("resident:", sizes, "MiB")
    assert sizes[-1] - sizes[0] < 24, sizes


@pytest.mark.long
def test_a_capture_that_needs_more_memory_than_a_worker_has_is_told_and_tried_again(tmp_path, cluster):
    """A bound below what the program itself takes stands for a capture that is too large for a sensible one."""
    path = places.capture(tmp_path / "a.pcap")
    workers = cluster(n_workers=1, memory_limit="128MiB")
    with pool.Workers(jobs=0, scheduler=workers.scheduler_address) as hands:
        ((_, result),) = finish(hands, [job_of(path, size=path.stat().st_size, version=__version__)])
    (file,) = result.failed
    assert (file.notes[0].code, file.retry) == ("worker-died", True)
    assert "perhaps for want of memory" in file.notes[0].text


def test_a_cluster_whose_workers_have_another_version_is_refused(cluster, monkeypatch):
    workers = cluster(n_workers=1)
    monkeypatch.setattr(pool, "__version__", "0.0.other")
    with pytest.raises(ScanError, match=r"this is 0\.0\.other: install the same there"):
        _finish_on(workers, ["/c/a.pcap"])


def test_a_cluster_without_workers_is_not_waited_for_for_ever(cluster, monkeypatch):
    monkeypatch.setattr(pool, "_WORKERLESS_S", 1.0)
    monkeypatch.setattr(pool, "_ASK_EVERY_S", 0.2)
    with pytest.raises(ScanError, match="has no workers: start some with `dask worker tcp://"):
        _finish_on(cluster(n_workers=0), ["/c/a.pcap"])


def _finish_on(cluster, paths):
    with pool.Workers(jobs=0, scheduler=cluster.scheduler_address) as workers:
        return finish(workers, [job_of(path, size=0) for path in paths])


@pytest.mark.long
def test_a_scheduler_that_is_gone_ends_in_a_clear_error_and_loses_nothing(tmp_path, begin):
    folder = places.many(tmp_path / "captures", n=12)
    places.scan(folder, tmp_path / "local.db")
    address = f"tcp://127.0.0.1:{places.free_port()}"
    scheduler = begin(sys.executable, "-m", "dask", "scheduler", "--host", address, "--no-dashboard", "--no-show")
    common = ("--nthreads", "1", "--no-dashboard", "--memory-limit", "1GiB", "--local-directory", str(tmp_path))
    begin(sys.executable, "-m", "dask", "worker", address, *common, "--nworkers", "2")
    options = ("--scheduler", address)
    places.wait_for_port(address)
    process = begin(*places.command(folder, tmp_path / "dask.db", *options))
    places.wait_for_captures(tmp_path / "dask.db", 3)
    scheduler.kill()
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 2, err
    assert f"the connection to the Dask scheduler at {address} was lost" in err.splitlines()[-1]
    assert "run the same command again" in err.splitlines()[-1]
    places.scan(folder, tmp_path / "dask.db")
    assert places.dump(tmp_path / "dask.db") == places.dump(tmp_path / "local.db")


def _workers():
    """Return the processes that read: a helper of Python that only counts semaphores is none."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
