"""Decides what a scan has to read: compares the files that were found with what the store knows of them.

Knows stamps, versions and series; opens a file only to tell whether two new ones of the same size are copies. What it
decides depends on files and store alone, not on the order in which earlier work was done.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.series import series_key
from pcapdiag.nightly.scan.model import Fresh, Job, Part
from pcapdiag.nightly.scan.sift import HEAD_BYTES, file_hash
from pcapdiag.nightly.store.model import FileStatus
from pcapdiag.privacy.escape import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.nightly.scan.model import Found, ScanOptions
    from pcapdiag.nightly.store.model import FileRecord
    from pcapdiag.nightly.store.store import KnownCapture, KnownFile, Store


@dataclass(slots=True)
class Plan:
    """What to do.

    Attributes
    ----------
    jobs : list of Job
        To be done in any order.
    copies : list of (Found, Found)
        Files that look like copies, each with its original among those: to be looked at when that has been read.
    waiting : int
        Files that are left for the next scan.
    outside : int
        Files that were last written before the time range.
    """

    jobs: list[Job] = field(default_factory=list)
    copies: list[tuple[Found, Found]] = field(default_factory=list)
    waiting: int = 0
    outside: int = 0


def series_name(path: str) -> str:
    """Return folder and common name of a file's series, as one text."""
    folder, _, name = path.rpartition("/")
    return storable(f"{folder}/{series_key(name)}")


def make_plan(store: Store, found: Mapping[str, Found], options: ScanOptions, *, version: str, staging: str) -> Plan:
    """Return what there is to do.

    Parameters
    ----------
    store : Store
        What is known.
    found : mapping
        The files, by path.
    options : ScanOptions
        What was asked for.
    version : str
        Of this program: what another version read is read again.
    staging : str
        For the jobs; see `Job`.

    Returns
    -------
    Plan
    """
    known = store.known_files()
    plan = Plan()
    is_quiet_before_ns = time.time_ns() - int(options.settle_s * 10**9)
    wanted: list[Found] = []
    stale: set[str] = set()
    current: dict[str, list[FileRecord]] = defaultdict(list)
    for file in found.values():
        before = known.get(storable(file.path))
        if before is None or before.record.stamp != file.stamp or before.record.retry:
            if options.settle_s and file.stamp.mtime_ns >= is_quiet_before_ns:
                plan.waiting += 1
            elif 0 <= file.stamp.mtime_ns < options.read.since_ns:
                plan.outside += 1
            else:
                wanted.append(file)
        elif before.program_version != version or options.rescan:
            if before.record.capture_key:
                stale.add(before.record.capture_key)
            else:
                wanted.append(file)
        elif before.record.status is not FileStatus.FAILED:
            current[series_name(file.path)].append(before.record)
    first, copies = _without_copies(wanted)
    make = _JobMaker(store, known, current, options, version, staging)
    planned, rest = make.planned(first)
    plan.jobs = [*make.again(stale, found), *planned, *make.fresh(rest)]
    plan.copies = copies
    return plan


def plan_copies(store: Store, plan: Plan, options: ScanOptions, *, version: str, staging: str) -> list[Job]:
    """Return the jobs for files that look like copies of others, which have been read by now.

    A copy whose original another scan is still reading waits, too: else it would depend on chance which of them counts.

    Parameters
    ----------
    store : Store
        Opened.
    plan : Plan
        Whose `copies` it is about.
    options, version, staging
        As in `make_plan`.

    Returns
    -------
    list of Job
    """
    if not plan.copies:
        return []
    known = store.known_files()
    files = []
    for copy, original in plan.copies:
        before = known.get(storable(original.path))
        if before is not None and before.record.stamp == original.stamp:
            files.append(copy)
        else:
            plan.waiting += 1
    return _JobMaker(store, known, {}, options, version, staging).fresh(files)


