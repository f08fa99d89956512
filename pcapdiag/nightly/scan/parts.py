"""Which files of a series are one capture: those before what is known of it, those after, and those that have grown."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.nightly.scan.model import Part
from pcapdiag.nightly.scan.sift import HEAD_BYTES, file_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.nightly.scan.model import Fresh, Job


def group(job: Job, files: Sequence[Fresh]) -> list[Part]:
    """Return what is to be read as one capture each.

    Parameters
    ----------
    job : Job
        With the newest file of the series that was read before, if there is one.
    files : sequence of Fresh
        Those of its files that are captures.

    Returns
    -------
    list of Part
        In time order; none without files.

    Raises
    ------
    OSError
        A file can no longer be read.
    """
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
        return Part(key_of(job, paths[0], known.last_ts_ns), tuple(paths), (), known.last_ts_ns)
    if follows and job.context is not None:
        after = job.context.last_ts_ns
        return Part(key_of(job, paths[0], after), tuple(paths), (job.context.path,), after)
    return Part(key_of(job, paths[0], -1), tuple(paths))


def key_of(job: Job, path: str, after_ts_ns: int) -> str:
    """Return what the store knows a capture by: it is the same whenever the same file is read after the same."""
    head, _ = file_hash(path, HEAD_BYTES)
    return hashlib.sha256(f"{job.series}\n{path}\n{head}\n{after_ts_ns}".encode()).hexdigest()[:32]
