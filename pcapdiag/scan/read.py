"""Does the jobs of a scan, in whatever process or machine: looks at files, groups them, reads captures.

Knows the engine and the files; no store and no other job. What comes back depends on the files and the options alone.
A bad file becomes a record that says so; only what no file is to blame for is raised: no room on the disk, options that
make no sense.
"""

from __future__ import annotations

import errno
import hashlib
import json
import zlib
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.capture.remote import RemoteStored, is_url
from pcapdiag.capture.series import begins_like_capture, group_captures
from pcapdiag.capture.sources import open_source
from pcapdiag.errors import CaptureError, PcapdiagError
from pcapdiag.scan.logs import expand_patterns
from pcapdiag.scan.model import Job, JobResult, Part
from pcapdiag.store.model import CaptureResult, FileNote, FileRecord, FileStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.api import CaptureReport
    from pcapdiag.capture.batch import CaptureFile
    from pcapdiag.scan.model import Fresh, ReadOptions
    from pcapdiag.shards import ShardResult
    from pcapdiag.store.model import DetailFile
    from pcapdiag.tcp.tracker import Shard

HEAD_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 1 << 20
_INCOMPLETE: Final = frozenset(
    {
        *("truncated-file", "growing-file", "skipped-bytes", "clipped-record", "bad-timestamps"),
        *("truncated-compression", "corrupt-compression", "read-error"),
    }
)
"""Notes that say that something of the file could not be read; others say what the traffic was like."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def run_job(job: Job) -> JobResult:
    """Do one unit of work.

    Parameters
    ----------
    job : Job
        What to do.

    Returns
    -------
    JobResult
        What became of every file of it.

    Raises
    ------
    CaptureError, OSError
        A connection broke between two looks at a file; or there is no room left for temporary files.
    PcapdiagError
        The options make no sense, or a log or the configuration cannot be read.
    """
    if job.part is not None and job.shard is not None:
        return JobResult(shard=_read_shard(job, job.part, job.shard))
    if job.part is not None:
        return _read_or_split(job, job.part)
    result, files = _sift(job)
    parts = _parts(job, files)
    if len(parts) == 1:
        read = _read_or_split(replace(job, fresh=tuple(files)), parts[0])
        return replace(read, failed=result.failed + read.failed, unchanged=result.unchanged, outside=result.outside)
    by_path = {file.found.path: file for file in files}
    more = tuple(replace(job, fresh=tuple(by_path[path] for path in p.paths), context=None, part=p) for p in parts)
    return replace(result, more=more)


def failed(fresh: Fresh, code: str, text: str, *, retry: bool) -> FileRecord:
    """Return the record of a file that could not be read."""
    return FileRecord(
        fresh.found.path, fresh.found.stamp, FileStatus.FAILED, notes=(FileNote(code, text),), retry=retry
    )


def file_hash(path: str, n_bytes: int = -1) -> tuple[str, int]:
    """Return the SHA-256 of a file as it is stored, or of its beginning, and of how many bytes that is.

    Parameters
    ----------
    path : str
        A path or URL.
    n_bytes : int
        [bytes] How much of it; -1 for all.

    Raises
    ------
    OSError
        It cannot be read.
    CaptureError
        It cannot be opened.
    """
    digest = hashlib.sha256()
    n_read = 0
    for piece in _pieces(path, n_bytes):
        digest.update(piece)
        n_read += len(piece)
    return digest.hexdigest(), n_read


def _pieces(path: str, n_bytes: int) -> Iterator[bytes]:
    n_left = n_bytes if n_bytes >= 0 else 1 << 62
    if is_url(path):
        stored = RemoteStored(path)
        with closing(stored):
            while n_left and (piece := stored.read(min(_PIECE_BYTES, n_left))):
                n_left -= len(piece)
                yield piece
        if stored.error is not None:
            raise stored.error
        return
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - not worth a Path
        while n_left and (piece := file.read(min(_PIECE_BYTES, n_left))):
            n_left -= len(piece)
            yield piece


def _sift(job: Job) -> tuple[JobResult, list[Fresh]]:
    """Look at every file: which are to be read, which are no captures, which are known under another stamp or name."""
    bad: list[FileRecord] = []
    unchanged: list[FileRecord] = []
    outside: list[str] = []
    files: list[Fresh] = []
    for fresh in job.fresh:
        path, stamp = fresh.found.path, fresh.found.stamp
        try:
            if stamp.size == 0:
                bad.append(failed(fresh, "empty-file", "the file holds no byte yet", retry=False))
            elif (twin := _same_content(fresh)) is not None:
                unchanged.append(replace(twin, path=path, stamp=stamp))
            elif not begins_like_capture(path):
                bad.append(failed(fresh, "not-a-capture", _why_not(path), retry=False))
            elif _is_outside(path, stamp.size, job.options):
                outside.append(path)
            else:
                files.append(fresh)
        except (CaptureError, OSError) as error:
            _raise_if_no_room(error)
            bad.append(failed(fresh, "unreadable", _in_words(error), retry=True))
    return JobResult(failed=tuple(bad), unchanged=tuple(unchanged), outside=tuple(outside)), files


def _same_content(fresh: Fresh) -> FileRecord | None:
    """Return the record of what has the same content: this file before it was touched, or one that was copied."""
    candidates = [r for r in (fresh.known, *fresh.twins) if r and r.sha256 and r.stamp.size == fresh.found.stamp.size]
    if candidates:
        head, _ = file_hash(fresh.found.path, HEAD_BYTES)
        candidates = [record for record in candidates if record.head_sha256 == head]
    if not candidates:
        return None
    sha256, _ = file_hash(fresh.found.path)
    return next((record for record in candidates if record.sha256 == sha256), None)


def _why_not(path: str) -> str:
    from pcapdiag.capture.sniff import HEAD_BYTES, not_a_capture  # noqa: PLC0415 - only bad files need it

    with open_source(path) as source:
        buffer = bytearray(HEAD_BYTES)
        n_read = source.fill(memoryview(buffer))
        text = not_a_capture(path, bytes(buffer[:n_read]), source.compression)
    return text.removeprefix(f"{path} ")


def _is_outside(path: str, size: int, options: ReadOptions) -> bool:
    if options.since_ns < 0 and options.until_ns < 0:
        return False
    first, last = _times(path, size)
    is_later = options.until_ns >= 0 and first >= options.until_ns
    return is_later or (options.since_ns >= 0 and 0 <= last < options.since_ns)


def _times(path: str, size: int) -> tuple[int, int]:
    from pcapdiag.capture.peek import peek_times  # noqa: PLC0415 - loads the kernels

    with open_source(path) as source:
        is_packed = bool(source.compression)
    return peek_times(path, size, is_packed=is_packed)


def _parts(job: Job, files: list[Fresh]) -> list[Part]:
    """Return what is to be read as one capture each."""
    by_path = {file.found.path: file for file in files}
    if not files:
        return []
    groups = [list(by_path)]
    context = job.context.path if job.context is not None and job.context.path not in by_path else ""
    if len(files) + bool(context) > 1:
        try:
            captures = group_captures([*([context] if context else []), *by_path])
            groups = [[file.path for file in capture.files] for capture in captures]
        except CaptureError:
            groups = [[path] for path in by_path]  # one of them went away meanwhile; the others are read alone
    parts = []
    for group in groups:
        # Files before the one that is known already, those after it, and each that goes on after what is known of it.
        run: list[str] = []
        after_context = False
        for path in group:
            if path == context or (run and _continues(by_path.get(path))):
                parts += [_part(job, run, by_path, follows=after_context)] if run else []
                run = [] if path == context else [path]
                after_context = path == context
            else:
                run.append(path)
        parts += [_part(job, run, by_path, follows=after_context)] if run else []
    return parts


def _continues(fresh: Fresh | None) -> bool:
    """Tell whether a file is one that has grown since it was read as a part of a series."""
    return fresh is not None and fresh.known is not None and bool(fresh.known.capture_key) and _has_grown(fresh)


def _has_grown(fresh: Fresh) -> bool:
    known = fresh.known
    if known is None or not known.head_bytes or fresh.found.stamp.size < known.stamp.size:
        return False
    return file_hash(fresh.found.path, known.head_bytes)[0] == known.head_sha256


def _part(job: Job, paths: list[str], by_path: dict[str, Fresh], *, follows: bool) -> Part:
    first = by_path[paths[0]]
    known, capture = first.known, first.known_capture
    if known is not None and capture is not None and _has_grown(first):
        if capture.paths == (paths[0],):
            # All that is known came from this file: it is read again and takes the place of what was known.
            return Part(capture.key, tuple(paths), capture.context_paths, capture.after_ts_ns)
        return Part(_key(job, paths[0], known.last_ts_ns), tuple(paths), (), known.last_ts_ns)
    if follows and job.context is not None:
        after = job.context.last_ts_ns
        return Part(_key(job, paths[0], after), tuple(paths), (job.context.path,), after)
    return Part(_key(job, paths[0], -1), tuple(paths))


def _key(job: Job, path: str, after_ts_ns: int) -> str:
    head, _ = file_hash(path, HEAD_BYTES)
    return hashlib.sha256(f"{job.series}\n{path}\n{head}\n{after_ts_ns}".encode()).hexdigest()[:32]


def _read_or_split(job: Job, part: Part) -> JobResult:
    n_bytes = sum(max(file.found.stamp.size, 0) for file in job.fresh if file.found.path in part.paths)
    if job.split_bytes and n_bytes >= job.split_bytes and not job.shards:
        return JobResult(split=replace(job, context=None, part=part))
    return _read(job, part)


def _read_shard(job: Job, part: Part, shard: Shard) -> ShardResult | None:
    """Read a share of a capture's connections; None if that fails: the capture is then read whole, and says why."""
    from pcapdiag.pipeline import read_shard, warm_up  # noqa: PLC0415 - the engine loads when there is something to read

    warm_up()
    try:
        captures = group_captures([*part.context_paths, *part.paths])
        return read_shard(captures, shard, folder=job.staging, with_digest=True)
    except (CaptureError, OSError) as error:
        _raise_if_no_room(error)
        return None


