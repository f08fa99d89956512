"""What the page says, in the order in which it says it: plain text and rows for the template, no markup.

All text of the input is made visible here; the template escapes it once more for HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pcapdiag.base.units import count_of, format_bytes, format_ts_ns
from pcapdiag.privacy.escape import shorten, visible
from pcapdiag.report import summary
from pcapdiag.report.anchors import Anchors
from pcapdiag.report.far_end import both_ends_lines
from pcapdiag.report.headline import headline, is_judged, main_cause
from pcapdiag.report.impact import impact_basis
from pcapdiag.report.incidents import incident_lines
from pcapdiag.report.ledger import ledger_lines, span_of
from pcapdiag.report.remedy import Block, split_blocks
from pcapdiag.report.render.html.diff import build_diffs
from pcapdiag.report.render.html.rows import Occurrences, RowMaker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pcapdiag.report.model import Impact, LogEntryDetail, Report
    from pcapdiag.report.render.html.diff import FileDiff

_MOST_ENTRIES = 1000
_MOST_MESSAGE = 240
_MOST_INPUTS = 200
_ENTRY_HEADERS = ("entry", "time (UTC)", "message", "verdict", "cause", "frame", "because")


@dataclass(frozen=True, slots=True)
class Cause:
    """All findings of one code, for the page."""

    code: str
    name: str
    title: str
    severity: str
    confidence: str
    times: str
    messages: tuple[str, ...]
    table: Occurrences | None
    refutations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemedyBlock:
    """What to do about one cause."""

    code: str
    name: str
    subject: str
    blocks: tuple[Block, ...]
    others: str
    diffs: tuple[FileDiff, ...]
    why: str
    """A command that says more."""


def page_words(report: Report, charts: Collection[str]) -> dict[str, Any]:
    """Return what the template needs beside the charts.

    Parameters
    ----------
    report : Report
        What to show.
    charts : collection of str
        Names of the charts that the page has.

    Returns
    -------
    dict of str to any
    """
    clean, skipped = summary.verdict_lines(report)
    worst = max((f.severity for f in report.findings), default=None)
    captures = [c for c in report.captures if c.end == "proxy"]  # the far end has a clock of its own
    first = min((c.first_ts_ns for c in captures if c.first_ts_ns >= 0), default=-1)
    last = max((c.last_ts_ns for c in captures), default=-1)
    when = f"{summary.clock(format_ts_ns(first))} UTC, {summary.brief(last - first)}" if first >= 0 else ""
    return {
        "headline": visible(headline(report)),
        "worst": worst.name.lower() if worst is not None else "clean" if is_judged(report) else "info",
        "when": when,
        "causes": tuple(_causes(report)),
        "remedies": tuple(_remedies(report)),
        "upstreams_title": summary.upstreams_title(report),
        "upstreams": _seen(summary.upstream_grid(report.upstreams, has_proxy=report.has_proxy))
        if report.upstreams
        else None,
        "upstream_remarks": _all_visible(summary.upstream_remarks(report.upstreams)),
        "both_ends": _all_visible(both_ends_lines(report.far_end)),
        "ledger": _all_visible(ledger_lines(report.log, span_of(report))),
        "entries": summary.Grid(_ENTRY_HEADERS, _entries(report.log.entries)),
        "n_entries_hidden": max(len(report.log.entries) - _MOST_ENTRIES, 0),
        "settings": summary.Grid(
            ("of", "setting", "value", "where it stands"),
            tuple(_all_visible((s.of, s.name, s.value, s.source or s.why)) for s in report.settings),
        ),
        "skipped": tuple((code, visible(reason)) for code, reason in skipped),
        "clean": ", ".join(clean),
        "notes": _all_visible(summary.note_lines(report)),
        "incidents": _all_visible(incident_lines(report)),
        "inputs": _inputs(report),
        "input_lines": _all_visible(summary.input_lines(report)),
        "impact": _impact(report.impact),
        "redaction": tuple(_redaction(report)),
        "sections": tuple(_sections(report, charts)),
        "identifier": report.identifier,
        "tool": f"{report.tool.name} {report.tool.version}",
        "schema_version": report.schema_version,
    }


def _sections(report: Report, charts: Collection[str]) -> Iterable[tuple[str, str]]:
    """Yield the sections that the page has: identifier and name."""
    has_remedy = any(f.remedy for f in report.findings)
    has_ledger = bool(report.log.entries or report.log.failures)
    for name, title, is_there in (
        ("impact", "Impact", True),
        ("remedy", "Remedy", has_remedy),
        ("timeline", "Timeline", "timeline" in charts),
        ("idle-gaps", "Idle gaps", "idle-gaps" in charts),
        ("closings", "Ages at close", "closings" in charts),
        ("proof", "Proof", bool(report.findings)),
        ("cascade", "Cascade", "cascade" in charts),
        ("ledger", "Ledger", has_ledger),
        ("limits", "Not evaluated", True),
        ("inputs", "Inputs", True),
        ("redaction", "Redaction", True),
    ):
        if is_there:
            yield name, title


def _impact(impact: Impact) -> dict[str, Any]:
    seconds = "" if impact.unavailable_s < 0 else f"{impact.unavailable_s:,} s"
    partly = f"in which nobody was served; in {impact.failing_s:,} s somebody was not" if seconds else ""
    gave_up = f"; {impact.gave_up:,} more gave up waiting" if impact.gave_up > 0 else ""
    unknown = f"because {impact.unknown}" if impact.unknown else "the access log does not tell"
    numbers = (
        ("Requests of clients", _number(impact.requests), "in the time of the capture"),
        ("Failures they saw", _number(impact.failures), f"status 500 or above, or no answer{gave_up}"),
        ("Failures hidden by retries", _number(impact.hidden_by_retries), "answered after a try had failed"),
        ("Unavailable", seconds, partly),
    )
    cards = [{"name": name, "value": value, "words": words if value else unknown} for name, value, words in numbers]
    return {"cards": cards if any(value for _, value, _ in numbers) else [], "basis": impact_basis(impact)}


def _number(number: int) -> str:
    return f"{number:,}" if number >= 0 else ""


def _redaction(report: Report) -> Iterable[str]:
    redaction = report.redaction
    if redaction.redacted:
        yield "Values of credentials, cookies, keys and query strings are masked; their names are kept."
        masked = [f"{m.kind} {m.name} ({count_of(m.count, 'time')})".replace("  ", " ") for m in redaction.masked]
        yield f"Masked: {visible(', '.join(masked))}." if masked else "There was nothing to mask."
    else:
        yield "NOT redacted: this report may hold credentials (--no-redact). Mind where it goes."
    if redaction.anonymized:
        yield "Addresses and host names are replaced, the same by the same."
    else:
        yield "Addresses and host names are as captured (--anonymize replaces them)."


def _all_visible(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(visible(line) for line in lines)


def _seen(grid: summary.Grid) -> summary.Grid:
    return summary.Grid(grid.headers, tuple(_all_visible(row) for row in grid.rows), grid.right)


def _causes(report: Report) -> Iterable[Cause]:
    maker = RowMaker(report, Anchors(report))
    for group in _main_first(report):
        head = group.head
        yield Cause(
            code=head.code,
            name=head.name,
            title=visible(head.title),
            severity=head.severity.name.lower(),
            confidence=head.confidence.name.lower(),
            times=count_of(group.count, "time"),
            messages=_all_visible(summary.told_once(group.findings)),
            table=maker.make(group),
            refutations=_all_visible(dict.fromkeys(f.refuted_by for f in group.findings if f.refuted_by)),
        )


def _main_first(report: Report) -> list[summary.FindingGroup]:
    """Return the causes in report order, but first the one that the verdict names."""
    main = main_cause(report)
    groups = summary.finding_groups(report)
    return sorted(groups, key=lambda group: main is None or group.findings != main.findings)


def _remedies(report: Report) -> Iterable[RemedyBlock]:
    for group in _main_first(report):
        remedies = group.remedies
        for subjects, text, others in remedies:
            findings = [f for f in group.findings if f.subject in subjects]
            yield RemedyBlock(
                code=group.head.code,
                name=group.head.name,
                subject=f"for {visible(subjects[0])}" if len(remedies) > 1 and subjects[0] else "",
                blocks=tuple(Block(_all_visible(b.lines), b.is_code) for b in split_blocks(text)),
                others=visible(others),
                diffs=build_diffs(findings),
                why=f"pcapdiag rule {group.head.code}",
            )


def _entries(entries: Iterable[LogEntryDetail]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for entry in list(entries)[:_MOST_ENTRIES]:
        frame = f"{entry.request_frame}" if entry.request_frame > 0 else "-"
        rows.append(
            (
                f"{entry.path}:{entry.line}",
                format_ts_ns(entry.ts_ns)[11:19] if entry.ts_ns >= 0 else "-",
                shorten(visible(entry.message), _MOST_MESSAGE),
                entry.verdict.value.replace("_", " "),
                entry.code or "-",
                frame,
                entry.reason,
            )
        )
    return tuple(tuple(visible(cell) for cell in row) for row in rows)


def _inputs(report: Report) -> summary.Grid:
    inputs = report.inputs[:_MOST_INPUTS]
    rows = [(visible(i.path), i.kind.replace("_", " "), format_bytes(i.bytes) if i.bytes >= 0 else "-") for i in inputs]
    if not any(i.sha256 for i in inputs):
        return summary.Grid(("file", "what", "size"), tuple(rows))
    hashed = tuple((*row, i.sha256 or "-") for row, i in zip(rows, inputs, strict=True))
    return summary.Grid(("file", "what", "size", "SHA-256"), hashed)
