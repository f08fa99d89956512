"""``analyze`` without a capture, and ``capture-command``: exit codes, formats, what is refused."""

import json
from pathlib import Path

import pytest

ALSO_TESTS = ("capture_command",)
RACE = Path(__file__).parents[2] / "captures" / "idle_close_race_65s"
LOG, CONF = ("--error-log", str(RACE / "error.log")), ("--proxy-conf", str(RACE / "nginx.conf"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*LOG, *CONF), 1),
        ((*LOG, "--fail-on", "error"), 0),
        ((*LOG, "--fail-on", "never"), 0),
        (CONF, 0),
        ((*CONF, "--fail-on", "info"), 1),
        ((), 2),
        ((*LOG, "--format", "html"), 2),
        ((*LOG, "--format", "sarif"), 2),
        ((*LOG, "--bundle", "x.zip"), 2),
        ((*LOG, "--select", "PD101"), 2),
        (("--error-log", "none.log"), 2),
    ],
)
def test_the_exit_code_is_that_of_analyze(invoke, arguments, code):
    assert invoke("analyze", *arguments).returncode == code


def test_each_form_is_written(invoke, tmp_path):
    assert json.loads(invoke("analyze", *LOG, "--format", "json").stdout)["failures"] == 27
    invoke("analyze", *LOG, "-o", str(tmp_path / "x.md"))
    assert (tmp_path / "x.md").read_text().startswith("**The error log has 27 failures")
    assert invoke("analyze", *LOG, "-q").stdout.count("\n") == 1
    assert len(invoke("analyze", *LOG, "-v").stdout) > len(invoke("analyze", *LOG).stdout)


def test_capture_command_prints_a_line_to_paste(invoke):
    done = invoke("capture-command", *CONF)
    assert done.returncode == 0
    told = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert told[0].startswith("tcpdump -i any")
    assert "host 10.1.1.3" in " ".join(told)
    assert "error_log /var/log/nginx/error.log info;" in done.stdout


def test_capture_command_takes_upstreams_and_refuses_nonsense(invoke):
    assert "host 10.9.9.9" in invoke("capture-command", "--upstream", "10.9.9.9:80").stdout
    assert "tcp or icmp" in invoke("capture-command").stdout
    assert invoke("capture-command", "--upstream", "$(id)").returncode == 2
    assert invoke("capture-command", "--proxy-conf", "none.conf").returncode == 2
