"""Fuzz a parser for a bounded time: ``python -m tests.fuzz.run --seconds 60 capture``.

Finds exceptions, hangs (no end after a minute, also inside compiled code) and memory that grows. Works in every mode:
blind and fast when compiled, with ``NUMBA_BOUNDSCHECK=1`` for reads out of range, and with ``--atheris`` guided by the
coverage of the kernels when they run as plain Python (``NUMBA_DISABLE_JIT=1``). What fails is written to ``--out``, by
its digest; once it is corrected it belongs into ``seeds/``, which every run and the test suite replay first.
"""

import argparse
import faulthandler
import hashlib
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds"
HANG_S = 60
COMPILE_S = 900
GROWTH_BYTES = 256 << 20
"""[bytes] More resident memory than this above the first runs' is growth."""

INTERESTING = (0, 1, 2, 4, 7, 8, 15, 16, 20, 24, 28, 32, 54, 64, 127, 128, 255, 256, 1500, 0x7FFF, 0x8000, 0xFFFF)
INTERESTING_WIDE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000, 0x0A0D0D0A, 0xA1B2C3D4)
WORDS = (
    *(
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"\r\n\r\n",
        b"\r\n",
        b"\n\n",
        b"HTTP/1.1 ",
        b"HTTP/1.0 ",
        b"100 ",
    ),
    *(b"204 ", b"304 ", b"101 ", b"GET ", b"HEAD ", b"CONNECT ", b"Connection: close", b"Upgrade: x", b"0\r\n\r\n"),
    *(
        b"ffffffffffffffff\r\n",
        b"-1",
        b"18446744073709551616",
        b", ",
        b"\0",
        b"Host: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    *(b"\x16\x03\x01", b"\x17\x03\x03", b"\x15\x03\x03\0\2\1\0", b"\1\1\0\1\0\10\0\0"),
)


def mutate(data, others, rng):
    """Return `data` with a few random changes, some of them taken from another seed."""
    out = bytearray(data)
    for _ in range(1 << rng.randrange(5)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(10)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + (1 << rng.randrange(9))]
        elif kind == 3:
            out[at:at] = rng.randbytes(1 << rng.randrange(6))
        elif kind == 4:
            out[at : at + 2] = rng.choice(INTERESTING).to_bytes(2, rng.choice(("big", "little")))
        elif kind == 5:
            out[at : at + 4] = rng.choice(INTERESTING_WIDE).to_bytes(4, rng.choice(("big", "little")))
        elif kind == 6:
            length = 1 << rng.randrange(10)
            out[at:at] = out[at : at + length]
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at : at + rng.randrange(64)] = other[start : start + (1 << rng.randrange(9))]
        elif kind == 8:
            out[at:at] = rng.choice(WORDS)
        elif rng.randrange(4) == 0:
            del out[at:]
    return bytes(out[: 1 << 16])


def resident_bytes():
    """Return the memory of this process, from the kernel (0 where it does not say)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def read_seeds(name, extra=()):
    """Return the seeds kept for a target, and what lies in the extra folders."""
    paths = sorted((SEEDS / name).iterdir())
    for folder in extra:
        paths += [p for p in sorted(Path(folder).rglob("*.pcap*")) if p.is_file() and p.stat().st_size < 1 << 16]
    return [p.read_bytes() for p in paths]


def fuzz(name, *, seconds, max_runs=0, seed=0, extra=(), out=None, hang_s=HANG_S):
    """Run a target on its seeds, then on mutations of them.

    Parameters
    ----------
    name : str
        One of `tests.fuzz.targets.TARGETS`.
    seconds : float
        [s] When to stop, unless `max_runs` mutations came first.
    max_runs : int
        How many mutations to run at most; 0 for no bound but the time.
    seed : int
        Of the random numbers.
    extra : iterable of path
        Folders with more captures to start from.
    out : path, optional
        Where to write inputs that fail.

    Returns
    -------
    n_runs : int
        Inputs run.
    failures : dict of str to str
        Traceback of the first failure of each kind, by the digest of its input.
    """
    from tests.fuzz.targets import TARGETS

    target, rng = TARGETS[name], random.Random(seed)
    seeds = read_seeds(name, extra)
    failures, kinds, n_runs = {}, set(), 0
    stop_s = time.monotonic() + seconds
    base_bytes = 0
    with tempfile.TemporaryDirectory(prefix="pcapdiag-fuzz-") as folder:
        while True:
            if n_runs < len(seeds):
                data = seeds[n_runs]
            elif time.monotonic() > stop_s or (max_runs and n_runs >= len(seeds) + max_runs):
                return n_runs, failures
            else:
                data = mutate(rng.choice(seeds), seeds, rng)
            n_runs += 1
            if out is not None:
                (Path(out) / f"{name}-current").write_bytes(data)  # survives a crash and a hang
            # The seeds compile what is not compiled yet, which takes as long as the machine is busy.
            faulthandler.dump_traceback_later(hang_s if n_runs > len(seeds) else max(hang_s, COMPILE_S), exit=True)
            try:
                target(data, folder)
            except Exception as error:  # noqa: BLE001 - every exception is what a fuzzer looks for
                where = traceback.extract_tb(error.__traceback__)[-1]
                kind = (type(error).__name__, where.filename, where.lineno)
                if kind not in kinds:
                    kinds.add(kind)
                    _keep(failures, name, data, traceback.format_exc(), out)
            finally:
                faulthandler.cancel_dump_traceback_later()
            used = resident_bytes()
            # The seeds and some mutations warm up caches and buffers; from then on memory has to stay.
            if n_runs <= len(seeds) + 50:
                base_bytes = max(base_bytes, used)
            elif used > base_bytes + GROWTH_BYTES:
                _keep(failures, name, data, f"{used >> 20} MiB resident after {base_bytes >> 20} MiB", out)
                base_bytes = used


def _keep(failures, name, data, text, out):
    digest = hashlib.sha256(data).hexdigest()[:16]
    failures[digest] = text
    if out is not None:
        (Path(out) / f"{name}-{digest}").write_bytes(data)


def fuzz_guided(name, seconds, out):
    """Let atheris choose the inputs, by the coverage of the package; does not return."""
    import atheris

    with atheris.instrument_imports(include=["pcapdiag"]):
        from tests.fuzz.targets import TARGETS
    folder = tempfile.mkdtemp(prefix="pcapdiag-fuzz-")
    arguments = [
        sys.argv[0],
        f"-max_total_time={int(seconds)}",
        f"-timeout={HANG_S}",
        "-max_len=8192",
        "-rss_limit_mb=2048",
    ]
    found = Path(out or folder)
    atheris.Setup(
        [*arguments, f"-artifact_prefix={found}/{name}-", folder, str(SEEDS / name)],
        lambda data: TARGETS[name](data, folder),
    )
    atheris.Fuzz()


def main(arguments=None):
    """Run from the command line; exit code 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("capture", "heads", "logs"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", action="append", default=[], metavar="FOLDER", help="more captures to start from")
    parser.add_argument("--out", default=None, metavar="FOLDER", help="where to write what fails")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; wants NUMBA_DISABLE_JIT=1")
    options = parser.parse_args(arguments)
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    if options.atheris:
        fuzz_guided(options.target, options.seconds, options.out)
    n_runs, failures = fuzz(
        options.target, seconds=options.seconds, seed=options.seed, extra=options.seeds, out=options.out
    )
    for digest, text in failures.items():
        print(f"--- {digest}\n{text}")
    print(f"{options.target}: {n_runs} inputs, {len(failures)} kinds of failure")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
