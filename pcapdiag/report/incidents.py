"""What happened at one upstream at one moment, told as one: a machine that resets everything, then refuses.

Knows the findings of a report; they keep their codes and counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Severity
from pcapdiag.base.units import about, count_of, format_ts_ns
from pcapdiag.report.model import Incident
from pcapdiag.report.summary import bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.report.model import FindingDetail, Report

_PAUSE_NS = 2_000_000_000
"""[ns] What is further apart than this is another moment."""
_LEAST_EVENTS = 3
_LEAST_CAUSES = 2
_MOST = 50

_Event = tuple[int, int, int]
"""Time of a request or attempt, which finding it stands in, and how many it stands for."""


def find_incidents(findings: Sequence[FindingDetail]) -> tuple[Incident, ...]:
    """Return moments at which several things went wrong at one upstream.

    Parameters
    ----------
    findings : sequence of FindingDetail
        Of a report; those for information are left out.

    Returns
    -------
    tuple of Incident
        In the order of time; at least three events of at least two causes each.
    """
    by_endpoint: dict[str, list[_Event]] = defaultdict(list)
    for number, finding in enumerate(findings):
        if finding.severity < Severity.WARNING:
            continue
        for occurrence in finding.occurrences:
            if occurrence.request_ts_ns >= 0:
                by_endpoint[occurrence.resp].append((occurrence.request_ts_ns, number, occurrence.stands_for))
    incidents = [
        _incident(endpoint, events, findings)
        for endpoint, its_events in by_endpoint.items()
        for events in _moments(sorted(its_events))
        if len(events) >= _LEAST_EVENTS and len({findings[number].code for _, number, _ in events}) >= _LEAST_CAUSES
    ]
    return tuple(sorted(incidents, key=lambda i: (i.start_ts_ns, i.endpoints))[:_MOST])


def _moments(events: Iterable[_Event]) -> Iterator[list[_Event]]:
    moment: list[_Event] = []
    for event in events:
        if moment and event[0] - moment[-1][0] > _PAUSE_NS:
            yield moment
            moment = []
        moment.append(event)
    if moment:
        yield moment


def _incident(endpoint: str, events: Sequence[_Event], findings: Sequence[FindingDetail]) -> Incident:
    counts: Counter[int] = Counter()
    for _, number, stands_for in events:
        counts[number] += stands_for
    start, end = events[0][0], events[-1][0]
    by_cause: Counter[str] = Counter()
    for number, n in sorted(counts.items()):
        by_cause[f"{findings[number].code} {findings[number].name}"] += n
    parts = [f"{n:,} x {cause}" for cause, n in by_cause.items()]
    lasted = f"within {about(end - start)}" if end > start else "at one instant"
    since = format_ts_ns(start)[:19].replace("T", " ")
    return Incident(
        start_ts_ns=start,
        end_ts_ns=end,
        endpoints=(endpoint,),
        identifiers=tuple(findings[number].identifier for number in sorted(counts)),
        message=(
            f"{endpoint}, from {since} UTC on: {count_of(counts.total(), 'failure')} {lasted}, most likely one event"
            f" ({', '.join(parts)})."
        ),
    )


def incident_lines(report: Report) -> tuple[str, ...]:
    """Return one sentence for each incident."""
    return bounded([incident.message for incident in report.incidents])
