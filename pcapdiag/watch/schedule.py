"""When a report is due, and what becomes of failures that were reported already.

A failure waits a while for what belongs to it (retransmissions, the closing, the log entry); then everything that
waits goes into one report. What is alike is only counted until the cool-down is over, and then reported together, so
that nothing is lost and nobody is told the same every second. Knows times and names; nothing of packets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.watch.model import Pending

if TYPE_CHECKING:
    from pcapdiag.watch.model import Failure, JobResult, WatchOptions
    from pcapdiag.watch.state import State

_MOST_PENDING: Final = 1000
_OTHERS: Final = "others"
_CLIENTS_FOR_NS: Final = 3_600_000_000_000
_MOST_CLIENTS: Final = 20_000
_MOST_TRIES: Final = 2
_COOLING: Final = "id "


class Schedule:
    """What waits for a report.

    Parameters
    ----------
    state : State
        Holds what waits, so that it lasts.
    options : WatchOptions
        Grace, cool-down and context.
    """

    def __init__(self, state: State, options: WatchOptions) -> None:
        self._state = state
        self._options = options
        self._clients: dict[str, int] = {}
        self.n_failures = 0

    @property
    def n_waiting(self) -> int:
        """Failures that wait for a report."""
        return sum(p.n_failures for p in (*self._state.pending, *self._state.running))

    def add(self, failure: Failure) -> None:
        """Let a failure wait.

        Parameters
        ----------
        failure : Failure
            As it was seen.
        """
        if self._clients.get(failure.resp, -1) > failure.ts_ns:
            return
        self.n_failures += 1
        waiting = {p.signature: p for p in self._state.pending}
        name = failure.signature if failure.signature in waiting or len(waiting) < _MOST_PENDING else _OTHERS
        pending = waiting.get(name)
        if pending is not None:
            pending.n_failures += 1
            pending.since_ns = min(pending.since_ns, failure.since_ns)
            pending.first_ts_ns = min(pending.first_ts_ns, failure.ts_ns)
            pending.last_ts_ns = max(pending.last_ts_ns, failure.ts_ns)
            return
        due_ns = max(failure.ts_ns + self._options.grace_ns, self._state.cooling.get(name, 0))
        self._state.pending.append(Pending(name, failure.since_ns, failure.ts_ns, failure.ts_ns, due_ns))

    def take_due(self, now_ns: int, oldest_ns: int, *, is_full: bool, is_last: bool) -> list[Pending]:
        """Return what goes into a report now; it is running until `settle`.

        Parameters
        ----------
        now_ns : int
            [ns] By the capture's clock.
        oldest_ns : int
            [ns] How far the recording reaches back.
        is_full : bool
            Whether the recording loses its oldest part.
        is_last : bool
            Whether there will be no later report.

        Returns
        -------
        list of Pending
            Empty if nothing is due.
        """
        leaves_before_ns = oldest_ns + (now_ns - oldest_ns) // 4 if is_full else -1
        due = [p for p in self._state.pending if is_last or p.due_ns <= now_ns or p.first_ts_ns < leaves_before_ns]
        if not due:
            return []
        # What has waited long enough for what belongs to it is read with the rest: it will be in the report anyway.
        settled_ns = now_ns - self._options.grace_ns
        taken = [p for p in self._state.pending if p in due or p.last_ts_ns <= settled_ns]
        self._state.pending = [p for p in self._state.pending if p not in taken]
        self._state.running = taken
        return taken

    def cooling(self, now_ns: int) -> tuple[str, ...]:
        """Return the identifiers that are only counted now."""
        names = (name for name, until in self._state.cooling.items() if until > now_ns)
        return tuple(name.removeprefix(_COOLING) for name in names if name.startswith(_COOLING))

    def settle(self, result: JobResult, now_ns: int) -> bool:
        """Take note of what came of the report that was running.

        Parameters
        ----------
        result : JobResult
            What the job came to.
        now_ns : int
            [ns] By the capture's clock.

        Returns
        -------
        bool
            Whether the failures are done with; False if they wait once more.
        """
        state = self._state
        taken, state.running = state.running, []
        for endpoint in result.client_endpoints:
            if len(self._clients) < _MOST_CLIENTS or endpoint in self._clients:
                self._clients[endpoint] = now_ns + _CLIENTS_FOR_NS
        if result.error:
            again = [replace(p, n_tries=p.n_tries + 1) for p in taken if p.n_tries + 1 < _MOST_TRIES]
            state.pending = again + state.pending
            return not again
        until = now_ns + self._options.cool_down_ns
        if result.written:
            state.keys.extend(key for finding in result.findings for key in finding.keys)
            state.cooling.update({_COOLING + finding.identifier: until for finding in result.findings})
        elif counted := [state.cooling.get(_COOLING + f.identifier, 0) for f in result.findings]:
            # Known trouble in another guise: it waits for the end of the cool-down.
            until = max(counted)
            if until > now_ns:
                state.pending += [replace(p, due_ns=until) for p in taken]
        state.cooling.update({p.signature: until for p in taken if p.signature != _OTHERS})
        for pending in state.pending:
            pending.due_ns = max(pending.due_ns, state.cooling.get(pending.signature, 0))
        state.forget(now_ns)
        return True
