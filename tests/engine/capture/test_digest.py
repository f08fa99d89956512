"""Checksums of input files."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from pcapdiag.engine.capture.digest import BlockDigest, start_digest


def test_files_are_hashed_as_stored(tmp_path):
    paths = {}
    for i, data in enumerate([b"", b"x", bytes(10_000_000)]):
        path = tmp_path / str(i)
        path.write_bytes(data)
        paths[str(path)] = data
    digests = start_digest(list(paths)).result()
    assert {path: digest.sha256 for path, digest in digests.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in paths.items()
    }
    assert [digest.n_bytes for digest in digests.values()] == [0, 1, 10_000_000]


def test_a_vanished_file_has_an_error_and_no_digest(tmp_path):
    path = str(tmp_path / "gone")
    (digest,) = start_digest([path]).result().values()
    assert digest.sha256 == ""
    assert digest.error == "No such file or directory"


def test_pipes_are_left_to_the_reader(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, digest in start_digest(["-", str(fifo)]).result().items():
        assert (digest.sha256, digest.error) == ("", ""), path


def test_a_path_given_twice_is_hashed_once(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    assert list(start_digest([str(path), str(path)]).result()) == [str(path)]


def test_a_cancelled_run_ends_without_digests(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(50_000_000))
    run = start_digest([str(path)])
    run.cancel()
    (digest,) = run.result().values()
    assert digest.error in {"cancelled", ""}
    assert bool(digest.sha256) == (digest.error == "")


def test_hashing_loads_neither_numpy_nor_numba():
    root = Path(__file__).resolve().parents[3]
    program = "import sys, pcapdiag.engine.capture.digest; print(*{'numpy', 'numba', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == ""


def test_blocks_are_hashed_in_order_and_given_back():
    digest, done = BlockDigest(), []
    pieces = [b"a" * 100_000, b"", b"b", b"c" * 3_000_000]
    for number, piece in enumerate(pieces):
        digest.add(memoryview(piece), partial(done.append, number))
    assert digest.finish() == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert done == [0, 1, 2, 3]
