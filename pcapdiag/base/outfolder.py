"""A folder that pcapdiag writes files into again and again: each complete or as it was, nothing outside of it touched.

Everything happens relative to the open folder, so that no link, put there before or in the meantime, leads elsewhere.
What somebody else put into the folder is neither overwritten nor removed. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pcapdiag.base.disk import is_no_room
from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PART: Final = ".pcapdiag-part"
_PATIENCE_S: Final = 120.0
_HEAD_BYTES: Final = 4096


class OutFolder:
    """An open folder. Use it as a context manager.

    One that it makes is for its owner alone. In one that was there, files may be read by whoever may read the folder;
    a folder that everybody writes into, like ``/tmp``, says nothing about who may.

    Parameters
    ----------
    path : str or path
        Where; missing folders are made.
    is_own : callable
        Told the beginning of a file (4 KiB), says whether pcapdiag wrote it.
    is_private : bool
        Whether files are for their owner alone, whoever may read the folder.

    Raises
    ------
    UsageError
        It is no folder, or cannot be made.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, is_own: Callable[[bytes], bool], is_private: bool = False
    ) -> None:
        self.path = Path(path)
        self._is_own = is_own
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self.path, _FOLDER_FLAGS)
        except OSError as error:
            msg = f"cannot write into {path}: {error.strerror}; name another folder"
            raise UsageError(msg) from error
        mode = os.fstat(self._fd).st_mode
        self._mode = 0o700 if is_private or mode & stat.S_IWOTH else 0o700 | mode & 0o055

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    @contextmanager
    def locked(self, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Keep other processes from writing into it; sweep what one that was killed left.

        Raises
        ------
        UsageError
            Another one has been writing for too long.
        """
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    msg = f"another pcapdiag is writing into {self.path}; try again when it is done"
                    raise UsageError(msg) from None
                time.sleep(0.1)
        try:
            self._sweep()
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def sub(self, name: str) -> OutFolder:
        """Open a folder in it, made if it is missing.

        Raises
        ------
        UsageError
            It is a link, or no folder.
        """
        try:
            try:
                os.mkdir(name, self._mode, dir_fd=self._fd)
            except FileExistsError:
                is_made = False
            else:
                is_made = True
            fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=self._fd)
        except OSError as error:
            raise self._refused(name, error) from error
        if is_made:
            os.fchmod(fd, self._mode)  # whatever the umask
        made = copy(self)
        made.path, made._fd = self.path / name, fd  # noqa: SLF001 - of this very class
        made._sweep()  # noqa: SLF001 - the same
        return made

    def write(self, name: str, content: bytes) -> bool:
        """Write a file; one that holds the same already is left as it is.

        Parameters
        ----------
        name : str
            Without a folder.
        content : bytes
            All of it.

        Returns
        -------
        bool
            Whether it was written.

        Raises
        ------
        UsageError
            A file of this name is not ours, or there is no room.
        """
        if self._holds(name, content):
            return False
        part = f".{secrets.token_hex(8)}{_PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(part, flags, 0o600, dir_fd=self._fd)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(fd, self._mode & 0o644)
                    os.fsync(fd)
                os.rename(part, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except BaseException:
                os.unlink(part, dir_fd=self._fd)
                raise
        except OSError as error:
            raise self._refused(name, error) from error
        return True

    def names(self) -> list[str]:
        """Return the names of what is in it, sorted."""
        return sorted(os.listdir(self._fd))  # noqa: PTH208 - by descriptor, not by name

    def remove(self, name: str) -> bool:
        """Remove a file if it is ours; return whether it was."""
        head = self._read(name, _HEAD_BYTES)
        if head is None or not self._is_own(head):
            return False
        os.unlink(name, dir_fd=self._fd)
        return True

    def _holds(self, name: str, content: bytes) -> bool:
        """Tell whether a file is there and holds just this; refuse if it is not ours."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        head = self._read(name, _HEAD_BYTES)
        if head is None or not self._is_own(head):
            msg = f"{self.path / name} is not pcapdiag's own; move it away or name another place"
            raise UsageError(msg)
        return head == content[:_HEAD_BYTES] and self._read(name, len(content) + 1) == content

    def _read(self, name: str, most: int) -> bytes | None:
        """Return the beginning of a file; None for what is no plain file, or not there."""
        try:
            # A named pipe must not make us wait.
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(most)

    def _sweep(self) -> None:
        for name in self.names():
            if name.startswith(".") and name.endswith(_PART):
                os.unlink(name, dir_fd=self._fd)

    def _refused(self, name: str, error: OSError) -> UsageError:
        where = self.path / name
        if is_no_room(error):
            return UsageError(f"no room left for {where}: make room on its disk and run the same command again")
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            return UsageError(f"{where} is a link or no folder; move it away or name another place")
        return UsageError(f"cannot write {where}: {error.strerror}")
