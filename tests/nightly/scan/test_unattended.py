"""Nobody watches a scan: what happens to it when it is killed, when another runs, when the disk is full."""

import json
import os
import random
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from pcapdiag.nightly.scan import pool
from pcapdiag.nightly.store.store import Store
from tests.nightly.scan import places
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


def test_a_scan_that_is_killed_and_repeated_leaves_the_store_of_one_that_was_not(tmp_path):
    """More moments: ``python -m tests.nightly.scan.places 50``."""
    rng = random.Random(7)
    folder = places.many(tmp_path / "captures", n=6)
    n_killed = places.kill_and_repeat(folder, tmp_path, [None, rng.uniform(1 / 3, 2 / 3), rng.uniform(2 / 3, 1)])
    assert n_killed >= 1


def test_two_scans_at_once_leave_the_store_of_one(tmp_path, begin):
    folder = places.many(tmp_path / "captures", n=6)
    places.scan(folder, tmp_path / "one.db")
    both = [begin(*places.command(folder, tmp_path / "two.db", "--format", "json")) for _ in range(2)]
    summaries = []
    for process in both:
        out, err = process.communicate(timeout=HANG_S)
        assert process.returncode in {0, 1}, err
        summaries.append(json.loads(out)["totals"])
    rest = json.loads(places.scan(folder, tmp_path / "two.db", "--format", "json").stdout)["totals"]
    assert sum(totals["read"] for totals in (*summaries, rest)) == rest["found"]
    assert rest["waiting"] == 0

    def without_scans(store):
        lines = [line for line in places.dump(store) if not line.startswith("scans ")]
        return [re.sub("'scan': [23]", "'scan': 1", line) for line in lines]

    assert sorted(without_scans(tmp_path / "two.db")) == sorted(without_scans(tmp_path / "one.db"))


def test_what_a_living_scan_has_claimed_is_left_to_it(tmp_path):
    folder = tmp_path / "captures"
    file = places.capture(folder / "a.pcap")
    with Store(str(tmp_path / "store.db")) as store:
        other = store.begin_scan(["elsewhere"], "another job", "0")
        assert store.claim(other, [str(file)]) == {str(file)}
        done = places.scan(folder, tmp_path / "store.db", "--format", "json")
        assert json.loads(done.stdout)["totals"]["waiting"] == 1
        store.finish_scan(other, found=0, waiting=0)
    done = places.scan(folder, tmp_path / "store.db", "--format", "json")
    assert json.loads(done.stdout)["totals"]["read"] == 1


def test_a_scan_that_goes_on_for_another_is_the_same_scan(tmp_path):
    places.capture(tmp_path / "captures" / "a.pcap")
    code = (
        "import os, sys; from pcapdiag.nightly.store.store import Store; s = Store(sys.argv[1]); "
        "print(s.begin_scan(['x'], 'job', '1'), flush=True); os.kill(os.getpid(), 9)"
    )
    first = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store.db")],
        capture_output=True,
        text=True,
        env=places.environment(),
        check=False,
    )
    assert (first.stdout, first.returncode) == ("1\n", -9)
    with Store(str(tmp_path / "store.db")) as store:
        assert store.begin_scan(["x"], "job", "1") == 1
        assert store.begin_scan(["x"], "job", "1") == 2  # the first of them lives: it is this process


