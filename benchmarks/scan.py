"""How fast scans are: two processes against one, a second run, one huge capture, and a hundred thousand small files.

``python benchmarks/scan.py DATA`` writes 200 captures of 50 MB and one of 4 GB into the folder DATA, unless they are
there, and prints one line per measurement; ``--captures 40`` for less. The times are those of whole processes; the
files are in the page cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from generate import generate

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 540  # 50 MB
HUGE_CONNECTIONS = 43_200  # 4 GB
N_FILES = 100_000


def scan(place, store, *options, cores=""):
    """Scan in a process of its own; return how long it took [s] and its totals."""
    command = [sys.executable, "-m", "pcapdiag", "scan", str(place), "--store", str(store), "-q", "--format", "json"]
    prefix = ["taskset", "-c", cores] if cores else []
    start = perf_counter()
    done = subprocess.run(
        [*prefix, *command, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    took_s = perf_counter() - start
    if done.returncode not in {0, 1}:
        sys.exit(done.stderr)
    return took_s, json.loads(done.stdout)["totals"]


def make_captures(folder, n_captures):
    """Write captures that are no series and no copies: each in a folder of its own, from a seed of its own."""
    for number in range(n_captures):
        path = folder / f"proxy-{number:03d}x" / "proxy.pcap"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            generate(path, connections=CONNECTIONS, races=2, seed=number + 1)
            path.with_suffix(".json").unlink()
    return sum(path.stat().st_size for path in folder.rglob("*.pcap"))


def make_files(folder, n_files):
    """Write many tiny captures, a thousand in a folder, whose names are those of a ring."""
    header = bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 01000000")
    for number in range(n_files):
        path = folder / f"{number // 1000:03d}" / f"ring_{number % 1000:05d}_20261120000000.pcap"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        record = (number + 1).to_bytes(4, "little") + bytes(4) + (14).to_bytes(4, "little") * 2 + bytes(14)
        path.write_bytes(header + record)


def main():
    parser = argparse.ArgumentParser(description="Measure scans.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--captures", type=int, default=200)
    parser.add_argument("--files", type=int, default=N_FILES)
    options = parser.parse_args()
    n_bytes = make_captures(options.data / "captures", options.captures)
    gigabytes = n_bytes / 1e9
    with tempfile.TemporaryDirectory(dir=options.data) as work:
        stores = Path(work)
        scan(options.data / "captures" / "proxy-000x", stores / "warm.db")
        one_s, totals = scan(options.data / "captures", stores / "one.db", "--jobs", "1", cores="0")
        print(f"{totals['read']} captures, {gigabytes:.1f} GB, one process on one core: {one_s:.1f} s")
        both_s, _ = scan(options.data / "captures", stores / "both.db", "--jobs", "2", cores="0,1")
        share = 100 * one_s / both_s / 2
        print(f"the same, two processes on two cores: {both_s:.1f} s, {share:.0f} % of twice the rate of one core")
        again_s, totals = scan(options.data / "captures", stores / "both.db")
        print(f"again, {totals['unchanged']} files unchanged: {again_s:.2f} s")
        huge = options.data / "huge" / "proxy.pcap"
        if not huge.exists():
            huge.parent.mkdir(parents=True, exist_ok=True)
            generate(huge, connections=HUGE_CONNECTIONS, races=10, seed=1)
        alone_s, _ = scan(huge, stores / "alone.db", "--split-size", "0", cores="0,1")
        shared_s, _ = scan(huge, stores / "shared.db", cores="0,1")
        print(f"one capture of {huge.stat().st_size / 1e9:.1f} GB, one worker on two cores: {alone_s:.1f} s")
        print(f"the same, shared by two workers: {shared_s:.1f} s")
        make_files(stores / "many", options.files)
        first_s, totals = scan(stores / "many", stores / "many.db", "--no-exchanges")
        print(f"{totals['read']} tiny files, first run: {first_s:.1f} s")
        again_s, totals = scan(stores / "many", stores / "many.db", "--no-exchanges")
        print(f"again, {totals['unchanged']} files listed and skipped: {again_s:.1f} s")


if __name__ == "__main__":
    main()
