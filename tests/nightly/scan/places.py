"""Folders of captures for scans, what a store holds as text, and a scan that is killed.

``python -m tests.nightly.scan.places 50`` kills a scan at 50 random moments, repeats it each time and compares the
stores.
"""

import hashlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.scenario import Form, parse, write_capture, write_frames
from tests.waiting import HANG_S, is_alive, wait_until

ROOT = Path(__file__).resolve().parents[3]
DAY_NS = 86_400 * 10**9
START_NS = 1_700_000_000 * 10**9
_GET = "GET /%s HTTP/1.1\\r\\nHost: api.example.test\\r\\n\\r\\n"
_OK = "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
_CLOCKS = {"started_at_ns", "ended_at_ns", "holder", "alive_until_ns"}


def script(races, answered=3):
    """Return a script: requests that cross the FIN of their upstream after 5 s, and some that are answered."""
    lines = []
    for conn in range(races + answered):
        lines += [
            f"+1 @{conn} > S",
            f"+0.01 @{conn} < S.",
            f"+0.01 @{conn} > .",
            f'+0.01 @{conn} > P. "{_GET % "a"}"',
            f'+0.01 @{conn} < P. "{_OK}"',
            f"+0.001 @{conn} > .",
        ]
        if conn < races:
            lines += [
                f'+5 @{conn} > P. "{_GET % "b"}"',
                f"+0.0001 @{conn} < F. ack 44",
                f"+0.01 @{conn} < R",
            ]
        else:
            lines += [f'+1 @{conn} > P. "{_GET % "b"}"', f'+0.01 @{conn} < P. "{_OK}"', f"+0.001 @{conn} > ."]
    return "\n".join(lines)


