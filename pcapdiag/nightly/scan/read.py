"""Does the jobs of a scan, in whatever process or machine: looks at files, groups them, reads captures, step by step.

Knows the engine and the files; no store and no other job. What comes back depends on the files and the options alone.
A bad file becomes a record that says so; only what no file is to blame for is raised: no room on the disk, options that
make no sense.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import CaptureError, PcapdiagError
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.nightly.scan.logs import has_patterns, logs_of
from pcapdiag.nightly.scan.model import Job, Part, ScanJobResult
from pcapdiag.nightly.scan.parts import group, key_of
from pcapdiag.nightly.scan.sift import HEAD_BYTES, failed, file_hash, in_words, raise_if_no_room, sift, span_of
from pcapdiag.nightly.store.model import CaptureResult, FileNote, FileRecord, FileStatus
from pcapdiag.privacy.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.shards import ShardResult
    from pcapdiag.api.analyze import CaptureReport
    from pcapdiag.engine.capture.batch import CaptureFile
    from pcapdiag.engine.tcp.tracker import Shard
    from pcapdiag.nightly.scan.model import Fresh
    from pcapdiag.nightly.store.model import DetailFile

_INCOMPLETE: Final = frozenset(
    {
        *("truncated-file", "growing-file", "skipped-bytes", "clipped-record", "bad-timestamps"),
        *("truncated-compression", "corrupt-compression", "read-error"),
    }
)
"""Notes that say that something of the file could not be read; others say what the traffic was like."""


def run_job(job: Job) -> ScanJobResult:
    """Do one unit of work.

    Parameters
    ----------
    job : Job
        What to do.

    Returns
    -------
    ScanJobResult
        What became of every file of it.

    Raises
    ------
    CaptureError, OSError
        A connection broke between two looks at a file; or there is no room left for temporary files.
    PcapdiagError
        The options make no sense, or a log or the configuration cannot be read.
    """
    # A job that comes back from splitting knows its part; of any other, the files are looked at first.
    sifted, files = (ScanJobResult(), [*job.fresh]) if job.part is not None else sift(job)
    parts = [job.part] if job.part is not None else group(job, files)
    if len(parts) != 1:
        return replace(sifted, more=tuple(_jobs_for(job, files, parts)))
    job, part = replace(job, fresh=tuple(files)), parts[0]
    if job.shard is not None:
        return ScanJobResult(shard=_read_shard(job, part, job.shard))
    read = ScanJobResult(split=replace(job, context=None, part=part)) if _is_large(job, part) else _read(job, part)
    return replace(read, failed=sifted.failed + read.failed, unchanged=sifted.unchanged, outside=sifted.outside)


def _jobs_for(job: Job, files: Sequence[Fresh], parts: Sequence[Part]) -> Iterator[Job]:
    """Yield a job for each of several captures."""
    by_path = {file.found.path: file for file in files}
    for part in parts:
        yield replace(job, fresh=tuple(by_path[path] for path in part.paths), context=None, part=part)


def _is_large(job: Job, part: Part) -> bool:
    """Tell whether a capture is to be shared among workers, and has not been."""
    n_bytes = sum(max(file.found.stamp.size, 0) for file in job.fresh if file.found.path in part.paths)
    return 0 < job.split_bytes <= n_bytes and not job.shards


def _read_shard(job: Job, part: Part, shard: Shard) -> ShardResult | None:
    """Read a share of a capture's connections; None if that fails: the capture is then read whole, and says why."""
    from pcapdiag.analysis.build import read_shard  # noqa: PLC0415 - the engine loads when there is something to read

    try:
        captures = group_captures([*part.context_paths, *part.paths])
        return read_shard(captures, shard, folder=job.staging, with_digest=True)
    except (CaptureError, OSError) as error:
        raise_if_no_room(error)
        return None


def _read(job: Job, part: Part) -> ScanJobResult:
    """Read one capture; whatever is wrong with it becomes a record."""
    from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415 - the engine loads when there is something to read

    inputs = job.options.inputs
    fresh = {file.found.path: file for file in job.fresh}
    try:
        heads = {path: file_hash(path, HEAD_BYTES) for path in part.paths}
        if has_patterns(inputs):
            inputs = logs_of(inputs, span_of([fresh[path].found for path in part.paths]))
        inputs = replace(inputs, with_hashes=True)  # by which a file is known again
        result = analyze_captures([*part.context_paths, *part.paths], inputs, shards=job.shards)
        if lost := [n for capture in result.report.captures for n in capture.notes if n.code == "read-error"]:
            return _all_failed(job, part, "read-error", lost[0].text)
        return ScanJobResult(captures=(_result(job, part, result, heads),))
    except (CaptureError, OSError) as error:
        raise_if_no_room(error)
        return _all_failed(job, part, "unreadable", in_words(error))
    except PcapdiagError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad file never stops the rest; its record says what happened
        return _all_failed(job, part, "internal-error", f"{type(error).__name__}: {error}; please report this file")


