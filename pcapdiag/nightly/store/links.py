"""How captures, nights and findings hang together: for who shows one and wants to lead to the others. Reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from pcapdiag.nightly.store.model import FileStatus
from pcapdiag.nightly.store.tables import FileTable, ReportTable, SightingTable, UpstreamDayTable

if TYPE_CHECKING:
    from pcapdiag.nightly.store.store import Store


@dataclass(frozen=True, slots=True)
class SightingLink:
    """One finding on one day in one capture."""

    day: str
    identifier: str
    capture_key: str
    count: int
    failures: int
    message: str


def list_sighting_links(store: Store) -> tuple[SightingLink, ...]:
    """Return where each finding was seen: by day, finding and capture."""
    columns = [SightingTable.__table__.c[name] for name in SightingLink.__dataclass_fields__]
    with store.database.reading() as db:
        return tuple(SightingLink(*row) for row in db.execute(select(*columns).order_by(*columns[:3])))


def list_capture_days(store: Store) -> tuple[tuple[str, str], ...]:
    """Return the days on which a capture holds traffic with upstreams: pairs of day and key."""
    columns = UpstreamDayTable.day, UpstreamDayTable.capture_key
    with store.database.reading() as db:
        return tuple((row.day, row.capture_key) for row in db.execute(select(*columns).distinct().order_by(*columns)))


def list_html_reports(store: Store) -> frozenset[str]:
    """Return the keys of the captures whose HTML report is kept."""
    with store.database.reading() as db:
        return frozenset(db.scalars(select(ReportTable.capture_key).where(func.length(ReportTable.html) > 0)))


def list_failed_files(store: Store, limit: int) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return files that could not be read and why, at most so many, and how many there are in all."""
    is_failed = FileTable.status == FileStatus.FAILED.value
    query = select(FileTable.path, FileTable.notes).where(is_failed).order_by(FileTable.path).limit(limit)
    with store.database.reading() as db:
        rows = db.execute(query).all()
        n_failed = int(db.scalar(select(func.count()).where(is_failed)) or 0)
    return tuple((path, "; ".join(text for _, text in json.loads(notes))) for path, notes in rows), n_failed
