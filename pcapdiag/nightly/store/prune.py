"""Retention: the oldest captures are forgotten, by age and by size; what was counted of them goes with them.

Age is measured from the newest traffic in the store, not from today: a store of old captures is not emptied by reading
it. Files stay known, so that what was forgotten is not read again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, select

from pcapdiag.nightly.store.sums import refresh_states, sum_up
from pcapdiag.nightly.store.tables import CaptureTable, ReportTable, SightingTable

if TYPE_CHECKING:
    from pcapdiag.nightly.store.store import Store

_DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many captures were forgotten, and how many bytes of exchanges and reports with them."""

    captures: int = 0
    n_bytes: int = 0


def prune(store: Store, *, keep_days: float = 0.0, keep_bytes: int = 0) -> Pruned:
    """Forget the oldest captures until what is left is young and small enough.

    Parameters
    ----------
    store : Store
        Which.
    keep_days : float
        [days] How much older than the newest traffic a capture may be; 0 for any age.
    keep_bytes : int
        [bytes] How large exchanges and reports together may be; 0 for any size.

    Returns
    -------
    Pruned
    """
    names: list[str] = []
    table = CaptureTable
    with store.database.writing() as db:
        sizes = select(
            table.key, table.last_ts_ns, table.details, func.length(ReportTable.json) + func.length(ReportTable.html)
        ).join(ReportTable, ReportTable.capture_key == table.key, isouter=True)
        rows = db.execute(sizes.order_by(table.last_ts_ns.desc(), table.key)).all()
        forgotten: list[str] = []
        n_kept = n_gone = 0
        newest = max((row.last_ts_ns for row in rows), default=-1)
        for key, last_ts_ns, details, report_bytes in rows:
            size = int(report_bytes or 0) + sum(n_bytes for _, n_bytes in json.loads(details))
            is_old = keep_days > 0 and last_ts_ns < newest - keep_days * _DAY_NS
            if is_old or (keep_bytes > 0 and n_kept + size > keep_bytes):
                forgotten.append(key)
                n_gone += size
                names += [name for name, _ in json.loads(details)]
            else:
                n_kept += size
        touched: set[str] = set()
        for key in forgotten:
            touched |= set(db.scalars(select(SightingTable.identifier).where(SightingTable.capture_key == key)))
            db.execute(delete(table).where(table.key == key))
        if forgotten:
            sum_up(db, touched)
            refresh_states(db)
    store.details.remove(names)
    return Pruned(len(forgotten), n_gone)
