"""The report for pipelines: SARIF for code scanning, JUnit for test reports, commands for a log of GitHub Actions.

Where the remedy changes a configuration that was given, a finding stands at that line, else at the capture. Text of
captures is escaped: it forms no markup, no second command, and no control character.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from pcapdiag.base.findings import Severity, VerdictKind
from pcapdiag.privacy.escape import shorten, visible
from pcapdiag.report.headline import headline

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pcapdiag.report.model import FindingDetail, Report

_MOST_LOG_LINES: Final = 10
_MOST_CHARS: Final = 4000
"""What an annotation may hold."""
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_NOT_XML: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_sarif(report: Report) -> str:
    """Return the findings as SARIF 2.1.0, each with an identifier that is the same on the next run.

    Parameters
    ----------
    report : Report
        What to tell.

    Returns
    -------
    str
        One JSON document, ASCII only, a newline at the end.
    """
    first_of = {finding.code: finding for finding in reversed(report.findings)}
    codes = sorted(first_of)
    driver = {
        "name": report.tool.name,
        "version": report.tool.version,
        "rules": [
            {"id": code, "name": first_of[code].name, "shortDescription": {"text": first_of[code].title}}
            for code in codes
        ],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(finding, codes.index(finding.code), report) for finding in report.findings],
        "properties": {"headline": _told(headline(report)), "redacted": report.redaction.redacted},
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, ensure_ascii=True, indent=2) + "\n"


def _result(finding: FindingDetail, rule_index: int, report: Report) -> dict[str, Any]:
    log_lines = dict.fromkeys(line for occurrence in finding.occurrences for line in occurrence.log_lines)
    related = [line.rpartition(":") for line in list(log_lines)[:_MOST_LOG_LINES]]
    return {
        "ruleId": finding.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity],
        "message": {"text": _told(f"{finding.message}\n\n{finding.remedy}")},
        "locations": [_location(path, line) for path, line in _places(finding, report)],
        "relatedLocations": [_location(path, int(line)) for path, _, line in related if line.isdigit()],
        "partialFingerprints": {"identifier/v1": _told(finding.identifier)},
        "occurrenceCount": max(finding.count, 1),
        "properties": {"confidence": finding.confidence.name.lower(), "subject": _told(finding.subject)},
    }


def _places(finding: FindingDetail, report: Report) -> list[tuple[str, int]]:
    """Return where a finding stands: the lines to change, else the capture of its first occurrence, else the first."""
    changed = [(change.file, change.line) for change in finding.changes if change.file and change.line > 0]
    if changed:
        return list(dict.fromkeys(changed))
    captures = [occurrence.capture for occurrence in finding.occurrences if occurrence.capture]
    captures += [path for capture in report.captures for path in capture.paths]
    return [(path, 0) for path in captures[:1]]


def _location(path: str, line: int) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": {"uri": ("file://" if path.startswith("/") else "") + quote(path, errors="surrogateescape")}
    }
    return {"physicalLocation": place | ({"region": {"startLine": line}} if line > 0 else {})}


def render_junit(report: Report, failing: Collection[Severity]) -> str:
    """Return the verdict of every rule as a test case: failed, passed, or skipped and why.

    Parameters
    ----------
    report : Report
        What to tell.
    failing : collection of Severity
        Findings of which severities are failures; the others are told of and pass.

    Returns
    -------
    str
        One XML document.
    """
    suite = ET.Element("testsuite", name=report.tool.name)
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="version", value=report.tool.version)
    ET.SubElement(properties, "property", name="redacted", value=str(report.redaction.redacted).lower())
    n_failed = n_skipped = 0
    for verdict in report.verdicts:
        case = ET.SubElement(suite, "testcase", classname=report.tool.name, name=verdict.code)
        found = [finding for finding in report.findings if finding.code == verdict.code]
        failed = [finding for finding in found if finding.severity in failing]
        n_failed += bool(failed)
        if failed:  # one element: not every reader takes several
            worst = max(finding.severity for finding in failed).name.lower()
            failure = ET.SubElement(case, "failure", type=worst, message=_xml(failed[0].title))
            failure.text = _xml("\n\n".join(f"{finding.message}\n\n{finding.remedy}" for finding in failed))
        if not found and verdict.verdict is not VerdictKind.CLEAN:
            n_skipped += 1
            ET.SubElement(case, "skipped", message=_xml(verdict.reason))
        others = "\n".join(f"{f.severity.name.lower()}: {f.message}" for f in found if f not in failed)
        if others:
            ET.SubElement(case, "system-out").text = _xml(others)
    counts = {"tests": len(report.verdicts), "failures": n_failed, "errors": 0, "skipped": n_skipped}
    for name, count in counts.items():
        suite.set(name, str(count))
    ET.SubElement(suite, "system-out").text = _xml(headline(report))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def render_github(report: Report) -> str:
    """Return workflow commands of GitHub Actions: the headline as a notice, and an annotation for each finding.

    Parameters
    ----------
    report : Report
        What to tell.

    Returns
    -------
    str
        A command per line.
    """
    return "\n".join(_commands(report)) + "\n"


def _commands(report: Report) -> Iterator[str]:
    yield f"::notice title={_property(report.tool.name)}::{_data(headline(report))}"
    for finding in report.findings:
        (path, line), *_ = _places(finding, report) or [("", 0)]
        place = f"file={_property(path)}," if path else ""
        place += f"line={line}," if line > 0 else ""
        title = _property(f"{finding.code} {finding.name}")
        text = _data(shorten(f"{finding.message}\n\n{finding.remedy}", _MOST_CHARS))
        yield f"::{_COMMANDS[finding.severity]} {place}title={title}::{text}"


def _told(text: str) -> str:
    """Return text whose only control characters are ends of lines."""
    return "\n".join(map(visible, text.rstrip().split("\n")))


def _xml(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", _told(text))


def _data(text: str) -> str:
    return _told(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
