"""Whatever a length says, memory follows the bytes that are there."""

import gzip
import json
import zlib

import pytest

from tests.hostile.captures import CLAIMS, OK, exchange, pcap, wire_length
from tests.hostile.process import run_measured

MORE_MIB = 64
"""What hostile input of a few hundred kilobytes may take beside what a small capture takes; claims are of gigabytes."""
BOMB_MIB = 256


@pytest.fixture(scope="module")
def usual_mib(tmp_path_factory):
    """Measure what a capture of five frames and a log of one line take."""
    folder = tmp_path_factory.mktemp("usual")
    (folder / "c.pcap").write_bytes(pcap(exchange(OK)[0]))
    (folder / "error.log").write_text("2026/11/20 23:55:43 [error] 1#1: *1 no live upstreams\n")
    run = run_measured("analyze", folder / "c.pcap", "--error-log", folder / "error.log")
    assert run.code in {0, 1}, run.stderr
    assert run.most_mib > 20
    return run.most_mib


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_a_capture_takes_no_memory(name, tmp_path, usual_mib):
    capture = tmp_path / "c.pcap"
    capture.write_bytes(CLAIMS[name]())
    run = run_measured("analyze", "--format", "json", capture)
    assert run.code in {0, 1}, run.stderr
    assert json.loads(run.stdout)["totals"]["exchanges"] >= 1
    assert run.most_mib < usual_mib + MORE_MIB


def test_a_plausible_wire_length_counts_and_an_impossible_one_is_not_understood(tmp_path):
    """A segment that offload was to cut, of which the snap length left one byte; and one that no offload makes."""
    totals = {}
    for claim in (60_000, 524_288, 0xFFFFFFFF):
        (tmp_path / "c.pcap").write_bytes(wire_length(claim, n=1))
        shown = run_measured("show", "connections", "--format", "json", tmp_path / "c.pcap")
        (row,) = json.loads(shown.stdout)["connections"] if shown.stdout.startswith("{") else json.loads(shown.stdout)
        report = json.loads(run_measured("analyze", "--format", "json", tmp_path / "c.pcap").stdout)
        totals[claim] = (row["orig_bytes"], report["totals"]["undecoded_frames"])
    request = len(exchange(OK)[0][3]) - 54
    assert totals == {
        60_000: (request + 60_000 - 54, 0),
        524_288: (request + 524_288 - 54, 0),
        0xFFFFFFFF: (request, 1),
    }


def _gzip(text, times):
    """Return so many MiB of a text, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = (text * ((1 << 20) // len(text) + 1))[: 1 << 20]
    return b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()


LINES = {
    "zeros": b"\0",
    "one endless line": b"a",
    "empty lines": b"\n",
    "brackets": b"[",
    "braces": b'{"a":',
    "an endless JSON string": b'{"log":"' + b"x" * 1000,
}


@pytest.mark.parametrize("name", LINES)
def test_a_log_that_unpacks_to_much_takes_no_memory(name, tmp_path, usual_mib):
    (tmp_path / "c.pcap").write_bytes(pcap(exchange(OK)[0]))
    log = tmp_path / "x.log.gz"
    log.write_bytes(_gzip(LINES[name], 2 if name == "empty lines" else BOMB_MIB // 4))
    run = run_measured("analyze", tmp_path / "c.pcap", "--error-log", log, "--access-log", log, "--upstream-log", log)
    assert run.code in {0, 1}, run.stderr
    assert run.most_mib < usual_mib + MORE_MIB


@pytest.mark.parametrize("compression", ["gzip", "xz", "bzip2", "zstd"])
def test_a_capture_that_unpacks_to_much_takes_no_memory(compression, tmp_path, usual_mib):
    """What follows the records are zeros, as a crash leaves them."""
    sound = pcap(exchange(OK)[0])
    zeros = bytes(BOMB_MIB << 20)
    if compression == "gzip":
        packed = gzip.compress(sound + zeros, 1)
    elif compression == "xz":
        import lzma

        packed = lzma.compress(sound + zeros, preset=0)
    elif compression == "bzip2":
        import bz2

        packed = bz2.compress(sound + zeros[: 64 << 20], 1)
    else:  # zstd
        zstd = pytest.importorskip("backports.zstd")
        packed = zstd.compress(sound + zeros, 1)
    (tmp_path / "c.pcap").write_bytes(packed)
    run = run_measured("analyze", "--format", "json", tmp_path / "c.pcap")
    assert json.loads(run.stdout)["totals"]["exchanges"] == 1
    assert run.most_mib < usual_mib + MORE_MIB
