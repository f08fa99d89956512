"""What every human-readable report says, in the order in which it says it: plain text and rows, no markup.

A renderer decides how a heading or a table looks; this module decides what is worth a tired engineer's attention.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.findings import Confidence, Severity, VerdictKind
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
_TIGHT_NS = 60_000_000
"""Closings further apart are those of a timer that is looked at now and then."""

_VERB = re.compile(r"\b(?:is|are|was|were|has|have)\b")
_ENDING = re.compile(r"(?<=[a-z])(?:ies|y|es|s)\b")

# Numbers, addresses and times within a remedy.
_UNITS = frozenset(("us", "ms", "s", "min", "h"))
_MARKS = ".,;:()"
_ALIKE = 0.02
"""Of a measured number: nobody acts otherwise on 4.003 s than on 4.002 s."""
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
    """All findings of one code: shown under one heading, with one ladder. What only informs has one of its own."""

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
    def unserved(self) -> int:
        """How many of them left a client with an error, or with nothing."""
        return sum(f.unserved for f in self.findings)

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
    if is_same:
        return GroupRemedy(subjects, text, f"The same goes for {others}.")
    return GroupRemedy(subjects, text, f"The same goes for {_with_numbers(findings[0], findings[1:])}.")


def _with_numbers(first: FindingDetail, findings: Sequence[FindingDetail]) -> str:
    """Return the subjects of some findings, each with the numbers in which its remedy differs from the first one."""
    words = first.remedy.split()
    units = [f" {unit}" if (unit := _bare(word)) in _UNITS else "" for word in (*words[1:], "")]
    told = []
    for finding in findings[:MAX_LINES]:
        own_words = finding.remedy.replace(finding.subject, first.subject).split()
        other = [
            _replaced(_bare(one), _bare(its), unit)
            for one, its, unit in zip(words, own_words, units, strict=False)
            if one != its and not (unit and _is_alike(_bare(one), _bare(its)))
        ]
        told.append(finding.subject + (f" ({', '.join(dict.fromkeys(other))})" if other else ""))
    more = len(findings) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more > 0 else "")


def _bare(word: str) -> str:
    """Return a word without the marks around it; dots before it belong to it, as in a path."""
    return word.lstrip("(").rstrip(_MARKS)


def _replaced(one: str, its: str, unit: str) -> str:
    """Return which word stands in place of which; of places in one folder, without the folder."""
    (folder, _, name), (its_folder, _, its_name) = one.rpartition("/"), its.rpartition("/")
    if folder and folder == its_folder:
        one, its = name, its_name
    return f"{its}{unit} in place of {one}{unit}"


def _is_alike(one: str, other: str) -> bool:
    """Tell whether two measured numbers differ by less than anybody needs to know."""
    try:
        a, b = float(one), float(other)
    except ValueError:
        return False
    return abs(a - b) <= _ALIKE * max(abs(a), abs(b))


def told_once(findings: Sequence[FindingDetail]) -> tuple[str, ...]:
    """Return what findings of one code say, each thing once: not again for every upstream with other numbers.

    Parameters
    ----------
    findings : sequence of FindingDetail
        In their order.

    Returns
    -------
    tuple of str
        At most `MAX_LINES` and one that says how many more there are.
    """
    alike: dict[tuple[str, int], list[FindingDetail]] = {}
    for finding in findings:
        alike.setdefault((_in_general(finding.message), finding.confidence), []).append(finding)
    return bounded([_with_others(group) for group in alike.values()])


def _in_general(text: str) -> str:
    """Return a sentence without its numbers, and without what depends on them."""
    for pattern, word in ((_NUMBER, "0"), (_VERB, "is"), (_ENDING, "")):
        text = pattern.sub(word, text)
    return text


def _with_others(alike: Sequence[FindingDetail]) -> str:
    first, *others = alike
    named = [f for f in others if f.subject and f.subject != first.subject]
    if len(named) < len(others) or not others:
        return " ".join(dict.fromkeys(f.message for f in alike))
    places = bounded([f"{f.subject} ({count_of(f.count, 'time')})" for f in named])
    return (
        f"{first.message} The same at {', '.join(places)}, with numbers of {'its' if len(named) == 1 else 'their'} own."
    )


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first `MAX_LINES` lines and, if there are more, how many."""
    shown = tuple(lines[:MAX_LINES])
    return (*shown, f"and {len(lines) - MAX_LINES:,} more") if len(lines) > MAX_LINES else shown


def finding_groups(report: Report) -> tuple[FindingGroup, ...]:
    """Return the findings by code, in report order; those that failed nobody are counted with no failure."""
    keys = [(f.code, f.severity < Severity.WARNING) for f in report.findings]
    order = list(dict.fromkeys(keys))
    ordered = sorted(zip(keys, report.findings, strict=True), key=lambda pair: order.index(pair[0]))
    groups = groupby(ordered, key=lambda pair: pair[0])
    return tuple(FindingGroup(tuple(finding for _, finding in group)) for _, group in groups)


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
