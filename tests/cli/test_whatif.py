"""`pcapdiag whatif`: its inputs, its formats, its exit codes."""

import html
import json
import shutil
import subprocess

import pytest

from tests.conftest import ROOT
from tests.waiting import HANG_S

pytestmark = pytest.mark.slow

CASE = ROOT / "captures" / "idle_close_race_before"
LOGS = ("--access-log", CASE / "access.log", "--error-log", CASE / "error.log", "--proxy-conf", CASE / "nginx.conf")
CAPTURE = CASE / "proxy.pcap"
BOTH_ENDS = "idle_close_race_65s"


def test_scenarios_stand_in_the_order_in_which_they_were_asked_for(invoke):
    asked = ("--set", "max_fails=0", "--case", "max_fails=10", "--sweep", "proxy.keepalive_timeout=2s:4s:1s")
    done = invoke("whatif", CAPTURE, *LOGS, *asked, "--format", "json", "-q")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [s["name"] for s in document["scenarios"]] == [
        "observed",
        "replayed",
        "max_fails=0",
        "max_fails=10",
        *(f"proxy.keepalive_timeout={n}s" for n in (2, 3, 4)),
    ]
    observed, replayed = document["scenarios"][:2]
    assert observed["lost_tries"]["expected"] == 11
    assert replayed["lost_tries"]["low"] <= 11 <= replayed["lost_tries"]["high"]
    assert document["scenarios"][4]["lost_tries"] == {"low": 0, "expected": 0, "high": 0}


