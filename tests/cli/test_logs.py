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
