"""From a report to rows: every finding by day, and where it happened."""

import dataclasses

import pytest

from pcapdiag.nightly.scan.sightings import list_occurrences, list_sightings
from tests.report import builders
from tests.report.builders import T0, S

DAY_S = 86_400


def report_of(*seconds, **changes):
    """Return the report of requests that were lost so many seconds after T0."""
    occurrences = tuple(
        builders.occurrence(request_frame=100 + n, request_ts_ns=T0 + at * S, evidence=(), depth=n)
        for n, at in enumerate(seconds)
    )
    return builders.report(builders.finding(occurrences=occurrences, **changes))


def days(report, after_ns=-1, until_ns=-1):
    return [(s.day, s.count) for s in list_sightings(report, after_ns=after_ns, until_ns=until_ns)]


def test_a_finding_is_there_once_per_day_with_its_own_times():
    report = report_of(0, 60, DAY_S)
    assert days(report) == [("2026-11-20", 2), ("2026-11-21", 1)]
    first, second = list_sightings(report, after_ns=-1, until_ns=-1)
    assert (first.first_ts_ns, first.last_ts_ns) == (T0, T0 + 60 * S)
    assert (second.first_ts_ns, second.last_ts_ns) == (T0 + DAY_S * S, T0 + DAY_S * S)
    assert first.identifier == second.identifier


@pytest.mark.parametrize(
    ("after_s", "until_s", "counts"),
    [(-1, 60, [2]), (0, 60, [1]), (60, 2 * DAY_S, [1]), (DAY_S, 2 * DAY_S, [])],
)
def test_what_lies_at_a_bound_counts_on_one_side_only(after_s, until_s, counts):
    bounds = {"after_ns": T0 + after_s * S, "until_ns": T0 + until_s * S}
    report = report_of(0, 60, DAY_S)
    assert [s.count for s in list_sightings(report, **bounds)] == counts
    assert len(list_occurrences(report, **bounds)) == sum(counts)


def test_a_finding_without_a_place_of_its_own_counts_where_it_ends():
    finding = builders.finding(occurrences=(), count=4, first_ts_ns=T0, last_ts_ns=T0 + DAY_S * S)
    assert days(builders.report(finding)) == [("2026-11-21", 4)]
    assert days(builders.report(finding), until_ns=T0) == []


def test_an_occurrence_is_counted_where_it_was_decided_not_where_it_began():
    """A request that waited into the next file is that file's."""
    one = builders.occurrence(
        uid="", evidence=tuple(dataclasses.replace(e, ts_ns=T0 + 10 * S) for e in builders.race_evidence())
    )
    report = builders.report(builders.finding(occurrences=(one,)))
    assert days(report, until_ns=T0 + 5 * S) == []
    assert len(days(report, after_ns=T0 + 5 * S)) == 1


def test_rows_of_occurrences_lead_back_to_the_frame():
    row, *_ = list_occurrences(report_of(0, 60), after_ns=-1, until_ns=-1)
    assert (row.number, row.file, row.request_frame, row.orig) == (0, "proxy.pcap", 101, builders.ORIG)
    assert "secret" not in row.target
