"""Where jobs are done: processes of this machine, or a Dask cluster. Both are executors of the standard library.

Knows how workers start and die; a worker that dies takes no other job with it. Local workers end with their parent,
even if it is killed.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from pcapdiag.errors import MissingExtraError, ScanError
from pcapdiag.scan.model import JobResult
from pcapdiag.scan.read import failed, run_job

if TYPE_CHECKING:
    from types import TracebackType

    from pcapdiag.scan.model import Job

_RETRIES: Final = 2
_JOBS_PER_PROCESS: Final = 200
_ASK_EVERY_S: Final = 2.0
_CONNECT_S: Final = 5


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
        self._client: Any = _connect(scheduler) if scheduler else None
        self._n_known = jobs or len(os.sched_getaffinity(0))
        self._ask_again_at = 0.0
        self._executor: Executor | None = None
        self._others = set(multiprocessing.active_children())
        self._running: dict[Future[JobResult], Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._running:
            future.cancel()
        if self._client is not None:
            self._client.close()
        elif self._executor is not None:
            if error is not None:
                # What they read is lost anyway, and whoever waits for an error message shall not wait for them.
                for child in set(multiprocessing.active_children()) - self._others:
                    child.kill()
            self._executor.shutdown(cancel_futures=True)

    @property
    def has_room(self) -> bool:
        """Whether another job would be begun soon: a few wait, so that no worker does."""
        return len(self._running) < self.n_workers + max(self.n_workers // 2, 1)

    @property
    def n_running(self) -> int:
        """Jobs handed out and not done."""
        return len(self._running)

    @property
    def n_workers(self) -> int:
        """Jobs that can be done at the same time."""
        if self._client is not None and time.monotonic() >= self._ask_again_at:
            self._ask_again_at = time.monotonic() + _ASK_EVERY_S  # workers come and go
            self._n_known = max(sum(self._client.nthreads().values()), 1)
        return self._n_known

    def submit(self, job: Job) -> None:
        """Hand out a job."""
        if self._executor is None:
            self._executor = self._start(self._n_known)
        self._running[self._executor.submit(run_job, job)] = job

    def wait(self, timeout_s: float) -> list[tuple[Job, JobResult]]:
        """Return the jobs that were done meanwhile, none if that takes longer.

        Parameters
        ----------
        timeout_s : float
            [s] How long to wait at most.

        Returns
        -------
        list of (Job, JobResult)

        Raises
        ------
        PcapdiagError
            A job cannot be done for a reason that holds for all.
        """
        done, _ = wait(self._running, timeout_s, FIRST_COMPLETED)
        results = []
        suspects = []
        for future in done:
            job = self._running.pop(future)
            try:
                results.append((job, future.result()))
            except BrokenProcessPool:
                suspects.append(job)
            except Exception as error:
                if type(error).__name__ != "KilledWorker":
                    raise
                results.append((job, _died(job)))
        if suspects:
            # One of them killed its worker, and the pool with it; which one shows when each is read on its own.
            suspects += self._running.values()
            self._running.clear()
            self._executor = None
            results += [(job, _do_alone(job)) for job in suspects]
        return results

    def _start(self, n_workers: int) -> Executor:
        if self._client is not None:
            executor: Executor = self._client.get_executor(retries=_RETRIES, pure=False)
            return executor
        return _local_pool(n_workers)


def _local_pool(n_workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        n_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        max_tasks_per_child=_JOBS_PER_PROCESS,
    )


def _do_alone(job: Job) -> JobResult:
    with _local_pool(1) as pool:
        try:
            return pool.submit(run_job, job).result()
        except BrokenProcessPool:
            return _died(job)


def _died(job: Job) -> JobResult:
    """Return what to say of a job whose worker died of it; files of a series are tried one by one."""
    if len(job.fresh) > 1 and job.part is None:
        return JobResult(more=tuple(replace(job, fresh=(file,), context=None) for file in job.fresh))
    text = "the process that read it was killed, perhaps for want of memory: read it alone with `pcapdiag analyze`"
    return JobResult(failed=tuple(failed(file, "worker-died", text, retry=True) for file in job.fresh))


def _prepare() -> None:
    """Make a process ready for jobs: it ends when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, name="pcapdiag-parent", daemon=True).start()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.freeze()


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
