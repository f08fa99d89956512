"""Looks at files that were found, without reading them: is it a capture, is it known already, of which time is it.

What it opens is the beginning of a file, and the whole of one that may be a copy.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.base.disk import is_no_room
from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.remote import RemoteStored, is_url
from pcapdiag.engine.capture.series import begins_like_capture
from pcapdiag.engine.capture.sources import open_source
from pcapdiag.nightly.scan.model import ScanJobResult
from pcapdiag.nightly.store.model import FileNote, FileRecord, FileStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.nightly.scan.model import Found, Fresh, Job, ReadOptions

HEAD_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 1 << 20


def sift(job: Job) -> tuple[ScanJobResult, list[Fresh]]:
    """Look at every file of a job.

    Parameters
    ----------
    job : Job
        With files of which only the stamp is known.

    Returns
    -------
    (ScanJobResult, list of Fresh)
        Files that are no captures, that are known under another stamp or name, or of another time; those to be read.
    """
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
            raise_if_no_room(error)
            bad.append(failed(fresh, "unreadable", in_words(error), retry=True))
    return ScanJobResult(failed=tuple(bad), unchanged=tuple(unchanged), outside=tuple(outside)), files


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
    from pcapdiag.engine.capture.sniff import HEAD_BYTES, not_a_capture  # noqa: PLC0415 - only bad files need it

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
    from pcapdiag.engine.capture.peek import peek_times  # noqa: PLC0415 - loads the kernels

    with open_source(path) as source:
        is_packed = bool(source.compression)
    return peek_times(path, size, is_packed=is_packed)


def span_of(files: Sequence[Found]) -> tuple[int, int]:
    """Return the first and last time [ns] of files in time order."""
    first, last = _times(files[0].path, files[0].stamp.size)
    if len(files) > 1 or last < 0:
        last = max(last, _times(files[-1].path, files[-1].stamp.size)[1])
    return first, max(first, last)


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


def raise_if_no_room(error: BaseException) -> None:
    """Raise the error again if it says that the disk is full: no file is to blame for that."""
    if is_no_room(error):
        raise error


def in_words(error: Exception) -> str:
    """Return what an error says, without numbers and names."""
    return str(getattr(error, "strerror", None) or error)
