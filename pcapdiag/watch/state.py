"""What the recorder remembers over restarts: one JSON file, replaced as a whole.

A recorder that is killed at any moment goes on where the file says: what was reported is not reported again, what
waited for its report still waits. Knows the file; nothing of how its contents come about.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from pcapdiag.errors import UsageError
from pcapdiag.watch.model import Incident, Pending, SourceFile
from pcapdiag.watch.tail import LogPosition

if TYPE_CHECKING:
    from pathlib import Path

_VERSION: Final = 1
_NAME: Final = "state.json"
_MOST_KEYS: Final = 50_000
_MOST_SOURCES: Final = 2000
_MOST_COOLING: Final = 5000


@dataclass(slots=True)
class State:
    """All that lasts.

    Attributes
    ----------
    incidents : list of Incident
        Those that are kept, oldest first.
    n_incidents : int
        All that there ever were.
    keys : deque of str
        Occurrences that incidents hold.
    cooling : dict of str to int
        [ns] Until when an identifier (``id ...``) or a signature is only counted.
    pending : list of Pending
        What waits for its report.
    running : list of Pending
        What goes into the report that is being made; after a restart it waits again.
    sources : list of SourceFile
        Files of the folder that were read.
    ring_mark : (int, int)
        How far the ring was written when `sources` were as they are here; see `ring.Ring.mark`.
    logs : dict of str to LogPosition
        Where the logs stand.
    """

    incidents: list[Incident] = field(default_factory=list)
    n_incidents: int = 0
    keys: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_KEYS))
    cooling: dict[str, int] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    running: list[Pending] = field(default_factory=list)
    sources: list[SourceFile] = field(default_factory=list)
    ring_mark: tuple[int, int] = (-1, -1)
    logs: dict[str, LogPosition] = field(default_factory=dict)

    def forget(self, now_ns: int) -> None:
        """Drop what has no effect any more.

        Parameters
        ----------
        now_ns : int
            [ns] By the capture's clock.
        """
        self.cooling = {name: until for name, until in self.cooling.items() if until > now_ns}
        if len(self.cooling) > _MOST_COOLING:
            latest = sorted(self.cooling.items(), key=lambda item: item[1])[-_MOST_COOLING:]
            self.cooling = dict(latest)
        if len(self.sources) > _MOST_SOURCES:
            del self.sources[: len(self.sources) - _MOST_SOURCES]


class StateFile:
    """The file, and the lock that keeps a second recorder out of the folder.

    Parameters
    ----------
    folder : Path
        Private to the recorder.

    Raises
    ------
    UsageError
        Another recorder uses the folder, or the file is of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._lock: IO[bytes] = (folder / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            msg = f"another recorder writes to {folder.parent}; give each its own --out"
            raise UsageError(msg) from error
        self._written = b""

    def read(self) -> State:
        """Return what an earlier run left, or a state with nothing in it."""
        if not self._path.exists():
            return State()
        values = json.loads(self._path.read_bytes())
        if values["version"] != _VERSION:
            msg = f"{self._path} was written by another version of pcapdiag; move the folder away or update"
            raise UsageError(msg)
        return State(
            incidents=[
                Incident(**{**i, "identifiers": tuple(i["identifiers"]), "missing": tuple(i["missing"])})
                for i in values["incidents"]
            ],
            n_incidents=values["n_incidents"],
            keys=deque(values["keys"], maxlen=_MOST_KEYS),
            cooling=values["cooling"],
            pending=[Pending(**pending) for pending in (*values["running"], *values["pending"])],
            sources=[SourceFile(**source) for source in values["sources"]],
            ring_mark=tuple(values["ring_mark"]),
            logs={path: LogPosition(**position) for path, position in values["logs"].items()},
        )

    def write(self, state: State, sources: list[SourceFile], ring_mark: tuple[int, int]) -> None:
        """Replace the file if anything has changed.

        Parameters
        ----------
        state : State
            What to remember.
        sources : list of SourceFile
            What was read, and
        ring_mark : (int, int)
            how far the ring was written, at one and the same moment.
        """
        values: dict[str, Any] = {
            "version": _VERSION,
            "incidents": [asdict(incident) for incident in state.incidents],
            "n_incidents": state.n_incidents,
            "keys": list(state.keys),
            "cooling": state.cooling,
            "pending": [asdict(pending) for pending in state.pending],
            "running": [asdict(pending) for pending in state.running],
            "sources": [asdict(source) for source in sources],
            "ring_mark": ring_mark,
            "logs": {path: asdict(position) for path, position in state.logs.items()},
        }
        data = json.dumps(values).encode()
        if data == self._written:
            return
        part = self._path.with_suffix(".part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        self._written = data

    def close(self) -> None:
        """Let another recorder use the folder."""
        self._lock.close()
