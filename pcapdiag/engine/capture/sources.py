"""Opens what a capture is read from: files, pipes, and either of them compressed.

Knows how bytes come in and what can go wrong on the way; knows nothing of containers. A kind of source is one class
with the methods of `StoredFile` below; `remote.RemoteStored` is the other.
"""

from __future__ import annotations

import hashlib
import os
import select
import stat
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from pcapdiag.base.codecs import DamagedError, compression_of, unpack
from pcapdiag.base.errors import CaptureError
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.remote import RemoteStored, is_url
from pcapdiag.engine.capture.sniff import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STDIN: Final = "-"

_POLL_MS: Final = 100
_GATHER_S: Final = 0.01
_PIPE_BYTES: Final = 1 << 20


class StoredFile:
    """The bytes of a file or pipe as they are stored.

    Parameters
    ----------
    fd : int
        Open descriptor, closed with `close`.
    follow_s : float
        [s] At the end of a regular file, wait for more until it was quiet for so long.
    stopped : threading.Event
        Set when nobody wants the bytes any more; then a wait ends as if the input did.
    is_hashed : bool
        Whether the bytes of a pipe are hashed as they come: they are read but once.
    """

    def __init__(self, fd: int, *, follow_s: float, stopped: threading.Event, is_hashed: bool = False) -> None:
        self._fd = fd
        self._follow_s = follow_s
        self._stopped = stopped
        status = os.fstat(fd)
        self.is_live = not stat.S_ISREG(status.st_mode)
        self.size = -1 if self.is_live else status.st_size
        self.bytes_read = 0
        self.error: OSError | None = None
        self._head = b""
        self._poll: select.poll | None = None
        self._digest = hashlib.sha256() if self.is_live and is_hashed else None
        if self.is_live:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            _widen_pipe(fd)

    def peek(self, n_bytes: int) -> bytes:
        """Return the first bytes without consuming them; more than 3 unless the input is shorter."""
        while len(self._head) < min(n_bytes, 4 if self.is_live else n_bytes):
            buffer = bytearray(n_bytes - len(self._head))
            n_read = self._read(memoryview(buffer))
            if n_read == 0:
                break
            self._head += buffer[:n_read]
        return self._head

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view` with what there is; 0 means the end."""
        if self._head:
            n_head = min(len(self._head), len(view))
            view[:n_head] = self._head[:n_head]
            self._head = self._head[n_head:]
            return n_head
        return self._read(view)

    def read(self, n_bytes: int) -> bytes:
        """Return at least one byte and at most `n_bytes`; none at the end."""
        buffer = bytearray(n_bytes)
        n_read = self.readinto(memoryview(buffer))
        return bytes(memoryview(buffer)[:n_read])

    def is_ready(self, timeout_s: float) -> bool:
        """Return whether a read would return at once, waiting up to `timeout_s` for that."""
        return bool(self._head) or self._poll is None or bool(self._poll.poll(timeout_s * 1000))

    def _read(self, view: memoryview) -> int:
        quiet_since = time.monotonic()
        while not self._stopped.is_set():
            if self._poll is not None and not self._poll.poll(_POLL_MS):
                continue
            try:
                n_read = os.readv(self._fd, [view])
            except OSError as error:
                self.error = error
                return 0
            if n_read:
                self.bytes_read += n_read
                if self._digest is not None:
                    self._digest.update(view[:n_read])
                return n_read
            if self.is_live or time.monotonic() - quiet_since >= self._follow_s:
                return 0
            self._stopped.wait(min(0.1, self._follow_s))
        return 0

    @property
    def sha256(self) -> str:
        """Hex digest of what was read, for a pipe that is hashed; empty for a file, whose blocks `reader` hashes."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def n_grown(self) -> int:
        """Return by how many bytes a regular file has grown since it was opened."""
        return 0 if self.is_live else os.fstat(self._fd).st_size - self.size

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


class Source:
    """The bytes of a capture file, unpacked where it is compressed.

    Attributes
    ----------
    compression : str
        ``gzip``, ``zstd``, ``xz``, ``bzip2``, ``lz4`` or empty.
    is_live : bool
        Whether bytes come as they are produced (a pipe).
    at_end : bool
        Whether there will be no more bytes.
    n_bytes : int
        [bytes] Handed out so far.
    """

    def __init__(self, path: str, stored: StoredFile | RemoteStored) -> None:
        self.path = path
        self._stored = stored
        self.is_live = stored.is_live
        self.at_end = False
        self.n_bytes = 0
        self._damage: Note | None = None
        self.compression = compression_of(stored.peek(HEAD_BYTES))
        self._pieces: Iterator[bytes] | None = unpack(self.compression, stored) if self.compression else None
        self._piece = memoryview(b"")

    @property
    def size(self) -> int:
        """[bytes] Stored size, -1 for a pipe."""
        return self._stored.size

    @property
    def bytes_read(self) -> int:
        """[bytes] Stored bytes consumed so far."""
        return self._stored.bytes_read

    @property
    def is_hashed(self) -> bool:
        """Whether the stored bytes are hashed as they come: of a pipe and of a remote file, which are read but once."""
        return bool(self._stored.sha256)

    @property
    def sha256(self) -> str:
        """Hex digest of the stored bytes of a pipe or a remote file so far; empty for a local file."""
        return self._stored.sha256

    def fill(self, view: memoryview) -> int:
        """Fill `view` and return how many bytes it got; fewer than fit at the end, or from a live source.

        Parameters
        ----------
        view : memoryview
            Where to.

        Returns
        -------
        int
            [bytes] At least 1, unless `at_end` is set.
        """
        n_filled = 0
        gather_until = time.monotonic() + _GATHER_S
        while n_filled < len(view):
            n_read = self._readinto(view[n_filled:])
            if n_read == 0:
                self.at_end = True
                break
            n_filled += n_read
            # What a pipe has is handed on at once; only what follows on its heels is waited for.
            if self.is_live and (self._pieces or not self._stored.is_ready(max(0.0, gather_until - time.monotonic()))):
                break
        self.n_bytes += n_filled
        return n_filled

    def _readinto(self, view: memoryview) -> int:
        if self._pieces is None:
            return self._stored.readinto(view)
        if not self._piece:
            try:
                self._piece = memoryview(next(self._pieces, b""))
            except EOFError:
                text = f"the {self.compression} data ends too early"
                self._damage = Note("truncated-compression", text, offset=self.bytes_read, file=self.path)
            except DamagedError as error:
                text = f"the {self.compression} data is damaged, what follows is lost ({error})"
                self._damage = Note("corrupt-compression", text, offset=self.bytes_read, file=self.path)
        n_copied = min(len(self._piece), len(view))
        view[:n_copied] = self._piece[:n_copied]
        self._piece = self._piece[n_copied:]
        return n_copied

    def notes(self) -> list[Note]:
        """Return what was odd about the way the bytes came in."""
        notes = [self._damage] if self._damage is not None else []
        if self._stored.error is not None:
            text = f"reading stopped: {self._stored.error.strerror}"
            notes.append(Note("read-error", text, offset=self.bytes_read, file=self.path))
        if n_grown := self._stored.n_grown():
            what = f"grew by {n_grown}" if n_grown > 0 else f"shrank by {-n_grown}"
            notes.append(Note("growing-file", f"the file {what} bytes while it was read", file=self.path))
        return notes

    def close(self) -> None:
        """Close the file."""
        self._stored.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(
    path: str, *, follow_s: float = 0.0, stopped: threading.Event | None = None, is_hashed: bool = False
) -> Source:
    """Open a capture file for reading from its first byte.

    Parameters
    ----------
    path : str
        A path, a URL, or ``-`` for standard input.
    follow_s : float
        [s] At the end of a regular file, wait for more until it was quiet for so long.
    stopped : threading.Event, optional
        Set it to end a wait for bytes.
    is_hashed : bool
        Whether what can be read but once is hashed as it comes.

    Returns
    -------
    Source
        To be closed, or used as a context manager.

    Raises
    ------
    CaptureError
        It cannot be opened.
    MissingExtraError
        The package for this kind of URL is not installed.
    UsageError
        `path` is a URL that makes no sense.
    """
    if is_url(path):
        return Source(path, RemoteStored(path))
    try:
        # A named pipe opens at once, whether somebody writes to it or not: who waits must be able to stop.
        fd = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if path != STDIN:
            os.set_blocking(fd, True)
    except OSError as error:
        msg = f"cannot open {path}: {error.strerror}"
        raise CaptureError(msg) from error
    try:
        if problem := _problem(fd):
            msg = f"{path} {problem}"
            raise CaptureError(msg)  # noqa: TRY301 - the descriptor is closed below
        return Source(
            path, StoredFile(fd, follow_s=follow_s, stopped=stopped or threading.Event(), is_hashed=is_hashed)
        )
    except BaseException:
        os.close(fd)
        raise


def _problem(fd: int) -> str:
    """Return why no capture can come from this descriptor, empty if one can."""
    if os.isatty(fd):
        return "is a terminal: pipe a capture into it, for example `tcpdump -w - | pcapdiag analyze -`"
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return "is a folder where a file is needed"
    return ""


def _widen_pipe(fd: int) -> None:
    """Let a pipe hold more, so that its writer waits less; a refusal does no harm."""
    try:
        import fcntl  # noqa: PLC0415 - not on every platform

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return
