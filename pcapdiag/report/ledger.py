"""The ledger in the report: every upstream entry of the log and every failed try with its verdict, and how they add up.

Knows the joined ledger and the findings; how it looks is a renderer's affair.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from pcapdiag.base.findings import Confidence, Role
from pcapdiag.base.units import NS_PER_S, count_of, format_ts_ns, format_zone, known_part, known_to
from pcapdiag.privacy.escape import first_words
from pcapdiag.proxy.join.ledger import EntryVerdict, WireVerdict
from pcapdiag.proxy.join.outside import SAME_REQUEST
from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report.model import LogEntryDetail, LogFailure, LogSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pcapdiag.base.findings import Finding, Verdict
    from pcapdiag.proxy.join.ledger import JoinedEntry, Ledger, WireTry
    from pcapdiag.proxy.logs.entries import ErrorEntry
    from pcapdiag.report.model import Report

_V = TypeVar("_V", EntryVerdict, WireVerdict)
_MOST_CANDIDATES = 20
_MOST_REASONS = 3
_MOST_UNDETERMINED = 10
_FOREIGN = "More entries of the capture's time fit no failure of it than fit one: is it the log of this proxy?"
_UNTIED = (
    "No entry fits a failure of the capture in any time zone: is it the log of this proxy, and of this time? Its"
    " zone is not known (--log-zone)."
)
_NO_TIE = (
    "Nothing ties the log's clock to the capture's: the capture has no failure, and the zone is not known (--log-zone)."
)
_NO_CERTAIN_TIE = "Nothing ties the log's clock to the capture's for certain; the zone is not known (--log-zone)."
_FURTHEST_NS = 15 * 3600 * NS_PER_S
"""[ns] No zone is further from UTC, with an hour for clocks that are wrong."""
_ENOUGH = 3
"""Entries that have their try at one offset: another proxy's log has not."""
_CLIENT_CLOSED = LogKind.CLIENT_CLOSED.name.lower()
MOST_ENTRIES = 4
"""Entries of the error log that stand beside a ladder."""
_ENTRY: Final = 100
"""[characters] Of what an entry says."""

_WIRE_WORDS = {
    WireVerdict.LOGGED: "with an entry",
    WireVerdict.NOT_IN_LOG: "without an entry although the log covers their time",
    WireVerdict.OUTSIDE_LOG: "before or after the log",
    WireVerdict.NOTHING_LOGGED: "without an entry, and not of a kind that always leaves one at the usual level",
    WireVerdict.UNDETERMINED: "undetermined",
}
_ENTRY_WORDS = {
    EntryVerdict.EXPLAINED: "explained",
    EntryVerdict.NO_PACKETS_EXPECTED: "with no packets expected",
    EntryVerdict.NOT_CAPTURED: "not in the capture",
    EntryVerdict.UNDETERMINED: "undetermined",
}


