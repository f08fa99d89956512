"""Tells channels of new incidents, beside everything else: a channel that hangs holds nothing up.

What could not be sent is owed, also over a restart, and tried again every minute. Knows incidents and what becomes of
a message; neither who is behind a channel nor how one writes to it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcapdiag.watch.model import KeptIncident
    from pcapdiag.watch.state import State

    Send = Callable[[Sequence[KeptIncident]], str]

_AGAIN_S: Final = 60.0


class Messenger:
    """Sends messages in a thread, one after the other.

    Parameters
    ----------
    channels : mapping of str to callable
        By the name that may be shown; called with incidents, returns why they could not be told, or nothing.
    state : State
        Remembers what is owed to whom.
    say : callable
        Called with remarks.
    """

    def __init__(self, channels: Mapping[str, Send], state: State, say: Callable[[str], None]) -> None:
        self._channels = channels
        self._state = state
        self._say = say
        self._thread: threading.Thread | None = None
        self._sent: list[tuple[str, list[str], str]] = []
        self._again_at: dict[str, float] = {}
        state.owed = {name: paths for name, paths in state.owed.items() if name in channels}

    @property
    def n_owed(self) -> int:
        """Messages that are owed, one per incident and channel."""
        return sum(map(len, self._state.owed.values()))

    def add(self, incident: KeptIncident) -> None:
        """Have every channel told of an incident."""
        for name in self._channels:
            self._state.owe(name, incident.path)

    def tick(self) -> bool:
        """Take note of what was sent, and begin with what is to be sent; return whether messages are on their way."""
        if self._thread is not None and self._thread.is_alive():
            return True
        self._thread = None
        sent, self._sent = self._sent, []
        for name, paths, problem in sent:
            self._settle(name, paths, problem)
        incidents = {incident.path: incident for incident in self._state.incidents}
        due: list[tuple[str, list[KeptIncident]]] = []
        for name, paths in self._state.owed.items():
            if not paths or self._again_at.get(name, 0.0) > time.monotonic():
                continue
            due.append((name, [incidents[path] for path in paths if path in incidents]))
            if n_gone := len(paths) - len(due[-1][1]):
                self._say(f"{name} will not be told of {n_gone} incidents: they were deleted before it could be")
                self._state.owed[name] = [path for path in paths if path in incidents]
        due = [(name, told) for name, told in due if told]
        if due:
            self._thread = threading.Thread(target=self._run, args=(due,), name="pcapdiag-messages", daemon=True)
            self._thread.start()
        return bool(due)

    def finish(self, patience_s: float) -> None:
        """Send what is owed, once, as far as there is time."""
        until = time.monotonic() + patience_s
        self._again_at.clear()
        while self.tick() and time.monotonic() < until:
            time.sleep(0.05)
        if self.n_owed:
            self._say(f"{self.n_owed} messages could not be sent; the next run tries again")

    def _run(self, due: Sequence[tuple[str, list[KeptIncident]]]) -> None:
        for name, incidents in due:
            problem = self._channels[name](incidents)
            self._sent.append((name, [incident.path for incident in incidents], problem))

    def _settle(self, name: str, paths: list[str], problem: str) -> None:
        if problem:
            self._again_at[name] = time.monotonic() + _AGAIN_S
            self._say(f"could not tell {name}: {problem}; it is tried again")
            return
        self._state.owed[name] = [path for path in self._state.owed[name] if path not in paths]
