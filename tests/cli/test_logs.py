"""Logs and configuration on the command line."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.waiting import HANG_S

CASE = ROOT / "captures" / "idle_close_race_65s"


def test_inputs_name_the_logs_and_the_configuration(cli):
    done = cli(
        *("analyze", "proxy.pcap", "--error-log", "error.log", "--access-log", "access.log"),
        *("--proxy-conf", "nginx.conf", "--format", "json", "--fail-on", "never"),
        cwd=CASE,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [i["kind"] for i in report["inputs"]] == ["capture", "error_log", "access_log", "proxy_conf"]
    assert all(i["sha256"] is None and i["bytes"] > 0 for i in report["inputs"]), "nobody asked for --hash"
    assert report["log"]["zone_offset_s"] == 0


def test_hashes_of_inputs_are_there_when_asked_for_and_change_nothing_else(cli):
    files = ("proxy.pcap", "--error-log", "error.log", "--format", "json", "--fail-on", "never")
    without, hashed = (json.loads(cli("analyze", *files, *more, cwd=CASE).stdout) for more in ((), ("--hash",)))
    for file in hashed["inputs"]:
        assert file["sha256"] == hashlib.sha256((CASE / file["path"]).read_bytes()).hexdigest()
        file["sha256"] = None
    assert hashed == without, "its identifier, too"


def test_a_pipe_is_hashed_as_it_comes(cli):
    data = (CASE / "proxy.pcap").read_bytes()
    for more, digest in ((("--hash",), hashlib.sha256(data).hexdigest()), ((), None)):
        done = cli("analyze", "-", "--format", "json", "--fail-on", "never", *more, stdin=data)
        assert json.loads(done.stdout)["inputs"][0]["sha256"] == digest


@pytest.mark.parametrize(
    "options", [("--error-log", "absent.log"), ("--proxy-conf", "absent.conf"), ("--log-zone", "Mars/Olympus")]
)
def test_what_cannot_be_read_is_said_and_is_exit_code_2(cli, options):
    done = cli("analyze", CASE / "proxy.pcap", *options)
    assert done.returncode == 2
    assert options[1] in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Return a folder with the files of the case and nothing else that a name could be like."""
    folder = tmp_path_factory.mktemp("case")
    for file in CASE.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.parametrize(
    ("option", "typed", "meant"),
    [
        ("--error-log", "eror.log", "error.log"),
        ("--access-log", "Access.log", "access.log"),
        ("--proxy-conf", "nginx.cnf", "nginx.conf"),
        ("--upstream-log", "acces.log", "access.log"),
        ("--upstream-capture", "upstream-a.pcap", "upstream_a.pcap"),
    ],
)
def test_a_mistyped_input_is_said_with_the_nearest_name_beside_it(invoke, case, option, typed, meant):
    done = invoke("analyze", case / "proxy.pcap", option, case / typed)
    assert done.returncode == 2
    assert done.stderr == (
        f"pcapdiag: cannot open {case / typed}: No such file or directory; did you mean {case / meant}?\n"
    )


def test_what_is_like_nothing_in_its_folder_is_said_without_a_guess(invoke, case):
    done = invoke("analyze", case / "proxy.pcap", "--error-log", case / "zzz")
    assert done.stderr == f"pcapdiag: cannot open {case / 'zzz'}: No such file or directory\n"
    done = invoke("analyze", case / "proxy.pcap", "--error-log", case / "none" / "error.log")
    assert done.stderr.endswith("error.log: No such file or directory\n")