class _JobMaker:
    """Makes jobs with all that a worker must know."""

    def __init__(
        self,
        store: Store,
        known: Mapping[str, KnownFile],
        current: Mapping[str, list[FileRecord]],
        options: ScanOptions,
        version: str,
        staging: str,
    ) -> None:
        self._store = store
        self._known = known
        self._current = current
        self._options = options.read
        self._version = version
        self._staging = staging

    def fresh(self, files: list[Found]) -> list[Job]:
        """Return one job for the files of each series."""
        if not files:
            return []
        by_size: dict[int, list[FileRecord]] = defaultdict(list)
        for other in self._known.values():
            if other.record.sha256 and other.program_version == self._version:
                by_size[other.record.stamp.size].append(other.record)
        records = {
            file.path: self._known[path].record for file in files if (path := storable(file.path)) in self._known
        }
        captures = self._store.known_captures([r.capture_key for r in records.values() if r.capture_key])
        series: dict[str, list[Fresh]] = defaultdict(list)
        for file in files:
            known = records.get(file.path)
            twins = tuple(r for r in by_size.get(file.stamp.size, ()) if r.path != storable(file.path))
            capture = captures.get(known.capture_key) if known is not None else None
            series[series_name(file.path)].append(Fresh(file, known, capture, twins))
        return [self._job(name, tuple(members)) for name, members in series.items()]

    def planned(self, files: list[Found]) -> tuple[list[Job], list[Found]]:
        """Return the jobs that an interrupted scan had made of some of the files, and the other files."""
        left = {file.path: file for file in files}
        jobs = []
        for part in self._store.pending():
            if any(path not in left or left[path].stamp != s for path, s in zip(part.paths, part.stamps, strict=True)):
                continue
            fresh = tuple(Fresh(left.pop(path)) for path in part.paths)
            read = Part(part.key, part.paths, part.context_paths, part.after_ts_ns, part.until_ts_ns)
            jobs.append(Job(part.series, self._options, self._version, fresh, part=read, staging=self._staging))
        return jobs, list(left.values())

    def _job(self, series: str, fresh: tuple[Fresh, ...]) -> Job:
        context = max(self._current.get(series, ()), key=lambda r: (r.last_ts_ns, r.path), default=None)
        return Job(series, self._options, self._version, fresh, context, staging=self._staging)

    def again(self, keys: set[str], found: Mapping[str, Found]) -> list[Job]:
        """Return jobs that read captures as they were read before; those whose files are gone stay as they are."""
        jobs = []
        for capture in self._store.known_captures(sorted(keys)).values():
            records = [self._known.get(storable(path)) for path in capture.paths]
            if any(path not in found for path in capture.paths) or any(record is None for record in records):
                continue
            fresh = tuple(
                Fresh(found[path], record.record, capture)
                for path, record in zip(capture.paths, records, strict=True)
                if record is not None
            )
            part = Part(
                capture.key,
                capture.paths,
                tuple(path for path in capture.context_paths if path in found),
                capture.after_ts_ns,
                self._until(capture, fresh),
            )
            jobs.append(Job(capture.series, self._options, self._version, fresh, part=part, staging=self._staging))
        return jobs

    def _until(self, capture: KnownCapture, fresh: tuple[Fresh, ...]) -> int:
        """Return where to stop counting: a file that has grown since belongs to another capture from there on."""
        is_shared = any(file.known is not None and file.known.capture_key != capture.key for file in fresh)
        return capture.last_ts_ns if is_shared else capture.until_ts_ns


def _without_copies(files: list[Found]) -> tuple[list[Found], list[tuple[Found, Found]]]:
    """Return the files without those that look like copies of others among them, and those with their originals."""
    by_size: dict[int, list[Found]] = defaultdict(list)
    for file in files:
        by_size[file.stamp.size].append(file)
    first: list[Found] = []
    copies: list[tuple[Found, Found]] = []
    for same in by_size.values():
        originals: dict[str, Found] = {}
        for file in sorted(same, key=lambda f: f.path):
            head = _head(file) if len(same) > 1 else ""
            if head and head in originals:
                copies.append((file, originals[head]))
            else:
                first.append(file)
                originals[head] = file
    order = {file.path: place for place, file in enumerate(files)}
    return sorted(first, key=lambda f: order[f.path]), copies


def _head(file: Found) -> str:
    """Return a hash of how a file begins; empty if that cannot be told, or is nothing."""
    try:
        digest, n_bytes = file_hash(file.path, HEAD_BYTES)
    except (CaptureError, OSError):
        return ""
    return digest if n_bytes else ""