def test_the_recommendation_is_a_change_of_the_configuration(invoke):
    done = invoke("whatif", CAPTURE, *LOGS, "--recommend", "-q")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("With proxy.keepalive_timeout=3s no request is predicted to be lost")
    assert "    -    keepalive 32; keepalive_timeout 60s;" in lines
    assert "    +    keepalive 32; keepalive_timeout 3s;" in lines


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
@pytest.mark.parametrize("form", ["terminal", "markdown", "html", "json"])
def test_patch_takes_every_form_of_the_recommendation(invoke, tmp_path, form):
    """With a configuration as people write it: tabs, and lines wider than the terminal."""
    conf = tmp_path / "nginx.conf"
    names = " ".join(f"host{n}.example.test" for n in range(12))
    conf.write_text((CASE / "nginx.conf").read_text().replace("  ", "\t").replace("api.example.test", names))
    options = (*LOGS[:-1], conf, "--recommend", "-q", "--width", "80", "--format", form)
    told = invoke("whatif", CAPTURE, *options).stdout
    if form == "json":
        told = json.loads(told)["recommendation"]["patch"]
    if form == "html":
        told = html.unescape(told.partition("<pre>")[2].partition("</pre>")[0])  # what one copies off the page
    command = ["patch", "--fuzz=0", "--batch", "-p1", "-d", "/"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keepalive_timeout 3s;" in conf.read_text()


def test_the_same_seed_gives_the_same_bytes(invoke):
    runs = [invoke("whatif", CAPTURE, *LOGS, "--set", "max_fails=0", "--seed", "5", "-q").stdout for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "max_fials=0"), "there are proxy.keepalive_timeout=TIME, "),
        (("--sweep", "zone=1:2:1"), "no values from one to another; there are proxy.keepalive_timeout=TIME, "),
        (("--set", "max_fails=-1"), "a whole number"),
        (("--set", "backup=10.9.9.9:80"), "there are 10.1.1.1:80"),
        (("--set", "proxy.keepalive_timeout=soon"), "not a duration"),
        (("--sweep", "max_fails=1"), "a sweep is key=from:to:step"),
        (("--upstream-idle", "5s"), "without CAPTURE"),
    ],
)
def test_what_makes_no_sense_ends_with_exit_2_and_says_what_there_is(invoke, arguments, words):
    done = invoke("whatif", CAPTURE, *LOGS, *arguments, "-q")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_without_anything_to_replay_that_is_said(invoke):
    done = invoke("whatif", ROOT / "captures" / "no_keepalive" / "proxy.pcap", "-q")
    assert done.returncode == 2
    assert "nothing to replay" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing in it passes requests on to a server"),
        ("example.test {\n  file_server\n}\n", "or, if the proxy is nginx, none"),
        ("example.test {\n  reverse_proxy 10.1.1.1:80\n}\n", "of Caddy there is no model"),
        (
            "upstream be { server 10.9.9.9:80; }",
            "none of the upstreams of the capture is a server in it; there are 10.1.1.1:80",
        ),
        ("upstream be { server unix:/run/app.sock; }", "none of the upstreams of the capture is a server in it"),
        ("frontend f\n  bind :80\nbackend b\n  server a 10.1.1.1:80\n", "of HAProxy there is no model"),
    ],
)
def test_a_configuration_that_fits_nothing_is_not_taken_for_none(invoke, tmp_path, text, words):
    conf = tmp_path / "proxy.conf"
    conf.write_text(text)
    done = invoke("whatif", CAPTURE, *LOGS[:-1], conf, "--recommend", "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_captures_of_the_other_end_are_read_as_analyze_reads_them(invoke):
    """Nothing of the replay hangs on them; that they are one incident with the proxy's capture is checked."""
    folder = ROOT / "captures" / BOTH_ENDS
    far = sorted(folder.glob("upstream*.pcap"))
    assert far
    ends = [part for path in far for part in ("--upstream-capture", path)]
    logs = ("--access-log", folder / "access.log", "--proxy-conf", folder / "nginx.conf")
    with_both, alone = (
        invoke("whatif", folder / "proxy.pcap", *more, *logs, "-q", "--format", "json") for more in (ends, ())
    )
    assert with_both.returncode == alone.returncode == 0, with_both.stderr
    both, one = json.loads(with_both.stdout), json.loads(alone.stdout)
    assert both["scenarios"][:2] == one["scenarios"][:2]
    assert len(both["inputs"]) == len(one["inputs"]) + len(far)


def test_a_forecast_reads_no_capture_of_the_other_end(invoke):
    done = invoke("whatif", *LOGS, "--upstream-idle", "4s", "--upstream-capture", CAPTURE, "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--upstream-capture goes with the proxy's own CAPTURE" in done.stderr


def test_without_any_input_the_ways_are_said(invoke):
    done = invoke("whatif")
    assert done.returncode == 2
    assert "--upstream-idle" in done.stderr


def test_a_forecast_needs_no_capture_and_says_what_it_assumes(invoke):
    done = invoke("whatif", *LOGS, "--upstream-idle", "4s", "--format", "json", "-q")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["scenarios"][0]["client_failures"]["expected"] == 12
    replayed = document["scenarios"][1]["client_failures"]
    assert replayed["low"] <= 12 <= replayed["high"]
    assert any("4s, as was said" in text for text in document["model"]["assumptions"])
    assert any("a round trip takes" in text for text in document["model"]["assumptions"])


def test_a_forecast_cannot_be_disguised_and_leaks_nothing(invoke):
    done = invoke("whatif", *LOGS, "--upstream-idle", "4s", "--anonymize", "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a forecast has none" in done.stderr
    assert "10.1.1." not in done.stderr


def test_an_idle_time_beyond_all_sense_is_refused(invoke):
    done = invoke("whatif", *LOGS, "--upstream-idle", "1000000d", "-q")
    assert done.returncode == 2
    assert "at most 365 days" in done.stderr


def test_a_folder_of_logs_is_as_good_as_the_log(invoke, tmp_path):
    shutil.copy(CAPTURE.parent / "access.log", tmp_path / "access.log")
    (_, access, *others) = LOGS
    told = [
        invoke("whatif", CAPTURE, "--access-log", log, *others, "-q", "--format", "json") for log in (access, tmp_path)
    ]
    first, second = (json.loads(done.stdout)["scenarios"] for done in told)
    assert first == second


def test_the_name_of_a_server_stands_for_its_default(invoke):
    done = invoke("whatif", *LOGS, "--upstream-idle", "uvicorn", "-q")
    assert "Uvicorn with its default of 5 s" in done.stdout.replace("\n  ", " ")
    done = invoke("whatif", *LOGS, "--upstream-idle", "nobody", "-q")
    assert done.returncode == 2
    assert "Uvicorn" in done.stderr


def test_anonymized_no_address_and_no_file_is_left(invoke):
    done = invoke("whatif", CAPTURE, *LOGS, "--recommend", "--anonymize", "-q")
    assert done.returncode == 0, done.stderr
    assert "10.1.1." not in done.stdout
    assert "nginx.conf" not in done.stdout
    assert "proxy.keepalive_timeout=3s" in done.stdout


def test_a_page_is_written_where_it_is_wanted(invoke, tmp_path):
    page = tmp_path / "whatif.html"
    sweep = ("--sweep", "proxy.keepalive_timeout=2s:5s:1s")
    assert invoke("whatif", CAPTURE, *LOGS, *sweep, "--format", "html", "-o", page, "-q").returncode == 0
    assert "<svg" in page.read_text()


def test_where_it_was_written_and_what_it_says_is_told(invoke, tmp_path):
    page = tmp_path / "whatif.md"
    done = invoke("whatif", CAPTURE, *LOGS, "--set", "max_fails=0", "-o", page)
    assert done.stdout == ""
    assert done.stderr.startswith(f"pcapdiag: {page} is written: With max_fails=0, which hides it:")
    assert invoke("whatif", CAPTURE, *LOGS, "-o", page, "--force", "-q").stderr == ""
