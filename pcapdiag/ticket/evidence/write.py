"""Writes the evidence capture: a pcapng of the frames that prove the findings, each key frame with what it proves.

Knows the order of the work; how frames are chosen, read again, made fit to leave and written is known to its
neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Final

from pcapdiag.base.codes import Protocol
from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import count_of
from pcapdiag.engine.capture.pcapng_writer import Interface, Packet, PcapngWriter
from pcapdiag.privacy.redact import Redactor
from pcapdiag.privacy.secret import CUT_PAYLOAD
from pcapdiag.report.model import Masked
from pcapdiag.report.summary import brief
from pcapdiag.ticket.evidence.rewrite import anonymous_link_type, rewrite_frame
from pcapdiag.ticket.evidence.selection import SAMPLES, select_frames
from pcapdiag.ticket.evidence.spool import read_endpoints, reject_pipes, spool_frames
from pcapdiag.ticket.evidence.streams import StreamReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.report.model import Report
    from pcapdiag.ticket.evidence.selection import Comment, Selection
    from pcapdiag.ticket.evidence.spool import Spool, SpooledFrame

_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_USUAL_NAME: Final = re.compile(
    rb"(?:eth|en[opsx]?|lo|any|bond|wlan|wl[ops]?|br|tun|tap|veth|docker|utun)[0-9a-z]{0,8}"
)
_ONLY_DIGITS: Final = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class EvidenceFrameRef:
    """A frame of the evidence: its number there, and its number in its file; both from 1."""

    frame: int
    capture: str
    original_frame: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class OccurrencesHeld:
    """How many occurrences of a finding the evidence holds, where of very many only some were judged."""

    code: str
    held: int
    in_all: int

    def __str__(self) -> str:
        """Return it as it is told."""
        return f"{self.held:,} of {self.in_all:,} of {self.code}"


@dataclass(frozen=True, slots=True)
class EvidenceSummary:
    """What an evidence capture holds.

    Attributes
    ----------
    codes : tuple of str
        Codes of the findings it proves.
    frames : tuple of EvidenceFrameRef
        All frames, in order.
    masked : tuple of Masked
        What was masked or cut.
    redacted, anonymized : bool
        What was done to it.
    left_out : int
        Frames of the chosen connections that were too many.
    parts : tuple of OccurrencesHeld
        Findings of which it holds a part.
    lost, showing : int
        Of the connections, how many have a request that a finding names, and how many show an idle timeout: nothing was
        lost on those.
    """

    identifier: str
    codes: tuple[str, ...]
    connections: int
    frames: tuple[EvidenceFrameRef, ...]
    masked: tuple[Masked, ...]
    redacted: bool
    anonymized: bool
    left_out: int
    parts: tuple[OccurrencesHeld, ...] = ()
    lost: int = 0
    showing: int = 0

    @property
    def display_filter(self) -> str:
        """Wireshark filter that selects the key frames in the evidence."""
        return "frame.comment"


def write_evidence(
    out: IO[bytes],
    analysis: Analysis,
    report: Report,
    findings: Sequence[Finding],
    *,
    uids: Sequence[str] = (),
    frames: Iterable[tuple[int, int]] = (),
    redact: bool = True,
    anonymizer: Anonymizer | None = None,
    keep_bodies: bool = False,
    n_samples: int = SAMPLES,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> EvidenceSummary:
    """Write the frames that prove the findings; reads the captures a second time.

    Parameters
    ----------
    out : binary file
        Where to; nothing is written before the captures were read.
    analysis : Analysis
        All tables of the run.
    report : Report
        The report that this is the evidence of.
    findings : sequence of Finding
        What is to be proved.
    uids : sequence of str
        Further connections to keep, whole.
    frames : iterable of (int, int)
        Further frames to keep, by capture and 0-based frame.
    redact : bool
        Whether secrets are masked and payloads cut.
    anonymizer : Anonymizer, optional
        Gives other addresses and names; it knows those of the report already.
    keep_bodies : bool
        Whether the bodies of HTTP messages are kept.
    n_samples : int
        How many connections of each upstream to keep that each end closed while idle.
    on_progress : callable, optional
        Called with bytes done, bytes in total and frames.

    Returns
    -------
    EvidenceSummary

    Raises
    ------
    CaptureError
        A file cannot be read again.
    UsageError
        A capture is a pipe, there is no such connection, or bodies are to be kept in what is to be anonymous.
    """
    if keep_bodies and anonymizer is not None:
        msg = "bodies name machines and people: leave out either --keep-bodies or --anonymize"
        raise UsageError(msg)
    reject_pipes(analysis.captures)
    asked = set(frames)
    endpoints = read_endpoints(analysis.captures, asked)
    further = {f: endpoints.get(f) for f in sorted(asked)}
    selection = select_frames(analysis, findings, uids=uids, frames=further, n_samples=n_samples)
    spool = spool_frames(analysis.captures, selection, on_progress)
    try:
        evidence = _Evidence(analysis, report, findings, selection, spool, Redactor(active=redact), anonymizer)
        return evidence.write(out, keep_bodies=keep_bodies)
    finally:
        spool.close()


class _Evidence:
    """One evidence capture on its way out."""

    def __init__(
        self,
        analysis: Analysis,
        report: Report,
        findings: Sequence[Finding],
        selection: Selection,
        spool: Spool,
        redactor: Redactor,
        anonymizer: Anonymizer | None,
    ) -> None:
        self._redactor = redactor
        self._anonymizer = anonymizer
        self._analysis = analysis
        self._report = report
        self._findings = findings
        self._selection = selection
        self._spool = spool
        self._numbers: dict[tuple[int, int], int] = {}
        for number, frame in enumerate(spool, 1):
            self._numbers[frame.capture_idx, frame.frame] = number

    def write(self, out: IO[bytes], *, keep_bodies: bool) -> EvidenceSummary:
        writer = PcapngWriter(
            out,
            application=f"{self._report.tool.name} {self._report.tool.version}",
            comment=self._section_comment(),
            interfaces=[self._interface(number) for number in range(len(self._spool.sources))],
            names=self._names(),
        )
        streams = self._read_streams(keep_bodies=keep_bodies)
        kept = []
        for number, frame in enumerate(self._spool, 1):
            comments = self._comments(frame)
            original = self._original_number(frame)
            link_type = self._spool.sources[frame.source].interface.link_type
            writer.write(
                Packet(
                    interface=frame.source,
                    ts_ns=frame.ts_ns,
                    data=self._fit_to_leave(frame, link_type, streams),
                    wire_len=frame.wire_len,
                    packet_id=original,
                    direction=frame.direction,
                    comments=comments,
                )
            )
            kept.append(EvidenceFrameRef(number, self._file_name(frame), original, bool(comments)))
        return EvidenceSummary(
            identifier=self._report.identifier,
            codes=self._selection.codes,
            connections=len(self._selection.connections),
            frames=tuple(kept),
            masked=tuple(Masked(*counted) for counted in self._redactor.counts),
            redacted=self._redactor.active,
            anonymized=self._anonymizer is not None,
            left_out=self._spool.n_left_out,
            parts=_parts(self._findings),
            lost=len(self._selection.lost & set(self._selection.connections)),
            showing=self._n_showing,
        )

    def _read_streams(self, *, keep_bodies: bool) -> dict[int, StreamReader]:
        """Read what the kept frames say, to know what of it may be shown."""
        if not self._redactor.active:
            return {}
        streams = {
            conn: StreamReader(kept, self._redactor, anonymizer=self._anonymizer, keep_bodies=keep_bodies)
            for conn, kept in self._selection.connections.items()
        }
        for frame in self._spool:
            if frame.conn >= 0 and frame.payload_at >= 0:
                streams[frame.conn].feed(frame)
        for stream in streams.values():
            stream.finish()
        return streams

    def _fit_to_leave(self, frame: SpooledFrame, link_type: int, streams: dict[int, StreamReader]) -> bytes:
        if not self._redactor.active:
            return frame.data
        payload = streams[frame.conn].shown(frame) if frame.conn >= 0 and frame.payload_at >= 0 else b""
        n_cut = frame.payload_cap - len(payload)
        if n_cut > 0:
            self._redactor.count(CUT_PAYLOAD, self._protocol(frame), n_cut)
        return rewrite_frame(frame, link_type, payload, self._anonymizer)

    def _protocol(self, frame: SpooledFrame) -> str:
        if frame.conn < 0:
            return ""
        return Protocol(int(self._selection.connections[frame.conn].row["protocol"])).name.lower()

    def _section_comment(self) -> str:
        tool = self._report.tool
        lines = [
            f"Evidence of report {self._report.identifier} by {tool.name} {tool.version}.",
            *(self._told(f"{f.code} {f.name}: {f.message}") for f in self._findings),
            *(f"It holds a part: {part}; those that it lacks are like them." for part in _parts(self._findings)),
            self._what_it_holds(),
            self._what_was_done(),
            "Key frames have comments (display filter: frame.comment).",
            "frame.packet_id is a frame's number in the file that its interface is described by.",
        ]
        return "\n".join(lines)

    def _what_it_holds(self) -> str:
        """Return how many connections have lost requests and how many show T: those that were quiet are no failures."""
        selection = self._selection
        n_lost = len(selection.lost & set(selection.connections))
        n_others = len(selection.connections) - n_lost - self._n_showing
        parts = [
            f"{count_of(n_lost, 'connection')} with what the findings name",
            f"{count_of(self._n_showing, 'connection')} that nothing was lost on, to show T" if self._n_showing else "",
            f"{count_of(n_others, 'other')}" if n_others else "",
        ]
        return f"It holds {', '.join(part for part in parts if part)}."

    @property
    def _n_showing(self) -> int:
        return sum(shown.shows_t for shown in self._selection.samples.values())

    def _what_was_done(self) -> str:
        if not self._redactor.active:
            return "NOT REDACTED: every byte as captured."
        addresses = ", addresses and names of machines replaced" if self._anonymizer is not None else ""
        return f"Secrets in HTTP heads masked byte for byte, payloads cut off{addresses}; checksums made to agree."

    def _told(self, text: str) -> str:
        """Return a text as it may be told."""
        text = self._redactor.text(text)
        return text if self._anonymizer is None else self._anonymizer.text(text)

    def _interface(self, number: int) -> Interface:
        source = self._spool.sources[number]
        described = source.interface
        return Interface(
            link_type=described.link_type if self._anonymizer is None else anonymous_link_type(described.link_type),
            snaplen=described.snaplen,
            time_digits=described.time_digits,
            name=described.name if self._anonymizer is None or _USUAL_NAME.fullmatch(described.name) else b"",
            description=self._told(PurePath(source.path).name),
        )

    def _names(self) -> list[tuple[str, str]]:
        """Return the addresses of upstreams that are asked for under one name only, and no other upstream under it."""
        hosts: dict[str, set[str]] = {}
        for loss in (*self._analysis.losses, *self._analysis.truncated):
            name = loss.host.rpartition("@")[2].partition(":")[0].lower()
            if _HOST.fullmatch(name) and not _ONLY_DIGITS.fullmatch(name):
                hosts.setdefault(loss.connection.resp.address, set()).add(name)
        alone = {address: next(iter(names)) for address, names in hosts.items() if len(names) == 1}
        names = [(a, n) for a, n in alone.items() if list(alone.values()).count(n) == 1]
        if self._anonymizer is not None:
            names = [(self._anonymizer.text(a), self._anonymizer.name(n)) for a, n in names]
        return sorted(names)

    def _comments(self, frame: SpooledFrame) -> tuple[str, ...]:
        place = frame.capture_idx, frame.frame
        told = [self._comment(frame, comment) for comment in self._selection.comments.get(place, ())]
        shown = self._selection.samples.get(place)
        if shown is not None:
            text = f"closed by the {'upstream' if shown.is_by_upstream else 'proxy'} after {brief(shown.idle_ns)} idle"
            text += ": shows T" if shown.shows_t else ""
            told.append(self._told(f"{text}. Frame {self._original_number(frame)} of {self._file_name(frame)}."))
        return tuple(told)

    def _comment(self, frame: SpooledFrame, comment: Comment) -> str:
        what = f"request {comment.depth + 1}" if comment.depth >= 0 else "connection attempt"
        text = f"{comment.code}, {what}, {comment.label}: {comment.text}."
        closing = self._numbers.get((frame.capture_idx, comment.closing_frame), -1)
        if comment.is_request and closing > 0 and comment.closing_frame != frame.frame:
            text += f" The {comment.closing_kind} is frame {closing}."
        return self._told(f"{text} Frame {self._original_number(frame)} of {self._file_name(frame)}.")

    def _original_number(self, frame: SpooledFrame) -> int:
        return frame.frame - self._spool.sources[frame.source].first_frame + 1

    def _file_name(self, frame: SpooledFrame) -> str:
        return PurePath(self._spool.sources[frame.source].path).name


def _parts(findings: Sequence[Finding]) -> tuple[OccurrencesHeld, ...]:
    """Return the findings of which some occurrences stand for others, whose packets are not among the evidence."""
    held: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for finding in findings:
        packets = [occurrence for occurrence in finding.occurrences if occurrence.conn >= 0]
        held[finding.code] += len(packets)
        in_all[finding.code] += sum(occurrence.stands_for for occurrence in packets)
    return tuple(OccurrencesHeld(code, n, in_all[code]) for code, n in held.items() if n < in_all[code])
