"""Checksums of inputs, computed beside everything else.

Hashing releases the GIL, so it has threads of its own: one for whole files (logs, configurations), and one beside each
reader for the blocks that it has read, which lie in the cache then. Knows bytes and files only; imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PIECE_BYTES: Final = 1 << 20
"""[bytes] Small enough to stay in the cache between reading and hashing."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """SHA-256 of a file as stored.

    `sha256` is empty where there is none to give: nobody asked for it, a pipe, or a file that could not be read, in
    which case `error` says why. `n_bytes` is how much was hashed; of a growing file that is its size when that began.
    """

    sha256: str = ""
    n_bytes: int = 0
    error: str = ""


class DigestRun:
    """Digests on their way; `start_digest` makes one."""

    def __init__(self, paths: Sequence[str], *, is_hashed: bool) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._is_hashed = is_hashed
        self._digests: dict[str, FileDigest] = {}
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pcapdiag-digest", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for path in self._paths:
            self._digests[path] = _digest(path, self._cancelled, is_hashed=self._is_hashed)

    def result(self) -> dict[str, FileDigest]:
        """Wait for the digests and return them by path."""
        self._thread.join()
        return dict(self._digests)

    def cancel(self) -> None:
        """Stop soon; files not finished then have no digest."""
        self._cancelled.set()


def start_digest(paths: Sequence[str], *, is_hashed: bool = True) -> DigestRun:
    """Begin to compute the SHA-256 of files in a thread of its own.

    Parameters
    ----------
    paths : sequence of str
        Files; ``-`` and pipes get an empty digest, for they can be read only once.
    is_hashed : bool
        Else only their sizes are told.

    Returns
    -------
    DigestRun
        Ask it for the `result` when everything else is done.
    """
    return DigestRun(paths, is_hashed=is_hashed)


def _digest(path: str, cancelled: threading.Event, *, is_hashed: bool) -> FileDigest:
    if path == "-":
        return FileDigest()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - not worth pathlib's import time
            return FileDigest()
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the same
            n_left = os.fstat(file.fileno()).st_size
            if not is_hashed:
                return FileDigest(n_bytes=n_left)
            digest = hashlib.sha256()
            n_bytes = 0
            buffer = memoryview(bytearray(min(_PIECE_BYTES, max(n_left, 1))))
            while n_left > 0 and not cancelled.is_set():
                n_read = file.readinto(buffer[: min(len(buffer), n_left)])
                if not n_read:
                    break
                digest.update(buffer[:n_read])
                n_bytes += n_read
                n_left -= n_read
    except OSError as error:
        return FileDigest(error=error.strerror or str(error))
    if cancelled.is_set():
        return FileDigest(error="cancelled")
    return FileDigest(digest.hexdigest(), n_bytes)


class BlockDigest:
    """SHA-256 of blocks that somebody else reads, in a thread of its own."""

    def __init__(self) -> None:
        self._blocks: SimpleQueue[tuple[memoryview, Callable[[], None]] | None] = SimpleQueue()
        self._digest = hashlib.sha256()
        self._thread = threading.Thread(target=self._run, name="pcapdiag-digest", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            data, on_done = block
            self._digest.update(data)
            on_done()

    def add(self, data: memoryview, on_done: Callable[[], None]) -> None:
        """Hash the next bytes and call `on_done` then: until that they must stay as they are."""
        self._blocks.put((data, on_done))

    def finish(self) -> str:
        """Wait for what was added and return the hex digest; nothing may be added afterwards."""
        self._blocks.put(None)
        self._thread.join()
        return self._digest.hexdigest()
