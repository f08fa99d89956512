"""Where a report goes: stdout, or a file that only its owner may read and that is never overwritten by accident."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pcapdiag.outfile import open_file

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
