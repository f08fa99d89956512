"""What pipelines read: SARIF, JUnit, and the commands of GitHub Actions."""

import json
import re
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

import pcapdiag
from pcapdiag.base.findings import Severity
from pcapdiag.report.headline import headline
from pcapdiag.report.render.ci import render_github, render_junit, render_sarif
from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_65s"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
EVERY = frozenset(Severity)
HOSTILE = "a<b>&\"'\x00\x1b[2J\n::error::x\r\n::set-env name=a::b %0A \ufffe \ud800 \udcff ]]>"
NAME = HOSTILE.replace("\ud800", "")
"""What may be the name of a file: its bytes are any, but it has no surrogates of UTF-16."""


@pytest.fixture(scope="module")
def report():
    return pcapdiag.analyze(CASE / "proxy.pcap", error_logs=[CASE / "error.log"], proxy_conf=CASE / "nginx.conf").report


@pytest.fixture(scope="module")
def hostile(report):
    """Return the same report with every text of its first finding written by an enemy."""
    first, *others = report.findings
    occurrences = tuple(replace(o, log_lines=(f"{NAME}:7",)) for o in first.occurrences)
    texts = dict.fromkeys(("message", "remedy", "identifier", "subject", "title"), HOSTILE)
    spoiled = replace(first, **texts, occurrences=occurrences, changes=(replace(first.changes[0], file=f"/{NAME}"),))
    return replace(report, findings=(spoiled, *others))


def commands(text):
    return [re.fullmatch(r"::(\w+) ([^\n]*?)::([^\n]*)", line).groups() for line in text.splitlines()]


def test_sarif_holds_every_finding_at_the_line_that_its_remedy_changes(report):
    (run,) = json.loads(render_sarif(report))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == len(report.findings)
    for result, finding in zip(run["results"], report.findings, strict=True):
        assert (result["ruleId"], rules[result["ruleIndex"]]["id"]) == (finding.code, finding.code)
        assert result["level"] == LEVELS[finding.severity.name.lower()]
        assert result["message"]["text"].startswith(finding.message)
        assert result["occurrenceCount"] == finding.count
        places = {
            (
                unquote(place["physicalLocation"]["artifactLocation"]["uri"]),
                place["physicalLocation"]["region"]["startLine"],
            )
            for place in result["locations"]
        }
        assert places == {(f"file://{change.file}", change.line) for change in finding.changes if change.line > 0}
    assert report.findings[0].changes, "else the last line says nothing"
    assert len({json.dumps(r["partialFingerprints"]) for r in run["results"]}) == len(report.findings)
    assert run["results"][0]["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("error.log")


def test_without_a_configuration_a_finding_stands_at_its_capture():
    report = pcapdiag.analyze(CASE / "proxy.pcap").report
    (run,) = json.loads(render_sarif(report))["runs"]
    for result in run["results"]:
        (place,) = result["locations"]
        assert unquote(place["physicalLocation"]["artifactLocation"]["uri"]) == f"file://{CASE / 'proxy.pcap'}"
        assert "region" not in place["physicalLocation"]


def test_the_same_input_gives_the_same_bytes(report):
    assert render_sarif(report) == render_sarif(report)
    assert render_junit(report, EVERY) == render_junit(report, EVERY)


@pytest.mark.parametrize("failing", [EVERY, frozenset({Severity.ERROR}), frozenset()])
def test_junit_has_a_case_for_every_rule_and_its_counts_are_those_of_the_cases(report, failing):
    root = ET.fromstring(render_junit(report, failing))  # noqa: S314 - our own
    (suite,) = root
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [verdict.code for verdict in report.verdicts]
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == {f.code for f in report.findings if f.severity in failing}
    skipped = {case.get("name") for case in cases if case.find("skipped") is not None}
    assert skipped == {v.code for v in report.verdicts if v.verdict.name == "NOT_EVALUATED"}
    counts = [int(suite.get(name)) for name in ("tests", "failures", "skipped", "errors")]
    assert counts == [len(cases), len(failed), len(skipped), 0]
    for finding in report.findings:
        case = next(case for case in cases if case.get("name") == finding.code)
        assert finding.message in "".join(case.itertext()), "told, failure or not"


def test_github_gets_the_headline_and_an_annotation_for_each_finding(report):
    (first, *others) = commands(render_github(report))
    assert first == ("notice", "title=pcapdiag", headline(report).replace("%", "%25"))
    assert [kind for kind, _, _ in others] == [
        {"error": "error", "warning": "warning", "info": "notice"}[f.severity.name.lower()] for f in report.findings
    ]
    change = report.findings[0].changes[0]
    assert others[0][1] == f"file={change.file},line={change.line},title=PD101 idle-close-race"


def test_a_report_that_is_not_redacted_says_so_to_pipelines():
    report = pcapdiag.analyze(CASE / "proxy.pcap", redact=False).report
    for text in (render_sarif(report), render_junit(report, EVERY), render_github(report)):
        assert "NOT REDACTED" in text


def test_text_of_an_enemy_is_text(hostile):
    (run,) = json.loads(render_sarif(hostile))["runs"]
    text = run["results"][0]["message"]["text"]
    assert not [char for char in text if char != "\n" and not char.isprintable()]
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert re.fullmatch(r"file:///[\w.%~-]+", uri)
    junit = ET.fromstring(render_junit(hostile, EVERY))  # noqa: S314 - our own
    assert "a<b>&" in "".join(junit.itertext())
    assert len(junit[0].findall("testcase")) == len(hostile.verdicts)
    told = commands(render_github(hostile))
    assert len(told) == 1 + len(hostile.findings)
    assert {kind for kind, _, _ in told} <= {"error", "warning", "notice"}
    assert told[1][1].count(",") == 2, "no property of its own"
