"""A scan from beginning to end: find, plan, hand out, write down, count.

Knows the order; each step is a module of its own. Workers only read: everything that is written goes through here,
once, one capture in one transaction. Whatever ends this process, the next run for the same job goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import CaptureError
from pcapdiag.base.version import __version__
from pcapdiag.nightly.scan.find import find_files
from pcapdiag.nightly.scan.model import FileOutcome, Part, ScanSummary
from pcapdiag.nightly.scan.plan import make_plan, plan_copies
from pcapdiag.nightly.scan.pool import Workers
from pcapdiag.nightly.scan.split import Shards
from pcapdiag.nightly.store.history import findings_of_captures
from pcapdiag.nightly.store.model import FileStatus, PendingCapture
from pcapdiag.privacy.escape import storable
from pcapdiag.privacy.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcapdiag.nightly.scan.model import Found, Fresh, Job, ScanJobResult, ScanOptions
    from pcapdiag.nightly.store.model import FileRecord
    from pcapdiag.nightly.store.store import KnownFile, ScanTotals, Store

_ALIVE_EVERY_S: Final = 20.0
_TICK_S: Final = 1.0
_CLAIM_AT_ONCE: Final = 32


@dataclass(slots=True)
class Progress:
    """How far a scan is; `line` is what just happened, for a journal.

    Attributes
    ----------
    files_done, files_total, bytes_done, bytes_total : int
        Of the files that are to be read now.
    """

    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    line: str = ""


@dataclass(slots=True)
class _State:
    """What a scan counts on its way."""

    waiting: int = 0
    outside: int = 0
    progress: Progress = field(default_factory=Progress)


def run_scan(
    store: Store,
    options: ScanOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> ScanSummary:
    """Scan captures and remember what they hold.

    Parameters
    ----------
    store : Store
        Where to.
    options : ScanOptions
        What, and how.
    on_progress : callable, optional
        Called when a file is done, or failed.

    Returns
    -------
    ScanSummary
        What was found.

    Raises
    ------
    CaptureError
        Nothing could be read.
    PcapdiagError
        It cannot go on; what was written before is complete.
    """
    say = on_progress or (lambda _progress: None)
    state = _State()
    found = find_files(
        options.places,
        known=store.known_files().keys(),
        on_problem=lambda path, text: say(Progress(line=f"{path}: {text}")),
    )
    if not found:
        msg = f"no capture in {', '.join(options.places)}"
        raise CaptureError(msg)
    scan = store.begin_scan(options.places, _job_text(options), __version__)
    store.sweep()
    staging = "" if options.scheduler else str(store.details.staging(scan))
    plan = make_plan(store, found, options, version=__version__, staging=staging)
    state.outside = plan.outside
    state.progress.files_total = sum(len(job.fresh) for job in plan.jobs) + len(plan.copies)
    state.progress.bytes_total = sum(max(file.found.stamp.size, 0) for job in plan.jobs for file in job.fresh)
    if plan.jobs or plan.copies:
        if not options.scheduler:
            from pcapdiag.engine.compiler.policy import load_kernels  # noqa: PLC0415 - where nothing is new, not needed

            load_kernels()  # what is missing is told once, not for every file
        try:
            with Workers(jobs=options.jobs, scheduler=options.scheduler) as workers:
                coordinator = _Coordinator(store, scan, workers, state, say, split_bytes=options.split_bytes)
                coordinator.run(plan.jobs)
                coordinator.run(plan_copies(store, plan, options, version=__version__, staging=staging))
        except BaseException:  # a signal, too: the next scan would sweep it, but nobody knows when that is
            store.details.discard(scan)
            raise
    totals = store.finish_scan(scan, found=len(found) - state.outside, waiting=state.waiting + plan.waiting)
    store.sweep()
    return _summary(store, scan, found, state, totals)


def _job_text(options: ScanOptions) -> str:
    """Return what the results depend on: a repeated run with the same continues an interrupted one."""
    return json.dumps([sorted(options.places), dataclasses.asdict(options.read), __version__])


class _Coordinator:
    """Hands out jobs and writes down what comes back."""

    def __init__(
        self,
        store: Store,
        scan: int,
        workers: Workers,
        state: _State,
        say: Callable[[Progress], None],
        *,
        split_bytes: int,
    ) -> None:
        self._store = store
        self._scan = scan
        self._workers = workers
        self._state = state
        self._say = say
        self._split_bytes = split_bytes if workers.n_workers > 1 else 0
        self._shards = Shards()
        self._say_alive_at = time.monotonic() + _ALIVE_EVERY_S

    def run(self, jobs: Sequence[Job]) -> None:
        """Do jobs and what comes of them; those that another scan is doing are left to it."""
        unclaimed = deque(dataclasses.replace(job, split_bytes=self._split_bytes) for job in jobs)
        ready: deque[Job] = deque()
        while unclaimed or ready or self._workers.n_running:
            while self._workers.has_room and (ready or unclaimed):
                if not ready:
                    ready += self._claim([unclaimed.popleft() for _ in range(min(_CLAIM_AT_ONCE, len(unclaimed)))])
                if ready:
                    self._workers.submit(ready.popleft())
            for job, result in self._workers.wait(_TICK_S) if self._workers.n_running else ():
                self._write(job, result)
                ready += result.more
                n_shards = self._workers.n_workers - self._workers.n_running - len(ready) - len(unclaimed)
                ready += self._shards.take(job, result, n_shards)
            if time.monotonic() >= self._say_alive_at:
                self._store.say_alive(self._scan)
                self._say_alive_at = time.monotonic() + _ALIVE_EVERY_S

    def _claim(self, jobs: list[Job]) -> list[Job]:
        """Return those jobs that nobody else is doing or has just done."""
        mine = self._store.claim(self._scan, sorted({job.series for job in jobs}))
        claimed = [job for job in jobs if job.series in mine]
        self._state.waiting += sum(len(job.fresh) for job in jobs if job.series not in mine)
        known = self._store.known_files([storable(file.found.path) for job in claimed for file in job.fresh])
        left = []
        for job in claimed:
            fresh = tuple(file for file in job.fresh if not _is_done(file, known.get(storable(file.found.path))))
            if len(fresh) == len(job.fresh):
                left.append(job)
            elif fresh and job.part is None:
                left.append(dataclasses.replace(job, fresh=fresh))
        return left

    def _write(self, job: Job, result: ScanJobResult) -> None:
        store, scan, version = self._store, self._scan, job.version
        left = result.more if result.split is None else (*result.more, result.split)
        pending = [_to_pending(more) for more in left if more.part is not None]
        if result.failed or result.unchanged or pending:
            instead_of = job.part.key if job.part is not None else ""
            store.write_files(
                scan, version, (*result.failed, *result.unchanged), pending=pending, instead_of=instead_of
            )
        for capture in result.captures:
            store.write_capture(scan, capture)
            for file in capture.files:
                self._done(file)
        for file in (*result.failed, *result.unchanged):
            self._done(file)
        self._state.outside += len(result.outside)

    def _done(self, file: FileRecord) -> None:
        progress = self._state.progress
        progress.files_done += 1
        progress.bytes_done += max(file.stamp.size, 0)
        progress.line = ""
        if file.status is FileStatus.FAILED:
            progress.line = f"{file.path}: {'; '.join(note.text for note in file.notes)}"
        self._say(progress)


def _is_done(fresh: Fresh, known: KnownFile | None) -> bool:
    """Tell whether another scan has read a file since this one made its plan."""
    if known is None or known.record.stamp != fresh.found.stamp or known.record.retry:
        return False
    return known.record != fresh.known


def _to_pending(job: Job) -> PendingCapture:
    part = job.part or Part("", ())
    stamps = {file.found.path: file.found.stamp for file in job.fresh}
    return PendingCapture(
        key=part.key,
        series=job.series,
        paths=part.paths,
        stamps=tuple(stamps[path] for path in part.paths),
        context_paths=part.context_paths,
        after_ts_ns=part.after_ts_ns,
        until_ts_ns=part.until_ts_ns,
    )


def _summary(store: Store, scan: int, found: Mapping[str, Found], state: _State, totals: ScanTotals) -> ScanSummary:
    known = store.known_files()
    here = [known[path] for file in found.values() if (path := storable(file.path)) in known]
    if here and all(file.record.status is FileStatus.FAILED for file in here) and len(here) == len(found):
        reasons = "; ".join(note.text for note in here[0].record.notes)
        msg = f"none of the {len(here)} files could be read; the first: {here[0].record.path}: {reasons}"
        raise CaptureError(msg)
    shown = Redactor().text
    odd = [file.record for file in here if file.scan == scan and file.record.status is not FileStatus.OK]
    keys = {file.record.capture_key for file in here if file.record.capture_key}
    return ScanSummary(
        scan=scan,
        totals=totals,
        outside=state.outside,
        findings=findings_of_captures(store, keys),
        files=tuple(
            FileOutcome(shown(r.path), r.status.value, tuple((note.code, note.text) for note in r.notes)) for r in odd
        ),
        captures=tuple(sorted({f.record.capture_key for f in here if f.scan == scan and f.record.capture_key})),
    )
