"""What the store remembers, as plain rows: findings with their state, upstreams and codes by day, scans.

Reads only. Days are dates in UTC; a day is listed where there was traffic.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.base.rates import PerDay, RaceDensity
from pcapdiag.nightly.store.model import FindingRow, FindingState, OccurrenceRow
from pcapdiag.nightly.store.tables import (
    CaptureTable,
    FindingTable,
    OccurrenceTable,
    ReportTable,
    ScanTable,
    SightingTable,
    UpstreamDayTable,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pcapdiag.nightly.store.store import Store

_STATE_ORDER: Final = (
    FindingState.NEW,
    FindingState.WORSE,
    FindingState.ONGOING,
    FindingState.QUIET,
    FindingState.GONE,
)
_UNKNOWN: Final = PerDay(-1.0, -1.0, -1.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: of days from `since` to before `until` (empty: all), of codes and upstreams that begin so."""

    since: str = ""
    until: str = ""
    codes: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamTrend:
    """One upstream on one day over all captures; times in ns, -1 where nothing was measured.

    T and the median RTT are those of the capture with the most samples, the 99th percentile is the highest of all.
    `risk_*` say how many requests the idle-close race will take per day at this rate, with a 95 % interval; -1 where
    too little was watched.
    """

    endpoint: str
    day: str
    connections: int
    exchanges: int
    reused: int
    near_misses: int
    lost: int
    rtt_min_ns: int
    rtt_p50_ns: int
    rtt_p99_ns: int
    idle_timeout_ns: int
    idle_timeout_samples: int
    server_field: str
    risk_low: float = -1.0
    risk_expected: float = -1.0
    risk_high: float = -1.0

    @property
    def risk(self) -> PerDay | None:
        """What the race takes per day; None where too little was watched."""
        return PerDay(self.risk_low, self.risk_expected, self.risk_high) if self.risk_high >= 0 else None


@dataclass(frozen=True, slots=True)
class CodeTrend:
    """One code on one day: how many findings, how often, how many requests failed by it."""

    code: str
    day: str
    findings: int
    count: int
    failures: int


