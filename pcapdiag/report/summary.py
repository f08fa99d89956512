"""What every human-readable report says, in the order in which it says it: plain text and rows, no markup.

A renderer decides how a heading or a table looks; this module decides what is worth a tired engineer's attention.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.findings import Confidence, Role, Severity, VerdictKind
from pcapdiag.base.units import count_of, format_bytes, format_duration_ns, format_ts_ns
from pcapdiag.engine.capture.link_types import describe_link_type
from pcapdiag.privacy.escape import shorten
from pcapdiag.report.sides import in_plain_words
from pcapdiag.report.words import CAPTURE_POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.report.model import (
        CaptureSummary,
        FindingDetail,
        OccurrenceDetail,
        Report,
        ReportNote,
        UpstreamSummary,
    )

MAX_OCCURRENCES = 10
"""Rows of a table of occurrences; the JSON report lists more, and all of them with --all."""

MAX_LINES = 20
"""Lines of any other list that grows with the input."""

_MAX_TARGET = 48
_MOST_SUBJECTS = 3
_TIGHT_NS = 60_000_000
"""Closings further apart are those of a timer that is looked at now and then."""

# Numbers, addresses and times within a remedy.
_NUMBER = re.compile(r"[0-9a-f]{0,40}[:.\[\]0-9]{0,40}\d[\w:.\]]*")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text: one header per column, rows of the same length; `right` are columns aligned to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


class GroupRemedy(NamedTuple):
    """A remedy, for whom it is, and the sentence that spares the reader the same one with other numbers."""

    subjects: tuple[str, ...]
    text: str
    others: str


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """All findings of one code: shown under one heading, with one ladder."""

    findings: tuple[FindingDetail, ...]

    @property
    def head(self) -> FindingDetail:
        """The finding that speaks for the group."""
        return self.findings[0]

    @property
    def count(self) -> int:
        """How often it happened."""
        return sum(f.count for f in self.findings)

    @property
    def failures(self) -> int:
        """How many unanswered requests and truncated responses have this cause."""
        return sum(f.failures for f in self.findings)

    @property
    def occurrences(self) -> tuple[OccurrenceDetail, ...]:
        """All occurrences; the one that the ladder shows first, the others by time."""
        shown = next((o for f in self.findings for o in f.occurrences if o.evidence), None)
        rest = [o for f in self.findings for o in f.occurrences if o is not shown]
        rest.sort(key=lambda o: (o.request_ts_ns, o.capture, o.request_frame))
        return (*([shown] if shown else []), *rest)

    @property
    def remedies(self) -> tuple[GroupRemedy, ...]:
        """The remedies; where they differ in their numbers only, the first one speaks for all."""
        alike: dict[str, list[FindingDetail]] = {}
        for finding in self.findings:
            if finding.remedy:
                alike.setdefault(_NUMBER.sub("0", finding.remedy), []).append(finding)
        remedies = [_shared_remedy(findings, is_only=len(alike) == 1) for findings in alike.values()]
        n_of = Counter(remedy.subjects[0] for remedy in remedies)
        return tuple(
            remedy._replace(subjects=(_told_apart(findings[0]), *remedy.subjects[1:]))
            if n_of[remedy.subjects[0]] > 1
            else remedy
            for remedy, findings in zip(remedies, alike.values(), strict=True)
        )


def _told_apart(finding: FindingDetail) -> str:
    """Return a subject with what tells this finding of it from the others of its code."""
    _, _, own = finding.identifier.removeprefix(f"{finding.code}/").rpartition(finding.subject)
    words = own.strip("/").replace("-", " ")
    return f"{finding.subject} ({words})" if words else finding.subject


def _shared_remedy(findings: Sequence[FindingDetail], *, is_only: bool) -> GroupRemedy:
    subjects = tuple(dict.fromkeys(f.subject for f in findings))
    text = findings[0].remedy
    is_same = len({f.remedy.replace(f.subject, "") for f in findings}) == 1
    others = ", ".join(bounded(subjects[1:]))
    if not others or (is_same and is_only and subjects[0] not in text):
        return GroupRemedy(subjects, text, "")
    numbers = "" if is_same else f", with {'its' if len(subjects) == 2 else 'their'} own numbers (--format json)"
    return GroupRemedy(subjects, text, f"The same goes for {others}{numbers}.")


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MAX_LINES` lines and, if there are more, how many."""
    shown = tuple(lines[:MAX_LINES])
    return (*shown, f"and {len(lines) - MAX_LINES:,} more") if len(lines) > MAX_LINES else shown