def build_log(
    ledger: Ledger,
    findings: Iterable[Finding],
    verdicts: Iterable[Verdict],
    locate: Callable[[int, int], tuple[str, int]],
) -> LogSummary:
    """Return what the report says of the logs.

    Parameters
    ----------
    ledger : Ledger
        Logs and packets, joined.
    findings : iterable of Finding
        They name the cause of each try.
    verdicts : iterable of Verdict
        One per rule: they name the one that requests without a peer fall to, whether its findings are shown or not.
    locate : callable
        From a connection and a 0-based frame to the file and the frame's number in it.

    Returns
    -------
    LogSummary
    """
    findings = tuple(findings)
    causes = [f for f in findings if f.facts.role is not Role.RETRIED]
    outside = {
        line: f.code for f in findings if f.facts.role is Role.OUTSIDE for o in f.occurrences for line in o.log_lines
    }
    # Findings come worst first: the one that explains a failure goes before one that only counts the answer.
    codes = {(o.conn, o.depth): f.code for f in reversed(causes) for o in f.occurrences if o.conn >= 0}
    no_peer = next((v.code for v in verdicts if v.role is Role.NO_PEER), "")
    clock = ledger.clock
    measured = clock if clock is not None and clock.is_measured else None
    return LogSummary(
        clock_offset_ns=measured.offset_ns if measured else None,
        clock_offset_width_ns=measured.width_ns if measured else None,
        zone_offset_s=ledger.zone_s,
        pairs=clock.pairs if clock is not None else 0,
        conflicts=clock.conflicts if clock is not None else 0,
        errors_read=ledger.errors_read,
        is_certain=clock is None or not clock.is_ambiguous,
        entries=tuple(
            replace(e, code=e.code or outside.get(f"{e.path}:{e.line}", ""))
            for e in (_entry(j, codes, no_peer, ledger.zone_s or 0, locate) for j in ledger.entries)
        ),
        failures=tuple(
            LogFailure(
                uid=t.wire.uid,
                depth=t.wire.depth,
                request_frame=locate(t.wire.conn, t.wire.request_frame)[1],
                capture=locate(t.wire.conn, t.wire.request_frame)[0],
                code=codes.get(t.wire.key, ""),
                verdict=t.verdict,
                log_lines=tuple(place_of(e) for e in t.entries),
            )
            for t in ledger.tries
        ),
    )


def place_of(entry: ErrorEntry) -> str:
    """Return file and line of an entry."""
    return f"{entry.path}:{entry.line}"


def lines_by_try(ledger: Ledger | None) -> dict[tuple[int, int], tuple[str, ...]]:
    """Return the places of the entries of each failed try, by connection and depth."""
    if ledger is None:
        return {}
    lines: dict[tuple[int, int], tuple[str, ...]] = {}
    for joined in ledger.entries:
        if joined.wire is not None:
            lines[joined.wire.key] = (*lines.get(joined.wire.key, ()), place_of(joined.entry))
    return lines


def _entry(
    joined: JoinedEntry,
    codes: Mapping[tuple[int, int], str],
    no_peer: str,
    zone_s: int,
    locate: Callable[[int, int], tuple[str, int]],
) -> LogEntryDetail:
    entry, wire = joined.entry, joined.wire
    code = codes.get(wire.key, "") if wire is not None else ""
    if entry.kind in FOUND_NO_PEER and joined.verdict is EntryVerdict.NO_PACKETS_EXPECTED:
        code = no_peer
    capture, frame = locate(wire.conn, wire.request_frame) if wire is not None else ("", -1)
    return LogEntryDetail(
        path=entry.path,
        line=entry.line,
        ts_ns=entry.ts_ns - zone_s * NS_PER_S,
        level=entry.level,
        pid=entry.pid,
        log_conn=entry.log_conn,
        kind=entry.kind.name.lower(),
        message=entry.message,
        request=entry.request,
        upstream=entry.upstream,
        verdict=joined.verdict,
        reason=joined.reason,
        code=code,
        uid=wire.uid if wire is not None else "",
        depth=wire.depth if wire is not None else -1,
        capture=capture,
        request_frame=frame,
        confidence=Confidence(joined.confidence),
        candidates=tuple(_frame(w, locate) for w in joined.candidates[:_MOST_CANDIDATES]),
    )


def _frame(wire: WireTry, locate: Callable[[int, int], tuple[str, int]]) -> int:
    return locate(wire.conn, wire.request_frame)[1]


def entries_in_words(log: LogSummary, places: Sequence[str]) -> tuple[str, ...]:
    """Return the entries of the error log at some places, one line each.

    Parameters
    ----------
    log : LogSummary
        With all entries.
    places : sequence of str
        File and line, as an occurrence names them; those of other logs are passed over.

    Returns
    -------
    tuple of str
        At most `MOST_ENTRIES`, and one that says how many more there are.
    """
    wanted = set(places)
    found = [(f"{e.path}:{e.line}", e) for e in log.entries if f"{e.path}:{e.line}" in wanted]
    found.sort(key=lambda pair: places.index(pair[0]))
    lines = tuple(
        f"{place}: {f'*{e.log_conn} ' if e.log_conn >= 0 else ''}{first_words(e.message, _ENTRY)}"
        for place, e in found[:MOST_ENTRIES]
    )
    return (*lines, f"and {len(found) - MOST_ENTRIES:,} more") if len(found) > MOST_ENTRIES else lines


