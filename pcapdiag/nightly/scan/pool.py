"""Where jobs are done: processes of this machine, or a Dask cluster. Both are executors of the standard library.

Knows how workers start and die; a worker that dies takes no other job with it. Local workers end with their parent,
even if it is killed. Only results come back, each to whoever handed out its job, however often it was begun.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from pcapdiag.base.disk import is_no_room
from pcapdiag.base.errors import SCAN_AGAIN, CaptureError, MissingExtraError, PcapdiagError, ScanError
from pcapdiag.base.version import __version__
from pcapdiag.nightly.scan.model import ScanJobResult
from pcapdiag.nightly.scan.read import run_job
from pcapdiag.nightly.scan.sift import failed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from pcapdiag.nightly.scan.model import Job

_RETRIES: Final = 2
_ASK_EVERY_S: Final = 2.0
_CONNECT_S: Final = 5
_WORKERLESS_S: Final = 300.0
"""[s] Workers of a cluster come and go; a scan that nobody works for shall not wait for ever."""


class Workers:
    """Does jobs, as many at a time as there are workers.

    Parameters
    ----------
    jobs : int
        Local processes; 0 for one per core.
    scheduler : str
        Address of a Dask scheduler instead.

    Raises
    ------
    MissingExtraError
        Dask is not installed.
    ScanError
        Nothing answers there.
    """

    def __init__(self, *, jobs: int, scheduler: str) -> None:
        n_processes = jobs or len(os.sched_getaffinity(0))
        self._place: _Processes | _Cluster = _Cluster(scheduler) if scheduler else _Processes(n_processes)
        self._running: dict[Future[ScanJobResult], Job] = {}
        self._suspects: deque[Job] = deque()
        self._alone: _Processes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._running:
            future.cancel()
        if self._alone is not None:
            self._alone.end(at_once=True)
        # After an error what they read is lost anyway, and whoever waits for its message shall not wait for them.
        self._place.end(at_once=error is not None)

    @property
    def n_workers(self) -> int:
        """How many jobs can be done at a time."""
        return self._place.n_workers

    @property
    def has_room(self) -> bool:
        """Whether another job would be begun soon: a few wait, so that no worker does."""
        if self._suspects or self._alone is not None:
            return False
        n_workers = self.n_workers
        return len(self._running) < n_workers + max(n_workers // 2, 1)

    @property
    def n_running(self) -> int:
        """Jobs handed out and not done."""
        return len(self._running) + len(self._suspects)

    def submit(self, job: Job) -> None:
        """Hand out a job."""
        try:
            self._running[self._place.submit(job)] = job
        except BrokenProcessPool:
            self._suspect([job])  # a worker has died since `wait` looked

    def wait(self, timeout_s: float) -> list[tuple[Job, ScanJobResult]]:
        """Return the jobs that were done meanwhile, none if that takes longer.

        Parameters
        ----------
        timeout_s : float
            [s] How long to wait at most.

        Returns
        -------
        list of (Job, ScanJobResult)

        Raises
        ------
        PcapdiagError
            A job cannot be done for a reason that holds for all.
        """
        if self._suspects and not self._running:
            job = self._suspects.popleft()
            self._alone = _Processes(1)
            self._running[self._alone.submit(job)] = job
        self._place.check()
        done, _ = wait(self._running, timeout_s, FIRST_COMPLETED)
        results = []
        broken = []
        for future in done:
            job = self._running.pop(future)
            try:
                results.append((job, future.result()))
            except BrokenProcessPool:
                broken.append(job)
            except (CaptureError, OSError) as error:
                if is_no_room(error):
                    raise _no_room(job, error) from error
                results.append((job, _not_done(job, "unreadable", str(getattr(error, "strerror", None) or error))))
            except PcapdiagError:
                raise
            except Exception as error:  # noqa: BLE001 - it is raised again, or told of the job
                results.append((job, self._place.explain(job, error)))
        if self._alone is not None and not self._running:
            results += [(job, _died(job)) for job in broken]
            self._alone.end(at_once=True)
            self._alone = None
        elif broken:
            self._suspect(broken)
        return results

    def _suspect(self, jobs: Sequence[Job]) -> None:
        """Put aside the jobs that a broken pool had: one of them killed its worker; each is read on its own to see."""
        self._suspects += (*jobs, *self._running.values())
        self._running.clear()
        self._place.end(at_once=True)


class _Processes:
    """Processes of this machine; they start with the first job."""

    def __init__(self, n_processes: int) -> None:
        self.n_workers = n_processes
        self._executor: ProcessPoolExecutor | None = None
        self._leash: tuple[Connection, Connection] | None = None

    def submit(self, job: Job) -> Future[ScanJobResult]:
        """Hand out a job; BrokenProcessPool if one of them has died."""
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._leash = context.Pipe(duplex=False)
            # No `max_tasks_per_child`: with it the pool may wait for ever (https://github.com/python/cpython/issues/115634).
            self._executor = ProcessPoolExecutor(
                self.n_workers, mp_context=context, initializer=_prepare, initargs=(self._leash[0],)
            )
        return self._executor.submit(run_job, job)

    def check(self) -> None:
        """Do nothing: what goes wrong here shows in the jobs."""

    def explain(self, job: Job, error: BaseException) -> ScanJobResult:  # noqa: ARG002 - the method of both places
        """Raise what a job raised: `run_job` raises nothing unforeseen."""
        raise error

    def end(self, *, at_once: bool) -> None:
        """End them, when their jobs are done or before; the next job starts others."""
        if self._executor is None or self._leash is None:
            return
        if at_once:
            self._leash[1].close()
        self._executor.shutdown(cancel_futures=True)
        for end in self._leash:
            end.close()
        self._executor = self._leash = None


class _Cluster:
    """Workers of a Dask cluster; they come and go."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = _connect(address)
        self._executor = self._client.get_executor(retries=_RETRIES, pure=False)
        self._n_known = 0
        self._ask_again_at = 0.0
        self._workers_seen_at = time.monotonic()

    @property
    def n_workers(self) -> int:
        """How many jobs they can do at a time; one if there is none yet."""
        self.check()
        return max(self._n_known, 1)

    def check(self) -> None:
        """Ask now and then how many workers there are; an error if there has been none for long."""
        now = time.monotonic()
        if now < self._ask_again_at:
            return
        self._ask_again_at = now + _ASK_EVERY_S
        try:
            self._n_known = sum(self._client.nthreads().values())
        except Exception as error:  # what a lost connection raises there depends on the moment
            raise self._lost(error) from error
        if self._n_known:
            self._workers_seen_at = now
        elif now - self._workers_seen_at > _WORKERLESS_S:
            msg = f"the cluster at {self._address} has no workers: start some with `dask worker {self._address}`"
            raise ScanError(f"{msg}; {SCAN_AGAIN}")  # noqa: TRY003, EM102 - one sentence

    def submit(self, job: Job) -> Future[ScanJobResult]:
        """Hand out a job."""
        try:
            future: Future[ScanJobResult] = self._executor.submit(_run_there, job, __version__)
        except Exception as error:  # the same
            raise self._lost(error) from error
        return future

    def explain(self, job: Job, error: BaseException) -> ScanJobResult:
        """Return what is to be said of a job that its workers died of; raise what concerns all jobs."""
        if type(error).__name__ == "KilledWorker":
            return _died(job)
        if isinstance(error, CancelledError):
            raise self._lost(error)
        what = f"{type(error).__name__}: {error}"
        msg = f"the workers at {self._address} cannot read captures ({what}): they need pcapdiag {__version__}, as here"
        raise ScanError(msg) from error

    def _lost(self, error: BaseException) -> ScanError:
        reason = f" ({error})" if str(error) else ""
        return ScanError(f"the connection to the Dask scheduler at {self._address} was lost{reason}; {SCAN_AGAIN}")

    def end(self, *, at_once: bool) -> None:  # noqa: ARG002 - nobody waits for the workers of a cluster
        """Leave them to themselves."""
        self._client.close(timeout=_CONNECT_S)


