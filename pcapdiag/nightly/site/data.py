"""What the site shows, gathered from the store: nights, findings and captures, and how they hang together.

Reads only; knows no markup and no file. Nothing in it depends on when a scan ran, so that the same store makes the same
site. What a capture can make up (a day per packet, an upstream per port) is bounded.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.nightly.store.history import list_captures, list_findings, list_upstreams
from pcapdiag.nightly.store.links import list_capture_days, list_failed_files, list_html_reports, list_sighting_links
from pcapdiag.nightly.store.sums import judge_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcapdiag.nightly.store.history import CaptureRow, UpstreamTrend
    from pcapdiag.nightly.store.links import SightingLink
    from pcapdiag.nightly.store.model import FindingRow, FindingState
    from pcapdiag.nightly.store.store import Store

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
    reports : frozenset of str
        Keys of the captures whose full report there is.
    bad_files : tuple of (str, str)
        Files that could not be read, and why; `n_bad_files` of them in all.
    nights_left_out, findings_left_out : int
        What is beyond the bounds.
    """

    nights: list[Night]
    findings: list[FindingRow]
    captures: dict[str, CaptureRow]
    reports: frozenset[str]
    bad_files: tuple[tuple[str, str], ...]
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
    sightings = [row for row in list_sighting_links(store) if _DAY.fullmatch(row.day)]
    bad_files, n_bad_files = list_failed_files(store, _MOST_BAD_FILES)
    days = sorted({row.day for row in upstreams} | {row.day for row in sightings})
    nights = {day: Night(day) for day in days[-MOST_NIGHTS:]}
    for upstream in upstreams:
        if upstream.day in nights:
            nights[upstream.day].upstreams.append(upstream)
    held = {*list_capture_days(store), *((row.day, row.capture_key) for row in sightings)}
    for day, key in sorted(held):
        if day in nights and key in captures:
            nights[day].captures.append(key)
    for night in nights.values():
        night.captures.sort(key=lambda key: (captures[key].first_ts_ns, key))
    _add_seen(nights, findings, captures, sightings, _DayJudge(upstreams, sightings))
    return SiteData(
        nights=list(nights.values()),
        findings=findings,
        captures=captures,
        reports=list_html_reports(store) & captures.keys(),
        bad_files=bad_files,
        n_bad_files=n_bad_files,
        nights_left_out=len(days) - len(nights),
        findings_left_out=len(all_findings) - len(findings),
    )


def _add_seen(
    nights: Mapping[str, Night],
    findings: Sequence[FindingRow],
    captures: Mapping[str, CaptureRow],
    sightings: Iterable[SightingLink],
    judge: _DayJudge,
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


class _DayJudge:
    """Says how a finding stood on a night: as the store judges the last one, from what was known until then."""

    def __init__(self, upstreams: Iterable[UpstreamTrend], sightings: Iterable[SightingLink]) -> None:
        self._traffic: dict[str, dict[str, int]] = defaultdict(dict)
        self._of_all: dict[str, int] = defaultdict(int)
        for row in upstreams:
            self._traffic[row.endpoint][row.day] = row.exchanges
            self._of_all[row.day] += row.exchanges
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        for seen in sightings:
            counts = self._counts[seen.identifier]
            counts[seen.day] = counts.get(seen.day, 0) + seen.count

    def state(self, finding: FindingRow, day: str) -> FindingState:
        """Return how it stood on a night on which it was seen."""
        traffic = self._traffic.get(finding.subject, self._of_all)
        exchanges = {d: n for d, n in traffic.items() if d <= day}
        return judge_state(exchanges, {d: n for d, n in self._counts[finding.identifier].items() if d <= day})[0]
