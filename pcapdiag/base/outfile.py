"""Files that pcapdiag writes: complete or not there, for their owner alone, never over another file by accident.

A capture and what is made of it hold what passed between two machines; whoever shares a machine with the operator has
no business with it. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pcapdiag.base.disk import explain, naming
from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Raw(io.FileIO):
    """An open file whose errors say its name."""

    def __init__(self, file: int | Path, shown: str) -> None:
        super().__init__(file, "wb")
        self._shown = shown

    def write(self, data: Any, /) -> int:
        with naming(self._shown):
            return super().write(data)


class _Part:
    """A file that is being written, under a name of its own until it is complete."""

    def __init__(self, target: Path, *, force: bool) -> None:
        self._target = target
        self._force = force
        self._final = _place(target)
        _refuse_existing(target, self._final, force=force)
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self._final.name}.", dir=self._final.parent)  # mode 0600
        except OSError as error:
            error.filename = str(target)
            msg = f"cannot write {explain(error)}"
            raise UsageError(msg) from error
        self._part = Path(name)
        self._raw = _Raw(handle, str(target))
        self.file: IO[bytes] = io.BufferedWriter(self._raw)

    def complete(self) -> None:
        """Write what is still held back."""
        self.file.close()
        _refuse_existing(self._target, self._final, force=self._force)  # somebody else may have been faster

    def show(self) -> None:
        """Give it its name."""
        self._part.replace(self._final)

    def drop(self) -> None:
        """Leave nothing of it; what has its name by now stays."""
        self._part.unlink(missing_ok=True)
        self._raw.close()  # not `file`, which would try once more to write what it holds back


@contextmanager
def open_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file before the work begins, so that a bad place is known at once.

    It appears under its name only when it is complete: nothing is left behind by a run that failed.

    Parameters
    ----------
    path : str or path
        Where to write. A link is followed within its folder, never out of it.
    force : bool
        Whether an existing file is replaced.

    Yields
    ------
    file object
        Binary, writable; seekable unless `path` is a device or a named pipe.

    Raises
    ------
    UsageError
        The file exists and `force` was not given, it is a link to another folder, or it cannot be created.
    """
    target = Path(path)
    _place(target)
    if _is_special(target):
        with _Raw(target, str(target)) as device:
            yield device
        return
    with open_files(target.parent, force=force) as begin:
        yield begin(target.name)


@contextmanager
def open_files(folder: Path, *, force: bool = False) -> Iterator[Callable[[str], IO[bytes]]]:
    """Open several files of one folder, which appear under their names when all are complete, or not at all.

    Parameters
    ----------
    folder : Path
        Where to write.
    force : bool
        Whether existing files are replaced.

    Yields
    ------
    callable
        Opens the file of a name, as `open_file` does.

    Raises
    ------
    UsageError
        As `open_file`.
    """
    parts: list[_Part] = []

    def begin(name: str) -> IO[bytes]:
        parts.append(_Part(folder / name, force=force))
        return parts[-1].file

    try:
        yield begin
        for part in parts:
            part.complete()
        for part in parts:
            part.show()
    finally:
        for part in parts:
            part.drop()


def _place(target: Path) -> Path:
    """Return where `target` leads; a link to a file of its own folder keeps pointing there."""
    try:
        final = target.resolve()
        if final.is_symlink():  # a link to itself, which newer versions of Python resolve to itself
            msg = f"cannot write {target}: {os.strerror(errno.ELOOP)}"
            raise UsageError(msg)
        if target.is_symlink() and final.parent != target.parent.resolve() and not _is_special(target):
            msg = f"{target} is a link to another folder; write to {final} itself or choose another name"
            raise UsageError(msg)
    except (OSError, RuntimeError) as error:
        msg = f"cannot write {target}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(msg) from error
    return final


def _is_special(path: Path) -> bool:
    """Return whether `path` is a device or a named pipe: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _refuse_existing(target: Path, final: Path, *, force: bool) -> None:
    if final.is_dir():
        msg = f"{target} is a folder; give the name of a file in it"
        raise UsageError(msg)
    if not force and os.path.lexists(final):
        msg = f"{target} exists already; choose another name or add --force"
        raise UsageError(msg)