def finding_groups(report: Report) -> tuple[FindingGroup, ...]:
    """Return the findings by code, in report order."""
    order = list(dict.fromkeys(f.code for f in report.findings))
    ordered = sorted(report.findings, key=lambda f: order.index(f.code))
    return tuple(FindingGroup(tuple(group)) for _, group in groupby(ordered, key=lambda f: f.code))


def headline(report: Report) -> str:
    """Return the verdict in one sentence; it counts the requests to upstreams, not those of clients.

    A report that was not redacted says so here, because no format is without its headline.
    """
    verdict = _with_unframed(report, _verdict(report))
    if not report.has_proxy:
        verdict = in_plain_words(verdict)
    return verdict if report.redaction.redacted else f"{verdict} NOT REDACTED: this report may hold credentials."


def _with_unframed(report: Report, verdict: str) -> str:
    """Say before a verdict on which connections it does not hold: HTTP/2 is not framed yet."""
    note = _http2_note(report)
    if not note:
        return verdict
    counted = note.partition(";")[0]
    if any(u.exchanges or u.unanswered for u in report.upstreams) or report.findings:
        if verdict.startswith("No request was lost"):
            verdict = f"On the others n{verdict[1:]}"
        return f"Not evaluated: HTTP/2 ({counted}). {verdict}"
    return f"Not evaluated: HTTP/2 ({counted}). Whether a request was lost on them is not known."


def _http2_note(report: Report) -> str:
    return next((note.text for note in report.notes if note.code == "http2-not-evaluated"), "")


def _verdict(report: Report) -> str:
    totals = report.totals
    outside = _outside(report)
    if nothing := _nothing(report):
        return (
            f"There is nothing to judge in the packets ({nothing}), {outside}."
            if outside
            else (f"There is nothing to judge: {nothing}.")
        )
    if totals.unanswered or totals.truncated:
        more = f" Besides: {outside.removeprefix('but ')}." if outside else ""
        return f"{_lost(report)}: {_causes(report)}.{_other_errors(report)}{more}"
    acting = [g for g in finding_groups(report) if g.head.severity >= Severity.WARNING]
    seen = [g for g in acting if g.head.role is not Role.OUTSIDE]
    if seen:
        more = f" Besides: {outside.removeprefix('but ')}." if outside else ""
        first = f"{_first_lower(seen[0].head.message)}{_likewise(seen[0])}"
        return f"No request was left without an answer, but: {first}{more}"
    if outside:
        return f"No request in the packets was left without an answer, {outside}."
    n_requests = sum(u.exchanges for u in report.upstreams)
    if blind := _not_judged(report):
        return f"Nothing can be judged: {blind}."
    n_connections = sum(u.connections for u in report.upstreams)
    text = (
        f"No request was lost: {count_of(n_requests, 'request')} on {count_of(n_connections, 'connection')} "
        f"to {count_of(len(report.upstreams), 'upstream')}, none unanswered"
    )
    if report.totals.pending:
        text += f"; {count_of(report.totals.pending, 'response')} still coming when the capture ended"
    if report.impact.failures > 0:
        # Both sentences are true, and without this one the first would be read as a denial of the second.
        text += (
            f"; the {count_of(report.impact.failures, 'failure')} that clients saw no packet to an upstream explains"
        )
    return f"{text}. {_turns(report, n_requests)}" if report.totals.turns else f"{text}."


def _likewise(group: FindingGroup) -> str:
    """Return a sentence that names the other subjects of a group; empty if there is none."""
    others = [s for s in dict.fromkeys(f.subject for f in group.findings) if s and s != group.head.subject]
    if not others:
        return ""
    more = f" and {len(others) - _MOST_SUBJECTS:,} more" if len(others) > _MOST_SUBJECTS else ""
    return f" Likewise {', '.join(others[:_MOST_SUBJECTS])}{more}."


