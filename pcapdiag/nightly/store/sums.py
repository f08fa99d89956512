"""Findings over all nights: summed up from their sightings, and how each stands on the last day of traffic.

A day counts for a finding where its upstream was seen that day: where nobody looked, nothing is gone. Rates are
compared by the exact test of two Poisson rates, so that one request more is not yet worse. All of it follows from the
rows of captures alone, in whatever order they were written.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import comb
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, insert, select, update

from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.tables import FindingTable, SightingTable, UpstreamDayTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

_CERTAIN: Final = 0.05
_EXPECTED_TO_BE_SEEN: Final = 3.0
"""Where three are expected, none at all is chance in one case of twenty."""
_DAYS_BEFORE: Final = 7
_EXACT: Final = 1000


def sum_up(db: Connection, identifiers: Iterable[str]) -> None:
    """Write the rows of findings anew from their sightings; one without any is removed.

    Parameters
    ----------
    db : Connection
        In a transaction that writes.
    identifiers : iterable of str
        Which.
    """
    columns = SightingTable.__table__.c
    for identifier in sorted(identifiers):
        query = select(*columns).where(columns.identifier == identifier)
        seen = db.execute(query.order_by(columns.last_ts_ns, columns.day, columns.capture_key)).all()
        db.execute(delete(FindingTable).where(FindingTable.identifier == identifier))
        if not seen:
            continue
        last = seen[-1]
        words = {name: getattr(last, name) for name in ("code", "name", "title", "subject", "message")}
        firsts = [row.first_ts_ns for row in seen if row.first_ts_ns >= 0]
        db.execute(
            insert(FindingTable).values(
                identifier=identifier,
                **words,
                severity=last.severity,
                confidence=last.confidence,
                count=sum(row.count for row in seen),
                failures=sum(row.failures for row in seen),
                first_seen_ns=min(firsts, default=-1),
                last_seen_ns=last.last_ts_ns,
                state=FindingState.NEW.value,
                state_day=last.day,
                last_count=sum(row.count for row in seen if row.day == last.day),
                last_capture_key=last.capture_key,
            )
        )


@dataclass(slots=True)
class _Days:
    """What was looked at and what was found, by day."""

    exchanges: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def refresh_states(db: Connection) -> None:
    """Judge anew how every finding stands on the last day on which its upstream was seen."""
    traffic: dict[str, dict[str, int]] = defaultdict(dict)
    of_all: dict[str, int] = defaultdict(int)
    table = UpstreamDayTable
    query = select(table.endpoint, table.day, func.sum(table.exchanges)).group_by(table.endpoint, table.day)
    for endpoint, day, exchanges in db.execute(query):
        traffic[endpoint][day] = int(exchanges)
        of_all[day] += int(exchanges)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    seen = SightingTable
    for identifier, day, n in db.execute(
        select(seen.identifier, seen.day, func.sum(seen.count)).group_by(seen.identifier, seen.day)
    ):
        counts[identifier][day] = int(n)
    for identifier, subject in db.execute(select(FindingTable.identifier, FindingTable.subject)).all():
        days = _Days(traffic.get(subject, of_all), counts[identifier])
        state, day = judge_state(days.exchanges, days.counts)
        values = {"state": state.value, "state_day": day, "last_count": counts[identifier].get(day, 0)}
        db.execute(update(FindingTable).where(FindingTable.identifier == identifier).values(values))


def judge_state(exchanges: Mapping[str, int], counts: Mapping[str, int]) -> tuple[FindingState, str]:
    """Return how a finding stands on the last day, and which day that is.

    Parameters
    ----------
    exchanges : mapping of str to int
        Requests of its upstream, by day on which it was seen.
    counts : mapping of str to int
        How often it was found, by day on which it was.

    Returns
    -------
    state : FindingState
    day : str
        The last day of either.
    """
    last = max({*exchanges, *counts})
    found = counts.get(last, 0)
    days_before = sorted(day for day in {*exchanges, *counts} if day < last)[-_DAYS_BEFORE:]
    earlier = sum(counts.get(day, 0) for day in days_before)
    looked_at = sum(max(exchanges.get(day, 0), counts.get(day, 0)) for day in days_before)
    today = max(exchanges.get(last, 0), found)
    if found and not any(day < last for day in counts):
        return FindingState.NEW, last
    if found:
        return FindingState.WORSE if is_more(earlier, looked_at, found, today) else FindingState.ONGOING, last
    expected = earlier / looked_at * today if looked_at else 0.0
    is_gone = expected >= _EXPECTED_TO_BE_SEEN or not earlier
    return FindingState.GONE if is_gone else FindingState.QUIET, last


def is_more(before: int, chances_before: int, after: int, chances_after: int) -> bool:
    """Return whether AFTER's rate is higher than BEFORE's beyond doubt (95 %, one-sided).

    Parameters
    ----------
    before, chances_before : int
        How many were found, among how many requests.
    after, chances_after : int
        The same for AFTER.

    Returns
    -------
    bool
        False where there is nothing to learn from.
    """
    n = before + after
    if n == 0 or chances_after <= 0 or after <= 0:
        return False
    if chances_before <= 0:
        return before == 0
    share = chances_after / (chances_before + chances_after)
    if n > _EXACT:
        spread = (n * share * (1 - share)) ** 0.5
        return bool(spread > 0 and (after - n * share) / spread > 1.645)
    tail = sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(after, n + 1))
    return bool(tail <= _CERTAIN)
