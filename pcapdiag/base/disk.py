"""Disks that are full, and files that replace others whole."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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
