"""The command line as its callers see it: exit codes, what goes to stdout and what to stderr, how it ends."""

import array
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pcapdiag.base.version import __version__
from tests.conftest import ROOT
from tests.waiting import HANG_S, wait_until

ALSO_TESTS = ("analyze", "versions")

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"
HEALTHY = ROOT / "captures" / "healthy_keepalive" / "proxy.pcap"
RISK = ROOT / "captures" / "idle_closes_without_race" / "proxy.pcap"
HEAVY = ("numpy", "numba", "pandas", "scapy", "dpkt", "rich", "pyarrow")


def loaded_modules(*arguments):
    """Return which heavy packages a command loads."""
    code = (
        "import sys\nfrom pcapdiag.cli import main\n"
        f"try:\n    main({list(arguments)!r}, prog_name='pcapdiag')\n"
        f"except SystemExit:\n    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=HANG_S
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], [], ["analyze", "--help"], ["show", "-h"], ["rule", "-h"], ["nonsense"]],
)
def test_help_loads_nothing_heavy(arguments):
    assert loaded_modules(*arguments) == "[]"


def test_a_json_report_loads_neither_pandas_nor_rich():
    assert loaded_modules("analyze", str(RACE), "--format", "json", "-o", "/dev/null") == "['numpy']"


@pytest.mark.parametrize("command", [[], ["analyze"], ["show"], ["rule"]])
def test_every_command_answers_to_h(invoke, command):
    done = invoke(*command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: pcapdiag")
    assert done.stdout == invoke(*command, "--help").stdout


def test_version_is_the_version_of_the_package(cli):
    assert cli("--version").stdout.splitlines()[0] == f"pcapdiag {__version__}"
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("capture", "options", "code"),
    [
        (RACE, [], 1),
        (RACE, ["--fail-on", "error"], 1),
        (RACE, ["--fail-on", "never"], 0),
        (RACE, ["--ignore", "PD1"], 0),
        (RACE, ["--select", "PD101"], 1),
        (RACE, ["--select", "PD2,PD3", "--select", "PD8"], 2),
        (RACE, ["--select", "PD2,PD3"], 0),
        (HEALTHY, [], 0),
        (HEALTHY, ["--fail-on", "info"], 0),
        (RISK, [], 1),
        (RISK, ["--fail-on", "error"], 0),
    ],
)
def test_the_exit_code_says_whether_there_are_findings(invoke, capture, options, code):
    done = invoke("analyze", capture, "--format", "json", *options)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (1 if code == 2 else 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["analyze"], "Missing argument 'CAPTURE...'"),
        (["analyze", "/no/such/file.pcap"], "/no/such/file.pcap"),
        (["analyze", str(RACE), "--format", "pdf"], "'pdf' is not one of"),
        (["analyze", str(RACE), "--select", "XX"], "'XX'"),
        (["analyze", str(RACE), "--proxy", "nobody"], "'nobody' is not an IP address"),
        (["analyze", str(RACE), "--upstream", "10.0.0.1:http"], "'http'"),
        (["analyze", str(ROOT / "pyproject.toml")], "pyproject.toml"),
        (["analyze", str(RACE), "-o", "/no/such/folder/r"], "cannot write /no/such/folder/r"),
        (["show", "frames"], "Missing argument"),
        (["show", "nothing", str(RACE)], "'nothing' is not one of"),
        (["show", "exchanges", str(RACE), "--where", "idle > 1"], "there is no column 'idle'"),
        (["rule", "PD000"], "no rule 'PD000'"),
        (["rule", "PD1011"], "no rule 'PD1011'; did you mean PD101?\n"),
        (["analyze", str(RACE), "--select", "idle-close-rase"], "; did you mean idle-close-race?\n"),
        (["analyze", str(RACE), "--format", "jsn"], "; did you mean json?\n"),
        (["show", "exchange", str(RACE)], "'closings'; did you mean exchanges?\n"),
        (["analyze", str(RACE), "--log-zone", "asia/shangai"], "'asia/shangai'; did you mean Asia/Shanghai?\n"),
        (["anaylze", str(RACE)], "No such command 'anaylze'; did you mean analyze?\n"),
        ([str(RACE.with_name("prox.pcap"))], f"did you mean {RACE}?\n"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr_with_code_2(invoke, arguments, reason):
    done = invoke(*arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_error_names_a_hostile_path_without_its_escape_sequences(invoke, tmp_path):
    done = invoke("analyze", tmp_path / "a\x1b[2J\u202e.pcap")
    assert done.returncode == 2
    assert "\\x1b[2J\\u202e.pcap" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_bug_ends_with_code_2_and_says_that_it_is_one(cli, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import pcapdiag.cli.output as output\n"
        "def broken(*arguments, **options):\n    raise AssertionError('oops')\n"
        "output.open_output = broken\n"
    )
    done = cli("analyze", RACE, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert done.returncode == 2
    assert "AssertionError: oops" in done.stderr
    assert "bug in pcapdiag" in done.stderr


@pytest.mark.parametrize("format_", ["terminal", "markdown", "json"])
def test_the_same_input_gives_the_same_bytes_and_nothing_else_on_stdout(cli, format_):
    first, second = (cli("analyze", RACE, "--format", format_) for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stderr == ""
    assert "\x1b" not in first.stdout


def test_standard_input_gives_the_same_findings_as_the_file(cli):
    piped = cli("analyze", "-", "--format", "json", stdin=RACE.read_bytes())
    assert piped.returncode == 1
    report, of_file = json.loads(piped.stdout), json.loads(cli("analyze", RACE, "--format", "json").stdout)
    assert report["captures"][0]["paths"] == ["-"]
    assert report["totals"] == of_file["totals"]
    assert [f["identifier"] for f in report["findings"]] == [f["identifier"] for f in of_file["findings"]]
    assert report["inputs"][0]["bytes"] == RACE.stat().st_size


def test_the_width_can_be_chosen(invoke):
    widths = [max(map(len, invoke("analyze", RACE, "--width", str(w)).stdout.splitlines())) for w in (80, 140)]
    assert widths[0] <= 80 < widths[1] <= 140


def wait_until_read(pipe):
    """Wait until nothing is left in the pipe: its reader is at work and waits for more."""
    unread = array.array("i", [1])

    def is_empty():
        fcntl.ioctl(pipe, termios.FIONREAD, unread)
        return not unread[0]

    wait_until(is_empty)


def test_ctrl_c_ends_without_a_traceback():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "pcapdiag", "analyze", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    ) as process:
        process.stdin.write(RACE.read_bytes()[:2000])
        process.stdin.flush()
        wait_until_read(process.stdin)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert output == b""
    assert errors.decode().splitlines()[-1] == "pcapdiag: interrupted"
    assert b"Traceback" not in errors


def has_read(pid, path, n_bytes):
    """Tell whether a process has read a file that far."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if link.resolve() == path:
                return f"pos:\t{n_bytes}\n" in Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
    return False


def test_a_file_that_grows_is_followed_until_it_is_quiet(tmp_path):
    data = RACE.read_bytes()
    growing = tmp_path / "growing.pcap"
    growing.write_bytes(data[: len(data) // 2])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pcapdiag", "analyze", str(growing), "--follow", "8", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
        wait_until(lambda: has_read(process.pid, growing, len(data) // 2))
        with growing.open("ab") as file:
            file.write(data[len(data) // 2 :])
        report = json.loads(process.stdout.read())
    assert report["totals"]["unanswered"] == 8


def test_the_output_file_holds_what_stdout_would_have_held(invoke, tmp_path):
    target = tmp_path / "report.md"
    done = invoke("analyze", RACE, "--format", "markdown", "-o", target)
    assert (done.returncode, done.stdout) == (1, "")
    assert target.read_text() == invoke("analyze", RACE, "--format", "markdown").stdout
    assert invoke("analyze", RACE, "-o", target).returncode == 2
    assert invoke("analyze", RACE, "-o", target, "--force").returncode == 1


def test_targets_are_redacted_unless_asked(invoke, tmp_path):
    capture = tmp_path / "c.pcap"
    capture.write_bytes(RACE.read_bytes().replace(b"GET /api HTTP", b"GET /?k=v HTTP"))
    assert b"/?k=v" in capture.read_bytes()
    assert "k=***" in invoke("analyze", capture, "-v").stdout
    assert "k=v" not in invoke("analyze", capture, "--format", "json").stdout
    assert "k=v" in invoke("analyze", capture, "--no-redact", "-v").stdout
    assert "k=v" not in invoke("show", "exchanges", capture, "--format", "csv").stdout


def test_a_capture_where_a_command_stands_is_analyzed(cli, invoke, tmp_path, monkeypatch):
    expected = invoke("analyze", RACE)
    (tmp_path / "race").symlink_to(RACE)
    (tmp_path / "rule").symlink_to(RACE)
    monkeypatch.chdir(tmp_path)
    assert invoke(RACE) == expected
    assert invoke(RACE.parent).returncode == 1, "a folder"
    assert invoke("ra[cx]e").stdout.splitlines()[0] == expected.stdout.splitlines()[0]
    assert invoke("race", "--fail-on", "never").returncode == 0
    assert cli("-", stdin=RACE.read_bytes()).stdout.decode().splitlines()[0] == expected.stdout.splitlines()[0]
    assert invoke("file://" + str(RACE)).returncode == invoke("analyze", "file://" + str(RACE)).returncode
    assert invoke("rule").stdout.startswith("PD101 "), "a command is a command, whatever lies here"


def test_what_a_bug_report_needs_follows_the_version(cli):
    lines = cli("--version").stdout.splitlines()
    assert lines[1].startswith(f"Python {platform.python_version()} ")
    assert lines[2] == f"Platform {platform.platform()}"
    assert f"numpy {np.__version__}, " in lines[3]
    assert cli("-V").stdout.splitlines() == lines


def test_completion_knows_commands_and_options(cli):
    def complete(words, word_number):
        env = {"_PCAPDIAG_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(word_number)}
        return cli(env=env).stdout

    assert "plain,analyze" in complete("pcapdiag an", 1)
    assert "plain,--fail-on" in complete("pcapdiag analyze --f", 2)


def test_the_package_loads_nothing_until_it_is_used():
    code = (
        "import sys, pcapdiag; assert 'numpy' not in sys.modules; print(pcapdiag.PcapdiagError.__name__, dir(pcapdiag))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=HANG_S
    )
    assert done.stdout.startswith("PcapdiagError")
    assert "analyze" in done.stdout


@pytest.mark.parametrize(("command", "library"), [("history", "sqlalchemy"), ("scan", "sqlalchemy")])
def test_a_command_without_its_libraries_says_which_extra_brings_them(command, library, tmp_path):
    # An installation without the extra, as far as imports can tell.
    code = f"import sys; sys.modules[{library!r}] = None; from pcapdiag.cli import run; run()"
    arguments = [command, *([str(tmp_path)] if command == "scan" else [])]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert result.returncode == 2
    assert result.stderr == f"pcapdiag: {command} needs {library}: pip install 'pcapdiag[scan]'\n"
    assert result.stdout == ""
