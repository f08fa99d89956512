"""Logs and configuration on the command line."""

import json

import pytest

from tests.conftest import ROOT

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
    assert all(len(i["sha256"]) == 64 for i in report["inputs"])
    assert report["log"]["zone_offset_s"] == 0


@pytest.mark.parametrize(
    "options", [("--error-log", "absent.log"), ("--proxy-conf", "absent.conf"), ("--log-zone", "Mars/Olympus")]
)
def test_what_cannot_be_read_is_said_and_is_exit_code_2(cli, options):
    done = cli("analyze", CASE / "proxy.pcap", *options)
    assert done.returncode == 2
    assert options[1] in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_zone_may_be_given(cli):
    done = cli(
        *("analyze", CASE / "proxy.pcap", "--error-log", CASE / "error.log", "--log-zone", "+00:00"),
        *("--format", "json", "--fail-on", "never"),
    )
    assert json.loads(done.stdout)["log"]["zone_offset_s"] == 0
