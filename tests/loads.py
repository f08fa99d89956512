"""Loads: a realistic capture that goes on for as long as one wants, written into a pipe as fast as it is read or paced.

``python -m tests.loads [analyze|watch] [--gb N]`` writes so much as fast as it is read and says what memory that took;
``python -m tests.loads [analyze|watch] --seconds N [--mbit 1000]`` writes at the pace of a network, pcapdiag bound to
one core, and says how far the writer fell behind. All of it is generated; the answer is held against what was written.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tests.hostile.process import MEASURED
from tests.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
GB = 10**9
FIRST_S = 1_767_254_400
"""The generated capture's first second; see `benchmarks/generate.py`."""
TICK_S = 0.001
"""[s] Of traffic that is written at once when paced."""
CAUGHT_UP_S = 0.002
WATCH_RING = "512MB"
_SOURCE, _TARGET = 16 + 14 + 12, 16 + 14 + 16  # of a record: its header, Ethernet's, and where IPv4's addresses lie
_PROXY = b"\x0a\x01\x01\x64"


class Traffic:
    """A generated capture of some tens of MB that is repeated, each time later and of another proxy.

    Attributes
    ----------
    truth : dict
        What `benchmarks/generate.py` says of one repetition.
    """

    def __init__(self, *, connections: int = 700, races: int = 0, seed: int = 1) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traffic.pcap"
            # A process of its own: it takes more memory than what is measured, and brings the compiler.
            command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), str(path)]
            command += ["--connections", str(connections), "--races", str(races), "--seed", str(seed)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            self.truth = json.loads(path.with_suffix(".json").read_bytes())
            data = path.read_bytes()
        self.head = data[:24]
        self._records = np.frombuffer(bytearray(data[24:]), dtype=np.uint8)
        starts = np.empty(self.truth["frames"], dtype=np.int64)
        at = 0
        for i in range(len(starts)):
            starts[i] = at
            at += 16 + int.from_bytes(data[24 + at + 8 : 24 + at + 12], "little")
        self._starts = starts
        seconds = self._records[starts[:, None] + np.arange(4)].copy().view("<u4")[:, 0]
        self._seconds = seconds.astype(np.int64)
        self.span_s = int(self._seconds[-1]) + 1 - FIRST_S
        proxy = np.frombuffer(_PROXY, dtype=np.uint8)
        is_source = (self._records[starts[:, None] + np.arange(_SOURCE, _TARGET)] == proxy).all(axis=1)
        self._proxy_at = starts + np.where(is_source, _SOURCE, _TARGET)

    @property
    def n_bytes(self) -> int:
        """[bytes] Of one repetition."""
        return len(self._records)

    def blocks(self) -> Iterator[memoryview]:
        """Yield one repetition after the other, without an end; each is valid until the next."""
        for number in count():
            seconds = (self._seconds + number * self.span_s).astype("<u4")
            self._records[self._starts[:, None] + np.arange(4)] = seconds[:, None].view(np.uint8)
            # Checksums are not put right: nothing here looks at them.
            self._records[self._proxy_at + 2] = 1 + number % 250
            self._records[self._proxy_at + 1] = 1 + number // 250
            yield memoryview(self._records)


class Load(NamedTuple):
    """What a load took.

    Attributes
    ----------
    n_repeats : int
        Whole repetitions written; -1 where the last one was cut.
    resident_kib : list of (int, int)
        Bytes written, and the most memory that the process had held until then.
    most_kib : int
        The same at its end.
    cpu_s, wall_s : float
    lags_s : list of float
        [s] How far behind its time each paced write was when it was done.
    """

    stdout: str
    n_repeats: int
    resident_kib: list[tuple[int, int]]
    most_kib: int
    cpu_s: float
    wall_s: float
    lags_s: list[float]


def start(arguments: Sequence[str], *, core: int | None, stderr: int) -> subprocess.Popen[bytes]:
    """Start pcapdiag on a pipe, bound to a core if one is named."""
    bind = () if core is None else ("taskset", "-c", str(core))
    command = [*bind, sys.executable, "-P", "-c", MEASURED, *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env, bufsize=0)


def run_load(
    traffic: Traffic,
    arguments: Sequence[str],
    *,
    n_bytes: int = 0,
    rate: int = 0,
    seconds: float = 0,
    core: int | None = None,
) -> Load:
    """Feed traffic to ``pcapdiag ARGUMENTS``: whole repetitions up to `n_bytes`, or `rate` bytes a second."""
    with tempfile.TemporaryFile() as errors:
        begun, before = time.monotonic(), os.times()
        with start(arguments, core=core, stderr=errors.fileno()) as process:
            pipe = process.stdin
            fed = _feed_paced(traffic, pipe, rate, seconds) if rate else _feed(traffic, process, n_bytes)
            pipe.close()
            stdout = process.stdout.read().decode()
            process.wait(HANG_S)
        wall_s, after = time.monotonic() - begun, os.times()
        errors.seek(0)
        told = errors.read().decode()
    most = re.search(r"\nmemory (\d+)\s*$", told)
    if process.returncode not in {0, 1} or most is None:
        msg = f"exit code {process.returncode}: {told[-2000:]}"
        raise RuntimeError(msg)
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Load(stdout, fed[0], fed[1], int(most[1]), cpu_s, wall_s, fed[2])


def _feed(traffic, process, n_bytes):
    pipe, resident, written = process.stdin, [], 0
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
    _write(pipe, traffic.head)
    for block in islice(traffic.blocks(), -(-n_bytes // traffic.n_bytes)):
        _write(pipe, block)
        written += len(block)
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident.append((written, int(re.search(r"VmHWM:\s*(\d+)", status)[1])))
    return len(resident), resident, []


def _feed_paced(traffic, pipe, rate, seconds):
    n_bytes = int(rate * TICK_S)
    _write(pipe, traffic.head)
    pieces = (block[at : at + n_bytes] for block in traffic.blocks() for at in range(0, len(block), n_bytes))
    due, lags = time.monotonic(), []
    for piece in islice(pieces, int(seconds / TICK_S)):
        due += len(piece) / rate
        if (early_s := due - time.monotonic()) > 0:
            time.sleep(early_s)
        _write(pipe, piece)
        lags.append(time.monotonic() - due)
    return -1, [], lags


def _write(pipe, data):
    data = memoryview(data)
    while data:
        data = data[pipe.write(data) :]


def check_totals(traffic: Traffic, load: Load) -> None:
    """Hold a JSON report of `analyze` against what was written; RuntimeError if it says something else."""
    totals = json.loads(load.stdout)["totals"]
    for name in ("frames", "connections", "exchanges", "unanswered"):
        wanted = traffic.truth[name] * load.n_repeats
        if totals[name] != wanted:
            msg = f"{totals[name]} {name} reported of {wanted}"
            raise RuntimeError(msg)


def main() -> None:
    """Put pcapdiag under a load and print what it took."""
    parser = argparse.ArgumentParser(description="Put pcapdiag under a load on a pipe, and print what it took.")
    parser.add_argument("command", choices=("analyze", "watch"))
    parser.add_argument("--gb", type=float, default=20, help="write so much as fast as it is read [%(default)s]")
    parser.add_argument("--seconds", type=float, help="write at a pace for so long instead")
    parser.add_argument("--mbit", type=int, default=1000, help="the pace [%(default)s Mbit/s]")
    parser.add_argument(
        "--core", type=int, default=0, help="the one that pcapdiag is bound to when paced [%(default)s]"
    )
    options = parser.parse_args()
    traffic = Traffic()
    with tempfile.TemporaryDirectory() as folder:
        more = ["--format", "json"] if options.command == "analyze" else ["--out", folder, "--ring", WATCH_RING]
        arguments = [options.command, "-", *more]
        if options.seconds:
            rate = options.mbit * 125_000
            load = run_load(traffic, arguments, rate=rate, seconds=options.seconds, core=options.core)
            print(f"{options.mbit} Mbit/s for {options.seconds:.0f} s: CPU {load.cpu_s:.1f} s on one core")
            # Until the program has been loaded nobody reads, and then what waited is made up for.
            begun = next((i for i, lag_s in enumerate(load.lags_s) if lag_s < CAUGHT_UP_S), len(load.lags_s))
            for what, lags_s in (("starting", load.lags_s[:begun]), ("then", load.lags_s[begun:])):
                worst_s = max(lags_s, default=0)
                print(f"{what}, {len(lags_s) * TICK_S:.1f} s: behind at most {1000 * worst_s:.1f} ms, ", end="")
                print(f"{worst_s * rate / (1 << 20):.1f} MiB")
            if begun + 1 < len(load.lags_s):
                cuts = quantiles(load.lags_s[begun:], n=1000)
                print(f"then {1000 * cuts[499]:.2f} ms in the middle, {1000 * cuts[-1]:.2f} ms in 99.9 % of the writes")
        else:
            load = run_load(traffic, arguments, n_bytes=int(options.gb * GB))
            if options.command == "analyze":
                check_totals(traffic, load)
            step = max(1, len(load.resident_kib) // 10)
            for written, kib in load.resident_kib[step - 1 :: step]:
                print(f"{written / GB:.1f} GB: {kib / 1024:.0f} MiB")
            print(f"{load.wall_s:.1f} s, CPU {load.cpu_s:.1f} s")
        print(f"most memory: {load.most_kib / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
