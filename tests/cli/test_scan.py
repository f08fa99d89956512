"""``pcapdiag scan``: what is refused before the work begins, and what the exit code says after it.

`tests/nightly` has the scan itself.
"""

import json

import pytest

from tests.nightly.scan import places

ALSO_TESTS = ("scan_progress", "tell")

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """Return a folder with one capture, of which two requests were lost, and a file that is none."""
    folder = tmp_path_factory.mktemp("captures")
    places.capture(folder / "proxy.pcap", races=2)
    (folder / "bad\x1b.pcap").write_bytes(b"no capture at all")
    return folder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "yesterday"], "'yesterday' is no time: write 2026-11-20"),
        (["--until", "3 d"], "'3 d' is no time"),
        (["--keep-size", "much"], "'much' is no size: write 500M"),
        (["--split-size", "0G"], "'0G' is no size"),
        (["--select", "PD9999"], "PD9999"),
        (["--metrics", "x.txt"], "names end in .prom"),
        (["--site-url", "ftp://x"], "give an address that begins with https://"),
        (["--notify-url-env", "NO_SUCH_VARIABLE"], "this variable of the environment is not set"),
        (["--watch"], "needs --out DIR for incidents"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(invoke, tmp_path, captures, options, says):
    done = invoke("scan", captures, "--store", tmp_path / "store.db", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(invoke, tmp_path):
    done = invoke("scan", tmp_path / "nowhere", "--store", tmp_path / "store.db")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_the_exit_code_says_whether_something_was_found_or_changed(invoke, tmp_path, captures):
    def scan(*options):
        command = ("scan", captures, "--store", tmp_path / "store.db", "--no-exchanges", "--jobs", "1", *options)
        return invoke(*command, "--format", "json")

    first = scan("--fail-on-change")
    assert (first.returncode, json.loads(first.stdout)["states"]["new"]) == (1, 1)
    assert scan("--fail-on", "never").returncode == 0
    assert scan("--fail-on", "error", "--since", "1d").returncode == 1, "it stands, whoever read it"


def test_a_file_that_cannot_be_read_is_said_and_a_name_speaks_to_no_terminal(invoke, tmp_path, captures):
    options = ("--store", tmp_path / "store.db", "--no-exchanges", "--jobs", "1")
    done = invoke("scan", captures, *options)
    (line,) = done.stderr.splitlines()
    assert line.startswith("pcapdiag: ")
    assert "bad" in line
    assert "\x1b" not in done.stderr + done.stdout
    other = ("--store", tmp_path / "other.db", "--no-exchanges", "--jobs", "1", "--quiet")
    assert invoke("scan", captures, *other).stderr == ""


def test_what_goes_beside_the_summary_is_written(invoke, tmp_path, captures):
    told = ("--out", tmp_path / "site", "--metrics", tmp_path / "a.prom", "--jsonl", tmp_path / "a.jsonl")
    done = invoke("scan", captures, "--store", tmp_path / "store.db", "--no-exchanges", "--jobs", "1", *told)
    assert done.returncode == 1
    assert (tmp_path / "site" / "index.html").exists()
    assert (tmp_path / "a.prom").read_text().endswith("# EOF\n")
    assert all(json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
