"""Where a report goes: stdout, or a file that only its owner may read and that is never overwritten by accident."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pcapdiag.base.outfile import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = "-"


@contextmanager
def open_output(path: str, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open stdout or a file, before the work begins.

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
        As `outfile.open_file` says.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open_file(path, force=force) as file:
        yield file


def terminal_form(width: int | None, default: int, *, to_stdout: bool) -> tuple[int, bool]:
    """Return the columns of a report for a terminal, and whether it has colours.

    Parameters
    ----------
    width : int or None
        As the operator wants it; None for the terminal's own.
    default : int
        Where there is no terminal.
    to_stdout : bool
        Whether the report goes to stdout.
    """
    is_tty = to_stdout and sys.stdout.isatty()
    if width is None:
        width = shutil.get_terminal_size((default, 24)).columns if is_tty else default
    return width, is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
