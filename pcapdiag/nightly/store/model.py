"""What crosses the seam into the store: the result of one unit of work, as plain data that travels between processes.

Knows no database, no capture and no engine. A `CaptureResult` is everything that reading one capture (a file, or files
of a rotation series) leaves behind; it is written in one transaction under its `key`, which depends on nothing but the
capture, so that writing it twice is writing it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcapdiag.base.findings import Confidence, Severity


class FileStatus(Enum):
    """What became of a file."""

    OK = "ok"
    PARTIAL = "partial"
    """Read, but something of it is missing: its notes say what."""
    FAILED = "failed"
    """Not read at all: its notes say why."""


class FindingState(Enum):
    """How a finding stands on the last day of traffic, compared with the days before."""

    NEW = "new"
    """First seen on the last day."""
    ONGOING = "ongoing"
    WORSE = "worse"
    """More often per request than before, beyond chance."""
    GONE = "gone"
    """Not seen on the last day, although there was enough traffic to see it."""
    QUIET = "quiet"
    """Not seen on the last day, and too little traffic to say more."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells without reading whether a file is still the one that was read; `size` and `mtime_ns` -1: not known.

    `inode` is empty for a remote file, `etag` for a local one.
    """

    size: int
    mtime_ns: int
    inode: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class FileNote:
    """What was odd about a file: a code and a sentence, as the notes of a report."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as the store knows it.

    Attributes
    ----------
    path : str
        Absolute path or URL.
    stamp : FileStamp
        As it was before reading began: what grows while it is read is read again by the next scan.
    head_sha256, head_bytes : str, int
        Hash of the first bytes, and of how many: a file that has grown still begins so, another file does not.
    sha256 : str
        Hash of the whole, empty if it was not read whole.
    status : FileStatus
    capture_key : str
        The capture that it is part of; empty for a file that failed.
    first_ts_ns, last_ts_ns : int
        [ns] Of its frames, -1 if not known.
    retry : bool
        Whether to try again although the file has not changed: it could not be opened, the connection was lost.
    """

    path: str
    stamp: FileStamp
    status: FileStatus
    head_sha256: str = ""
    head_bytes: int = 0
    sha256: str = ""
    capture_key: str = ""
    first_ts_ns: int = -1
    last_ts_ns: int = -1
    notes: tuple[FileNote, ...] = ()
    retry: bool = False


@dataclass(frozen=True, slots=True)
class PendingCapture:
    """A capture that is to be read as these files, as long as their stamps are these; see `CaptureResult`."""

    key: str
    series: str
    paths: tuple[str, ...]
    stamps: tuple[FileStamp, ...]
    context_paths: tuple[str, ...]
    after_ts_ns: int
    until_ts_ns: int


@dataclass(frozen=True, slots=True)
class UpstreamDay:
    """One upstream on one day (UTC) in one capture; times in ns, -1 where nothing was measured.

    `idle_timeout_ns` is T, with its spread, samples and confidence; `reused` counts requests on a connection that had
    carried one before, `lost` those that got no answer, `near_misses` those that were answered although their idle gap
    lay close to the race window. The last five say how many gaps lay near
    it, what that was worth and how much was watched, as `base.rates.RaceDensity`; -1 where nobody could tell.
    """

    endpoint: str
    day: str
    connections: int
    opened: int
    exchanges: int
    reused: int
    near_misses: int
    lost: int
    rtt_min_ns: int
    rtt_p50_ns: int
    rtt_p99_ns: int
    idle_timeout_ns: int
    idle_timeout_spread_ns: int
    idle_timeout_samples: int
    idle_timeout_confidence: Confidence | None
    server_field: str
    gaps_near: int = -1
    lost_near: int = -1
    near_width_ns: int = -1
    race_window_ns: int = -1
    watched_ppm: int = -1
    """Of a day's traffic where the access log tells it, else of a day."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One finding on one day (UTC) in one capture; `identifier` makes it the same trouble on two nights."""

    identifier: str
    day: str
    code: str
    name: str
    title: str
    subject: str
    severity: Severity
    confidence: Confidence
    message: str
    count: int
    failures: int
    first_ts_ns: int
    last_ts_ns: int


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """One occurrence of a finding; `number` is its place in the finding's list in the report, from 0."""

    identifier: str
    number: int
    ts_ns: int
    uid: str
    depth: int
    orig: str
    resp: str
    method: str
    target: str
    idle_before_ns: int
    file: str
    request_frame: int


@dataclass(frozen=True, slots=True)
class DetailFile:
    """Exchanges of one day and upstream as Parquet: where it belongs, and its bytes or the file that holds them.

    `name` is relative to the folder of details (``date=2026-11-20/upstream=10.0.0.1%3A8080/KEY-0.parquet``).
    """

    name: str
    n_bytes: int
    staged: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """What reading one capture found.

    Attributes
    ----------
    key : str
        Names the capture by what it is, not by when it was read.
    series : str
        Folder and common name of its files; other captures of the same series have the same.
    paths : tuple of str
        Its files in time order.
    context_paths : tuple of str
        Files of the series before it that were read for the connections that reach into it.
    after_ts_ns, until_ts_ns : int
        [ns] What was counted lies after the one and not after the other; -1 for no bound.
    report : bytes
        The JSON report, compressed with zlib.
    html : bytes
        The HTML report, compressed with zlib; empty if none was asked for or nothing was found.
    """

    key: str
    series: str
    program_version: str
    paths: tuple[str, ...]
    context_paths: tuple[str, ...]
    after_ts_ns: int
    until_ts_ns: int
    files: tuple[FileRecord, ...]
    status: FileStatus
    first_ts_ns: int
    last_ts_ns: int
    frames: int
    n_bytes: int
    connections: int
    exchanges: int
    unanswered: int
    truncated: int
    report_identifier: str
    upstreams: tuple[UpstreamDay, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    occurrences: tuple[OccurrenceRow, ...] = ()
    details: tuple[DetailFile, ...] = ()
    report: bytes = b""
    html: bytes = b""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding over all nights, as `findings` of the store has it; days are dates in UTC."""

    identifier: str
    code: str
    name: str
    title: str
    subject: str
    severity: Severity
    confidence: Confidence
    message: str
    count: int
    failures: int
    first_seen_ns: int
    last_seen_ns: int
    state: FindingState
    state_day: str
    """The last day of traffic that `state` speaks of."""
    last_count: int
    """How often on that day."""
    last_capture_key: str
    """Capture that saw it last."""
