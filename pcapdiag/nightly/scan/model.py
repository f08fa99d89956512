"""What crosses the seams within a scan: jobs out to workers, results back, as plain data that can be pickled.

A job is a unit of work: one file, or the files of one rotation series. Whatever reads it, a process here or a machine
of a cluster, gets everything with the job and keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.analysis.inputs import NO_INPUTS, Inputs

if TYPE_CHECKING:
    from pcapdiag.analysis.shards import ShardResult
    from pcapdiag.engine.tcp.tracker import Shard
    from pcapdiag.nightly.store.model import CaptureResult, FileRecord, FileStamp, FindingRow
    from pcapdiag.nightly.store.store import KnownCapture, ScanTotals


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How captures are read: what changes the results and nothing else.

    Attributes
    ----------
    inputs : Inputs
        What the operator gave beside the captures.
    html : bool
        Whether captures with findings get their HTML report.
    exchanges : bool
        Whether their exchanges are kept as Parquet.
    since_ns, until_ns : int
        [ns] Only files of this time are read; -1 for no bound.
    """

    inputs: Inputs = NO_INPUTS
    html: bool = False
    exchanges: bool = True
    since_ns: int = -1
    until_ns: int = -1


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What to scan, and how.

    Attributes
    ----------
    places : tuple of str
        Files, folders, globs and URLs.
    jobs : int
        Local processes; 0 for one per core.
    scheduler : str
        Address of a Dask scheduler instead (``tcp://host:8786``).
    settle_s : float
        [s] A file that was written to since is left for the next scan.
    rescan : bool
        Whether files that have not changed are read, too.
    split_bytes : int
        [bytes] A capture of this size or more is shared among workers that have nothing else to do; 0 for never.
    """

    places: tuple[str, ...]
    read: ReadOptions
    jobs: int = 0
    scheduler: str = ""
    settle_s: float = 0.0
    rescan: bool = False
    split_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was found, not yet opened; `is_named` if it was named itself, not through a folder or glob."""

    path: str
    stamp: FileStamp
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Fresh:
    """A file to be read: what it is now, what was known of it, and files of the same size that were read before."""

    found: Found
    known: FileRecord | None = None
    known_capture: KnownCapture | None = None
    twins: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are read as one capture, in time order; see `store.model.CaptureResult` for the rest."""

    key: str
    paths: tuple[str, ...]
    context_paths: tuple[str, ...] = ()
    after_ts_ns: int = -1
    until_ts_ns: int = -1


@dataclass(frozen=True, slots=True)
class Job:
    """A unit of work: files of one series to be looked at, or (with `part`) a capture to be read.

    Attributes
    ----------
    series : str
        Folder and common name of the files; what a scan claims.
    fresh : tuple of Fresh
        The files to read.
    context : FileRecord or None
        The newest file of the series that was read before.
    part : Part or None
        What to read, if it is known already.
    staging : str
        Folder for Parquet files if it is on the machine of the worker; empty: send them back.
    split_bytes : int
        [bytes] A capture of this size or more is not read but given back as `ScanJobResult.split`; 0 for never.
    shard : Shard or None
        The share of the capture's connections that this job is about.
    shards : tuple of ShardResult
        What such jobs have read of the capture, all of them: what is left is to join them.
    """

    series: str
    options: ReadOptions
    version: str
    fresh: tuple[Fresh, ...]
    context: FileRecord | None = None
    part: Part | None = None
    staging: str = ""
    split_bytes: int = 0
    shard: Shard | None = None
    shards: tuple[ShardResult, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanJobResult:
    """What became of a job.

    Attributes
    ----------
    captures : tuple of CaptureResult
        What was read.
    failed : tuple of FileRecord
        Files that could not be read, each with its note.
    unchanged : tuple of FileRecord
        Files whose content proved to be known already.
    outside : tuple of str
        Files outside of the time range that was asked for.
    more : tuple of Job
        What is left to be read, each on its own.
    split : Job or None
        A capture that is large enough to be shared.
    shard : ShardResult or None
        What was read of a share; None if it could not be.
    """

    captures: tuple[CaptureResult, ...] = ()
    failed: tuple[FileRecord, ...] = ()
    unchanged: tuple[FileRecord, ...] = ()
    outside: tuple[str, ...] = ()
    more: tuple[Job, ...] = ()
    split: Job | None = None
    shard: ShardResult | None = None


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """A file that was read now or failed: for the summary."""

    path: str
    status: str
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a scan says when it has ended.

    Attributes
    ----------
    scan : int
        Its number in the store.
    totals : ScanTotals
        Files by what became of them.
    outside : int
        Files outside of the time range.
    findings : tuple of FindingRow
        Findings of the captures that were found, read now or earlier, as they stand over all nights; worst first.
    files : tuple of FileOutcome
        Files read by this scan that are not ok.
    captures : tuple of str
        Keys of the captures that this scan read.
    """

    scan: int
    totals: ScanTotals
    outside: int
    findings: tuple[FindingRow, ...]
    files: tuple[FileOutcome, ...]
    captures: tuple[str, ...]
