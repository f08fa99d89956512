"""What never ends, or never begins, is refused or waited for aloud; Ctrl-C ends the wait."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.hostile.captures import OK, exchange, pcap
from tests.waiting import HANG_S

COMMAND = [sys.executable, "-P", "-m", "pcapdiag"]


@pytest.fixture
def capture(tmp_path):
    (tmp_path / "c.pcap").write_bytes(pcap(exchange(OK)[0]))
    return tmp_path / "c.pcap"


def analyze(*args):
    done = subprocess.run(
        [*COMMAND, "analyze", *map(str, args)], check=False, capture_output=True, text=True, timeout=HANG_S
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["--error-log", "--access-log", "--upstream-log"])
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_a_device_is_no_log(option, path, capture):
    code, stderr = analyze(capture, option, path)
    assert code == 2
    assert stderr == (
        f"pcapdiag: {path} is a device where a log file is needed: a log is read more than once, so save it to a file"
        " first\n"
    )


@pytest.mark.parametrize("option", ["--error-log", "--access-log", "--upstream-log"])
def test_a_pipe_without_a_writer_is_no_log_and_nobody_waits_for_one(option, capture, tmp_path):
    os.mkfifo(tmp_path / "x.log")
    code, stderr = analyze(capture, option, tmp_path / "x.log")
    assert (code, "is a pipe where a log file is needed" in stderr) == (2, True)


@pytest.mark.parametrize("option", ["--error-log", "--proxy-conf"])
def test_a_socket_is_neither_a_log_nor_a_configuration(option, capture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        code, stderr = analyze(capture, option, "s")
    assert code == 2
    assert stderr.startswith(("pcapdiag: cannot open s: ", "pcapdiag: s is no file; --proxy-conf"))
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_a_device_is_no_capture(path):
    code, stderr = analyze(path)
    assert code == 2
    assert stderr.startswith("pcapdiag: ")


def test_a_pipe_without_a_writer_is_waited_for_aloud_until_ctrl_c(tmp_path):
    os.mkfifo(tmp_path / "c.pcap")
    with subprocess.Popen([*COMMAND, "analyze", "c.pcap"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "pcapdiag: nothing has come from c.pcap yet; waiting (Ctrl-C ends it)\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "pcapdiag: interrupted\n"
        assert process.wait(HANG_S) == 130


def test_a_pipe_whose_writer_comes_late_is_read(capture, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(
        [*COMMAND, "analyze", "--format", "json", "pipe"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "nothing has come from pipe yet" in process.stderr.readline()
        (tmp_path / "pipe").write_bytes(capture.read_bytes())
        assert '"exchanges": 1' in process.stdout.read()
        assert process.wait(HANG_S) == 0
