"""Entries of logs, counted: by kind and upstream, and requests for which no server was left after which failures.

Knows entries; neither files nor words of a report. Memory is bounded, whatever a log holds.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER, Symptom, symptom_of
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.triage.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry

MOST_ROWS: Final = 2000
_MOST_PEERS: Final = 2000
_NOT_COUNTED: Final = frozenset({LogKind.SERVER_DISABLED, LogKind.GIVEN_UP})
"""What is said once more of a try that failed."""
_VARIES: Final = re.compile(r'[:,]? ?(?:"| \(status )')
_LONGEST: Final = 160
_FAILED: Final = frozenset({502, 503, 504})
_CLIENT_LEFT: Final = 499

Window = tuple[int, str]
"""[s] For how long a server that failed is left out, and where that was read or why it was assumed."""


@dataclass(slots=True)
class TallyRow:
    """Entries alike; times [s] by the log's clock, -1 where none has one."""

    words: str
    count: int = 0
    first_s: int = -1
    last_s: int = -1

    def add(self, at_s: int) -> None:
        """Count one at a time [s]."""
        self.count += 1
        if at_s >= 0:
            self.first_s = at_s if self.first_s < 0 else min(self.first_s, at_s)
            self.last_s = max(self.last_s, at_s)


@dataclass(slots=True)
class NoneLeft:
    """Requests for which a group of servers had none left."""

    window: Window
    row: TallyRow = field(default_factory=lambda: TallyRow(""))
    after_failures: int = 0
    peers: Counter[str] = field(default_factory=Counter)


Key = tuple[str, str, str, str]
"""Kind, action, name of the error, upstream."""


class Tally:
    """Counts the failures of error logs.

    Parameters
    ----------
    window_of : callable
        From the name of a group to `Window`.
    """

    def __init__(self, window_of: Callable[[str], Window]) -> None:
        self._window_of = window_of
        self.rows: dict[Key, TallyRow] = {}
        self.left_out = 0
        self.failures = 0
        self.disabled = 0
        self.short_of_connections = 0
        self.symptoms: Counter[tuple[Symptom, str]] = Counter()
        self.groups: dict[str, NoneLeft] = {}
        self.timeline = Timeline()
        self.peers: dict[str, None] = {}
        self._failed_at: dict[str, int] = {}

    def add(self, entry: ErrorEntry) -> None:
        """Take in an entry."""
        if entry.kind is LogKind.SERVER_DISABLED:
            self.disabled += 1
        if entry.kind is LogKind.CONNECTIONS_SHORT:
            self.short_of_connections += 1
        if not entry.concerns_upstream or entry.kind in _NOT_COUNTED:
            return
        at_s = entry.ts_s
        self.failures += 1
        if at_s >= 0:
            self.timeline.add(at_s)
        symptom = symptom_of(entry)
        self.symptoms[symptom, entry.action] += 1
        self._count((entry.kind.name.lower(), entry.action, entry.errno_name, entry.upstream_peer), entry, at_s)
        if entry.kind in FOUND_NO_PEER:
            self._no_peer(entry.upstream_peer, at_s)
        elif entry.upstream_peer and at_s >= 0:
            self._failed_at[entry.upstream_peer] = at_s
            self.peers[entry.upstream_peer] = None
            if len(self._failed_at) > _MOST_PEERS:
                oldest = next(iter(self._failed_at))
                del self._failed_at[oldest], self.peers[oldest]

    def begin_log(self) -> None:
        """Say that what follows is of another log, before or after the last one."""
        self._failed_at.clear()
        self.peers = dict.fromkeys(list(self.peers)[-_MOST_PEERS:])

    def _count(self, key: Key, entry: ErrorEntry, at_s: int) -> None:
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= MOST_ROWS:
                self.left_out += 1
                return
            row = self.rows[key] = TallyRow(words_of(entry))
        row.add(at_s)

    def _no_peer(self, name: str, at_s: int) -> None:
        group = self.groups.get(name)
        if group is None:
            if len(self.groups) >= MOST_ROWS:
                return
            group = self.groups[name] = NoneLeft(self._window_of(name))
        group.row.add(at_s)
        # Both stamps are whole seconds.
        least_s = at_s - group.window[0] - 1
        before = [peer for peer, failed_s in self._failed_at.items() if least_s <= failed_s <= at_s]
        group.after_failures += bool(before)
        group.peers.update(before)


def words_of(entry: ErrorEntry) -> str:
    """Return the message of an entry without what varies, nor what a server or a client has written."""
    head = _VARIES.split(entry.message, maxsplit=1)[0].split("\n", 1)[0]
    return f"{head[:_LONGEST]} while {entry.action}" if entry.action else head[:_LONGEST]


class AccessTally:
    """Counts the requests of access logs."""

    def __init__(self) -> None:
        self.requests = 0
        self.without_status = 0
        self.by_status: Counter[int] = Counter()
        self.rows: dict[Key, TallyRow] = {}
        self.timeline = Timeline()
        self.tries = 0
        self.new = 0
        self.left_out = 0

    def add(self, entry: AccessEntry) -> None:
        """Take in a line."""
        self.requests += 1
        self.without_status += entry.status < 0
        if entry.status >= 500 or entry.status == _CLIENT_LEFT:
            self.by_status[entry.status] += 1
        for one in entry.tries:
            if one.status in _FAILED and one.connect_time_ns >= 0:
                self.tries += 1
                self.new += one.connect_time_ns > 0
        if entry.status in _FAILED:
            self._fail(entry)

    def _fail(self, entry: AccessEntry) -> None:
        at_s = entry.ts_ns // 10**9 if entry.ts_ns >= 0 else -1
        if at_s >= 0:
            self.timeline.add(at_s)
        key = (f"status_{entry.status}", "", "", entry.tries[-1].addr if entry.tries else "")
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= MOST_ROWS:
                self.left_out += 1
                return
            row = self.rows[key] = TallyRow(f"answered with {entry.status}")
        row.add(at_s)

    @property
    def failures(self) -> int:
        """Requests that were answered as a proxy answers where it has no answer."""
        return sum(self.by_status[status] for status in _FAILED)
