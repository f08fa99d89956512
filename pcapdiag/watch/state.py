"""What the recorder remembers over restarts: two JSON files, each replaced as a whole.

A recorder that is killed at any moment goes on where they say: what was reported is not reported again, what waited
for its report still waits. What changes every second is one file, what was reported the other: it is large, and is
written first, so that nothing is told to be done that is not. Knows the files; nothing of how their contents come
about.
"""

from __future__ import annotations

import fcntl
import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from pcapdiag.base.disk import replace_file
from pcapdiag.base.errors import UsageError
from pcapdiag.watch.model import KeptIncident, Pending, SourceFile
from pcapdiag.watch.tail import LogPosition

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_VERSION: Final = 2
_NAME: Final = "state.json"
_TOLD: Final = "reported.json"
_MOST_KEYS: Final = 50_000
_MOST_COOLING: Final = 5000
_MOST_SEEN: Final = 5000
_MOST_OWED: Final = 100
_NEW_AFTER_NS: Final = 86_400_000_000_000
"""A trouble that was quiet for a day is new when it comes again."""
_REPEATED_FOR_NS: Final = 3_600_000_000_000
"""What the ring has lost may be seen again by its retransmissions."""


@dataclass(slots=True)
class State:
    """All that lasts.

    Attributes
    ----------
    incidents : list of KeptIncident
        Those that are kept, oldest first.
    n_incidents : int
        All that there ever were.
    keys : deque of str
        Failures that incidents hold, as long as the recording may show them again.
    known_until_ns : int
        [ns] Until then all failures are held: there were too many keys.
    seen : dict of str to int
        [ns] When an identifier was in a report last.
    cooling : dict of str to int
        [ns] Until when an identifier (``id ...``) or a signature is only counted.
    pending : list of Pending
        What waits for its report.
    running : list of Pending
        What goes into the report that is being made; after a restart it waits again.
    sources : list of SourceFile
        Files of the folder that were read.
    read_until_ns : int
        [ns] Files that begin no later were read, too: there were too many of them.
    series : str
        What the names of the files have in common that are followed; empty while there is none.
    ring_mark : (int, int)
        How far the ring was written when `sources` were as they are here; see `ring.Ring.mark`.
    logs : dict of str to LogPosition
        Where the logs stand.
    owed : dict of str to list of str
        Incidents of which a channel was to be told, and was not yet.
    has_news : bool
        Whether what was reported is not written yet.
    """

    incidents: list[KeptIncident] = field(default_factory=list)
    n_incidents: int = 0
    keys: deque[str] = field(default_factory=deque)
    known_until_ns: int = -1
    seen: dict[str, int] = field(default_factory=dict)
    cooling: dict[str, int] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    running: list[Pending] = field(default_factory=list)
    sources: list[SourceFile] = field(default_factory=list)
    read_until_ns: int = -1
    series: str = ""
    ring_mark: tuple[int, int] = (-1, -1)
    logs: dict[str, LogPosition] = field(default_factory=dict)
    owed: dict[str, list[str]] = field(default_factory=dict)
    has_news: bool = True

    def forget(self, now_ns: int) -> None:
        """Drop what has no effect any more.

        Parameters
        ----------
        now_ns : int
            [ns] By the capture's clock.
        """
        cooling = {name: until for name, until in self.cooling.items() if until > now_ns}
        self.cooling = _latest(cooling, _MOST_COOLING)
        self.seen = _latest({i: ts for i, ts in self.seen.items() if ts > now_ns - _NEW_AFTER_NS}, _MOST_SEEN)

    def remember(self, keys: Iterable[str], until_ns: int, oldest_ns: int) -> None:
        """Remember failures that were reported.

        Parameters
        ----------
        keys : iterable of str
            Theirs.
        until_ns : int
            [ns] Until when there were others, too many to have keys; -1 if there were none.
        oldest_ns : int
            [ns] How far the recording reaches back: what is older will not be seen again.
        """
        self.keys.extend(keys)
        self.known_until_ns = max(self.known_until_ns, until_ns)
        by_time = sorted(((_time_of(key), key) for key in self.keys), key=lambda item: item[0])
        dropped = by_time[: max(0, len(by_time) - _MOST_KEYS)]
        if dropped:
            self.known_until_ns = max(self.known_until_ns, dropped[-1][0])
        since_ns = max(self.known_until_ns, oldest_ns - _REPEATED_FOR_NS)
        self.keys = deque(key for ts_ns, key in by_time if ts_ns > since_ns)
        self.has_news = True

    def is_new(self, identifiers: Iterable[str], now_ns: int) -> bool:
        """Take note of the troubles of a report, and tell whether one of them was not there the day before."""
        identifiers = tuple(identifiers)
        new = any(self.seen.get(i, 0) <= now_ns - _NEW_AFTER_NS for i in identifiers)
        self.seen.update(dict.fromkeys(identifiers, now_ns))
        return new

    def owe(self, channel: str, path: str) -> None:
        """Remember that a channel is to be told of an incident; of too many, the latest."""
        self.owed[channel] = [*self.owed.get(channel, []), path][-_MOST_OWED:]