def test_no_packet_is_read_before_logs_are_known_to_be_there():
    """The capture is a pipe that stays open: who read it first would wait for ever."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb"):
        done = subprocess.run(
            [sys.executable, "-m", "pcapdiag", "analyze", "-", "--error-log", "nowhere.log"],
            stdin=reader,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=HANG_S,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"pcapdiag: cannot open nowhere.log: No such file or directory\n"


def test_a_scan_and_a_recorder_do_not_begin_with_inputs_that_are_not_there(invoke, case, tmp_path):
    store = ("--store", tmp_path / "store.db")
    done = invoke("scan", case, "--error-log", case / "eror.log", *store)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"did you mean {case / 'error.log'}?\n")
    assert list(tmp_path.iterdir()) == []
    done = invoke("watch", case, "--out", tmp_path / "out", "--proxy-conf", case / "nginx.cnf")
    assert done.returncode == 2
    assert done.stderr.endswith(f"did you mean {case / 'nginx.conf'}?\n")


def test_a_mistyped_bundle_or_code_is_said_at_once(invoke, case):
    (case / "incident.zip").write_bytes(b"")
    done = invoke("attach", case / "incidnt.zip", "--to", "https://jira.example.test/browse/OPS-1")
    assert done.returncode == 2
    assert done.stderr.endswith(f"did you mean {case / 'incident.zip'}?\n")
    done = invoke("slice", "/no/such.pcap", "--code", "PD1011", "-o", case / "evidence.pcapng")
    assert (done.returncode, done.stderr) == (2, "pcapdiag: no rule fits 'PD1011'; did you mean PD101?\n")


def test_compare_looks_at_both_sides_before_it_reads_one(invoke, case):
    done = invoke("compare", "-", case / "proxi.pcap", stdin=b"")
    assert done.returncode == 2
    assert done.stderr.endswith(f"did you mean {case / 'proxy.pcap'}?\n"), "not that stdin is empty"


def test_a_zone_may_be_given(cli):
    done = cli(
        *("analyze", CASE / "proxy.pcap", "--error-log", CASE / "error.log", "--log-zone", "+00:00"),
        *("--format", "json", "--fail-on", "never"),
    )
    assert json.loads(done.stdout)["log"]["zone_offset_s"] == 0


@pytest.fixture
def application_log(tmp_path):
    """Return the log that an application would have written of the answered requests of the case."""
    import pcapdiag

    exchanges = pcapdiag.analyze(CASE / "proxy.pcap").exchanges
    answered = exchanges[exchanges.outcome == "answered"].sort_values("request_ts_ns")
    lines = [
        f"{(row.request_ts_ns + row.duration_ns) / 1e9:.6f} rid={row.request_id} "
        f"{row.method} {row.target} peer={row.orig}\n"
        for row in answered.itertuples()
    ]
    path = tmp_path / "app.log"
    path.write_text("started\n" + "".join(lines))
    return path


def test_the_application_s_log_is_an_input_and_says_what_did_not_arrive(cli, application_log):
    done = cli(
        *("analyze", CASE / "proxy.pcap", "--upstream-log", application_log, "--format", "json", "--fail-on", "never")
    )
    report = json.loads(done.stdout)
    assert report["inputs"][1]["kind"] == "upstream_log"
    assert any("1 of 54 lines hold no request (line 1)" in note["text"] for note in report["notes"])
    (texts,) = {
        tuple("no line in" in o["upstream_log"] for o in f["occurrences"][:1])
        for f in report["findings"]
        if f["code"] == "PD101"
    }
    assert texts == (True,)


def test_a_pattern_that_is_none_is_said(cli, application_log):
    done = cli("analyze", CASE / "proxy.pcap", "--upstream-log", application_log, "--upstream-log-format", "nothing")
    assert done.returncode == 2
    assert "wants named groups" in done.stderr


def test_a_folder_may_be_given_and_rotated_logs_are_read_as_needed(cli, tmp_path):
    text = (CASE / "error.log").read_text().splitlines(keepends=True)
    (tmp_path / "error.log").write_text("".join(text[20:]))
    (tmp_path / "error.log.1").write_text("".join(text[:20]))
    done = cli(*("analyze", CASE / "proxy.pcap", "--error-log", tmp_path, "--format", "json", "--fail-on", "never"))
    report = json.loads(done.stdout)
    assert [i["path"].rsplit("/", 1)[1] for i in report["inputs"]] == ["proxy.pcap", "error.log", "error.log.1"]
    assert len(report["log"]["entries"]) == len(text)
    assert any(note["code"] == "rotated-log-added" for note in report["notes"])