@dataclass(frozen=True, slots=True)
class FindingDay:
    """One finding on one day over all captures."""

    identifier: str
    day: str
    count: int
    failures: int


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One scan: when, what, and what became of its files; times in ns, -1 while it runs."""

    number: int
    state: str
    places: tuple[str, ...]
    program_version: str
    started_at_ns: int
    ended_at_ns: int
    found: int
    read: int
    ok: int
    partial: int
    failed: int
    unchanged: int
    waiting: int


@dataclass(frozen=True, slots=True)
class CaptureRow:
    """One capture that was read."""

    key: str
    series: str
    scan: int
    program_version: str
    paths: tuple[str, ...]
    status: str
    first_ts_ns: int
    last_ts_ns: int
    frames: int
    n_bytes: int
    connections: int
    exchanges: int
    unanswered: int
    truncated: int
    report_identifier: str


def list_findings(store: Store, wanted: Wanted | None = None) -> tuple[FindingRow, ...]:
    """Return findings over all nights: new and worse ones first, then by severity and code.

    Parameters
    ----------
    store : Store
        Where from.
    wanted : Wanted, optional
        Those last seen in the time, of the codes, upstreams and states.

    Returns
    -------
    tuple of FindingRow
    """
    wanted = wanted or Wanted()
    with store.database.reading() as db:
        rows = [_finding(row) for row in db.execute(select(*FindingTable.__table__.c))]
    rows = [
        row
        for row in rows
        if _begins(row.code, wanted.codes)
        and _begins(row.subject, wanted.upstreams)
        and (not wanted.states or row.state.value in wanted.states)
        and _is_day_wanted(row.state_day, wanted)
    ]
    return tuple(sorted(rows, key=_worst_first))


def findings_of_captures(store: Store, keys: Collection[str]) -> tuple[FindingRow, ...]:
    """Return the findings that captures show, as they stand over all nights.

    Parameters
    ----------
    store : Store
        Where from.
    keys : collection of str
        Of the captures.

    Returns
    -------
    tuple of FindingRow
        As `list_findings` orders them.
    """
    columns = SightingTable.identifier, SightingTable.capture_key
    with store.database.reading() as db:
        seen = {row.identifier for row in db.execute(select(*columns).distinct()) if row.capture_key in keys}
    return tuple(row for row in list_findings(store) if row.identifier in seen)


def list_finding_days(store: Store, wanted: Wanted | None = None) -> tuple[FindingDay, ...]:
    """Return how often each finding was seen on each day."""
    table = SightingTable
    query = select(
        table.identifier, table.day, table.code, table.subject, func.sum(table.count), func.sum(table.failures)
    ).group_by(table.identifier, table.day, table.code, table.subject)
    wanted = wanted or Wanted()
    with store.database.reading() as db:
        rows = db.execute(query.order_by(table.identifier, table.day)).all()
    return tuple(
        FindingDay(identifier, day, int(count), int(failures))
        for identifier, day, code, subject, count, failures in rows
        if _begins(code, wanted.codes) and _begins(subject, wanted.upstreams) and _is_day_wanted(day, wanted)
    )


def list_codes(store: Store, wanted: Wanted | None = None) -> tuple[CodeTrend, ...]:
    """Return how often each code was found on each day."""
    table = SightingTable
    sums = func.count(table.identifier.distinct()), func.sum(table.count), func.sum(table.failures)
    wanted = wanted or Wanted()
    query = select(table.code, table.day, *sums).group_by(table.code, table.day).order_by(table.code, table.day)
    with store.database.reading() as db:
        rows = db.execute(query).all()
    return tuple(
        CodeTrend(code, day, int(findings), int(count), int(failures))
        for code, day, findings, count, failures in rows
        if _begins(code, wanted.codes) and _is_day_wanted(day, wanted)
    )


def list_upstreams(store: Store, wanted: Wanted | None = None) -> tuple[UpstreamTrend, ...]:
    """Return what was measured of each upstream on each day, over all captures."""
    wanted = wanted or Wanted()
    table = UpstreamDayTable
    days: dict[tuple[str, str], list[Any]] = defaultdict(list)
    with store.database.reading() as db:
        times = select(CaptureTable.key, CaptureTable.first_ts_ns, CaptureTable.last_ts_ns)
        spans = {row.key: (row.first_ts_ns, row.last_ts_ns) for row in db.execute(times)}
        query = select(*table.__table__.c).order_by(table.endpoint, table.day, table.capture_key)
        for row in db.execute(query):
            if _begins(row.endpoint, wanted.upstreams) and _is_day_wanted(row.day, wanted):
                days[row.endpoint, row.day].append(row)
    return tuple(_merge(endpoint, day, rows, spans) for (endpoint, day), rows in days.items())


def list_scans(store: Store) -> tuple[ScanRow, ...]:
    """Return all scans, the latest first."""
    with store.database.reading() as db:
        rows = db.execute(select(*ScanTable.__table__.c).order_by(ScanTable.number.desc())).mappings().all()
    return tuple(_from_mapping(ScanRow, row, "places") for row in rows)


def list_captures(store: Store, wanted: Wanted | None = None) -> tuple[CaptureRow, ...]:
    """Return the captures that were read, in time order; of `wanted` only the days count."""
    from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - nothing else here writes times

    table = CaptureTable
    wanted = wanted or Wanted()
    with store.database.reading() as db:
        rows = db.execute(select(*table.__table__.c).order_by(table.first_ts_ns, table.key)).mappings().all()
    return tuple(
        _from_mapping(CaptureRow, row, "paths")
        for row in rows
        if _is_day_wanted(format_ts_ns(max(row["last_ts_ns"], 0))[:10], wanted)
    )


def list_occurrences(store: Store, identifier: str, *, limit: int = 1000) -> tuple[tuple[str, OccurrenceRow], ...]:
    """Return where a finding happened, the latest first, each with the key of its capture.

    Parameters
    ----------
    store : Store
        Where from.
    identifier : str
        Of the finding.
    limit : int
        How many at most.

    Returns
    -------
    tuple of (str, OccurrenceRow)
    """
    table = OccurrenceTable
    query = select(*table.__table__.c).where(table.identifier == identifier)
    query = query.order_by(table.ts_ns.desc(), table.capture_key, table.number).limit(limit)
    with store.database.reading() as db:
        rows = [dict(row) for row in db.execute(query).mappings()]
    return tuple((row.pop("capture_key"), OccurrenceRow(**row)) for row in rows)


def read_report(store: Store, capture_key: str) -> tuple[dict[str, Any], str]:
    """Return the JSON report of a capture and its HTML report.

    Parameters
    ----------
    store : Store
        Where from.
    capture_key : str
        Of the capture.

    Returns
    -------
    report : dict
        Empty if there is none.
    html : str
        Empty if it was not asked for when the capture was read.
    """
    table = ReportTable
    with store.database.reading() as db:
        row = db.execute(select(table.json, table.html).where(table.capture_key == capture_key)).first()
    if row is None or not row.json:
        return {}, ""
    return json.loads(zlib.decompress(row.json)), zlib.decompress(row.html).decode() if row.html else ""


def _finding(row: Any) -> FindingRow:
    values = dict(row._mapping)  # noqa: SLF001 - the documented way from a row to a dict
    values["severity"] = Severity[row.severity.upper()]
    values["confidence"] = Confidence[row.confidence.upper()]
    values["state"] = FindingState(row.state)
    return FindingRow(**values)


def _worst_first(row: FindingRow) -> tuple[int, int, str, str]:
    return _STATE_ORDER.index(row.state), -row.severity, row.code, row.identifier


def _merge(endpoint: str, day: str, rows: list[Any], spans: Mapping[str, tuple[int, int]]) -> UpstreamTrend:
    most_opened = max(rows, key=lambda r: (r.opened, r.capture_key))
    most_samples = max(rows, key=lambda r: (r.idle_timeout_samples, r.capture_key))
    risk = _risk(rows, most_samples, spans)
    return UpstreamTrend(
        endpoint=endpoint,
        day=day,
        **{
            name: sum(getattr(row, name) for row in rows)
            for name in ("connections", "exchanges", "reused", "near_misses", "lost")
        },
        rtt_min_ns=min((row.rtt_min_ns for row in rows if row.rtt_min_ns >= 0), default=-1),
        rtt_p50_ns=most_opened.rtt_p50_ns,
        rtt_p99_ns=max(row.rtt_p99_ns for row in rows),
        idle_timeout_ns=most_samples.idle_timeout_ns,
        idle_timeout_samples=most_samples.idle_timeout_samples,
        server_field=next((row.server_field for row in reversed(rows) if row.server_field), ""),
        risk_low=risk.low,
        risk_expected=risk.expected,
        risk_high=risk.high,
    )


def _risk(rows: list[Any], most_samples: Any, spans: Mapping[str, tuple[int, int]]) -> PerDay:
    """Return what the captures of a day say together of how many requests the race will take."""
    told = [row for row in rows if row.gaps_near >= 0 and row.watched_ppm > 0]
    density = RaceDensity(
        sum(row.gaps_near for row in told),
        sum(row.lost_near for row in told),
        most_samples.race_window_ns,
        most_samples.near_width_ns,
        sum(row.watched_ppm for row in told) / 1e6 * _share_apart([spans[row.capture_key] for row in told]),
    )
    rate = density.per_day()
    return _UNKNOWN if rate is None else PerDay(*(round(number, 3) for number in astuple(rate)))


def _share_apart(spans: list[tuple[int, int]]) -> float:
    """Return which share of captures' time is left when what several of them show at once counts once."""
    together = covered = 0
    until = -1
    for first, last in sorted(spans):
        together += last - first
        covered += max(last - max(first, until), 0)
        until = max(until, last)
    return covered / together if together else 1.0


def _from_mapping(kind: Any, row: Any, listed: str) -> Any:
    values = {name: row[name] for name in kind.__dataclass_fields__}
    return kind(**values | {listed: tuple(json.loads(values[listed]))})


def _begins(text: str, beginnings: Iterable[str]) -> bool:
    beginnings = tuple(beginnings)
    return not beginnings or text.startswith(beginnings)


def _is_day_wanted(day: str, wanted: Wanted) -> bool:
    return (not wanted.since or day >= wanted.since) and (not wanted.until or day < wanted.until)
