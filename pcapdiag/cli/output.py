"""Where a report goes: stdout, or a file that only its owner may read and that is never overwritten by accident."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pcapdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = "-"


@contextmanager
def open_output(path: str, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open the output before the work begins, so that a bad place is known at once.

    A file appears under its name only when it is complete: nothing is left behind by a run that failed.

    Parameters
    ----------
    path : str
        ``-`` is stdout.
    force : bool
        Whether an existing file is replaced.

    Yields
    ------
    file object
        Binary, writable.

    Raises
    ------
    UsageError
        The file exists and `force` was not given, or it cannot be created.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if _is_special(target):
        with target.open("wb", buffering=0) as device:
            yield device
        return
    if target.exists() and not force:
        msg = f"{path} exists already; choose another name or add --force"
        raise UsageError(msg)
    final = target.resolve()  # a link keeps pointing where it points
    try:
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)  # mode 0600
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise UsageError(msg) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _publish(part, final, force=force)
    finally:
        part.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Return whether `path` is a device or a named pipe: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _publish(part: Path, final: Path, *, force: bool) -> None:
    if not force and final.exists():  # somebody else was faster
        msg = f"{final} exists already; choose another name or add --force"
        raise UsageError(msg)
    part.replace(final)