def _nothing(report: Report) -> str:
    """Return why the packets hold nothing to judge; empty if they hold requests, losses or findings."""
    totals = report.totals
    if not totals.frames:
        return "the capture holds no frame"
    if not totals.connections:
        return f"{count_of(totals.frames, 'frame')}, but no TCP connection among them"
    acting = [f for f in report.findings if f.severity >= Severity.WARNING and f.role is not Role.OUTSIDE]
    if totals.unanswered or totals.truncated or acting or any(u.exchanges for u in report.upstreams):
        return ""
    return f"{count_of(totals.connections, 'connection')}, no request to an upstream"


def _outside(report: Report) -> str:
    """Return what the logs know of failures that no packet shows, as the end of a sentence; empty if nothing."""
    group = next((g for g in finding_groups(report) if g.head.role is Role.OUTSIDE), None)
    if group is None:
        return ""
    failures = count_of(group.count, "failure")
    code = f"{group.head.code} {group.head.name}"
    text = f"but the proxy's logs know {failures} that nothing found in the packets explains ({code}"
    # Where no line is known to be of this time, that is said at once.
    doubt = ", perhaps of another time" if all(f.confidence is Confidence.POSSIBLE for f in group.findings) else ""
    return f"{text}{doubt})"


def is_judged(report: Report) -> bool:
    """Return whether there were requests to upstreams, and the capture could tell which of them failed."""
    return any(u.exchanges or u.unanswered for u in report.upstreams) and not _not_judged(report)


def _not_judged(report: Report) -> str:
    """Return why not even the rule that any lost request would fall to could be evaluated; empty if it was."""
    if _http2_note(report) and any(u.exchanges or u.unanswered for u in report.upstreams):
        return ""
    last = (v for v in report.verdicts if v.role is Role.UNEXPLAINED)
    return next((v.reason for v in last if v.verdict is VerdictKind.NOT_EVALUATED), "")


def _turns(report: Report, n_requests: int) -> str:
    turns = report.totals.turns
    which = "They are" if turns == n_requests else f"{turns:,} of them {'is' if turns == 1 else 'are'}"
    return f"{which} counted by turns of bytes (TLS, or not HTTP/1): what a turn holds is not seen."


def _lost(report: Report) -> str:
    totals = report.totals
    # What is told for information failed nobody: requests still open at the capture's end, the other address family.
    told = [f for f in report.findings if f.severity < Severity.WARNING and f.failures and f.occurrences]
    told_connects = sum(f.failures for f in told if f.occurrences[0].depth < 0)
    told_requests = sum(f.failures for f in told) - told_connects
    requests = totals.unanswered - totals.failed_connects - told_requests
    connects = totals.failed_connects - told_connects
    beside = [
        *([count_of(told_requests, "request")] if told_requests else []),
        *([count_of(told_connects, "connection attempt")] if told_connects else []),
    ]
    parts = []
    if requests:
        n_requests = sum(u.exchanges for u in report.upstreams)
        parts.append(f"{requests:,} of {count_of(n_requests, 'request')} got no answer")
    if connects:
        parts.append(f"{count_of(connects, 'connection attempt')} failed")
    if totals.truncated:
        parts.append(f"{count_of(totals.truncated, 'response')} {'was' if totals.truncated == 1 else 'were'} cut off")
    text = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
    if not beside:
        return text
    n_beside = told_requests + told_connects
    verb = "was" if n_beside == 1 else "were"
    kind = f"{verb} still open when the capture ended"
    if n_beside != totals.still_open:
        kind = f"{'is' if n_beside == 1 else 'are'} told for information only"
    return f"{text} ({' and '.join(beside)} {kind})" if text else "No request is known to be lost; for information"