def _read(job: Job, part: Part) -> JobResult:
    """Read one capture; whatever is wrong with it becomes a record."""
    from pcapdiag.api import analyze  # noqa: PLC0415 - the engine loads when there is something to read

    options = job.options
    fresh = {file.found.path: file for file in job.fresh}
    try:
        heads = {path: file_hash(path, HEAD_BYTES) for path in part.paths}
        span = (-1, -1)
        if any("%" in name for name in (*options.error_logs, *options.access_logs, *options.upstream_logs)):
            span = _span(part.paths, [fresh[path].found.stamp.size for path in part.paths])
        result = analyze(
            *part.context_paths,
            *part.paths,
            proxies=options.proxies,
            upstreams=options.upstreams,
            select=options.select,
            ignore=options.ignore,
            error_logs=expand_patterns(options.error_logs, span),
            access_logs=expand_patterns(options.access_logs, span),
            upstream_logs=expand_patterns(options.upstream_logs, span),
            proxy_conf=options.proxy_conf,
            log_format=options.log_format,
            upstream_log_format=options.upstream_log_format,
            log_zone=options.log_zone,
            redact=options.redact,
            shards=job.shards,
        )
        if lost := [n for capture in result.report.captures for n in capture.notes if n.code == "read-error"]:
            return _all_failed(job, part, "read-error", lost[0].text)
        return JobResult(captures=(_result(job, part, result, heads),))
    except (CaptureError, OSError) as error:
        _raise_if_no_room(error)
        return _all_failed(job, part, "unreadable", _in_words(error))
    except PcapdiagError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad file never stops the rest; its record says what happened
        return _all_failed(job, part, "internal-error", f"{type(error).__name__}: {error}; please report this file")