def _latest(times: dict[str, int], most: int) -> dict[str, int]:
    if len(times) <= most:
        return times
    return dict(sorted(times.items(), key=lambda item: item[1])[-most:])


def _time_of(key: str) -> int:
    return int(key.split(" ")[2])


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
        self._folder = folder
        self._written = b""

    def read(self) -> State:
        """Return what an earlier run left, or a state with nothing in it."""
        if not self._path.exists():
            return State()
        values = json.loads(self._path.read_bytes())
        if values.pop("version") != _VERSION:
            msg = f"{self._path} was written by another version of pcapdiag; move the folder away or update"
            raise UsageError(msg)
        told = self._folder / _TOLD
        values |= json.loads(told.read_bytes()) if told.exists() else {}
        running = values.pop("running")
        pending = [Pending(**pending) for pending in (*running, *values.pop("pending"))]
        incidents = [
            KeptIncident(**{**i, "identifiers": tuple(i["identifiers"]), "missing": tuple(i["missing"])})
            for i in values.pop("incidents", ())
        ]
        return State(
            incidents=incidents,
            keys=deque(values.pop("keys", ())),
            pending=pending,
            sources=[SourceFile(**source) for source in values.pop("sources")],
            ring_mark=tuple(values.pop("ring_mark")),
            logs={path: LogPosition(**position) for path, position in values.pop("logs").items()},
            **values,
        )

    def write(self, state: State, sources: list[SourceFile], ring_mark: tuple[int, int]) -> None:
        """Replace what has changed.

        Parameters
        ----------
        state : State
            What to remember.
        sources : list of SourceFile
            What was read, and
        ring_mark : (int, int)
            how far the ring was written, at one and the same moment.

        Raises
        ------
        OSError
            It cannot be written; what was there is there.
        """
        if state.has_news:
            values: dict[str, Any] = {
                "incidents": [asdict(incident) for incident in state.incidents],
                "n_incidents": state.n_incidents,
                "keys": list(state.keys),
                "known_until_ns": state.known_until_ns,
                "seen": state.seen,
            }
            replace_file(self._folder / _TOLD, json.dumps(values).encode(), is_synced=True)
            state.has_news = False
        values = {
            "version": _VERSION,
            "cooling": state.cooling,
            "pending": [asdict(pending) for pending in state.pending],
            "running": [asdict(pending) for pending in state.running],
            "sources": [asdict(source) for source in sources],
            "read_until_ns": state.read_until_ns,
            "series": state.series,
            "ring_mark": ring_mark,
            "logs": {path: asdict(position) for path, position in state.logs.items()},
            "owed": state.owed,
        }
        data = json.dumps(values).encode()
        if data != self._written:
            replace_file(self._path, data, is_synced=True)
            self._written = data

    def close(self) -> None:
        """Let another recorder use the folder."""
        self._lock.close()
