"""Disks that are full, what to say of them, and files that replace others whole."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_no_room(error: BaseException | None) -> bool:
    """Tell whether an error, or what it came of, says that the disk is full or a quota used up."""
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Give errors of the operating system the name of a file, where they have none.

    Parameters
    ----------
    name : str
        The file, or the folder of temporary files.
    """
    try:
        yield
    except OSError as error:
        error.filename = error.filename or name
        raise


def explain(error: OSError) -> str:
    """Return one sentence on an error of the operating system: which file, what is wrong, what helps.

    Parameters
    ----------
    error : OSError
        One without the name of a file is taken for one of standard output.
    """
    name = error.filename if isinstance(error.filename, str) else ""
    if is_no_room(error) and name == tempfile.gettempdir():
        return f"no room left for temporary files in {name}: make room there, or set TMPDIR to another folder"
    if is_no_room(error):
        advice = "make room on its disk or name another place, and run the same command again"
        return f"no room left for {name or 'what goes to standard output'}: {advice}"
    if error.errno == errno.EFBIG:
        return f"{name or 'standard output'} would be larger than files may be here: raise that limit (ulimit -f)"
    if not (name and error.strerror):
        return str(error)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{name}: {error.strerror}; run this as a user who may, or name another place"
    return f"{name}: {error.strerror}"


def replace_file(path: Path, data: bytes, *, is_synced: bool = False) -> None:
    """Write a file that is complete or as it was, and private.

    Parameters
    ----------
    path : Path
        Where.
    data : bytes
        All of it.
    is_synced : bool
        Whether it must outlive a power failure.

    Raises
    ------
    OSError
        It cannot be written; nothing of the attempt is left.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
