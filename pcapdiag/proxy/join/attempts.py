"""From lines to tries: the entries that tell of one try, and the tries of an access log's lists.

A try that fails may leave two entries, the failure and `upstream server temporarily disabled`. Knows logs only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.symptoms import Symptom, symptom_of
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry

AT_ONCE_NS = NS_PER_S
"""[ns] Between what a thread says of a try and what it says of its request: it does nothing else meanwhile."""


@dataclass(slots=True)
class LoggedTry:
    """A try as the error log tells it: one entry, or two. `entries` are positions in the list that was given."""

    entries: list[int]
    head: ErrorEntry
    symptom: Symptom

    @property
    def request_id(self) -> str:
        """Request id that the entry itself carries (APISIX); empty without."""
        return next((value for key, value in self.head.extra if key == "request_id"), "")


@dataclass(frozen=True, slots=True)
class AccessTry:
    """One element of the lists of an access-log line.

    Attributes
    ----------
    start_ns : tuple of int
        [ns] Earliest and latest time at which it began: counted from either end of the request.
    end_ns : tuple of int
        [ns] The same for its end.
    connect_ns : int
        [ns] Time that the connection took; 0 on a reused one.
    """

    access: AccessEntry
    number: int
    peer: str
    start_ns: tuple[int, int]
    end_ns: tuple[int, int]
    connect_ns: int
    has_failed: bool


def group_entries(entries: Sequence[ErrorEntry]) -> list[LoggedTry]:
    """Return the tries that the entries tell of, in the order of the log.

    Parameters
    ----------
    entries : sequence of ErrorEntry
        Those that concern an upstream, in the order of the log.

    Returns
    -------
    list of LoggedTry
        Each entry in exactly one.
    """
    tries: list[LoggedTry] = []
    last: dict[tuple[int, int, str, str], LoggedTry] = {}
    of_thread: dict[tuple[str, int, int], LoggedTry] = {}
    for position, entry in enumerate(entries):
        thread = entry.path, entry.pid, entry.tid
        if entry.kind is LogKind.GIVEN_UP and (failed := of_thread.get(thread)) is not None and _goes_on(failed, entry):
            failed.entries.append(position)
            continue
        key = entry.pid, entry.log_conn, entry.upstream, entry.request
        before = last.get(key)
        if before is not None and _is_other_half(before, entry):
            before.entries.append(position)
            if entry.kind is not LogKind.SERVER_DISABLED:
                before.head, before.symptom = entry, symptom_of(entry)
            continue
        made = LoggedTry([position], entry, symptom_of(entry))
        tries.append(made)
        last[key] = of_thread[thread] = made
    return tries


def _goes_on(failed: LoggedTry, entry: ErrorEntry) -> bool:
    """Whether a thread that says what it gave up means the try whose failure it has just told of."""
    is_same_client = not (failed.head.client and entry.client) or failed.head.client == entry.client
    return is_same_client and entry.ts_ns - failed.head.ts_ns <= AT_ONCE_NS


def _is_other_half(before: LoggedTry, entry: ErrorEntry) -> bool:
    """Whether an entry belongs to the try before: disabled after the failure, or (connect timeouts) before it."""
    if len(before.entries) > 1 or abs(entry.ts_s - before.head.ts_s) > 1 or entry.log_conn < 0:
        return False
    if before.symptom is Symptom.NO_PACKETS:
        return False
    return (entry.kind is LogKind.SERVER_DISABLED) != (before.head.kind is LogKind.SERVER_DISABLED)


def list_access_tries(accesses: Iterable[AccessEntry]) -> list[AccessTry]:
    """Return the tries of all lines that went to the network, by the time they began."""
    tries = []
    for access in accesses:
        times = [max(t.response_time_ns, 0) for t in access.tries]
        end = access.ts_ns
        whole = access.request_time_ns
        for number, attempt in enumerate(access.tries):
            if ":" not in attempt.addr or attempt.addr.startswith("unix:"):
                continue
            latest = end + access.ts_width_ns - sum(times[number:])
            earliest = end - sum(times[number:])
            if whole >= 0:
                earliest = min(earliest, end - whole + sum(times[:number]))
            tries.append(
                AccessTry(
                    access=access,
                    number=number,
                    peer=attempt.addr,
                    start_ns=(earliest, latest),
                    end_ns=(earliest + times[number], latest + times[number]),
                    connect_ns=max(attempt.connect_time_ns, 0),
                    has_failed=attempt.header_time_ns < 0 if attempt.header_time_ns != 0 else attempt.status >= 500,
                )
            )
    tries.sort(key=lambda t: (t.start_ns, t.access.path, t.access.line, t.number))
    return tries


def tries_by_connection(tries: Iterable[AccessTry]) -> dict[tuple[int, str], list[int]]:
    """Return the positions of the tries of each client connection and peer."""
    grouped: dict[tuple[int, str], list[int]] = defaultdict(list)
    for position, attempt in enumerate(tries):
        grouped[attempt.access.log_conn, attempt.peer].append(position)
    return grouped
