"""What the pages of the site say, in plain text and rows for the templates; no markup.

Everything printed is made visible and escaped by the template engine. Addresses of pages are made of dates and hashes,
never of text from a capture.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.findings import Severity
from pcapdiag.base.rates import spell_per_day
from pcapdiag.base.units import count_of, format_bytes, format_ts_ns
from pcapdiag.nightly.site.data import CODE, finding_page
from pcapdiag.nightly.site.drawings import draw_chart, draw_months, draw_spark
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.share import share_of, spell_failures, spell_share
from pcapdiag.privacy.escape import shorten
from pcapdiag.privacy.redact import Redactor
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.summary import brief, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.nightly.site.data import Night, Seen, SiteData
    from pcapdiag.nightly.store.history import CaptureRow, UpstreamTrend
    from pcapdiag.nightly.store.model import FindingRow, OccurrenceRow

MOST_OCCURRENCES: Final = 50
_MOST_ROWS: Final = 200
_MOST_MONTHS: Final = 6
_MOST_TARGET: Final = 80
_MOST_REPORTS: Final = 5
_MOST_PLACES: Final = 8
_GONE: Final = (FindingState.GONE, FindingState.QUIET)


class Pages:
    """Makes the contexts of pages; what they have in common is worked out once.

    Parameters
    ----------
    data : SiteData
        Everything there is to show.
    """

    def __init__(self, data: SiteData) -> None:
        self._data = data
        self._days = [night.day for night in data.nights]
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        self._failures: dict[str, dict[str, int]] = defaultdict(dict)
        self._requests: dict[str, dict[str, int]] = defaultdict(dict)
        self._seen: dict[str, list[tuple[Night, Seen]]] = defaultdict(list)
        for night in data.nights:
            for seen in night.seen:
                self._counts[seen.finding.identifier][night.day] = seen.count
                self._failures[seen.finding.identifier][night.day] = seen.failures
                self._seen[seen.finding.identifier].append((night, seen))
            for upstream in night.upstreams:
                self._requests[upstream.endpoint][night.day] = upstream.exchanges
        self._of_all = {night.day: night.exchanges for night in data.nights}

    def index(self) -> dict[str, Any]:
        """Return what the index says."""
        data = self._data
        last = data.nights[-1] if data.nights else None
        standing = [f for f in data.findings if f.state not in _GONE and f.severity >= Severity.WARNING]
        told = [f for f in data.findings if f.state not in _GONE and f.severity < Severity.WARNING]
        incidents = self._incidents(standing)
        gone = [f for f in data.findings if f.state in _GONE]
        shares = {n.day: max(share_of(n.failures, n.exchanges), 0.0) for n in data.nights}
        spelled = {n.day: spell_failures(n.failures, n.exchanges) for n in data.nights}
        return {
            "title": "pcapdiag: every night",
            "headline": _headline(last) if last else "No night has been scanned yet",
            "worst": _worst(last.seen if last else ()),
            "last": last.day if last else "",
            "standing": incidents[:_MOST_ROWS],
            "n_more": max(len(incidents) - _MOST_ROWS, 0),
            "told": self._incidents(told)[:_MOST_ROWS],
            "gone": self._incidents(gone)[:_MOST_ROWS],
            "n_gone": len(gone),
            "chart": draw_chart(self._days, shares, "rates of failed requests", spelled) if data.nights else None,
            "months": draw_months(data.nights, _MOST_MONTHS),
            "upstreams": self._upstreams(),
            "bad_files": data.bad_files,
            "n_bad_files": data.n_bad_files,
            "years": [
                (year, [(night.day, _short(night)) for night in nights])
                for year, nights in groupby(reversed(data.nights), key=lambda night: night.day[:4])
            ],
            "left_out": _left_out(data),
        }

    def night(self, number: int) -> dict[str, Any]:
        """Return what the page of a night says; `number` counts from 0."""
        nights = self._data.nights
        night = nights[number]
        return {
            "title": f"{night.day}: {_headline(night)}",
            "headline": f"{night.day}: {_headline(night)}",
            "worst": _worst(night.seen),
            "earlier": nights[number - 1].day if number else "",
            "later": nights[number + 1].day if number + 1 < len(nights) else "",
            "seen": [
                {
                    **_about(seen.finding),
                    "state": seen.state.value,
                    "message": seen.message,
                    "count": count_of(seen.count, "time"),
                    "failures": spell_failures(seen.failures, self._requests_of(seen.finding, night.day)),
                    "spark": draw_spark(self._days[: number + 1], self._counts[seen.finding.identifier], "times"),
                    "reports": self._reports(seen.captures),
                    "n_reports_more": max(len(seen.captures) - _MOST_REPORTS, 0),
                }
                for seen in night.seen[:_MOST_ROWS]
            ],
            "n_more": max(len(night.seen) - _MOST_ROWS, 0),
            "upstreams": [_upstream(row) for row in sorted(night.upstreams, key=_most_lost)[:_MOST_ROWS]],
            "captures": [self._capture(key) for key in night.captures[:_MOST_ROWS]],
            "n_captures_more": max(len(night.captures) - _MOST_ROWS, 0),
        }

    def finding(
        self, finding: FindingRow, remedy: str, occurrences: Sequence[tuple[str, OccurrenceRow]]
    ) -> dict[str, Any]:
        """Return what the page of a finding says.

        Parameters
        ----------
        finding : FindingRow
            Which.
        remedy : str
            From the report that saw it last.
        occurrences : sequence of (str, OccurrenceRow)
            Where it happened, the latest first, with the key of the capture.
        """
        about = _about(finding)
        seen = self._seen[finding.identifier]
        shown = occurrences[:MOST_OCCURRENCES]
        return {
            **about,
            "title": f"{about['code']} {about['name']} {finding.subject}",
            "headline": f"{finding.title}{f': {finding.subject}' if finding.subject else ''}",
            "worst": finding.severity.name.lower() if finding.state not in _GONE else "clean",
            "state": finding.state.value,
            "state_words": _STATE_WORDS[finding.state].format(day=finding.state_day),
            "confidence": finding.confidence.name.lower(),
            "facts": (
                ("Requests that failed", f"{finding.failures:,}", f"found {count_of(finding.count, 'time')}"),
                ("First seen", _day(finding.first_seen_ns), _time(finding.first_seen_ns)),
                ("Last seen", _day(finding.last_seen_ns), _time(finding.last_seen_ns)),
                ("Nights", f"{len(seen)}", f"of {len(self._days)} with traffic"),
            ),
            "chart": draw_chart(self._days, self._counts[finding.identifier], "times") if self._days else None,
            "nights": [
                {
                    "day": night.day,
                    "state": s.state.value,
                    "count": f"{s.count:,}",
                    "failures": f"{s.failures:,}",
                    "share": spell_share(s.failures, self._requests_of(finding, night.day)),
                    "reports": self._reports(s.captures),
                    "n_reports_more": max(len(s.captures) - _MOST_REPORTS, 0),
                }
                for night, s in reversed(seen[-_MOST_ROWS:])
            ],
            "n_nights_more": max(len(seen) - _MOST_ROWS, 0),
            "remedy": split_blocks(remedy),
            "occurrences": [self._occurrence(key, row) for key, row in shown],
            "has_more_occurrences": len(occurrences) > len(shown),
        }

    def _requests_of(self, finding: FindingRow, day: str) -> int:
        """Return how many requests a finding's upstream got on a day; those of all where it is about no upstream."""
        return self._requests[finding.subject].get(day, 0) if finding.subject in self._requests else self._of_all[day]

    def _incidents(self, findings: Sequence[FindingRow]) -> list[dict[str, Any]]:
        """Return a row for each cause: the same trouble at several upstreams is one incident."""
        alike: dict[tuple[str, str], list[FindingRow]] = defaultdict(list)
        for finding in findings:
            alike[finding.code, finding.name].append(finding)
        return [self._incident(rows) for rows in alike.values()]

    def _incident(self, rows: Sequence[FindingRow]) -> dict[str, Any]:
        head = min(rows, key=lambda f: list(_STATE_WORDS).index(f.state))
        day = self._days[-1] if self._days else ""
        failed: dict[str, int] = defaultdict(int)
        for finding in rows:
            for at, number in self._failures[finding.identifier].items():
                failed[at] += number
        requests = {at: self._requests_of_rows(rows, at) for at in self._days}
        shares = {at: max(share_of(failed[at], n), 0.0) for at, n in requests.items()}
        spelled = {at: spell_failures(failed[at], n) for at, n in requests.items()}
        firsts = [f.first_seen_ns for f in rows if f.first_seen_ns >= 0]
        return {
            **_about(head),
            "state": head.state.value,
            "places": [(finding_page(f), f.subject or f.name) for f in rows[:_MOST_PLACES]],
            "n_places_more": max(len(rows) - _MOST_PLACES, 0),
            "spark": draw_spark(self._days, shares, "rates of failed requests", spelled),
            "last_failures": f"{failed[day]:,} of {requests.get(day, 0):,}",
            "last_share": spell_share(failed[day], requests.get(day, 0)),
            "failures": f"{sum(f.failures for f in rows):,}",
            "first": _day(min(firsts, default=-1)),
            "last": _day(max(f.last_seen_ns for f in rows)),
        }

    def _requests_of_rows(self, rows: Sequence[FindingRow], day: str) -> int:
        if any(f.subject not in self._requests for f in rows):
            return self._of_all[day]
        return sum(self._requests[subject].get(day, 0) for subject in {f.subject for f in rows})

    def _upstreams(self) -> list[dict[str, Any]]:
        days: dict[str, list[UpstreamTrend]] = defaultdict(list)
        for night in self._data.nights:
            for row in night.upstreams:
                days[row.endpoint].append(row)
        # Those with most failures first: of a thousand pods the quiet ones are not what one looks for.
        order = sorted(days, key=lambda e: (-sum(r.lost for r in days[e]), -days[e][-1].exchanges, e))
        return [
            {
                **_upstream(days[endpoint][-1]),
                "day": days[endpoint][-1].day,
                "spark": draw_spark(
                    self._days,
                    {row.day: max(share_of(row.lost, row.exchanges), 0.0) for row in days[endpoint]},
                    "rates of lost requests",
                    {row.day: spell_failures(row.lost, row.exchanges) for row in days[endpoint]},
                ),
                "risks": draw_spark(
                    self._days,
                    {row.day: row.risk.expected for row in days[endpoint] if row.risk is not None},
                    "requests that the race is expected to take per day",
                    {row.day: spell_per_day(row.risk) for row in days[endpoint] if row.risk is not None},
                ),
            }
            for endpoint in order[:_MOST_ROWS]
        ]

    def _reports(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return file and name of the full reports of captures."""
        captures = self._data.captures
        return [
            (f"{key}.html" if key in self._data.reports else "", _name(captures[key]))
            for key in list(keys)[:_MOST_REPORTS]
        ]

    def _capture(self, key: str) -> dict[str, Any]:
        row = self._data.captures[key]
        return {
            "report": f"{key}.html" if key in self._data.reports else "",
            "name": _name(row),
            "status": row.status,
            "from": clock(format_ts_ns(row.first_ts_ns)) if row.first_ts_ns >= 0 else "-",
            "size": format_bytes(row.n_bytes),
            "frames": f"{row.frames:,}",
            "exchanges": f"{row.exchanges:,}",
            "unanswered": f"{row.unanswered:,}",
        }

    def _occurrence(self, key: str, row: OccurrenceRow) -> dict[str, Any]:
        what = "(connect)" if row.depth < 0 else f"{row.method} {shorten(row.target, _MOST_TARGET)}".strip()
        return {
            "report": f"{key}.html" if key in self._data.reports else "",
            "time": clock(format_ts_ns(row.ts_ns)) if row.ts_ns >= 0 else "unknown time",
            "what": what or "-",
            "idle": brief(row.idle_before_ns) if row.idle_before_ns >= 0 else "-",
            "ends": f"{row.orig} -> {row.resp}",
            "frame": f"{row.request_frame:,}" if row.request_frame > 0 else "-",
            "file": row.file.rpartition("/")[2],
        }


_STATE_WORDS: Final = {
    FindingState.NEW: "New: first seen on {day}.",
    FindingState.WORSE: "Worse: on {day} more often per request than in the nights before, beyond chance.",
    FindingState.ONGOING: "Ongoing: seen again on {day}, as often as chance allows.",
    FindingState.QUIET: "Quiet: not seen on {day}, but there was too little traffic to say that it is gone.",
    FindingState.GONE: "Gone: not seen on {day}, although there was traffic enough to see it.",
}


def _headline(night: Night) -> str:
    """Return what happened on a night in one line."""
    if not night.seen:
        return f"nothing found in {count_of(night.exchanges, 'request')}"
    states = Counter(seen.state for seen in night.seen)
    parts = [f"{states[state]:,} {state.value}" for state in _STATE_WORDS if states[state]]
    return f"{', '.join(parts)}; {spell_failures(night.failures, night.exchanges)}"


def _short(night: Night) -> str:
    if night.failures:
        share = spell_share(night.failures, night.exchanges)
        return f"{night.failures:,} failed{f', {share}' if share != '-' else ''}"
    return count_of(len(night.seen), "finding") if night.seen else "nothing found"


def _worst(seen: Iterable[Seen]) -> str:
    worst = max((s.finding.severity for s in seen), default=None)
    return "clean" if worst is None else worst.name.lower()


def _about(finding: FindingRow) -> dict[str, Any]:
    return {
        "page": finding_page(finding),
        "code": finding.code,
        "anchor": f"#{finding.code}" if CODE.fullmatch(finding.code) else "",
        "name": finding.name,
        "subject": finding.subject,
        "message": finding.message,
        "severity": finding.severity.name.lower(),
    }


def _upstream(row: UpstreamTrend) -> dict[str, Any]:
    return {
        "endpoint": row.endpoint,
        "exchanges": f"{row.exchanges:,}",
        "lost": f"{row.lost:,}",
        "share": spell_share(row.lost, row.exchanges),
        "near": f"{row.near_misses:,}",
        "risk": spell_per_day(row.risk).removesuffix(" per day") if row.risk else "-",
        "reused": f"{row.reused:,}",
        "timeout": brief(row.idle_timeout_ns) if row.idle_timeout_ns >= 0 else "not measured",
        "rtt": brief(row.rtt_p50_ns) if row.rtt_p50_ns >= 0 else "-",
        "server": row.server_field or "-",
    }


def _most_lost(row: UpstreamTrend) -> tuple[int, int, str]:
    return -row.lost, -row.exchanges, row.endpoint


def _name(row: CaptureRow) -> str:
    """Return what a person calls a capture: its first file, and how many follow."""
    # Captures of several hosts or days often have the same name in different folders.
    first = Redactor().text("/".join(row.paths[0].split("/")[-2:])) if row.paths else row.key
    return f"{first} and {count_of(len(row.paths) - 1, 'more', 'more')}" if len(row.paths) > 1 else first


def _day(ts_ns: int) -> str:
    return format_ts_ns(ts_ns)[:10] if ts_ns >= 0 else "unknown"


def _time(ts_ns: int) -> str:
    return f"{clock(format_ts_ns(ts_ns))[11:]} UTC" if ts_ns >= 0 else ""


def _left_out(data: SiteData) -> str:
    parts = []
    if data.nights_left_out:
        parts.append(f"{count_of(data.nights_left_out, 'earlier night')}")
    if data.findings_left_out:
        parts.append(f"{count_of(data.findings_left_out, 'finding')} of least weight")
    return f"Left out of this site: {' and '.join(parts)}; `pcapdiag history` has them." if parts else ""