def _causes(report: Report) -> str:
    """Return the cause of most of the failures, and how many have others."""
    groups = (g for g in finding_groups(report) if g.failures)
    causes = sorted(groups, key=lambda g: (g.head.severity < Severity.WARNING, -g.failures))
    if not causes:
        is_one = report.totals.unanswered + report.totals.truncated == 1
        return "its cause is not shown" if is_one else "their causes are not shown"
    first, *others = causes
    head = first.head
    n_failures = report.totals.unanswered + report.totals.truncated
    share = f", {count_of(first.failures, 'time')}" if first.failures < n_failures else ""
    text = f"{_first_lower(head.title.rstrip('.'))} ({head.code} {head.name}, {head.confidence.name.lower()}{share})"
    if head.severity < Severity.WARNING:
        text = f"{_first_lower(head.message.rstrip('.'))} ({head.code} {head.name})"
    if others:
        text += "; besides " + ", ".join(f"{g.failures:,} x {g.head.code} {g.head.name}" for g in others)
    # A response that the proxy itself cut off has no finding, nor has what --select leaves out.
    unexplained = n_failures - sum(g.failures for g in causes)
    return f"{text}; for {unexplained:,} no cause is shown" if unexplained > 0 else text


def _other_errors(report: Report) -> str:
    """Return a sentence on errors that left no request to an upstream without an answer; empty if there is none."""
    groups = [g for g in finding_groups(report) if g.head.severity >= Severity.ERROR and not g.failures]
    listed = ", ".join(f"{g.count:,} x {g.head.code} {g.head.name}" for g in groups)
    return f" Other errors: {listed}." if groups else ""


def _first_lower(text: str) -> str:
    """Lower the first letter unless the word is a name or an abbreviation."""
    return text[0].lower() + text[1:] if len(text) > 1 and not text[1].isupper() else text


def remedy_title(subjects: Sequence[str], n_remedies: int) -> str:
    """Return the heading of a remedy; whom it is for matters only where there are several."""
    return f"Remedy for {subjects[0]}" if n_remedies > 1 and subjects[0] else "Remedy"


def filter_label(occurrence: OccurrenceDetail, report: Report) -> str:
    """Return what stands before the display filter: of several files, the one whose frames it counts."""
    n_files = sum(len(c.paths) for c in report.captures)
    return f"Wireshark filter for {occurrence.capture}" if n_files > 1 else "Wireshark filter"


IN_EVIDENCE = "The same frames in the evidence capture (pcapdiag slice, --bundle)"


def evidence_filter(occurrence: OccurrenceDetail) -> str:
    """Return the display filter for an evidence capture, where frames keep their old numbers as `frame.packet_id`."""
    return occurrence.display_filter.replace("frame.number", "frame.packet_id")


def occurrence_title(occurrence: OccurrenceDetail) -> str:
    """Return one line that says which request it was, when and after how much idling."""
    what = f"{occurrence.method} {shorten(occurrence.target, _MAX_TARGET)}".strip() or "request"
    if occurrence.depth < 0:
        what = "connection attempt"
    parts = [f"{what} {'on' if occurrence.uid else 'of'} {occurrence.orig} -> {occurrence.resp}"]
    if occurrence.depth > 0:
        parts.append(f"request {occurrence.depth + 1} of this connection")
    if occurrence.idle_before_ns >= 0:
        parts.append(f"after {brief(occurrence.idle_before_ns)} idle")
    parts.append(f"{_clock_of(occurrence)} UTC{'' if occurrence.uid else ' (log)'}")
    return ", ".join(parts)


