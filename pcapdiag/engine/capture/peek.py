"""Tells when a capture file begins and ends without reading all of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.columns import FRAMES
from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.kernels.containers import FULL
from pcapdiag.engine.capture.notes import NoteBook
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.capture.remote import is_url, read_ends
from pcapdiag.engine.capture.walker import Walker

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PEEK_BYTES: Final = 1 << 20
_WHOLE_BYTES: Final = 16 << 20
_PEEK_ROWS: Final = 4096


def peek_times(path: str, size: int, *, is_packed: bool) -> tuple[int, int]:
    """Return the earliest and the latest time of a capture file, as far as its ends show them.

    Parameters
    ----------
    path : str
        A file that begins like a capture.
    size : int
        [bytes] Its size on disk.
    is_packed : bool
        Whether it is compressed, and so can only be read from its beginning.

    Returns
    -------
    first_ts_ns, last_ts_ns : int
        [ns] -1 where there are no frames, and for the end of a large compressed file.

    Raises
    ------
    CaptureError
        The file can no longer be read.
    """
    if size > _WHOLE_BYTES and not is_packed:
        return _peek_ends(path)
    file = CaptureFile(path)
    for _ in read_batches(Capture([file]), decode=False, block_bytes=_PEEK_BYTES):
        if size > _WHOLE_BYTES and file.first_ts_ns >= 0:
            return file.first_ts_ns, -1
    return file.first_ts_ns, file.last_ts_ns


def _peek_ends(path: str) -> tuple[int, int]:
    file = CaptureFile(path)
    walker = Walker(NoteBook())
    walker.begin_file(file)
    head, tail = read_ends(path, _PEEK_BYTES) if is_url(path) else _local_ends(path)
    _walk_all(walker, np.frombuffer(bytearray(head), dtype=np.uint8), at_end=False)
    first_ts_ns = file.first_ts_ns
    walker.begin_tail()
    _walk_all(walker, np.frombuffer(bytearray(tail), dtype=np.uint8), at_end=True)
    return first_ts_ns, file.last_ts_ns


def _local_ends(path: str) -> tuple[bytes, bytes]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - not worth pathlib's import time
            head = file.read(_PEEK_BYTES)
            file.seek(-_PEEK_BYTES, os.SEEK_END)
            return head, file.read(_PEEK_BYTES)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise CaptureError(msg) from error


def _walk_all(walker: Walker, buffer: NDArray[np.uint8], *, at_end: bool) -> None:
    rows = FRAMES.empty(_PEEK_ROWS)
    while walker.walk(buffer, len(buffer), rows, at_end=at_end, eager=False) == FULL:
        pass
