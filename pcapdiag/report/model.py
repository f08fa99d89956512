"""`Report`: what an analysis says, as plain data in the words of the JSON contract (docs/json.md).

Field names here are the names in JSON; nothing is renamed on the way out, and only what is the rule's stays behind.
Frames are 1-based within the file named by `capture`, as Wireshark shows them. No index and no time are `-1`, as in
every table. Nothing here depends on the clock, the machine or the order of a set: the same input gives the same report,
byte for byte.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from pcapdiag.analysis.far_end import Delay, ProofKind  # noqa: TC001 - docs/generate.py reads the types
from pcapdiag.base.codes import CapturePoint, Direction
from pcapdiag.base.findings import Change, Confidence, Effect, Exposure, Role, Severity, VerdictKind
from pcapdiag.base.rates import PerDay  # noqa: TC001 - with the first
from pcapdiag.base.units import format_ts_ns
from pcapdiag.privacy.escape import storable
from pcapdiag.proxy.conf.describe import SettingRow  # noqa: TC001 - with the first
from pcapdiag.proxy.join.ledger import EntryVerdict, WireVerdict  # noqa: TC001 - with the first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA_VERSION = 1
_OF_THE_RULE = {"in_json": False}
_MOST_ENTRIES = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tool:
    """Which program wrote the report."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that was read; `bytes` is its size as stored; `sha256` is null unless it was asked for."""

    path: str
    kind: str
    bytes: int
    sha256: str | None


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
    """One capture: a file, or the files of a rotation series in time order.

    Captures of the far end (`--upstream-capture`) follow those of the proxy; their `end` and their `capture_point` are
    ``upstream``, and their times are of that end's own clock.
    """

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
    end: str = "proxy"


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted; `unanswered` includes `failed_connects`, connection attempts that came to nothing.

    Truncated responses began and were cut off: their requests are not unanswered. `turns` are those exchanges with
    upstreams whose messages are not read, but told apart by turns of bytes (TLS and others), `pending` those whose
    response was still coming when the capture ended. `still_open` of `unanswered` were less than a second old when the
    capture ended, and nothing spoke against an answer. What only the far end's captures hold is not counted.
    """

    frames: int
    undecoded_frames: int
    connections: int
    exchanges: int
    unanswered: int
    failed_connects: int
    truncated: int
    retransmissions: int
    turns: int = 0
    pending: int = 0
    still_open: int = 0


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
    """One upstream endpoint and what the capture says of it.

    `longest_gap_ns` is the longest idle gap before any request, answered or not; the handshakes of the `opened`
    connections that were seen to open took `handshake_ns` together. `losses_per_day` is how many requests the
    idle-close race will take per day, with its 95 % interval; null where too little was watched.
    """

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
    longest_gap_ns: int = -1
    opened: int = 0
    handshake_ns: int = 0
    losses_per_day: PerDay | None = None


@dataclass(frozen=True, slots=True)
class EvidenceFrame:
    """One frame of the proof; `rel_seq` and `rel_ack` are relative to the stream.

    `end` says whose capture holds it: ``proxy`` or ``upstream``. `ts_ns` is of that capture's own clock;
    `clock_offset_ns` is that clock minus the proxy's, null if it is not known: `ts_ns - clock_offset_ns` is the time
    by the proxy's clock.
    """

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
    end: str = "proxy"
    clock_offset_ns: int | None = 0


@dataclass(frozen=True, slots=True)
class FarEndProof:
    """What the captures of both ends together prove of one lost request, and the proof in one sentence.

    `lead_ns` is measured at the upstream, by its own clock: so long before the request's arrival its closing had left
    (negative: after the arrival); null where one of the two is missing. `is_certain`: nothing that the captures lack
    could refute it.
    """

    kind: ProofKind
    text: str
    lead_ns: int | None
    is_certain: bool


@dataclass(frozen=True, slots=True)
class OccurrenceDetail:
    """One request that was lost, or one place where the trouble showed.

    Of `evidence`, the frames whose `end` is ``upstream`` come from the captures of `--upstream-capture`; `far_end` is
    null where none was given. `upstream_log` says what the application's own log has of the request. Where occurrences
    are very many, each listed one `stands_for` so many of the finding's `count`, itself included.
    """

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
    far_end: FarEndProof | None = None
    upstream_log: str = ""
    stands_for: int = 1
    sides: tuple[str, str] = field(default=("proxy", "upstream"), metadata=_OF_THE_RULE)


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
    role: Role = field(default=Role.CAUSE, metadata=_OF_THE_RULE)
    exposure: Exposure = field(default=Exposure.REQUEST, metadata=_OF_THE_RULE)
    effect: Effect = field(default=Effect.FAILS, metadata=_OF_THE_RULE)
    unserved: int = field(default=0, metadata=_OF_THE_RULE)
    # Occurrences after which a client had an error, or nothing: no retry answered it, and it had no status before.


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A rule's verdict on the whole input; `reason` is never empty when it was not evaluated."""

    code: str
    verdict: VerdictKind
    reason: str
    role: Role = field(default=Role.CAUSE, metadata=_OF_THE_RULE)


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
class EntryCount:
    """How many log entries of one kind, about one upstream and with one verdict, are not listed one by one."""

    kind: str
    upstream: str
    verdict: EntryVerdict
    count: int


