"""From `Analysis`, findings and verdicts to `Report`: here frames become 1-based and every text is redacted."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.attempts import is_still_open
from pcapdiag.analysis.density import measure_density
from pcapdiag.analysis.handshake import HTTP2
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import OF_GATEWAYS, CapturePoint, Direction, Framing, Leg, Method, Outcome, Protocol
from pcapdiag.base.findings import Confidence, Effect, Note, Role
from pcapdiag.privacy.redact import Redactor
from pcapdiag.report.choice import listed
from pcapdiag.report.far_end import UPSTREAM, build_far_end, build_proof, far_frames
from pcapdiag.report.frame_numbers import FrameLocator
from pcapdiag.report.impact import measure_impact
from pcapdiag.report.incidents import find_incidents, idle_limits, signs_of_life
from pcapdiag.report.ledger import build_log, lines_by_try
from pcapdiag.report.model import (
    SCHEMA_VERSION,
    CaptureSummary,
    EvidenceFrame,
    FindingDetail,
    IdleTimeoutSummary,
    InputFile,
    LogSummary,
    Masked,
    OccurrenceDetail,
    Redaction,
    Report,
    ReportNote,
    Rtt,
    RuleVerdict,
    Tool,
    Totals,
    UpstreamSummary,
    taken_over,
)
from pcapdiag.report.settings import settings_read
from pcapdiag.report.sides import plain_findings, with_plain_words
from pcapdiag.report.words import flag_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Upstream
    from pcapdiag.base.findings import Evidence, Finding, Occurrence, Verdict
    from pcapdiag.base.rates import RaceDensity
    from pcapdiag.engine.capture.batch import Capture

_MOST_UPSTREAMS = 1000
_SERVER_ERROR = 500


def build_report(
    analysis: Analysis,
    findings: Iterable[Finding],
    verdicts: Iterable[Verdict],
    *,
    version: str,
    redact: bool = True,
    anonymized: bool = False,
    list_all: bool = False,
    other_inputs: Iterable[InputFile] = (),
) -> Report:
    """Return the report of one run.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : iterable of Finding
        In report order.
    verdicts : iterable of Verdict
        One per rule.
    version : str
        Version of this program.
    redact : bool
        Whether credentials, query values and what else looks like a secret are masked.
    anonymized : bool
        Whether analysis and findings have other addresses and names than the captures; the report says so.
    list_all : bool
        List every occurrence and upstream, however many there are.
    other_inputs : iterable of InputFile
        Logs and configuration that were read beside the captures.

    Returns
    -------
    Report
        Plain data, ready for any renderer.
    """
    redactor = Redactor(active=redact)
    builder = _Builder(analysis)
    findings, verdicts = tuple(findings), tuple(verdicts)
    if not analysis.has_proxy:
        findings = plain_findings(findings)
    shown = listed(findings, list_all=list_all)
    density = measure_density(analysis)
    upstreams = analysis.upstreams if list_all else _busiest(analysis.upstreams)
    turns, pending = _count_unsure(analysis)
    n_twins, n_again = _count_twins(analysis)
    report = Report(
        schema_version=SCHEMA_VERSION,
        tool=Tool("pcapdiag", version),
        inputs=(
            *(
                InputFile(f.path, "capture", f.size if f.size >= 0 else f.n_bytes, f.sha256 or None)
                for c in (*analysis.captures, *builder.far_captures)
                for f in c.files
            ),
            *other_inputs,
        ),
        captures=(
            *(builder.capture(idx, capture) for idx, capture in enumerate(analysis.captures)),
            *(builder.far_capture(idx, capture) for idx, capture in enumerate(builder.far_captures)),
        ),
        totals=Totals(
            frames=analysis.n_frames,
            undecoded_frames=analysis.n_undecoded,
            connections=len(analysis.connections) + int(np.abs(analysis.connections["n_alike"]).sum()) - n_twins,
            exchanges=len(analysis.exchanges) - n_again,
            unanswered=count_losses(analysis.losses),
            failed_connects=count_losses(loss for loss in analysis.losses if loss.is_connect),
            truncated=count_losses(analysis.truncated),
            retransmissions=analysis.n_retransmissions,
            turns=turns,
            pending=pending,
            still_open=count_losses(loss for loss in analysis.losses if is_still_open(loss, analysis.last_ts_ns)),
        ),
        upstreams=tuple(_upstream(u, density.get(u.endpoint)) for u in upstreams),
        findings=tuple(builder.finding(*pair) for pair in zip(findings, shown, strict=True)),
        verdicts=tuple(RuleVerdict(v.code, v.kind, v.reason, v.role) for v in verdicts),
        log=builder.log(findings, verdicts),
        notes=(
            *(builder.note(0, n) for n in analysis.notes),
            *builder.far_notes(),
            *_left_out(len(analysis.upstreams) - len(upstreams)),
        ),
        settings=settings_read(analysis, findings),
        far_end=None if analysis.far_end is None else build_far_end(analysis.far_end, analysis.captures),
        impact=measure_impact(analysis),
        lists_all=list_all,
    )
    incidents = find_incidents(shown, signs_of_life(analysis, findings), idle_limits(analysis))
    report = redactor.everything(dataclasses.replace(report, incidents=incidents))
    masked = tuple(Masked(*counted) for counted in redactor.counts)
    redaction = Redaction(redacted=redact, anonymized=anonymized, masked=masked)
    report = dataclasses.replace(report, redaction=redaction)
    return with_identifier(report if analysis.has_proxy else with_plain_words(report))


def _busiest(upstreams: Sequence[Upstream]) -> tuple[Upstream, ...]:
    """Return the upstreams that a report lists where a scan made very many: those that were asked most, in order."""
    if len(upstreams) <= _MOST_UPSTREAMS:
        return tuple(upstreams)
    by_use = sorted(range(len(upstreams)), key=lambda n: (-upstreams[n].exchanges, -upstreams[n].connections, n))
    return tuple(upstreams[n] for n in sorted(by_use[:_MOST_UPSTREAMS]))


def _left_out(n_upstreams: int) -> Iterator[ReportNote]:
    """Yield a note on upstreams that are not listed."""
    if n_upstreams > 0:
        text = f"{n_upstreams:,} more endpoints that were asked less are not listed (--all lists all)"
        yield ReportNote("upstreams-left-out", text, -1, -1, "")


def _count_unsure(analysis: Analysis) -> tuple[int, int]:
    """Count exchanges with upstreams that are turns of bytes, and responses that the capture does not hold in full."""
    is_counted = analysis.legs == Leg.UPSTREAM
    if analysis.tls is not None:
        is_counted &= analysis.tls.http2 == HTTP2.NO
    turns = pending = 0
    for chunk in analysis.exchanges.chunks():
        mine = is_counted[chunk["conn"]]
        is_framed = np.isin(chunk["protocol"], (Protocol.HTTP1, Protocol.HTTP2))
        is_gateway = np.isin(chunk["protocol"], OF_GATEWAYS)
        is_framed |= is_gateway & (chunk["request_framing"] != Framing.TURN) & (chunk["method"] != Method.NONE)
        turns += int((mine & ~is_framed).sum())
        pending += int((mine & (chunk["outcome"] == Outcome.PENDING)).sum())
    return turns, pending


def _count_twins(analysis: Analysis) -> tuple[int, int]:
    """Count the connections that were captured again, and the exchanges on them."""
    if analysis.twins is None or not analysis.twins.is_twin.any():
        return 0, 0
    is_twin = analysis.twins.is_twin
    return int(is_twin.sum()), int(analysis.connections["n_exchanges"][is_twin].sum())


def with_identifier(report: Report) -> Report:
    """Return the report under the name that its contents give it: wherever the files lie, hashed or not, the same."""
    said = [
        *(f"{file.kind} {file.bytes}" for file in report.inputs),
        *(f"{capture.frames} {capture.first_ts_ns} {capture.last_ts_ns}" for capture in report.captures),
        str(report.totals),
        *(f"{finding.identifier} {finding.count}" for finding in report.findings),
        f"{report.redaction.redacted} {report.redaction.anonymized}",
    ]
    return dataclasses.replace(report, identifier=hashlib.sha256("\n".join(said).encode()).hexdigest()[:16])


class _Builder:
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._locator = FrameLocator(analysis.captures)
        far_end = analysis.far_end
        self.far_captures = far_end.captures if far_end is not None else ()
        self._far_locator = FrameLocator(self.far_captures)
        self._proofs = far_end.proofs if far_end is not None else {}
        self._capture_idx = analysis.connections["capture_idx"]
        self._log_lines = lines_by_try(analysis.log)
        retries = analysis.log.retries if analysis.log is not None else ()
        self._saved = {r.wire.key for r in retries if 0 < r.access.status < _SERVER_ERROR}
        self._cut_in_head = {
            (loss.connection.conn, loss.depth)
            for loss in analysis.truncated
            if not loss.is_head_whole or loss.status_code >= _SERVER_ERROR
        }
        self._failures = {(loss.connection.conn, loss.depth) for loss in (*analysis.losses, *analysis.truncated)}

    def capture(self, idx: int, capture: Capture) -> CaptureSummary:
        points = self._analysis.capture_points
        point = points[idx] if idx < len(points) else CapturePoint.UNKNOWN
        return self._capture(capture, point, tuple(self.note(idx, n) for n in capture.notes))

    def far_capture(self, idx: int, capture: Capture) -> CaptureSummary:
        notes = tuple(self.note(idx, n, self._far_locator) for n in capture.notes)
        return dataclasses.replace(self._capture(capture, CapturePoint.UPSTREAM, notes), end=UPSTREAM)

    def far_notes(self) -> Iterator[ReportNote]:
        far_end = self._analysis.far_end
        yield from (self.note(0, n) for n in (far_end.notes if far_end is not None else ()))

    def _capture(self, capture: Capture, point: CapturePoint, notes: tuple[ReportNote, ...]) -> CaptureSummary:
        files = capture.files
        times = [t for f in files for t in (f.first_ts_ns, f.last_ts_ns) if t >= 0]
        drops = [f.dropped for f in files if f.dropped >= 0]
        return CaptureSummary(
            paths=tuple(f.path for f in files),
            format=", ".join(dict.fromkeys(f.format for f in files if f.format)),
            link_types=tuple(sorted({t for f in files for t in f.link_types})),
            frames=sum(f.n_frames for f in files),
            bytes=sum(f.n_bytes for f in files),
            first_ts_ns=min(times, default=-1),
            last_ts_ns=max(times, default=-1),
            capture_point=point,
            dropped=sum(drops) if drops else -1,
            notes=notes,
        )

    def log(self, findings: Iterable[Finding], verdicts: Iterable[Verdict]) -> LogSummary:
        if self._analysis.log is None:
            return LogSummary()

        def locate(conn: int, frame: int) -> tuple[str, int]:
            return self._locator.locate(int(self._capture_idx[conn]), frame)

        return build_log(self._analysis.log, findings, verdicts, locate)

    def note(self, capture_idx: int, note: Note, locator: FrameLocator | None = None) -> ReportNote:
        locator = locator or self._locator
        path, frame = ("", -1) if note.frame < 0 else locator.locate(capture_idx, note.frame)
        return ReportNote(note.code, note.text, frame, note.offset, path or note.file)

    def finding(self, finding: Finding, shown: Finding) -> FindingDetail:
        """Return a finding with the occurrences of `shown`."""
        failures = (o.stands_for for o in finding.occurrences if (o.conn, o.depth) in self._failures)
        unserved = (o.stands_for for o in finding.occurrences if self._has_failed_client(finding, (o.conn, o.depth)))
        return taken_over(
            FindingDetail,
            finding,
            # A retried try has its cause elsewhere.
            failures=sum(failures) if finding.facts.role is not Role.RETRIED else 0,
            occurrences=tuple(self._occurrence(o) for o in shown.occurrences),
            role=finding.facts.role,
            exposure=finding.facts.exposure,
            effect=finding.facts.effect,
            unserved=sum(unserved) if finding.facts.role is Role.CAUSE else 0,
        )

    def _has_failed_client(self, finding: Finding, key: tuple[int, int]) -> bool:
        """Tell whether a client had an error, or nothing, after a try that a finding explains."""
        if key in self._saved:
            return False
        if finding.facts.effect is Effect.ANSWERED:
            return True
        if finding.facts.effect is Effect.CUT_OFF:
            return key in self._cut_in_head
        return key in self._failures

    def _occurrence(self, occurrence: Occurrence) -> OccurrenceDetail:
        capture_idx = int(self._capture_idx[occurrence.conn]) if occurrence.conn >= 0 else 0
        capture, request_frame = self._locator.locate(capture_idx, occurrence.request_frame)
        closing_capture, closing_frame = self._locator.locate(capture_idx, occurrence.closing_frame)
        evidence = tuple(self._evidence(capture_idx, e) for e in occurrence.evidence)
        if not capture and evidence:
            capture = evidence[0].capture
        proof = self._proofs.get((occurrence.conn, occurrence.depth))
        far = far_frames(proof, evidence, self._far_locator.locate) if evidence else ()
        return taken_over(
            OccurrenceDetail,
            occurrence,
            capture=capture,
            request_frame=request_frame,
            closing_frame=closing_frame,
            closing_capture=closing_capture,
            display_filter=_display_filter(capture, request_frame, evidence),
            log_lines=(
                *self._log_lines.get((occurrence.conn, occurrence.depth), ()),
                *occurrence.log_lines,
            ),
            evidence=(*evidence, *far),
            far_end=build_proof(proof),
        )

    def _evidence(self, capture_idx: int, evidence: Evidence) -> EvidenceFrame:
        capture, frame = self._locator.locate(capture_idx, evidence.frame)
        direction, flags = Direction(evidence.dir), flag_names(evidence.flags)
        return taken_over(EvidenceFrame, evidence, frame=frame, capture=capture, dir=direction, flags=flags)


def _display_filter(capture: str, request_frame: int, evidence: tuple[EvidenceFrame, ...]) -> str:
    """Return the Wireshark filter that selects the evidence in the request's file (frames of other files: none)."""
    frames = {e.frame for e in evidence if e.capture == capture and e.frame > 0}
    if request_frame > 0:
        frames.add(request_frame)
    return f"frame.number in {{{', '.join(map(str, sorted(frames)))}}}" if frames else ""


def _upstream(upstream: Upstream, density: RaceDensity | None) -> UpstreamSummary:
    timeout = upstream.idle_timeout
    return taken_over(
        UpstreamSummary,
        upstream,
        endpoint=str(upstream.endpoint),
        name="",
        rtt_ns=Rtt(upstream.rtt_min_ns, upstream.rtt_p50_ns, upstream.rtt_p99_ns),
        idle_timeout_ns=IdleTimeoutSummary(-1, -1, 0, None, ())
        if timeout is None
        else IdleTimeoutSummary(
            timeout.value_ns, timeout.spread_ns, timeout.samples, Confidence(timeout.confidence), timeout.named_as
        ),
        losses_per_day=density.per_day() if density is not None else None,
    )
