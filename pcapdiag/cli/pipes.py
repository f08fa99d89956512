"""Readers of our output that leave before its end (`| head`): no error, and nobody is told."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def let_readers_leave() -> None:
    """Lead each stream that nobody reads any more to nowhere; else Python complains when it flushes at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Go on when the reader leaves while the result is written: the exit code still says what was found.

    For commands whose work is done by then; what still reads a capture ends with `BrokenPipeError`.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        let_readers_leave()
