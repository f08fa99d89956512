"""What happened at one upstream at one moment, told as one: a machine that resets everything, then refuses.

Knows findings and exchanges; they keep their codes and counts. Only what a server that goes down leaves may be one
event, and only while it shows no sign of life; a race with an idle timer needs no event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.recfunctions import repack_fields

from pcapdiag.base.codes import Outcome
from pcapdiag.base.findings import Exposure, Severity
from pcapdiag.base.units import about, count_of, format_ts_ns
from pcapdiag.report.model import Incident
from pcapdiag.report.summary import bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding, Occurrence
    from pcapdiag.report.model import Report

_PAUSE_NS = 2_000_000_000
"""[ns] What is further apart than this is another moment."""
_LEAST_EVENTS = 3
_LEAST_CAUSES = 2
_LEAST_ERROR = 500
_NO_LIMIT = np.iinfo(np.int64).max
_NEVER = np.empty(0, dtype=np.int64)
_MOST = 50

_Event = tuple[int, int, int]
"""When a request or attempt failed, which finding it stands in, and how many it stands for."""


def signs_of_life(analysis: Analysis, findings: Iterable[Finding]) -> dict[str, NDArray[np.int64]]:
    """Return when the upstreams that findings speak of opened a connection or began an answer.

    Parameters
    ----------
    analysis : Analysis
        With all exchanges.
    findings : iterable of Finding
        They name connections.

    Returns
    -------
    dict of str to ndarray
        [ns] Sorted, by the upstream as an occurrence names it; an answer of the upstream that says 5xx is none.
    """
    # Packed: in a view of some columns the bytes between them belong to others, and no two connections have the same.
    rows = analysis.connections.rows
    ends = repack_fields(rows[["resp_hi", "resp_lo", "resp_port"]])
    names = {ends[o.conn].tobytes(): str(o.resp) for f in findings for o in f.occurrences if o.conn >= 0}
    if not names:
        return {}
    keys, of_conn = np.unique(ends, return_inverse=True)
    wanted = np.array([key.tobytes() in names for key in keys], dtype=np.bool_)
    seen: dict[int, list[NDArray[np.int64]]] = defaultdict(list)

    def note(numbers: NDArray[np.int64], times: NDArray[np.int64]) -> None:
        order = np.argsort(numbers, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(group):
                seen[int(numbers[group[0]])].append(times[group])

    is_opened = (rows["handshake_resp_ns"] >= 0) & wanted[of_conn]
    note(of_conn[is_opened], (rows["first_ts_ns"] + rows["handshake_resp_ns"])[is_opened])
    for chunk in analysis.exchanges.chunks():
        of_row = of_conn[chunk["conn"]]
        has_answer = np.isin(chunk["outcome"], (Outcome.ANSWERED, Outcome.TRUNCATED)) & (chunk["request_ts_ns"] >= 0)
        has_answer &= (chunk["status_code"] < _LEAST_ERROR) & wanted[of_row]
        note(of_row[has_answer], (chunk["request_ts_ns"] + np.maximum(chunk["first_byte_ns"], 0))[has_answer])
    return {names[keys[number].tobytes()]: np.sort(np.concatenate(parts)) for number, parts in seen.items()}


def idle_limits(analysis: Analysis) -> dict[str, int]:
    """[ns] Return from which idle gap on a request raced the known timer of each upstream that has one."""
    return {
        str(upstream.endpoint): upstream.idle_timeout.earliest_ns - max(upstream.rtt_p99_ns, 0)
        for upstream in analysis.upstreams
        if upstream.idle_timeout is not None
    }


def find_incidents(
    findings: Sequence[Finding], alive: Mapping[str, NDArray[np.int64]], limits: Mapping[str, int]
) -> tuple[Incident, ...]:
    """Return moments at which several things went wrong at one upstream.

    Parameters
    ----------
    findings : sequence of Finding
        With the occurrences that a report lists; those for information, and what no server leaves that goes down, are
        left out.
    alive : mapping of str to ndarray
        [ns] When each upstream showed that it is there, sorted (`signs_of_life`).
    limits : mapping of str to int
        [ns] Idle gaps from which on a lost race is the idle timer's own doing (`idle_limits`).

    Returns
    -------
    tuple of Incident
        In the order of time; at least three events of at least two causes each.
    """
    by_endpoint: dict[str, list[_Event]] = defaultdict(list)
    for number, finding in enumerate(findings):
        if finding.severity < Severity.WARNING or not finding.facts.goes_down:
            continue
        is_race = finding.facts.exposure is Exposure.RACE
        for occurrence in finding.occurrences:
            is_timed = is_race and occurrence.idle_before_ns >= limits.get(occurrence.resp, _NO_LIMIT)
            if occurrence.request_ts_ns >= 0 and not is_timed:
                by_endpoint[occurrence.resp].append((_failed_ns(occurrence), number, occurrence.stands_for))
    incidents = [
        _incident(endpoint, events, findings)
        for endpoint, its_events in by_endpoint.items()
        for events in _moments(sorted(its_events), alive.get(endpoint, _NEVER))
        if len(events) >= _LEAST_EVENTS and len({findings[number].code for _, number, _ in events}) >= _LEAST_CAUSES
    ]
    return tuple(sorted(incidents, key=lambda i: (i.start_ts_ns, i.endpoints))[:_MOST])


def _failed_ns(occurrence: Occurrence) -> int:
    """[ns] Return when what had been asked for was ended, as far as the evidence holds it; else when it was sent."""
    ends = (e.ts_ns for e in occurrence.evidence if e.frame == occurrence.closing_frame)
    return next(ends, occurrence.request_ts_ns)


def _moments(events: Iterable[_Event], alive: NDArray[np.int64]) -> Iterator[list[_Event]]:
    moment: list[_Event] = []
    for event in events:
        if moment and (event[0] - moment[-1][0] > _PAUSE_NS or _is_any_between(alive, moment[-1][0], event[0])):
            yield moment
            moment = []
        moment.append(event)
    if moment:
        yield moment


def _is_any_between(times: NDArray[np.int64], first: int, last: int) -> bool:
    return bool(np.searchsorted(times, first, side="right") < np.searchsorted(times, last))


def _incident(endpoint: str, events: Sequence[_Event], findings: Sequence[Finding]) -> Incident:
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