def ledger_lines(log: LogSummary, span: tuple[int, int] = (-1, -1)) -> tuple[str, ...]:
    """Return the ledger in sentences; empty where no log was given.

    Parameters
    ----------
    log : LogSummary
        With all entries.
    span : tuple of int
        [ns] First and last time of the captures; -1 where they hold no packet.
    """
    if not log.entries and not log.failures:
        return ()
    entries = Counter(e.verdict for e in log.entries)
    failures = Counter(f.verdict for f in log.failures)
    tries = count_of(len(log.failures), "failed try", "failed tries")
    lines = [
        f"{count_of(len(log.entries), 'log entry', 'log entries')} about upstreams: {_sum(entries, _ENTRY_WORDS)}."
        if log.entries
        else _no_entry(log),
        *_outside(log),
        *([_FOREIGN] if _seems_foreign(log, entries) else []),
        f"{tries} on the wire{f': {_sum(failures, _WIRE_WORDS)}' if log.entries and log.failures else ''}.",
        "An upstream that closes an idle pooled connection logs nothing: such closings are on neither side.",
    ]
    if log.clock_offset_ns is not None:
        # A log has whole seconds: where no difference is possible, too, the middle of the interval says nothing.
        width_ns = log.clock_offset_width_ns or 0
        side = "behind" if log.clock_offset_ns < 0 else "ahead of"
        is_same = 2 * abs(log.clock_offset_ns) <= width_ns
        clock = (
            "agrees with the capture's"
            if is_same
            else f"is {known_part(abs(log.clock_offset_ns), width_ns)} {side} the capture's"
        )
        against = f", against {log.conflicts:,} that do not fit" if log.conflicts else ""
        against += "" if log.is_certain else ": too little to be certain"
        lines.append(
            f"The log is in {format_zone(log.zone_offset_s or 0)}; its clock {clock}, known to {known_to(width_ns)}"
            f" by {count_of(log.pairs, 'pair')}{against}."
        )
    elif log.pairs:
        lines.append(
            "The log's clock could not be measured: only timeouts of unknown length join the log with the capture."
        )
    elif log.zone_offset_s is not None:
        zone = format_zone(log.zone_offset_s)
        lines.append(
            f"The log is in {zone}; no failure measures its clock, which is taken to agree with the capture's."
        )
    elif log.entries:
        is_alike = any(entry.candidates for entry in log.entries)
        loose = _NO_CERTAIN_TIE if is_alike else _UNTIED if log.failures else _NO_TIE
        lines.append(_apart(log, span) or loose)
    return (*lines, *_undetermined(log))


def _apart(log: LogSummary, span: tuple[int, int]) -> str:
    """Return that the log is of another time in any zone; empty where it may be of the capture's."""
    stamps = [entry.ts_ns for entry in log.entries]
    first, last = min(stamps), max(stamps)
    if span[0] < 0 or (last >= span[0] - _FURTHEST_NS and first <= span[1] + _FURTHEST_NS):
        return ""
    spans = (" to ".join(format_ts_ns(t)[:19].replace("T", " ") for t in pair) for pair in ((first, last), span))
    logged, captured = spans
    return (
        f"The log does not overlap with the capture in any time zone: its entries are of {logged}, the packets of"
        f" {captured} UTC."
    )


