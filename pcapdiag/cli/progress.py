"""Progress on stderr: nothing for short work, one bar for long work, one line where stderr is no terminal."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from pcapdiag.cli.output import STDOUT
from pcapdiag.privacy.escape import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import Progress, TaskID

_SHOW_AFTER_S = 1.0
_REFRESH_S = 0.1
_SILENT_AFTER_S = 3.0


class ProgressMeter:
    """What the engine calls while it works; a context manager that removes the bar at the end.

    Parameters
    ----------
    quiet : bool
        Whether to stay silent.
    captures : sequence of str
        What is read: of pipes among them it is said that nothing comes.
    """

    def __init__(self, *, quiet: bool = False, captures: Sequence[str] = ()) -> None:
        self._quiet = quiet
        self._is_tty = sys.stderr.isatty()
        self._start = time.monotonic()
        self._next = self._start + _SHOW_AFTER_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._counts = False
        self._pipes = [] if quiet else [path for path in captures if _is_pipe(path)]
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if self._pipes:
            self._timer = threading.Timer(_SILENT_AFTER_S, self._say_waiting)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_waiting()
        if self._bar is not None:
            self._bar.stop()

    def _say_waiting(self) -> None:
        what = ", ".join("standard input" if path == STDOUT else visible(path) for path in self._pipes)
        click.echo(f"pcapdiag: nothing has come from {what} yet; waiting (Ctrl-C ends it)", err=True)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_progress(self, bytes_done: int, bytes_total: int, frames: int, *, unit: str = "frames") -> None:
        """Show how far reading is, from the second second on.

        Parameters
        ----------
        bytes_done, bytes_total : int
            [bytes] Input consumed, and its size; a total of 0 or less is not known.
        frames : int
            Frames decoded so far, or how many there are of another `unit`.
        unit : str
            What is counted.
        """
        self._stop_waiting()
        if self._quiet or not self._is_tty or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REFRESH_S
        if self._bar is None:
            self._bar, self._task = _new_bar()
        if self._task is not None:
            total = bytes_total if bytes_total > 0 else None
            self._bar.update(self._task, completed=bytes_done, total=total, description=f"{frames:,} {unit}")

    def on_count(self, done: int, total: int, *, unit: str = "scenarios") -> None:
        """Show how far work is that is counted, not read; takes the place of the bar of what was read.

        Parameters
        ----------
        done, total : int
            Of `unit`.
        unit : str
            What is counted.
        """
        if self._quiet or not self._is_tty or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REFRESH_S
        if not self._counts:
            if self._bar is not None:
                self._bar.stop()
            self._counts = True
            self._bar, self._task = _new_bar(counting=True)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=unit)


def _is_pipe(path: str) -> bool:
    try:
        mode = os.fstat(0).st_mode if path == STDOUT else Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode)


def _new_bar(*, counting: bool = False) -> tuple[Progress, TaskID]:
    from rich.console import Console  # noqa: PLC0415 - only long work pays for rich
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = (MofNCompleteColumn(),) if counting else (DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.start()
    return bar, bar.add_task("reading", total=None)
