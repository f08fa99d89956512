"""No room, no right, no time: one sentence with the file and what helps, and nothing half-written left.

The disk that is full is a real one: a small file system of its own, which only the command under test sees.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.waiting import HANG_S

COMMAND = [sys.executable, "-P", "-m", "pcapdiag"]
CASE = ROOT / "captures" / "idle_close_race_65s"
CAPTURE = str(CASE / "proxy.pcap")
ADVICE = "make room on its disk or name another place, and run the same command again"

# Mounts the file system, fills all but two pages of it, runs the command, and lists what is there afterwards.
_ON_SMALL_DISK = """
mount -t tmpfs -o size=64k,mode=755 tmpfs "$1" || exit 77
head -c 57344 /dev/zero > "$1/fill"
shift
"$@"
code=$?
echo "left behind:" >&2
find disk -mindepth 1 >&2
exit $code
"""


@cache
def why_no_mounts():
    """Return why a file system cannot be mounted here, empty if it can."""
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, capture_output=True, text=True
    )
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Stand in a folder with a place for the disk; return a function that runs a command on it."""
    if reason := why_no_mounts():
        pytest.skip(f"no mount namespace here: {reason}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()

    def run(*args, **options):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", _ON_SMALL_DISK, "sh", "disk", *COMMAND, *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            **options,
        )
        said, _, left = done.stderr.partition("left behind:\n")
        return done.returncode, said, sorted(left.split())

    return run


FILES = {
    "disk/r.html": ["analyze", CAPTURE, "--format", "html", "-o", "disk/r.html"],
    "disk/r.json": ["analyze", CAPTURE, "--format", "json", "-o", "disk/r.json"],
    "disk/t/": ["analyze", CAPTURE, "--format", "csv", "-o", "disk/t/"],
    "disk/p/": ["analyze", CAPTURE, "--format", "parquet", "-o", "disk/p/"],
    "disk/m/": ["analyze", CAPTURE, "--format", "markdown", "-o", "disk/m/"],
    "disk/b.zip": ["analyze", CAPTURE, "-o", "/dev/null", "--bundle", "disk/b.zip"],
    "disk/s.pcapng": ["slice", CAPTURE, "-o", "disk/s.pcapng"],
    "disk/e.csv": ["show", "exchanges", CAPTURE, "--format", "csv", "-o", "disk/e.csv"],
    "disk/f.json": ["show", "frames", CAPTURE, "--format", "json", "-o", "disk/f.json"],
    "disk/c.md": ["compare", CAPTURE, CAPTURE, "--format", "markdown", "-o", "disk/c.md"],
}


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_is_told_in_one_sentence_and_keeps_nothing(name, disk):
    code, said, left = disk(*FILES[name])
    if name == "disk/c.md" and code in {0, 1}:
        assert left == ["disk/c.md", "disk/fill"]  # it is small enough
        return
    assert code == 2
    assert said.startswith(f"pcapdiag: no room left for {name}")
    assert said.endswith(f": {ADVICE}\n")
    assert said.count("\n") == 1
    assert left == ["disk/fill"]


