"""Progress on stderr: nothing for short work, one bar for long work, one line where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

_SHOW_AFTER_S = 1.0
_REFRESH_S = 0.1


class ProgressMeter:
    """What the engine calls while it works; a context manager that removes the bar at the end.

    Parameters
    ----------
    quiet : bool
        Whether to stay silent.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._is_tty = sys.stderr.isatty()
        self._start = time.monotonic()
        self._next = self._start + _SHOW_AFTER_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

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
        if self._quiet or not self._is_tty or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REFRESH_S
        if self._bar is None:
            self._bar, self._task = _new_bar()
        if self._task is not None:
            total = bytes_total if bytes_total > 0 else None
            self._bar.update(self._task, completed=bytes_done, total=total, description=f"{frames:,} {unit}")


def _new_bar() -> tuple[Progress, TaskID]:
    from rich.console import Console  # noqa: PLC0415 - only long work pays for rich
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.start()
    return bar, bar.add_task("reading", total=None)
