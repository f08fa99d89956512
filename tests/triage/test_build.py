"""Logs and configurations of real incidents, without their captures: what is counted is what is in them."""

import gzip
import json
from pathlib import Path

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.triage.build import build_triage
from tests.proxy.logs.wrappers import WRAPPERS

CASES = Path(__file__).parents[2] / "captures"
RACE = CASES / "idle_close_race_65s"


def of(folder, **more):
    def found(name):
        return (str(folder / name),) if (folder / name).exists() else ()

    return build_triage(
        Inputs(
            error_logs=found("error.log"),
            access_logs=found("access.log"),
            proxy_conf=next(iter(found("nginx.conf")), ""),
            **more,
        )
    )


def test_an_incident_is_counted_as_its_logs_have_it():
    triage = of(RACE)
    assert (triage.failures, triage.servers_disabled, triage.clients.by_status) == (27, 10, {"502": 19})
    assert sum(row.count for row in triage.messages) == 27
    (group,) = triage.empty_groups
    assert (group.group, group.count, group.window_s) == ("be", 17, 10)
    assert triage.capture.upstreams == ("10.1.1.1:80", "10.1.1.2:80", "10.1.1.3:80")
    assert triage.timers[0].keeps_s == 300
    assert (triage.clock, triage.first) == ("local time of the log", "2026-11-20 23:56:28")


def test_a_zone_that_is_known_gives_utc():
    triage = of(RACE, log_zone="+08:00")
    assert (triage.clock, triage.first) == ("UTC", "2026-11-20 15:56:28")


def test_a_stamp_around_the_lines_gives_utc(tmp_path):
    lines = (RACE / "error.log").read_text().splitlines()
    text = "".join(f"2026-11-20T15:{line[14:19]}.5Z web-1 nginx[7]: {line}\n" for line in lines)
    (tmp_path / "error.log").write_text(text)
    triage = of(tmp_path)
    assert (triage.clock, triage.failures) == ("UTC", 27)


@pytest.mark.parametrize("name", ["stern", "GCP JSON", "Splunk CSV", "a web page"])
def test_it_does_not_matter_what_is_around_the_lines(tmp_path, name):
    (tmp_path / "error.log").write_text(WRAPPERS[name]((RACE / "error.log").read_text().splitlines()))
    bare = of(RACE)
    assert of(tmp_path).messages == bare.messages


def test_without_a_configuration_upstreams_are_those_that_failed(tmp_path):
    (tmp_path / "error.log").write_bytes(gzip.compress((RACE / "error.log").read_bytes()))
    triage = of(tmp_path)
    assert sorted(triage.capture.upstreams) == ["10.1.1.1:80", "10.1.1.2:80", "10.1.1.3:80"]
    assert (triage.timers, triage.unkept) == ((), ())
    assert triage.empty_groups[0].window_source == "nginx's default fail_timeout"


def test_an_access_log_alone_counts_requests(tmp_path):
    line = '192.0.2.2 - - [21/Nov/2026:00:56:28 +0100] "GET /a HTTP/1.1" {} 157 "-" "curl/8"\n'
    (tmp_path / "access.log").write_text("".join(line.format(status) for status in (200, 502, 502, 504, 404)))
    triage = of(tmp_path)
    assert (triage.counted_in, triage.failures, triage.clock) == ("access log", 3, "UTC")
    assert triage.first == "2026-11-20 23:56:28"
    assert triage.undecided


def test_a_format_that_says_no_status_is_told_of(tmp_path):
    (tmp_path / "access.log").write_bytes((RACE / "access.log").read_bytes())
    assert any("--log-format" in note for note in of(tmp_path).notes)


def test_a_configuration_alone_names_timers_and_the_capture(tmp_path):
    (tmp_path / "nginx.conf").write_bytes((RACE / "nginx.conf").read_bytes())
    triage = of(tmp_path)
    assert (triage.failures, triage.counted_in, triage.clock, triage.messages) == (0, "", "", ())
    assert triage.timers[0].upstream == "be"


def test_logs_of_another_proxy_are_counted_by_its_words(tmp_path):
    line = (
        "192.0.2.2:42496 [01/Dec/2026:03:47:06.576] f b/s2 0/0/160/209/369 502 188 - - SH-- 3/3/2/0/0 0/0"
        ' "GET / HTTP/1.1"'
    )
    (tmp_path / "error.log").write_text(f"{line}\n" * 6)
    triage = of(tmp_path)
    assert (triage.failures, triage.counted_in) == (6, "log")
    assert triage.messages[0].upstream == "b/s2"
    assert "log_format" not in " ".join(triage.capture.log_settings)


def test_what_was_not_understood_is_said(tmp_path):
    (tmp_path / "error.log").write_text("what\n" * 3)
    assert any("none of its 3 lines" in note for note in of(tmp_path).notes)
    (tmp_path / "error.log").write_text((RACE / "error.log").read_text() + "\nwhat, client: 1\n")
    assert any("not understood" in note for note in of(tmp_path).notes)


def test_no_word_of_a_client_is_told(tmp_path):
    text = (RACE / "error.log").read_text().replace("/api", "/api?token=hush-hush-hush")
    (tmp_path / "error.log").write_text(text)
    triage = of(tmp_path)
    assert triage.failures == 27
    assert "hush" not in json.dumps(triage.messages, default=str)
