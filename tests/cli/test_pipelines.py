"""analyze in a pipeline: what fails there is what --fail-on says."""

import json
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"
RISK = ROOT / "captures" / "idle_closes_without_race" / "proxy.pcap"
HEALTHY = ROOT / "captures" / "healthy_keepalive" / "proxy.pcap"


def cases_of(text):
    return ET.fromstring(text.encode()).findall("testsuite/testcase")  # noqa: S314 - our own


@pytest.mark.parametrize(
    ("capture", "fail_on", "failed", "code"),
    [
        (RACE, "warning", ["PD101"], 1),
        (RISK, "warning", ["PD110"], 1),
        (RISK, "error", [], 0),
        (RACE, "never", [], 0),
        (HEALTHY, "info", [], 0),
    ],
    ids=lambda value: value.parent.name if hasattr(value, "parent") else None,
)
def test_junit_fails_what_the_exit_code_fails(invoke, capture, fail_on, failed, code):
    done = invoke("analyze", capture, "--format", "junit", "--fail-on", fail_on)
    assert (done.returncode, done.stderr) == (code, "")
    cases = cases_of(done.stdout)
    assert [case.get("name") for case in cases if case.find("failure") is not None] == failed


def test_what_was_not_asked_for_is_skipped_and_says_so(invoke):
    done = invoke("analyze", RACE, "--format", "junit", "--ignore", "PD101")
    assert done.returncode == 0
    cases = cases_of(done.stdout)
    (skipped,) = (case.find("skipped") for case in cases if case.get("name") == "PD101")
    assert "not shown, as asked" in skipped.get("message")


def test_sarif_and_github_name_what_was_found(cli):
    sarif = json.loads(cli("analyze", RACE, "--format", "sarif").stdout)
    assert {result["ruleId"] for result in sarif["runs"][0]["results"]} == {"PD101"}
    github = cli("analyze", RACE, "--format", "github")
    assert github.returncode == 1
    assert github.stdout.startswith("::notice title=pcapdiag::8 of 53 requests got no answer")
    assert "\n::error file=" in github.stdout
    assert cli("analyze", HEALTHY, "--format", "github").stdout.count("\n") == 1
