"""Each occurrence of a report has an identifier of its own, the same each time."""

from pcapdiag.report.anchors import Anchors
from tests.report import builders


def test_occurrences_are_named_after_code_and_frame_and_told_apart():
    frames = (6, 6, 8, -1, -1)  # counted from 0 here
    finding = builders.finding(occurrences=tuple(builders.occurrence(request_frame=n) for n in frames))
    other = builders.finding(code="PD201", occurrences=(builders.occurrence(request_frame=7),))
    report = builders.report(finding, other)
    names = [Anchors(report).of(o) for f in report.findings for o in f.occurrences]
    assert names[:5] == ["PD101-frame-7", "PD101-frame-7-2", "PD101-frame-9", "PD101-log", "PD101-log-2"]
    assert len(set(names)) == 6


def test_an_occurrence_of_another_report_has_none():
    report = builders.report(builders.finding())
    assert Anchors(report).of(builders.occurrence()) == ""
