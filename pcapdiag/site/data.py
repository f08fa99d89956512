"""What the site shows, gathered from the store: nights, findings and captures, and how they hang together.

Reads only; knows no markup and no file. Nothing in it depends on when a scan ran, so that the same store makes the same
site. What a capture can make up (a day per packet, an upstream per port) is bounded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from pcapdiag.store.history import list_captures, list_findings, list_upstreams
from pcapdiag.store.model import FileStatus
from pcapdiag.store.sums import judge_state
from pcapdiag.store.tables import FileTable, ReportTable, SightingTable, UpstreamDayTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcapdiag.store.history import CaptureRow, UpstreamTrend
    from pcapdiag.store.model import FindingRow, FindingState
    from pcapdiag.store.store import Store

MOST_NIGHTS: Final = 4000
MOST_FINDINGS: Final = 5000
_MOST_BAD_FILES: Final = 50
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
CODE: Final = re.compile(r"PD\d{3}")
"""A code as this program writes it; one in a store that somebody else wrote may be anything."""
_KEY: Final = re.compile(r"[0-9a-f]{8,64}")


@dataclass(slots=True)
class Seen:
    """A finding on one night: how often, in which captures, and how it stood then; `message` from the last of them."""

    finding: FindingRow
    state: FindingState
    message: str = ""
    count: int = 0
    failures: int = 0
    captures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Night:
    """One day (UTC) of traffic."""

    day: str
    seen: list[Seen] = field(default_factory=list)
    upstreams: list[UpstreamTrend] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Requests that failed, as far as a cause was found."""
        return sum(seen.failures for seen in self.seen)

    @property
    def exchanges(self) -> int:
        """Requests to upstreams."""
        return sum(upstream.exchanges for upstream in self.upstreams)


@dataclass(slots=True)
class SiteData:
    """All of it: nights in order, findings worst first.

    Attributes
    ----------
    captures : dict
        By key.
    reports : set of str
        Keys of the captures whose full report there is.
    bad_files : list of (str, str)
        Files that could not be read, and why; `n_bad_files` of them in all.
    nights_left_out, findings_left_out : int
        What is beyond the bounds.
    """

    nights: list[Night]
    findings: list[FindingRow]
    captures: dict[str, CaptureRow]
    reports: set[str]
    bad_files: list[tuple[str, str]]
    n_bad_files: int
    nights_left_out: int
    findings_left_out: int


def finding_page(finding: FindingRow) -> str:
    """Return the file name of a finding's page: its code and a hash of its identifier, the same for ever."""
    code = finding.code if CODE.fullmatch(finding.code) else "PD"
    return f"{code}-{hashlib.sha256(finding.identifier.encode()).hexdigest()[:16]}.html"


def gather(store: Store) -> SiteData:
    """Return what there is to show.

    Parameters
    ----------
    store : Store
        Where from.

    Returns
    -------
    SiteData
    """
    all_findings = list_findings(store)
    findings = list(all_findings[:MOST_FINDINGS])
    captures = {row.key: row for row in list_captures(store) if _KEY.fullmatch(row.key)}
    upstreams = [row for row in list_upstreams(store) if _DAY.fullmatch(row.day)]
    columns = [
        SightingTable.__table__.c[n] for n in ("day", "identifier", "capture_key", "count", "failures", "message")
    ]
    is_bad = FileTable.status == FileStatus.FAILED.value
    bad_files = select(FileTable.path, FileTable.notes).where(is_bad).order_by(FileTable.path).limit(_MOST_BAD_FILES)
    with store.database.reading() as db:
        sightings = [row for row in db.execute(select(*columns).order_by(*columns[:3])) if _DAY.fullmatch(row.day)]
        looked_at = db.execute(select(UpstreamDayTable.day, UpstreamDayTable.capture_key).distinct()).all()
        reports = set(db.scalars(select(ReportTable.capture_key).where(func.length(ReportTable.html) > 0)))
        bad = db.execute(bad_files).all()
        n_bad = int(db.scalar(select(func.count()).where(is_bad)) or 0)
    days = sorted({row.day for row in upstreams} | {row.day for row in sightings})
    nights = {day: Night(day) for day in days[-MOST_NIGHTS:]}
    for upstream in upstreams:
        if upstream.day in nights:
            nights[upstream.day].upstreams.append(upstream)
    _add_captures(nights, captures, [*looked_at, *sightings])
    _add_seen(nights, findings, captures, sightings, _Judge(upstreams, sightings))
    return SiteData(
        nights=list(nights.values()),
        findings=findings,
        captures=captures,
        reports=reports & captures.keys(),
        bad_files=[(path, "; ".join(text for _, text in json.loads(notes))) for path, notes in bad],
        n_bad_files=n_bad,
        nights_left_out=len(days) - len(nights),
        findings_left_out=len(all_findings) - len(findings),
    )


def _add_captures(nights: Mapping[str, Night], captures: Mapping[str, CaptureRow], rows: Iterable[Any]) -> None:
    of_day: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.capture_key in captures:
            of_day[row.day].add(row.capture_key)
    for day, night in nights.items():
        night.captures = sorted(of_day[day], key=lambda key: (captures[key].first_ts_ns, key))


def _add_seen(
    nights: Mapping[str, Night],
    findings: Sequence[FindingRow],
    captures: Mapping[str, CaptureRow],
    sightings: Iterable[Any],
    judge: _Judge,
) -> None:
    order = {finding.identifier: i for i, finding in enumerate(findings)}
    last: Seen | None = None
    last_day = ""
    for row in sightings:  # all rows of a finding on a day follow each other
        if row.day not in nights or row.identifier not in order:
            continue
        finding = findings[order[row.identifier]]
        if last is None or last.finding is not finding or last_day != row.day:
            last, last_day = Seen(finding, judge.state(finding, row.day)), row.day
            nights[row.day].seen.append(last)
        last.message = row.message
        last.count += row.count
        last.failures += row.failures
        if row.capture_key in captures:
            last.captures.append(row.capture_key)
    for night in nights.values():
        night.seen.sort(key=lambda seen: order[seen.finding.identifier])


class _Judge:
    """Says how a finding stood on a night: as the store judges the last one, from what was known until then."""

    def __init__(self, upstreams: Iterable[UpstreamTrend], sightings: Iterable[Any]) -> None:
        self._traffic: dict[str, dict[str, int]] = defaultdict(dict)
        self._of_all: dict[str, int] = defaultdict(int)
        for row in upstreams:
            self._traffic[row.endpoint][row.day] = row.exchanges
            self._of_all[row.day] += row.exchanges
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        for row in sightings:
            counts = self._counts[row.identifier]
            counts[row.day] = counts.get(row.day, 0) + row.count

    def state(self, finding: FindingRow, day: str) -> FindingState:
        """Return how it stood on a night on which it was seen."""
        traffic = self._traffic.get(finding.subject, self._of_all)
        exchanges = {d: n for d, n in traffic.items() if d <= day}
        return judge_state(exchanges, {d: n for d, n in self._counts[finding.identifier].items() if d <= day})[0]
