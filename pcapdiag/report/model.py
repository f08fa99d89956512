"""`Report`: what an analysis says, as plain data in the words of the JSON contract (docs/json.md).

Field names here are the names in JSON; nothing is renamed on the way out. Frames are 1-based within the file named by
`capture`, as Wireshark shows them. No index and no time are `-1`, as in every table. Nothing here depends on the clock,
the machine or the order of a set: the same input gives the same report, byte for byte.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from pcapdiag.codes import CapturePoint, Direction
from pcapdiag.conf.describe import SettingRow  # noqa: TC001 - with those below
from pcapdiag.correlate.ledger import EntryVerdict, WireVerdict  # noqa: TC001 - with the next
from pcapdiag.findings import Change, Confidence, Severity, VerdictKind  # noqa: TC001 - docs/generate.py reads the types
from pcapdiag.report.escape import storable
from pcapdiag.units import format_ts_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Tool:
    """Which program wrote the report."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that was read; `bytes` is its size as stored, `sha256` empty for a pipe."""

    path: str
    kind: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ReportNote:
    """The input is odd: `frame` within `capture`, `offset` in bytes in that file; -1 and empty where not known."""

    code: str
    text: str
    frame: int
    offset: int
    capture: str


@dataclass(frozen=True, slots=True)
class CaptureSummary:
    """One capture: a file, or the files of a rotation series in time order."""

    paths: tuple[str, ...]
    format: str
    link_types: tuple[int, ...]
    frames: int
    bytes: int
    first_ts_ns: int
    last_ts_ns: int
    capture_point: CapturePoint
    dropped: int
    notes: tuple[ReportNote, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted; `unanswered` includes `failed_connects`, connection attempts that came to nothing.

    Truncated responses began and were cut off: their requests are not unanswered.
    """

    frames: int
    undecoded_frames: int
    connections: int
    exchanges: int
    unanswered: int
    failed_connects: int
    truncated: int
    retransmissions: int


@dataclass(frozen=True, slots=True)
class Rtt:
    """[ns] Round-trip time at the capture point."""

    min: int
    p50: int
    p99: int


@dataclass(frozen=True, slots=True)
class IdleTimeoutSummary:
    """Idle timeout as measured: `value` and `spread` in ns, -1 when nothing was measured."""

    value: int
    spread: int
    samples: int
    confidence: Confidence | None
    named_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpstreamSummary:
    """One upstream endpoint and what the capture says of it."""

    endpoint: str
    name: str
    connections: int
    exchanges: int
    unanswered: int
    reused: int
    rtt_ns: Rtt
    server_field: str
    idle_timeout_ns: IdleTimeoutSummary
    requests_per_connection_limit: int
    race_window_ns: tuple[int, int]
    near_misses: int
    longest_answered_gap_ns: int
    idle_closes_by_upstream: int
    idle_closes_by_proxy: int
    proxy_idle_close_ns: int


@dataclass(frozen=True, slots=True)
class EvidenceFrame:
    """One frame of the proof; `rel_seq` and `rel_ack` are relative to the stream."""

    frame: int
    capture: str
    ts_ns: int
    dir: Direction
    flags: tuple[str, ...]
    seq: int
    ack: int
    rel_seq: int
    rel_ack: int
    payload_len: int
    ttl: int
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class OccurrenceDetail:
    """One request that was lost, or one place where the trouble showed."""

    uid: str
    orig: str
    resp: str
    depth: int
    capture: str
    request_frame: int
    request_ts_ns: int
    idle_before_ns: int
    method: str
    target: str
    host: str
    request_id: str
    closing_frame: int
    closing_kind: str
    closing_capture: str
    display_filter: str
    log_lines: tuple[str, ...]
    evidence: tuple[EvidenceFrame, ...]


@dataclass(frozen=True, slots=True)
class FindingDetail:
    """One root cause, with every request it explains.

    Of its `count` occurrences, `failures` are unanswered requests or truncated responses that have this cause; the
    others are risks or signs. `changes` is what the remedy changes in the configuration that was given.
    """

    code: str
    name: str
    title: str
    severity: Severity
    confidence: Confidence
    subject: str
    message: str
    identifier: str
    count: int
    failures: int
    first_ts_ns: int
    last_ts_ns: int
    refuted_by: str
    remedy: str
    details: dict[str, Any]
    occurrences: tuple[OccurrenceDetail, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A rule's verdict on the whole input; `reason` is never empty when it was not evaluated."""

    code: str
    verdict: VerdictKind
    reason: str


@dataclass(frozen=True, slots=True)
class LogEntryDetail:
    """One entry of the error log that concerns an upstream.

    `ts_ns` is its stamp in UTC by the log's own clock; `request_frame` the request that it tells of, `candidates` the
    frames of all that it may tell of.
    """

    path: str
    line: int
    ts_ns: int
    level: str
    pid: int
    log_conn: int
    kind: str
    message: str
    request: str
    upstream: str
    verdict: EntryVerdict
    reason: str
    code: str
    uid: str
    depth: int
    capture: str
    request_frame: int
    confidence: Confidence
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LogFailure:
    """One failed try on the wire, and whether the error log tells of it."""

    uid: str
    depth: int
    capture: str
    request_frame: int
    code: str
    verdict: WireVerdict
    log_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogSummary:
    """How log entries were joined with the capture; offsets are null while no pair of entry and exchange exists."""

    clock_offset_ns: int | None = None
    clock_offset_width_ns: int | None = None
    zone_offset_s: int | None = None
    pairs: int = 0
    conflicts: int = 0
    entries: tuple[LogEntryDetail, ...] = ()
    failures: tuple[LogFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a renderer may show.

    Attributes
    ----------
    findings : tuple of FindingDetail
        In the order in which they are to be read.
    settings : tuple of SettingRow
        What the findings rest on of the proxy's configuration; empty if it was not given.
    """

    schema_version: int
    tool: Tool
    inputs: tuple[InputFile, ...]
    captures: tuple[CaptureSummary, ...]
    totals: Totals
    upstreams: tuple[UpstreamSummary, ...]
    findings: tuple[FindingDetail, ...]
    verdicts: tuple[RuleVerdict, ...]
    log: LogSummary = field(default_factory=LogSummary)
    notes: tuple[ReportNote, ...] = ()
    settings: tuple[SettingRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready dicts and lists, absolute times in ISO 8601 beside their nanoseconds."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def to_plain(value: Any) -> Any:
    """Return a value of the report as JSON has it: dataclasses as dicts, enumerations by their names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(_fields(value))
    if isinstance(value, CapturePoint):
        return _CAPTURE_POINT[value]
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): to_plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(value):
        content = getattr(value, item.name)
        yield item.name, to_plain(content)
        if item.name == "ts_ns" or item.name.endswith("_ts_ns"):
            yield item.name.removesuffix("_ns"), format_ts_ns(content) if content >= 0 else None


# The contract knows two ends; a mirror port between them is neither.
_CAPTURE_POINT = {
    CapturePoint.UNKNOWN: "unknown",
    CapturePoint.PROXY: "proxy",
    CapturePoint.UPSTREAM: "upstream",
    CapturePoint.BETWEEN: "unknown",
}