def _all_failed(job: Job, part: Part, code: str, text: str) -> JobResult:
    files = [file for file in job.fresh if file.found.path in part.paths]
    # One file of a series that cannot be read must not take the others with it: each is read alone.
    if len(files) > 1 and not any(file.known for file in files):
        alone = (
            replace(job, fresh=(f,), context=None, part=Part(_key(job, f.found.path, -1), (f.found.path,)))
            for f in files
        )
        return JobResult(more=tuple(alone))
    return JobResult(failed=tuple(failed(file, code, text, retry=True) for file in files))


def _span(paths: Sequence[str], sizes: Sequence[int]) -> tuple[int, int]:
    """Return the first and last time of files in time order."""
    first, last = _times(paths[0], sizes[0])
    if len(paths) > 1 or last < 0:
        last = max(last, _times(paths[-1], sizes[-1])[1])
    return first, max(first, last)


def _result(job: Job, part: Part, result: CaptureReport, heads: dict[str, tuple[str, int]]) -> CaptureResult:
    from pcapdiag.scan.days import upstream_days  # noqa: PLC0415 - numpy
    from pcapdiag.scan.exchanges import write_exchanges  # noqa: PLC0415 - pyarrow
    from pcapdiag.scan.sightings import list_occurrences, list_sightings  # noqa: PLC0415 - with them

    report, analysis = result.report, result.analysis
    bounds = {"after_ns": part.after_ts_ns, "until_ns": part.until_ts_ns}
    files = {file.path: file for capture in analysis.captures for file in capture.files}
    fresh = {file.found.path: file for file in job.fresh}
    notes = [(note.capture, note.code, note.text) for capture in report.captures for note in capture.notes]
    records = tuple(_record(fresh[path], files[path], part.key, heads[path], notes) for path in part.paths)
    is_partial = any(record.status is not FileStatus.OK for record in records)
    own = [files[path] for path in part.paths]
    html = result.to_html().encode() if job.options.html and report.findings else b""
    details: tuple[DetailFile, ...] = ()
    if job.options.exchanges:
        redact = job.options.redact
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
        upstreams=upstream_days(analysis, **bounds),
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


def _raise_if_no_room(error: BaseException) -> None:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        raise error


def _in_words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