def brief(duration_ns: int) -> str:
    """Return a duration in four digits: what a person compares; JSON has every nanosecond.

    Parameters
    ----------
    duration_ns : int
        [ns] Not negative.

    Returns
    -------
    str
        Such as ``3.900 s`` or ``160.2 ms``.
    """
    unit = 10 ** max(len(str(duration_ns)) - 4, 0)
    number, _, name = format_duration_ns((duration_ns + unit // 2) // unit * unit).partition(" ")
    whole, _, fraction = number.partition(".")
    n_fraction = 4 - len(whole) if duration_ns >= 1000 else 0
    return f"{whole}.{fraction:0<{n_fraction}} {name}" if n_fraction > 0 else f"{whole} {name}"


def clock(iso: str) -> str:
    """Return date and time of an ISO 8601 text to the millisecond: enough to find the line of a log."""
    date, _, time = iso.partition("T")
    return f"{date} {time[:12]}"


def _clock(ts_ns: int) -> str:
    return clock(format_ts_ns(ts_ns)) if ts_ns >= 0 else "unknown time"


def _clock_of(occurrence: OccurrenceDetail) -> str:
    """Return when it happened: to the second where only the log tells, to the millisecond where packets do."""
    text = _clock(occurrence.request_ts_ns)
    return text if occurrence.uid else text[:19]


def count_others(group: FindingGroup, n_drawn: int) -> int:
    """Return how many occurrences there are beside some that are drawn: each that is listed may stand for others."""
    return sum(o.stands_for for o in group.occurrences) - n_drawn


def left_out(group: FindingGroup, n_drawn: int, n_rows: int = MAX_OCCURRENCES) -> str:
    """Return how many occurrences are neither drawn nor in a table of `n_rows`, and where they are; empty if none."""
    n_hidden = count_others(group, n_drawn) - min(len(group.occurrences) - n_drawn, n_rows)
    if not n_hidden:
        return ""
    option = "--all --format json" if any(o.stands_for > 1 for o in group.occurrences) else "--format json"
    return f"and {n_hidden:,} more: {option} lists them all"


def occurrence_grid(occurrences: Sequence[OccurrenceDetail], *, limit: int = MAX_OCCURRENCES) -> Grid:
    """Return a compact table of occurrences, at most `limit` rows; a date or file they share is said once."""
    shown = occurrences[:limit]
    clocks = [_clock_of(o) for o in shown]
    dates = {clock[:10] for clock in clocks}
    has_files = len({o.capture for o in occurrences if o.capture}) > 1
    rows = []
    for o, clock in zip(shown, clocks, strict=True):
        what = "(connect)" if o.depth < 0 else f"{o.method} {shorten(o.target, _MAX_TARGET)}".strip()
        idle = brief(o.idle_before_ns) if o.idle_before_ns >= 0 else "-"
        file = (o.capture,) if has_files else ()
        time = clock if len(dates) > 1 else clock[11:]
        frame = str(o.request_frame) if o.request_frame > 0 else "-"
        rows.append((*file, frame, time, idle, f"{o.orig} -> {o.resp}", what))
    date = "time (UTC)" if len(dates) > 1 else f"{dates.pop()} UTC"
    headers = (*(("file",) if has_files else ()), "frame", date, "idle gap", "connection", "request")
    first = int(has_files)
    return Grid(headers, tuple(rows), frozenset({first, first + 2}))


def upstreams_title(report: Report) -> str:
    """Return the heading above what was measured of each upstream."""
    return "Upstreams" if report.has_proxy else in_plain_words("Upstreams")


def upstream_grid(upstreams: Sequence[UpstreamSummary], *, has_proxy: bool = True) -> Grid:
    """Return what was measured of each upstream; of more than `MAX_LINES`, those with most failures and requests."""
    order = sorted(upstreams, key=lambda u: (-u.unanswered, -u.exchanges))
    shown = {u.endpoint for u in order[:MAX_LINES]}
    rows = tuple(
        (
            u.endpoint,
            f"{u.exchanges:,}",
            f"{u.unanswered:,}",
            f"{u.reused:,}",
            _duration(u.rtt_ns.p50),
            _timeout(u),
            _window(u),
            f"{u.near_misses:,}",
        )
        for u in upstreams
        if u.endpoint in shown
    )
    headers = (
        "upstream" if has_proxy else "server",
        "requests",
        "lost",
        "reused",
        "RTT",
        "idle timeout T",
        "race window",
        "near misses",
    )
    return Grid(headers, rows, frozenset({1, 2, 3, 4, 7}))


def upstream_remarks(upstreams: Sequence[UpstreamSummary]) -> tuple[str, ...]:
    """Return sentences about upstreams that do not fit into a table."""
    hidden = len(upstreams) - MAX_LINES
    remarks = [f"and {hidden:,} more upstreams: --format json lists them all."] if hidden > 0 else []
    servers: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for u in upstreams:
        servers.setdefault((u.server_field, u.idle_timeout_ns.named_as), []).append(u.endpoint)
    for (server, named_as), endpoints in servers.items():
        names = ", ".join(bounded(endpoints))
        if server:
            remarks.append(f"{names}: the Server field says {shorten(server, 60).removesuffix('.')}.")
        if named_as:
            remarks.append(f"{names}: T is the default of {', '.join(named_as)}; a name, not a proof.")
    return tuple(remarks)


def _duration(ns: int) -> str:
    return brief(ns) if ns >= 0 else "-"


def _timeout(upstream: UpstreamSummary) -> str:
    timeout = upstream.idle_timeout_ns
    if timeout.value < 0:
        return "not measured"
    doubt = f", {timeout.confidence.name.lower()}" if timeout.confidence not in {None, Confidence.CONFIRMED} else ""
    value = brief(timeout.value)
    if timeout.spread > max(timeout.value // 50, _TIGHT_NS):
        value = f"{value} .. {brief(timeout.value + timeout.spread)}"
    return f"{value} ({count_of(timeout.samples, 'close')}{doubt})"


def _window(upstream: UpstreamSummary) -> str:
    low, high = upstream.race_window_ns
    if high < 0:
        return "-"
    begin, end = brief(max(low, 0)), brief(high)
    return f"{begin.split()[0]} .. {end}" if begin.split()[1] == end.split()[1] else f"{begin} .. {end}"


def _note_line(note: ReportNote) -> str:
    """Return a note in one line with the place it concerns."""
    place = f"frame {note.frame:,}" if note.frame > 0 else ""
    if note.offset >= 0:
        place += f"{', ' if place else ''}byte {note.offset:,}"
    if note.capture:
        place += f" of {note.capture}" if place else note.capture
    return f"{note.text} ({place}) [{note.code}]" if place else f"{note.text} [{note.code}]"


def note_lines(report: Report) -> tuple[str, ...]:
    """Return the notes on the whole input and on each capture."""
    return bounded([_note_line(n) for n in (*report.notes, *(n for c in report.captures for n in c.notes))])


def verdict_lines(report: Report) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the codes found clean, and those not evaluated with their reason, codes of one reason together."""
    clean = tuple(v.code for v in report.verdicts if v.verdict == VerdictKind.CLEAN)
    skipped: dict[str, list[str]] = {}
    for v in report.verdicts:
        if v.verdict == VerdictKind.NOT_EVALUATED:
            skipped.setdefault(v.reason, []).append(v.code)
    return clean, tuple((", ".join(codes), reason) for reason, codes in skipped.items())


def input_lines(report: Report) -> tuple[str, ...]:
    """Return what was read, one line per capture, and what it held."""
    lines = bounded([_capture_line(c, has_proxy=report.has_proxy) for c in report.captures])
    totals = report.totals
    text = f"{count_of(totals.connections, 'connection')}, {count_of(totals.exchanges, 'exchange')}"
    text += f", {totals.unanswered:,} unanswered, {count_of(totals.retransmissions, 'retransmission')}"
    text += f", {count_of(totals.undecoded_frames, 'frame')} not decoded."
    return (*lines, text, *redaction_lines(report))


def redaction_lines(report: Report) -> tuple[str, ...]:
    """Return what was masked in the report, and whether it has other addresses than the captures."""
    redaction = report.redaction
    lines = []
    masked = [f"{m.kind} {m.name} ({count_of(m.count, 'time')})".replace("  ", " ") for m in redaction.masked]
    if masked:
        more = f", and {len(masked) - MAX_LINES:,} more" if len(masked) > MAX_LINES else ""
        lines.append(f"Masked: {', '.join(masked[:MAX_LINES])}{more}.")
    if redaction.anonymized:
        lines.append("Addresses and names of machines were replaced, the same ones alike (--anonymize).")
    return tuple(lines)


def _capture_line(capture: CaptureSummary, *, has_proxy: bool) -> str:
    names = ", ".join(capture.paths[:3])
    if len(capture.paths) > 3:
        names += f" and {len(capture.paths) - 3:,} more files"
    links = ", ".join(describe_link_type(t) for t in capture.link_types)
    kind = f"{capture.format}, {links}" if links else capture.format
    text = f"{names} ({kind}): {count_of(capture.frames, 'frame')}, {format_bytes(capture.bytes)}"
    if capture.first_ts_ns >= 0:
        lasted = brief(capture.last_ts_ns - capture.first_ts_ns)
        text += f", {lasted} from {_clock(capture.first_ts_ns)} UTC"
    place = CAPTURE_POINTS[capture.capture_point]
    text += f", taken {place if has_proxy else in_plain_words(place)}"
    if capture.dropped > 0:
        text += f", {capture.dropped:,} packets dropped while capturing"
    return text + "."