@dataclass(frozen=True, slots=True)
class LogSummary:
    """How log entries were joined with the capture; offsets are null while no pair of entry and exchange exists.

    A clock is not `is_certain` if too little fits at its offset, or as much at another: then it explains nothing.
    `errors_read` counts the records of the error logs that were understood, about upstreams or not; -1 where none was
    given. In JSON, beyond 10,000 `entries`, the counts in `entries_left_out` stand for the rest.
    """

    clock_offset_ns: int | None = None
    clock_offset_width_ns: int | None = None
    zone_offset_s: int | None = None
    pairs: int = 0
    conflicts: int = 0
    is_certain: bool = True
    entries: tuple[LogEntryDetail, ...] = ()
    failures: tuple[LogFailure, ...] = ()
    errors_read: int = -1
    entries_left_out: tuple[EntryCount, ...] = ()

    def shortened(self) -> LogSummary:
        """Return the same with entries that were listed for long enough, and counts of the others."""
        rest = self.entries[_MOST_ENTRIES:]
        if not rest:
            return self
        counts = Counter((e.kind, e.upstream.rpartition("://")[2].partition("/")[0], e.verdict) for e in rest)
        left_out = tuple(EntryCount(*key, n) for key, n in counts.most_common())
        return dataclasses.replace(self, entries=self.entries[:_MOST_ENTRIES], entries_left_out=left_out)


@dataclass(frozen=True, slots=True)
class FarClock:
    """Clock of one upstream's capture against the proxy's: `clock_offset_ns` is the upstream's minus the proxy's.

    The true offset lies within half of `clock_offset_width_ns` of it, whatever the delays are; both are null if no
    offset fits all `pairs` of segments (`is_consistent` is false then), or if only one direction was seen. With a
    drift (`drift_ppb`, ns per second) the offset holds at `origin_ts_ns`. The delays are one-way, under the assumption
    that the shortest way takes as long in both directions.
    """

    capture: str
    upstream_capture: str
    upstream: str
    clock_offset_ns: int | None
    clock_offset_width_ns: int | None
    drift_ppb: int
    origin_ts_ns: int
    pairs: int
    is_consistent: bool
    delay_to_upstream_ns: Delay | None
    delay_to_proxy_ns: Delay | None


