"""A capture that is too large for one worker: who reads which share of it, and when the shares are joined.

Knows jobs and their results; not how a share is read. Whatever goes wrong with a share, the capture is read whole by
one worker, as if nobody had thought of sharing it.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.shards import read_same
from pcapdiag.engine.tcp.tracker import Shard

if TYPE_CHECKING:
    from pcapdiag.analysis.shards import ShardResult
    from pcapdiag.nightly.scan.model import Job, ScanJobResult


class Shards:
    """The captures that are being shared."""

    def __init__(self) -> None:
        self._read: dict[str, dict[int, ShardResult | None]] = {}

    def take(self, job: Job, result: ScanJobResult, n_idle: int) -> list[Job]:
        """Note the result of a job and return what is to be done because of it.

        Parameters
        ----------
        job : Job
            What was done.
        result : ScanJobResult
            What came of it.
        n_idle : int
            Workers for which there is nothing to do.

        Returns
        -------
        list of Job
            The shares of a large capture, or the joining of all its shares; none as a rule.
        """
        for shard in job.shards:
            shard.discard()
        if result.split is not None:
            return _shares(result.split, n_idle)
        if job.shard is None or job.part is None:
            return []
        read = self._read.setdefault(job.part.key, {})
        read[job.shard.number] = result.shard
        if len(read) < job.shard.n_shards:
            return []
        del self._read[job.part.key]
        shards = [shard for _, shard in sorted(read.items()) if shard is not None]
        if len(shards) == job.shard.n_shards and read_same(shards):
            return [replace(job, shard=None, shards=tuple(shards))]
        for shard in shards:
            shard.discard()
        return [replace(job, shard=None, split_bytes=0)]


def _shares(job: Job, n_idle: int) -> list[Job]:
    """Return a job for each share; while there are other captures to read, one worker for each is the faster way."""
    if n_idle < 2:
        return [replace(job, split_bytes=0)]
    seed = secrets.randbits(31)
    return [replace(job, shard=Shard(number, n_idle, seed)) for number in range(n_idle)]
