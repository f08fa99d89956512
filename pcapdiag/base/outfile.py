"""Files that pcapdiag writes: complete or not there, for their owner alone, never over another file by accident.

A capture and what is made of it hold what passed between two machines; whoever shares a machine with the operator has
no business with it. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    final = _place(target)
    if _is_special(target):
        with target.open("wb", buffering=0) as device:
            yield device
        return
    _refuse_existing(target, final, force=force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)  # mode 0600
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise UsageError(msg) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _refuse_existing(target, final, force=force)  # somebody else may have been faster
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


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