@dataclass(frozen=True, slots=True)
class FarEndSummary:
    """What the captures of the upstreams' end add (`--upstream-capture`).

    `joined` connections were seen at both ends, `translated` of them with other addresses or ports (NAT);
    `only_proxy` are those that an upstream's capture should hold and does not, `not_covered` those to upstreams or at
    times that none covers, `ambiguous` those that fit several, `renumbered` those whose sequence numbers something on
    the way rewrites. `lost_to_upstream` and `lost_to_proxy` count transmissions that left one end and never reached
    the other; `missed_by_proxy` and `missed_by_upstream` segments that passed an end and are not in its capture.
    Offset, width and delays span all `clocks`; they are null where there is none or one of them fits no offset.
    `totals`, `upstreams` and all counts of findings are those of the proxy's captures alone.
    """

    joined: int
    only_proxy: int
    only_upstream: int
    not_covered: int
    ambiguous: int
    renumbered: int
    translated: int
    lost_to_upstream: int
    lost_to_proxy: int
    missed_by_proxy: int
    missed_by_upstream: int
    clock_offset_ns: int | None
    clock_offset_width_ns: int | None
    pairs: int
    delay_to_upstream_ns: Delay | None
    delay_to_proxy_ns: Delay | None
    clocks: tuple[FarClock, ...]
    proofs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Masked:
    """What was masked: `kind` in words (``query value``), `name` of the parameter or field, how often."""

    kind: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was kept back from this report; a report that is not `redacted` says so in every format.

    `anonymized` reports have other addresses and host names than the captures; the same for the same ones.
    """

    redacted: bool
    anonymized: bool = False
    masked: tuple[Masked, ...] = ()


@dataclass(frozen=True, slots=True)
class Impact:
    """What clients noticed in the time of the capture; -1 where it is not known, and why in `unknown`.

    `source` is ``access_log``, ``client_leg`` (the clients' connections in the capture) or empty. `failures` are
    requests that got a status of 500 or above, or no answer; `gave_up` those whose client left first (499);
    `hidden_by_retries` those that were answered after a try had failed. `failing_s` counts the seconds in which a
    request failed, `unavailable_s` those in which every request that ended failed.
    """

    source: str = ""
    requests: int = -1
    failures: int = -1
    gave_up: int = -1
    hidden_by_retries: int = -1
    failing_s: int = -1
    unavailable_s: int = -1
    unknown: str = ""
    # Failures that the access log has of another time than the capture; not among `failures`.
    failures_beyond: int = field(default=0, metadata=_OF_THE_RULE)
    # Tries at upstreams in the capture before the first and after the last line of the access log.
    tries_unlogged: int = field(default=0, metadata=_OF_THE_RULE)


@dataclass(frozen=True, slots=True)
class Incident:
    """What happened at one moment at one upstream, as one: the findings named by `identifiers` keep their counts."""

    start_ts_ns: int
    end_ts_ns: int
    endpoints: tuple[str, ...]
    identifiers: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a renderer may show.

    Attributes
    ----------
    findings : tuple of FindingDetail
        In the order in which they are to be read.
    settings : tuple of SettingRow
        What the findings rest on of the proxy's configuration; empty if it was not given.
    identifier : str
        The same for the same input and options; the evidence capture names it.
    has_proxy : bool
        Whether anything in the capture or the options says that a proxy stands here; without, proxy and upstream are
        called client and server.
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
    far_end: FarEndSummary | None = None
    identifier: str = ""
    redaction: Redaction = Redaction(redacted=True)
    impact: Impact = Impact()
    has_proxy: bool = True
    incidents: tuple[Incident, ...] = ()
    lists_all: bool = field(default=False, metadata=_OF_THE_RULE)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready dicts and lists, absolute times in ISO 8601 beside their nanoseconds."""
        report = self if self.lists_all else dataclasses.replace(self, log=self.log.shortened())
        plain: dict[str, Any] = to_plain(report)
        return plain


# Nine of ten values of a report with many occurrences: asked first.
_PLAIN = frozenset({int, bool, float})


def to_plain(value: Any) -> Any:
    """Return a value of the report as JSON has it: dataclasses as dicts, enumerations by their names."""
    if value is None or value.__class__ in _PLAIN:
        return value
    if value.__class__ is str:
        return storable(value)
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


def taken_over(reported: Callable[..., _T], source: Any, **others: Any) -> _T:
    """Return a dataclass as the report has it: fields of one name are taken over, but for `others`."""
    names, read = _shared(reported, source.__class__)
    return reported(**dict(zip(names, read(source), strict=False)) | others)


@cache
def _shared(a: Any, b: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of the fields that two dataclasses share, and what reads them all."""
    first, second = ({item.name for item in dataclasses.fields(cls)} for cls in (a, b))
    names = tuple(first & second)
    return names, attrgetter(*names, "__class__")  # one more, for there must be two for a tuple


def json_fields(cls: Any) -> Iterator[dataclasses.Field[Any]]:
    """Yield the fields of a dataclass, or of an instance, that JSON has."""
    return (item for item in dataclasses.fields(cls) if item.metadata.get("in_json", True))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for name, time_name in _json_names(value.__class__):
        content = getattr(value, name)
        yield name, to_plain(content)
        if time_name:
            yield time_name, format_ts_ns(content) if content >= 0 else None


@cache
def _json_names(cls: Any) -> tuple[tuple[str, str], ...]:
    """Return the names of fields that JSON has; behind an absolute time's that of its text."""
    names = (item.name for item in json_fields(cls))
    return tuple((n, n.removesuffix("_ns") if n == "ts_ns" or n.endswith("_ts_ns") else "") for n in names)


# The contract knows two ends; a mirror port between them is neither.
_CAPTURE_POINT = {
    CapturePoint.UNKNOWN: "unknown",
    CapturePoint.PROXY: "proxy",
    CapturePoint.UPSTREAM: "upstream",
    CapturePoint.BETWEEN: "unknown",
}