@pytest.fixture
def small_disk(tmp_path):
    """Return a disk of 3 MB; that takes root, as CI is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk, *, but):
    """Fill a disk but for some KiB; return what to remove to have room again."""
    filler = disk / "filler"
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(handle, b"x" * 4096)
    os.ftruncate(handle, os.fstat(handle).st_size - but * 1024)
    os.close(handle)
    return filler


def told(path):
    return sorted(
        line for line in places.dump(path) if line.startswith(("captures ", "findings ", "sightings ", "date="))
    )


@pytest.mark.parametrize("room", [pytest.param(0, marks=pytest.mark.long), 400])
def test_a_full_disk_ends_in_a_clear_error_and_loses_nothing(tmp_path, small_disk, room):
    folder = places.many(tmp_path / "captures", n=6)
    store = small_disk / "store.db"
    places.scan(folder / "hostb", store)
    before = places.dump(store)
    filler = fill(small_disk, but=room)
    done = places.scan(folder, store, check=(2,))
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("pcapdiag: no room left for ")
    assert "make room on its disk" in line
    assert "go on from there" in line
    assert len(line) < 400
    filler.unlink()
    after = places.dump(store)
    assert {line for line in before if not line.startswith("scans")} <= set(after)
    assert room < 400 or len(after) > len(before)  # in the middle
    places.scan(folder, store)
    places.scan(folder / "hostb", tmp_path / "reference.db")
    places.scan(folder, tmp_path / "reference.db")
    assert told(store) == told(tmp_path / "reference.db")
    assert not list(store.with_suffix(".exchanges").glob(".staging/*"))


def test_a_full_disk_for_the_exchanges_ends_in_a_clear_error_and_loses_nothing(tmp_path, small_disk):
    folder = places.many(tmp_path / "captures", n=6)
    store, exchanges = tmp_path / "store.db", small_disk / "exchanges"
    filler = fill(small_disk, but=40)
    done = places.scan(folder, store, "--exchanges", exchanges, check=(2,))
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"pcapdiag: no room left in {exchanges}/.staging/")
    assert "make room on its disk" in line
    filler.unlink()
    places.scan(folder, store, "--exchanges", exchanges)
    places.scan(folder, tmp_path / "reference.db", "--exchanges", tmp_path / "reference")
    assert told(store) == told(tmp_path / "reference.db")
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*")) for d in (exchanges, tmp_path / "reference")]
    assert names[0] == names[1] != []


@pytest.mark.long
def test_a_full_disk_for_the_site_leaves_the_store_whole_and_the_pages_as_they_were(tmp_path, small_disk):
    folder = places.many(tmp_path / "captures", n=6)
    store, site = tmp_path / "store.db", small_disk / "site"
    places.scan(folder / "hostb", store, "--out", site)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    filler = fill(small_disk, but=20)
    done = places.scan(folder, store, "--out", site, check=(2,))
    assert "10.9.0.2:80" in done.stdout  # the summary is out
    assert f"pcapdiag: no room left for {site}/" in done.stderr
    assert "make room on its disk and run the same command again" in done.stderr
    for path, text in before.items():
        assert path.read_bytes() == text or path.read_bytes().rstrip().endswith(b"</html>")
    filler.unlink()
    places.scan(folder, store, "--out", site)
    places.scan(folder / "hostb", tmp_path / "reference.db", "--out", tmp_path / "reference")
    places.scan(folder, tmp_path / "reference.db", "--out", tmp_path / "reference")
    assert told(store) == told(tmp_path / "reference.db")
    here, there = (
        {p.relative_to(d): p.read_bytes() for d in (d,) for p in d.rglob("*") if p.is_file()}
        for d in (site, tmp_path / "reference")
    )
    assert sorted(here) == sorted(there)


def test_a_worker_that_dies_takes_no_other_file_with_it(tmp_path):
    folder = places.many(tmp_path / "captures", n=4)
    bomb = places.capture(folder / "bomb" / "bomb.pcap", resp="10.9.9.9")
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys\n"
        "import pcapdiag.nightly.scan.read as read\n"
        "inner = read._read\n"
        "def dies(job, part):\n"
        f"    if {str(bomb)!r} in part.paths: os.kill(os.getpid(), 9)\n"
        "    return inner(job, part)\n"
        "read._read = dies\n"
        "if __name__ == '__main__':\n"
        "    from pcapdiag.cli import run\n"
        "    run()\n"
    )
    command = [sys.executable, str(script), *places.command(folder, tmp_path / "store.db", "--format", "json")[3:]]
    done = subprocess.run(
        command, capture_output=True, text=True, env=places.environment(), check=False, timeout=HANG_S
    )
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    assert summary["totals"]["read"] == summary["totals"]["found"]
    died = [file for file in summary["files"] if file["path"] == str(bomb)]
    assert [(file["status"], file["notes"][0]["code"]) for file in died] == [("failed", "worker-died")]
    again = json.loads(places.scan(folder, tmp_path / "store.db", "--format", "json").stdout)
    assert (again["totals"]["read"], again["totals"]["ok"]) == (1, 1)


def test_a_hundred_unchanged_files_start_no_worker(tmp_path, monkeypatch):
    folder = tmp_path / "captures"
    for i in range(100):
        places.capture(folder / f"h{i}x" / "a.pcap", races=0, answered=1, resp=f"10.9.1.{i}", at_s=i)
    places.scan(folder, tmp_path / "store.db", "--no-exchanges")
    monkeypatch.setattr(pool._Processes, "submit", lambda *_: pytest.fail("a worker was started"))
    arguments = places.command(folder, tmp_path / "store.db", "--no-exchanges", "--format", "json")[3:]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    totals = json.loads(done.stdout)["totals"]
    assert (totals["read"], totals["unchanged"]) == (0, 100)