def capture(path, *, races=2, answered=3, at_s=0, filler=0, **form):
    """Write a capture and return its path; `filler` bytes in frames of no known protocol make it large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"start_ns": START_NS + int(at_s * 10**9), **form}
    data = write_capture(parse(script(races, answered)), **form)
    frame = b"\x02" * 12 + b"\x88\xb5" + bytes(60_000)
    more = write_frames([(form["start_ns"] + 60 * 10**9, frame)] * (filler // len(frame)), Form(**form))
    path.write_bytes(data + more[24:])
    return path


def many(folder, n=12):
    """Write files of their own, a series, a copy, and files with which something is wrong."""
    for i in range(n):
        capture(folder / f"host{chr(97 + i)}" / "proxy.pcap", races=i % 3, at_s=3600 * i, resp=f"10.9.0.{i + 1}")
    for i in range(3):
        capture(
            folder / "ring" / f"ring_{i:05d}_20231114221320.pcap", races=1, at_s=100 * i, orig_port=40_000 + 100 * i
        )
    for i in range(4):
        # Names like those of a series, but at the same time: captures of their own.
        capture(folder / "both" / f"nic_{i:02d}.pcap", races=1, orig=f"10.9.1.{i}")
    whole = (folder / "hosta" / "proxy.pcap").read_bytes()
    (folder / "copies").mkdir()
    (folder / "copies" / "copy.pcap").write_bytes((folder / "hostb" / "proxy.pcap").read_bytes())
    (folder / "bad").mkdir()
    (folder / "bad" / "cut.pcap").write_bytes(whole[:-7])
    (folder / "bad" / "garbage.pcap").write_bytes(b"no capture at all")
    (folder / "bad" / "empty.pcap").write_bytes(b"")
    (folder / "notes.txt").write_text("what is not named like a capture is left alone\n")
    return folder


def dump(path):
    """Return every row of a store and every file of its exchanges, without what the clock says."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    lines = []
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for table in tables:
        query = f"SELECT * FROM {table}"  # noqa: S608 - our own tables
        rows = [{k: row[k] for k in tuple(row.keys()) if k not in _CLOCKS} for row in db.execute(query)]
        lines += sorted(f"{table} {row}" for row in rows)
    db.close()
    details = Path(path).with_suffix(".exchanges")
    for file in sorted(p for p in details.rglob("*") if p.is_file()):
        lines.append(f"{file.relative_to(details)} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return lines


def is_done(store):
    """Return whether a scan into the store had written everything that it had to."""
    if not store.exists() or not store.stat().st_size:
        return False
    db = sqlite3.connect(store)
    has_tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'scans'").fetchone()[0]
    done = has_tables and db.execute("SELECT count(*) FROM scans WHERE state = 'finished'").fetchone()[0]
    db.close()
    return bool(done)


def wait_for_captures(store, n):
    """Wait until a running scan has written some captures; return how many there are then."""

    def there():
        if not store.exists() or not store.stat().st_size:
            return 0
        with closing(sqlite3.connect(store, timeout=HANG_S)) as db:
            has_tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'captures'").fetchone()[0]
            found = db.execute("SELECT count(*) FROM captures").fetchone()[0] if has_tables else 0
        return found if found >= n else 0

    return wait_until(there, pause_s=0.02)


def free_port():
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def wait_for_port(address):
    """Wait until somebody listens at ``tcp://HOST:PORT``."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")

    def is_answered():
        with socket.socket() as opened:
            return opened.connect_ex((host, int(port))) == 0

    wait_until(is_answered)


def command(folder, store, *options):
    """Return the command line of a scan."""
    return [sys.executable, "-m", "pcapdiag", "scan", str(folder), "--store", str(store), "--jobs", "2", *options]


def environment():
    """Return the environment of a scan in a process of its own."""
    return os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def scan(folder, store, *options, check=(0, 1)):
    """Run a scan to its end, with one worker: what several do at once is shown by those that are begun and watched."""
    done = subprocess.run(
        command(folder, store, "--jobs", "1", *options),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode in check, done.stdout + done.stderr
    return done


def kill_after(seconds, folder, store, *options):
    """Begin a scan and kill it after so many seconds, or, if that is None, when its first capture is in the store.

    Returns whether it was still running, once its workers are gone, too.
    """
    process = subprocess.Popen(
        command(folder, store, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = []
    if seconds is None:
        wait_for_captures(store, 1)
        workers = children.read_text().split()
    end = time.monotonic() + (seconds or 0)
    while time.monotonic() < end and process.poll() is None:
        if children.exists():
            workers = children.read_text().split()
        time.sleep(min(0.005, max(end - time.monotonic(), 0)))
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(is_alive, workers)))
    return was_running


def kill_and_repeat(folder, work, moments):
    """Kill a scan at each moment (a share of its run time, or None for its first capture) and repeat it.

    The store is compared with that of a whole run.

    Returns
    -------
    int
        How many were still running when they were killed.
    """
    reference = work / "reference.db"
    scan(folder, work / "warm.db")
    start = time.monotonic()
    scan(folder, reference, "--jobs", "2")
    took_s = time.monotonic() - start
    expected = dump(reference)
    n_killed = 0
    for number, moment in enumerate(moments):
        store = work / f"killed{number}.db"
        n_killed += kill_after(None if moment is None else moment * took_s, folder, store)
        was_done = is_done(store)
        scan(folder, store)
        got = dump(store)
        if was_done:
            # Killed when all was written, on its way out: the second run is a scan of its own that found nothing to do.
            got.remove(next(line for line in got if line.startswith("scans {'number': 2,") and "'read': 0," in line))
        assert got == expected, f"killed at {moment}: {sorted(set(got) ^ set(expected))[:6]}"
    return n_killed


def main(n):
    """Kill a scan n times."""
    seed = int(time.time())
    with tempfile.TemporaryDirectory() as name:
        folder = many(Path(name) / "captures")
        rng = random.Random(seed)
        n_killed = kill_and_repeat(folder, Path(name), [rng.uniform(0.1, 1) for _ in range(n)])
    print(f"{n} scans, {n_killed} of them killed while they ran (seed {seed}): all stores as of one undisturbed run")


if __name__ == "__main__":
    main(int(sys.argv[1]))