def beyond_line(log: LogSummary, span: tuple[int, int]) -> str:
    """Return a sentence on failures in the error log that are of another time than the capture; empty if none is.

    Parameters
    ----------
    log : LogSummary
        With all entries.
    span : tuple of int
        [ns] First and last time of the captures; -1 where they hold no packet.
    """
    missed = [entry for entry in log.entries if entry.verdict is EntryVerdict.NOT_CAPTURED]
    if not missed or span[0] < 0:
        return ""
    if log.zone_offset_s is None:
        return _apart(log, span)
    ahead_ns = log.clock_offset_ns or 0
    slack_ns = NS_PER_S + (log.clock_offset_width_ns or 0)
    n = sum(not span[0] - slack_ns <= entry.ts_ns - ahead_ns <= span[1] + slack_ns for entry in missed)
    if not n:
        return ""
    verb = "is" if n == 1 else "are"
    return (
        f"{count_of(n, 'failure')} in the error log {verb} of a time before or after the capture: nothing here explains"
        f" {'it' if n == 1 else 'them'}."
    )


def _seems_foreign(log: LogSummary, entries: Counter[EntryVerdict]) -> bool:
    """Tell whether the log may be another proxy's: not where a few entries have their try for certain."""
    explained = entries[EntryVerdict.EXPLAINED]
    is_own = log.is_certain and explained >= _ENOUGH
    # A client may leave at any moment, and leave nothing broken that packets show.
    unfit = sum(
        e.verdict is EntryVerdict.UNDETERMINED and e.kind != _CLIENT_CLOSED and not e.reason.startswith(SAME_REQUEST)
        for e in log.entries
    )
    return unfit > explained and not is_own


def _no_entry(log: LogSummary) -> str:
    """Return why there is no entry: that the log has none can be said only of one that was read."""
    if log.errors_read > 0:
        return f"The error log has no entry about an upstream ({count_of(log.errors_read, 'record')} read)."
    if log.errors_read == 0:
        return "Nothing of the error log was understood, or it is empty: what the proxy logged is not known."
    return "No error log was given: what the proxy logged of its failures is not known."


def _undetermined(log: LogSummary) -> Iterator[str]:
    """Yield the entries that are undetermined, those with the same reason together."""
    places: dict[tuple[str, str], list[str]] = {}
    for e in log.entries:
        if e.verdict is EntryVerdict.UNDETERMINED:
            places.setdefault((e.path, e.reason), []).append(str(e.line))
    for (path, reason), numbers in list(places.items())[:_MOST_UNDETERMINED]:
        more = f" and {len(numbers) - _MOST_UNDETERMINED:,} more" if len(numbers) > _MOST_UNDETERMINED else ""
        yield f"{path}:{', '.join(numbers[:_MOST_UNDETERMINED])}{more}: undetermined, {reason}."


def _outside(log: LogSummary) -> Iterator[str]:
    """Yield why entries are not in the capture, the most frequent reasons with their numbers."""
    absent = [e for e in log.entries if e.verdict is EntryVerdict.NOT_CAPTURED]
    told = Counter(e.code for e in absent if e.code)
    for code, n in told.items():
        yield f"Not in the capture, and told of in {code}: {count_of(n, 'entry', 'entries')}."
    reasons = Counter(e.reason for e in absent if not e.code)
    if reasons:
        listed = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.most_common(_MOST_REASONS))
        rest = reasons.total() - sum(n for _, n in reasons.most_common(_MOST_REASONS))
        yield f"Not in the capture: {listed}{f'; {rest:,} for other reasons' if rest else ''}."


def _sum(counts: Counter[_V], words: Mapping[_V, str]) -> str:
    return ", ".join(f"{counts[verdict]:,} {words[verdict]}" for verdict in words if counts[verdict])


def span_of(report: Report) -> tuple[int, int]:
    """[ns] Return the first and the last time of the captures of a report; -1 where they hold no packet."""
    first = min((c.first_ts_ns for c in report.captures if c.first_ts_ns >= 0), default=-1)
    return first, max((c.last_ts_ns for c in report.captures), default=-1)