@pytest.mark.usefixtures("disk")
def test_a_set_of_tables_that_was_there_stays_as_it_was(tmp_path):
    """None of its files is replaced when one of the new ones has no room."""
    script = tmp_path / "again.sh"
    script.write_text(
        "mkdir disk/t; for t in findings occurrences; do echo old > disk/t/$t.csv; done\n"
        '"$@"; code=$?; cat disk/t/findings.csv disk/t/occurrences.csv >&2; exit $code'
    )
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", _ON_SMALL_DISK, "sh", "disk", "sh", script, *COMMAND),
            *("analyze", CAPTURE, "--format", "csv", "-o", "disk/t/", "--force"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    said, old, left = done.stderr.split("\n", 1)[0], *done.stderr.split("\n", 1)[1].split("left behind:\n")
    assert done.returncode == 2
    assert said.startswith("pcapdiag: no room left for disk/t/")
    assert old == "old\nold\n"
    assert sorted(left.split()) == ["disk/fill", "disk/t", "disk/t/findings.csv", "disk/t/occurrences.csv"]


def test_a_scan_says_where_there_is_no_room(disk):
    code, said, left = disk("scan", str(CASE), "--store", "sqlite:///disk/s.db", "--no-exchanges", "--quiet")
    assert code == 2
    assert "no room left for the store sqlite:///" in said
    assert not [name for name in left if "part" in name]


def test_a_recorder_that_could_keep_nothing_does_not_say_that_all_is_well(disk):
    with Path(CAPTURE).open("rb") as packets:
        code, said, left = disk("watch", "-", "--out", "disk/w", stdin=packets)
    assert code == 2
    assert said.splitlines()[-1] == (
        "pcapdiag: no room on the disk of disk/w: none of 359 frames was kept; make room there, or name another --out"
    )
    assert not [name for name in left if "ring-" in name]


@pytest.mark.parametrize(
    "args",
    [
        ["analyze", CAPTURE],
        ["analyze", CAPTURE, "--format", "csv"],
        ["show", "frames", CAPTURE],
        ["slice", CAPTURE, "-o", "-"],
        ["rule"],
        ["rule", "PD101"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("is_buffered", [True, False], ids=["buffered", "unbuffered"])
def test_a_full_standard_output_is_told_once(args, is_buffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "" if is_buffered else "1")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *args], check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANG_S
        )
    assert (done.returncode, done.stderr) == (
        2,
        f"pcapdiag: no room left for what goes to standard output: {ADVICE}\n",
    )


def test_a_file_that_may_not_grow_is_told_and_goes_away(tmp_path):
    done = subprocess.run(
        [*COMMAND, "analyze", CAPTURE, "--format", "html", "-o", "r.html"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=HANG_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 2
    assert done.stderr == "pcapdiag: r.html would be larger than files may be here: raise that limit (ulimit -f)\n"
    assert not list(tmp_path.iterdir())


_NO_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
"""Root without them is a user like any other where files belong to somebody else."""


@cache
def why_no_users():
    """Return why nobody can be less than root here, empty if it can be done."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "wants root and setpriv"
    done = subprocess.run([*_NO_RIGHTS, *COMMAND, "--version"], check=False, capture_output=True, text=True)
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("args", "file"),
    [
        (["analyze", CAPTURE, "-o", "r.txt"], "r.txt"),
        (["analyze", CAPTURE, "--format", "csv", "-o", "t/"], "t"),
        (["analyze", CAPTURE, "--bundle", "b.zip"], "b.zip"),
        (["slice", CAPTURE, "-o", "s.pcapng"], "s.pcapng"),
        (["show", "frames", CAPTURE, "-o", "f.csv"], "f.csv"),
        (["scan", str(CASE), "--store", "sqlite:///s.db"], "s.db"),
        (["watch", CAPTURE, "--out", "w"], "w"),
        (["analyze", "."], "."),
        (["analyze", "secret.pca*"], "secret.pcap"),
        (["analyze", CAPTURE, "--error-log", "secret.pca*"], "secret.pcap"),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_a_right_that_is_missing_is_told_in_one_sentence(args, file, tmp_path):
    if reason := why_no_users():
        pytest.skip(reason)
    place = tmp_path / "theirs"
    place.mkdir(mode=0o755)
    (place / "secret.pcap").write_bytes(b"secret")
    (place / "secret.pcap").chmod(0o600)
    for path in (place, place / "secret.pcap"):
        shutil.chown(path, "nobody")
    done = subprocess.run(
        [*_NO_RIGHTS, *COMMAND, *args], check=False, capture_output=True, text=True, cwd=place, timeout=HANG_S
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert file in done.stderr
    assert "ermission denied" in done.stderr or "unable to open" in done.stderr
    assert "Traceback" not in done.stderr
    assert "[Errno" not in done.stderr
    assert [path.name for path in place.iterdir()] == ["secret.pcap"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize(
    "args",
    [
        ["analyze", "pipe", "-o", "r.txt"],
        ["analyze", "pipe", "--format", "csv", "-o", "t/"],
        ["show", "frames", "pipe", "--format", "csv", "-o", "f.csv"],
    ],
    ids=lambda args: args[-1],
)
def test_a_signal_leaves_nothing_behind(args, number, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "tmp").mkdir()
    os.mkfifo(tmp_path / "work" / "pipe")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    # As a shell starts it: the tests themselves may run under nohup, where the program lets SIGHUP pass as it should.
    program = [*COMMAND, *args]
    reset = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL); os.execv(*{(program[0], program)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", reset], cwd=tmp_path / "work", stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert "nothing has come from pipe yet" in process.stderr.readline()
        assert len(list((tmp_path / "work").rglob("*"))) > 1 or "t/" in args
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait(HANG_S)
    assert code == 128 + number
    assert said == (
        "pcapdiag: interrupted\n"
        if number == signal.SIGINT
        else f"pcapdiag: ended by {number.name}; nothing unfinished is left\n"
    )
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["pipe"]
    assert not list((tmp_path / "tmp").iterdir())
