"""Readers that leave early (`| head`): no error for any command and format, and what was found is the exit code."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.nightly.scan import places
from tests.waiting import HANG_S

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"
HEALTHY = ROOT / "captures" / "healthy_keepalive" / "proxy.pcap"
LEFT = 128 + signal.SIGPIPE


def run_unread(*arguments, errors_too=False):
    """Run a command whose stdout nobody reads; return its exit code and what it says on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pcapdiag", *map(str, arguments)],
        stdout=writer,
        stderr=subprocess.STDOUT if errors_too else subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=HANG_S,
        check=False,
    )
    os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("format_", ["table", "csv", "json", "parquet"])
def test_a_table_ends_with_its_reader(format_):
    assert run_unread("show", "exchanges", RACE, "--format", format_) == (LEFT, b"")


@pytest.mark.parametrize("format_", ["terminal", "html", "markdown", "jira", "adf", "slack", "json", "csv", "parquet"])
def test_what_analyze_found_is_its_exit_code_though_nobody_reads_it(format_):
    assert run_unread("analyze", RACE, "--format", format_) == (1, b"")


@pytest.mark.parametrize("format_", ["terminal", "markdown", "jira", "json"])
def test_what_compare_found_is_its_exit_code_though_nobody_reads_it(format_):
    assert run_unread("compare", HEALTHY, RACE, "--format", format_) == (1, b"")


def test_nothing_found_stays_nothing_found():
    assert run_unread("analyze", HEALTHY) == (0, b"")


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["show", "--help"],
        ["rule"],
        ["rule", "PD101"],
        ["slice", RACE],
        ["whatif", RACE],
        ["whatif", RACE, "--format", "html"],
        ["whatif", RACE, "--format", "json"],
    ],
    ids=lambda command: " ".join(map(str, command)),
)
def test_any_other_command_ends_with_its_reader(command):
    assert run_unread(*command) == (LEFT, b"")


def test_scan_and_history_say_nothing_of_a_reader_that_left(tmp_path):
    places.capture(tmp_path / "captures" / "proxy.pcap", races=2)
    store = ("--store", tmp_path / "store.db")
    assert run_unread("scan", tmp_path / "captures", "--no-exchanges", "--jobs", "1", *store) == (1, b"")
    for format_ in ("table", "csv", "json"):
        assert run_unread("history", *store, "--format", format_) == (LEFT, b"")


def test_a_bundle_is_written_though_nobody_reads_the_report(tmp_path):
    assert run_unread("analyze", RACE, "-q", "--bundle", tmp_path / "b.zip") == (1, b"")
    assert (tmp_path / "b.zip").read_bytes().startswith(b"PK")


@pytest.mark.parametrize("command", [["nonsense"], ["rule", "PD000"], ["analyze", "/no/such/file.pcap"]])
def test_a_refusal_is_one_though_nobody_reads_it(command):
    assert run_unread(*command, errors_too=True)[0] == 2


def test_a_reader_that_takes_one_line_gets_it():
    with subprocess.Popen(
        [sys.executable, "-m", "pcapdiag", "show", "frames", RACE, "--format", "csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        bufsize=0,
    ) as process:
        assert process.stdout.read(6) == b"frame,"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in {0, LEFT}, "all may have been in the pipe by then"
