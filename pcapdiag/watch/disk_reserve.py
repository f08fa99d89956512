"""What happens when the disk is full: the ring gives way, everything else waits and is tried again.

The recording goes on in what room there is. Incidents are what the operator wants, so none is deleted for room; only
`--keep` does that. Knows errors and the ring; nothing of what is written.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcapdiag.watch.ring import Ring

_SAY_EVERY_S: Final = 60.0
_AGAIN_S: Final = 2.0
_LONGEST_S: Final = 60.0
_GIVE_EVERY_S: Final = 30.0
_QUIET_S: Final = 60.0


class DiskReserve:
    """The room that the ring leaves to others.

    Parameters
    ----------
    ring : Ring
        What gives way.
    say : callable
        Called with a remark, at most once a minute.
    """

    def __init__(self, ring: Ring, say: Callable[[str], None]) -> None:
        self._ring = ring
        self._say = say
        self._short_at = self._gave_at = self._grew_at = -_QUIET_S
        self._said_at = -_SAY_EVERY_S
        self._least_bytes = 0
        self._n_lost = 0
        self._tried_at = 0.0
        self.n_tries = 0
        """Reports in a row for which there was no room."""

    @property
    def is_short(self) -> bool:
        """Whether a report found no room a moment ago: the next one waits, longer each time."""
        pause_s = min(_AGAIN_S * 2 ** min(self.n_tries - 1, 10), _LONGEST_S)
        return self.n_tries > 0 and time.monotonic() - self._tried_at < pause_s

    def ran_out(self, what: str, keep_from_ns: int, *, is_report: bool) -> None:
        """Take note that there was no room, and make some.

        The ring gives up a quarter of what it has at a time, and three quarters in all: whoever fills the disk would
        take the rest, too.

        Parameters
        ----------
        what : str
            What could not be written.
        keep_from_ns : int
            [ns] From when on the ring is needed for failures that wait.
        is_report : bool
            Whether that was a report, which is not tried again at once.
        """
        now = time.monotonic()
        if is_report:
            self.n_tries += 1
            self._tried_at = now
        n_freed = 0
        if now - self._gave_at >= _GIVE_EVERY_S:
            if now - self._short_at >= _QUIET_S:
                self._least_bytes = self._ring.n_bytes // 4
            self._gave_at = now
            n_freed = self._ring.give_way(keep_from_ns, self._least_bytes)
        self._short_at = now
        if self._is_time():
            self._say(
                f"no room on the disk for {what}: it is tried again, and recording goes on. The ring gave up "
                f"{format_bytes(n_freed)}; make room on the disk, or give a smaller --ring or --keep"
            )

    def found_room(self) -> None:
        """Take note that there was room for a report."""
        self.n_tries = 0

    def look(self) -> None:
        """Say what the ring could not take, and let it grow again when there was room for a while."""
        if self._ring.n_lost > self._n_lost and self._is_time():
            n, self._n_lost = self._ring.n_lost - self._n_lost, self._ring.n_lost
            self._say(f"no room on the disk: {n:,} frames could not be kept; recording goes on when there is some")
        if time.monotonic() - max(self._short_at, self._grew_at) >= _QUIET_S:
            self._grew_at = time.monotonic()
            self._ring.grow()

    def _is_time(self) -> bool:
        if time.monotonic() - self._said_at < _SAY_EVERY_S:
            return False
        self._said_at = time.monotonic()
        return True
