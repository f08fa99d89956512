"""Says so when the recorder does not keep up with the capture, or the capture does not hand its frames on."""

from __future__ import annotations

import array
import fcntl
import termios
import time
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S, format_duration_ns

if TYPE_CHECKING:
    from collections.abc import Callable

BEHIND_NS: Final = 5_000_000_000
"""Later than that, frames are late."""
_SAY_EVERY_S: Final = 60.0
_FULL_LOOKS: Final = 10


class Pace:
    """Watches standard input, and how far reading is behind.

    Parameters
    ----------
    is_pipe : bool
        Whether the recording comes from standard input.
    say : callable
        Called with a remark, at most once a minute.
    """

    def __init__(self, say: Callable[[str], None], *, is_pipe: bool) -> None:
        self._say = say
        self._is_pipe = is_pipe
        self._n_full = 0
        self._said_at = -_SAY_EVERY_S

    def look(self, behind_ns: int) -> None:
        """Look once; every second or so.

        Parameters
        ----------
        behind_ns : int
            [ns] How far reading is behind the capture.
        """
        self._n_full = self._n_full + 1 if self._is_pipe and _pipe_is_full() else 0
        if not behind_ns or time.monotonic() - self._said_at < _SAY_EVERY_S:
            return
        if self._n_full >= _FULL_LOOKS:
            text = (
                "the pipe is full: the capture waits and may drop packets (its own last line tells); narrow its "
                "filter, or give it a larger buffer (tcpdump -B 65536)"
            )
        elif behind_ns > BEHIND_NS and not self._n_full:
            whole_ns = behind_ns // NS_PER_S * NS_PER_S
            text = (
                f"frames arrive {format_duration_ns(whole_ns)} late: the capture gathers them; tcpdump -U "
                "hands each on at once"
            )
        else:
            return
        self._said_at = time.monotonic()
        self._say(text)


def _pipe_is_full() -> bool:
    """Tell whether standard input is a pipe that holds all it can, so that its writer waits."""
    try:
        capacity = fcntl.fcntl(0, fcntl.F_GETPIPE_SZ)
        waiting = array.array("i", [0])
        fcntl.ioctl(0, termios.FIONREAD, waiting)
    except (OSError, AttributeError):  # no pipe, or a platform that does not tell
        return False
    return waiting[0] > capacity - 2 * 4096