def _all_failed(job: Job, part: Part, code: str, text: str) -> ScanJobResult:
    files = [file for file in job.fresh if file.found.path in part.paths]
    # One file of a series that cannot be read must not take the others with it: each is read alone.
    if len(files) > 1 and not any(file.known for file in files):
        alone = (
            replace(job, fresh=(f,), context=None, part=Part(key_of(job, f.found.path, -1), (f.found.path,)))
            for f in files
        )
        return ScanJobResult(more=tuple(alone))
    return ScanJobResult(failed=tuple(failed(file, code, text, retry=True) for file in files))


def _result(job: Job, part: Part, result: CaptureReport, heads: dict[str, tuple[str, int]]) -> CaptureResult:
    from pcapdiag.nightly.scan.days import upstream_days  # noqa: PLC0415 - numpy
    from pcapdiag.nightly.scan.exchanges import write_exchanges  # noqa: PLC0415 - pyarrow
    from pcapdiag.nightly.scan.sightings import list_occurrences, list_sightings  # noqa: PLC0415 - with them

    report, analysis = result.report, result.analysis
    bounds = {"after_ns": part.after_ts_ns, "until_ns": part.until_ts_ns}
    files = {file.path: file for capture in analysis.captures for file in capture.files}
    fresh = {file.found.path: file for file in job.fresh}
    redactor = Redactor(active=job.options.inputs.redact)
    by_shown = {redactor.text(path): path for path in files}
    notes = [
        (by_shown.get(note.capture, note.capture), note.code, note.text)
        for capture in report.captures
        for note in capture.notes
    ]
    records = tuple(_record(fresh[path], files[path], part.key, heads[path], notes) for path in part.paths)
    is_partial = any(record.status is not FileStatus.OK for record in records)
    own = [files[path] for path in part.paths]
    html = result.to_html().encode() if job.options.html and report.findings else b""
    details: tuple[DetailFile, ...] = ()
    if job.options.exchanges:
        redact = job.options.inputs.redact
        details = write_exchanges(analysis, part.key, redact=redact, staging=job.staging, **bounds)
    return CaptureResult(
        key=part.key,
        series=job.series,
        program_version=job.version,
        paths=part.paths,
        context_paths=part.context_paths,
        after_ts_ns=part.after_ts_ns,
        until_ts_ns=part.until_ts_ns,
        files=records,
        status=FileStatus.PARTIAL if is_partial else FileStatus.OK,
        first_ts_ns=min((f.first_ts_ns for f in own if f.first_ts_ns >= 0), default=-1),
        last_ts_ns=max((f.last_ts_ns for f in own), default=-1),
        frames=sum(f.n_frames for f in own),
        n_bytes=sum(f.n_bytes for f in own),
        connections=report.totals.connections,
        exchanges=report.totals.exchanges,
        unanswered=report.totals.unanswered,
        truncated=report.totals.truncated,
        report_identifier=report.identifier,
        upstreams=redactor.everything(upstream_days(analysis, **bounds)),
        sightings=list_sightings(report, **bounds),
        occurrences=list_occurrences(report, **bounds),
        details=details,
        report=zlib.compress(json.dumps(report.to_json(), ensure_ascii=False, separators=(",", ":")).encode(), 6),
        html=zlib.compress(html, 6) if html else b"",
    )


def _record(
    fresh: Fresh, file: CaptureFile, key: str, head: tuple[str, int], notes: Iterable[tuple[str, str, str]]
) -> FileRecord:
    own = [FileNote(code, text) for path, code, text in notes if path in {file.path, ""}]
    is_partial = any(note.code in _INCOMPLETE for note in own)
    return FileRecord(
        path=fresh.found.path,
        stamp=fresh.found.stamp,
        status=FileStatus.PARTIAL if is_partial else FileStatus.OK,
        head_sha256=head[0],
        head_bytes=head[1],
        sha256=file.sha256,
        capture_key=key,
        first_ts_ns=file.first_ts_ns,
        last_ts_ns=file.last_ts_ns,
        notes=tuple(own),
    )
