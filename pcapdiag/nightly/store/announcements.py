"""Who was told what: so that a finding in a state on a day is told once to each channel, and a failure is made good.

A channel has one row per finding: the last state that it was told of, or ``owed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, insert, select

from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.tables import AnnouncementTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store

_CHANGED: Final = (FindingState.NEW, FindingState.WORSE)
_OWED: Final = "owed"


def findings_to_announce(store: Store, channel: str, findings: Iterable[FindingRow]) -> tuple[FindingRow, ...]:
    """Return the findings that a channel is to be told of.

    Parameters
    ----------
    store : Store
        What was told.
    channel : str
        Whom.
    findings : iterable of FindingRow
        All there are.

    Returns
    -------
    tuple of FindingRow
        Those that are new or worse and not told yet, and those still owed that are not gone by now.
    """
    table = AnnouncementTable
    with store.database.reading() as db:
        rows = db.execute(select(table.identifier, table.state, table.state_day).where(table.channel == channel)).all()
    told = {(row.identifier, row.state, row.state_day) for row in rows}
    owed = {row.identifier for row in rows if row.state == _OWED}
    return tuple(
        f
        for f in findings
        if (f.state in _CHANGED and (f.identifier, f.state.value, f.state_day) not in told)
        or (f.identifier in owed and f.state is not FindingState.GONE)
    )


def write_announcements(store: Store, channel: str, findings: Sequence[FindingRow], *, is_owed: bool) -> None:
    """Write down that a channel was told of findings, or that it is still to be.

    Parameters
    ----------
    store : Store
        Where.
    channel : str
        Whom.
    findings : sequence of FindingRow
        What.
    is_owed : bool
        Whether it could not be told.
    """
    table = AnnouncementTable
    with store.database.writing() as db:
        for finding in findings:
            mine = (table.channel == channel) & (table.identifier == finding.identifier)
            db.execute(delete(table).where(mine))
            state = _OWED if is_owed else finding.state.value
            row = {"channel": channel, "identifier": finding.identifier, "state": state}
            db.execute(insert(table).values(row | {"state_day": finding.state_day}))
