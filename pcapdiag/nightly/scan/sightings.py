"""From a report to rows: every finding by day, and where it happened."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pcapdiag.nightly.scan.days import day_of
from pcapdiag.nightly.store.model import OccurrenceRow, Sighting

if TYPE_CHECKING:
    from pcapdiag.report.model import FindingDetail, OccurrenceDetail, Report


def list_sightings(report: Report, *, after_ns: int, until_ns: int) -> tuple[Sighting, ...]:
    """Return each finding once per day on which it happened.

    Parameters
    ----------
    report : Report
        What was found.
    after_ns, until_ns : int
        [ns] What counts was decided after the one and not after the other; -1 for no bound.

    Returns
    -------
    tuple of Sighting
        In the order of the report, then by day. A finding without occurrences counts on the last day that it tells of.
    """
    return tuple(
        sighting for finding in report.findings for sighting in _by_day(finding, after_ns=after_ns, until_ns=until_ns)
    )


def list_occurrences(report: Report, *, after_ns: int, until_ns: int) -> tuple[OccurrenceRow, ...]:
    """Return where the findings happened.

    Parameters
    ----------
    report : Report
        What was found.
    after_ns, until_ns : int
        As in `list_sightings`.

    Returns
    -------
    tuple of OccurrenceRow
        In the order of the report.
    """
    return tuple(
        OccurrenceRow(
            identifier=finding.identifier,
            number=number,
            ts_ns=occurrence.request_ts_ns,
            uid=occurrence.uid,
            depth=occurrence.depth,
            orig=occurrence.orig,
            resp=occurrence.resp,
            method=occurrence.method,
            target=occurrence.target,
            idle_before_ns=occurrence.idle_before_ns,
            file=occurrence.capture,
            request_frame=occurrence.request_frame,
        )
        for finding in report.findings
        for number, occurrence in enumerate(finding.occurrences)
        if _is_within(_decided_at(occurrence), after_ns, until_ns)
    )


def _by_day(finding: FindingDetail, *, after_ns: int, until_ns: int) -> list[Sighting]:
    counts: dict[str, int] = defaultdict(int)
    times: dict[str, list[int]] = defaultdict(list)
    n_outside = 0
    for occurrence in finding.occurrences:
        if not _is_within(_decided_at(occurrence), after_ns, until_ns):
            n_outside += 1
            continue
        ts_ns = occurrence.request_ts_ns if occurrence.request_ts_ns >= 0 else finding.last_ts_ns
        counts[day_of(ts_ns)] += 1
        times[day_of(ts_ns)].append(ts_ns)
    # What has no place of its own (a risk, a sign) counts where the finding ends.
    rest = finding.count - sum(counts.values()) - n_outside
    if rest > 0 and _is_within(finding.last_ts_ns, after_ns, until_ns):
        day = day_of(finding.last_ts_ns)
        counts[day] += rest
        times[day] += [finding.last_ts_ns] if times[day] else [finding.first_ts_ns, finding.last_ts_ns]
    n_failures = max(finding.failures - n_outside, 0)
    sightings = []
    for day in sorted(counts):
        failures = min(n_failures, counts[day])
        n_failures -= failures
        sightings.append(
            Sighting(
                identifier=finding.identifier,
                day=day,
                code=finding.code,
                name=finding.name,
                title=finding.title,
                subject=finding.subject,
                severity=finding.severity,
                confidence=finding.confidence,
                message=finding.message,
                count=counts[day],
                failures=failures,
                first_ts_ns=min(times[day]),
                last_ts_ns=max(times[day]),
            )
        )
    return sightings


def _decided_at(occurrence: OccurrenceDetail) -> int:
    """Return the latest time of an occurrence: a request that waited into the next file is decided there.

    An entry of the log that has no packets belongs to the file that holds the failures behind it.
    """
    shown = [e.ts_ns for e in occurrence.evidence if e.end == "proxy"]
    return max(shown) if shown and not occurrence.uid else max([occurrence.request_ts_ns, *shown])


def _is_within(ts_ns: int, after_ns: int, until_ns: int) -> bool:
    return (after_ns < 0 or ts_ns > after_ns) and (until_ns < 0 or ts_ns <= until_ns)