def _no_room(job: Job, error: Exception) -> ScanError:
    """Return what to say of the only error of the system that no single capture is to blame for."""
    where = getattr(error, "filename", None) or job.staging or "the folder for temporary files (TMPDIR)"
    return ScanError(f"no room left in {where}: make room on its disk; {SCAN_AGAIN}")


def _died(job: Job) -> ScanJobResult:
    """Return what to say of a job whose worker died of it."""
    text = "the process that read it was killed, perhaps for want of memory: read it alone with `pcapdiag analyze`"
    return _not_done(job, "worker-died", text)


def _not_done(job: Job, code: str, text: str) -> ScanJobResult:
    """Return what to say of a job that came to nothing; files of a series are tried one by one."""
    if job.shard is not None:
        return ScanJobResult()  # no share was read: whoever waits for it reads the whole
    if len(job.fresh) > 1 and job.part is None:
        return ScanJobResult(more=tuple(replace(job, fresh=(file,), context=None) for file in job.fresh))
    return ScanJobResult(failed=tuple(failed(file, code, text, retry=True) for file in job.fresh))


def _prepare(leash: Connection) -> None:
    """Make a process ready for jobs: it ends when its parent lets go of the leash, or ends, however that ends."""

    def end_with_parent() -> None:
        leash.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_parent, name="pcapdiag-parent", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who types Ctrl-C means the parent
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.freeze()


def _run_there(job: Job, version: str) -> ScanJobResult:
    """Do a job on a machine of a cluster, where another version may be installed: its results are not ours."""
    if version != __version__:
        msg = f"a worker of the cluster has pcapdiag {__version__}, this is {version}: install the same there"
        raise ScanError(msg)
    return run_job(job)


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415 - only a cluster needs it
    except ImportError as error:
        msg = "--scheduler needs Dask: pip install 'pcapdiag[dask]' here and on its workers"
        raise MissingExtraError(msg) from error
    try:
        return Client(scheduler, timeout=_CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call] # Dask has no types
    except (OSError, ValueError) as error:
        msg = f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler`"
        raise ScanError(msg) from error
