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
    from collections.abc import Iterable

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
        self.report_ns = 0
        """[ns] How long the latest report took to make."""

    @property
    def n_waiting(self) -> int:
        """Failures that wait for a report."""
        return sum(p.n_failures for p in (*self._state.pending, *self._state.running))

    def add(self, *failures: Failure) -> None:
        """Let failures wait.

        Parameters
        ----------
        failures : Failure
            As they were seen.
        """
        counted = [one for one in failures if self._clients.get(one.resp, -1) <= one.ts_ns]
        self.n_failures += len(counted)
        self._wait(Pending(one.signature, one.since_ns, one.ts_ns, one.ts_ns, self._due_ns(one)) for one in counted)

    def _due_ns(self, failure: Failure) -> int:
        return max(failure.ts_ns + self._options.grace_ns, self._state.cooling.get(failure.signature, 0))

    def _wait(self, pending: Iterable[Pending]) -> None:
        """Let failures wait, those that are alike as one; there is a bound on how many are told apart."""
        waiting = {p.signature: p for p in self._state.pending}
        for one in pending:
            if one.signature not in waiting and len(waiting) >= _MOST_PENDING:
                one.signature = _OTHERS
            known = waiting.setdefault(one.signature, one)
            if known is one:
                self._state.pending.append(one)
                continue
            known.n_failures += one.n_failures
            known.since_ns = min(known.since_ns, one.since_ns)
            known.first_ts_ns = min(known.first_ts_ns, one.first_ts_ns)
            known.last_ts_ns = max(known.last_ts_ns, one.last_ts_ns)
            known.n_tries = max(known.n_tries, one.n_tries)

    def is_leaving(self, pending: Pending, now_ns: int, oldest_ns: int) -> bool:
        """Tell whether what waits is about to leave a full ring, which it must not do before it is reported.

        Parameters
        ----------
        pending : Pending
            What waits.
        now_ns, oldest_ns : int
            [ns] As for `take_due`.
        """
        reach_ns = now_ns - oldest_ns
        margin_ns = min(max(reach_ns // 4, 2 * self.report_ns), reach_ns // 2)
        return pending.first_ts_ns < oldest_ns + margin_ns

    def has_leaving(self, now_ns: int, oldest_ns: int) -> bool:
        """Tell whether anything that waits is about to leave a full ring; parameters as of `is_leaving`."""
        return any(self.is_leaving(p, now_ns, oldest_ns) for p in self._state.pending)

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
        due = [
            p
            for p in self._state.pending
            if is_last or p.due_ns <= now_ns or (is_full and self.is_leaving(p, now_ns, oldest_ns))
        ]
        if not due:
            return []
        # What has waited long enough for what belongs to it is read with the rest: it will be in the report anyway.
        settled_ns = now_ns - self._options.grace_ns
        is_due = {p.signature for p in due}
        taken = [p for p in self._state.pending if p.signature in is_due or p.last_ts_ns <= settled_ns]
        is_taken = {p.signature for p in taken}
        self._state.pending = [p for p in self._state.pending if p.signature not in is_taken]
        self._state.running = taken
        return taken

    def cooling(self, now_ns: int) -> tuple[str, ...]:
        """Return the identifiers that are only counted now."""
        names = (name for name, until in self._state.cooling.items() if until > now_ns)
        return tuple(name.removeprefix(_COOLING) for name in names if name.startswith(_COOLING))

    def put_back(self) -> None:
        """Let what was taken wait on: its report could not be begun, or there was no room for it."""
        state = self._state
        again, later, state.running = state.running, state.pending, []
        state.pending = again
        self._wait(later)

    def settle(self, result: JobResult, now_ns: int, oldest_ns: int = -1) -> bool:
        """Take note of what came of the report that was running.

        Parameters
        ----------
        result : JobResult
            What the job came to.
        now_ns : int
            [ns] By the capture's clock.
        oldest_ns : int
            [ns] How far the recording reaches back.

        Returns
        -------
        bool
            Whether the failures are done with; False if they wait once more.
        """
        state = self._state
        taken, state.running = state.running, []
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients = {endpoint: until for endpoint, until in self._clients.items() if until > now_ns}
        for endpoint in result.client_endpoints:
            if len(self._clients) < _MOST_CLIENTS or endpoint in self._clients:
                self._clients[endpoint] = now_ns + _CLIENTS_FOR_NS
        if result.error:
            again = [replace(p, n_tries=p.n_tries + 1) for p in taken if p.n_tries + 1 < _MOST_TRIES]
            later, state.pending = state.pending, again
            self._wait(later)
            return not again
        until = now_ns + self._options.cool_down_ns
        if result.written:
            keys = dict.fromkeys(key for finding in result.findings for key in finding.keys)
            state.remember(keys, result.known_until_ns, oldest_ns)
            state.cooling.update({_COOLING + finding.identifier: until for finding in result.findings})
        elif counted := [state.cooling.get(_COOLING + f.identifier, 0) for f in result.findings]:
            # Known trouble in another guise: it waits for the end of the cool-down.
            until = max(counted)
            if until > now_ns:
                self._wait(replace(p, due_ns=until) for p in taken)
        state.cooling.update({p.signature: until for p in taken if p.signature != _OTHERS})
        for pending in state.pending:
            pending.due_ns = max(pending.due_ns, state.cooling.get(pending.signature, 0))
        state.forget(now_ns)
        return True
