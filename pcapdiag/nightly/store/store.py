"""The store as a scan uses it: what is known, who reads what, and results written once.

Knows rows and transactions; how captures are read is not its affair. Every result is written in one transaction with
all that follows from it, under keys that depend on the capture alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import delete, func, insert, select, update

from pcapdiag.nightly.store.alive import holder_name, is_dead
from pcapdiag.nightly.store.database import Database, default_store
from pcapdiag.nightly.store.details import DetailFolder
from pcapdiag.nightly.store.model import FileNote, FileRecord, FileStamp, FileStatus, PendingCapture
from pcapdiag.nightly.store.sums import refresh_states, sum_up
from pcapdiag.nightly.store.tables import (
    CaptureTable,
    ClaimTable,
    FileTable,
    OccurrenceTable,
    PendingTable,
    ReportTable,
    ScanTable,
    SightingTable,
    UpstreamDayTable,
)
from pcapdiag.privacy.escape import storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from sqlalchemy import Connection

    from pcapdiag.nightly.store.model import CaptureResult

LEASE_S: Final = 120
"""[s] A scan that has not said for so long that it lives counts as dead."""
_ROWS_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What a scan must know of a file that was looked at before."""

    record: FileRecord
    program_version: str
    scan: int


@dataclass(frozen=True, slots=True)
class KnownCapture:
    """What it takes to read a capture again as it was read."""

    key: str
    series: str
    program_version: str
    paths: tuple[str, ...]
    context_paths: tuple[str, ...]
    after_ts_ns: int
    until_ts_ns: int
    last_ts_ns: int


@dataclass(frozen=True, slots=True)
class ScanTotals:
    """Files of one scan: `found` in all, of which `read` now, with what came of those; the others were left."""

    found: int
    read: int
    ok: int
    partial: int
    failed: int
    unchanged: int
    waiting: int


class Store:
    """An open store.

    Parameters
    ----------
    url : str
        As `database.Database` takes it.
    details : path, optional
        Folder of the exchanges; ``store.exchanges`` beside ``store.db``, for a server in the user's data folder.
    """

    def __init__(self, url: str, *, details: str | Path = "") -> None:
        self.database = Database(url)
        beside = self.database.path or Path(default_store().removeprefix("sqlite:///"))
        self.details = DetailFolder(Path(details) if details else beside.with_suffix(".exchanges"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def begin_scan(self, places: Sequence[str], job: str, version: str) -> int:
        """Write down that a scan begins, or that an interrupted one for the same job goes on.

        Parameters
        ----------
        places : sequence of str
            What was named.
        job : str
            Everything that the results depend on, as text.
        version : str
            Of this program.

        Returns
        -------
        int
            Number of the scan.
        """
        now = time.time_ns()
        job = hashlib.sha256(job.encode()).hexdigest()
        mine = {"state": "running", "holder": holder_name(), "alive_until_ns": now + LEASE_S * 10**9}
        with self.database.writing() as db:
            running = db.execute(
                select(ScanTable.number, ScanTable.job, ScanTable.holder, ScanTable.alive_until_ns)
                .where(ScanTable.state == "running")
                .order_by(ScanTable.number)
            ).all()
            dead = [row for row in running if is_dead(row.holder, row.alive_until_ns, now)]
            if dead:
                db.execute(delete(ClaimTable).where(ClaimTable.scan.in_([row.number for row in dead])))
            same = [row.number for row in dead if row.job == job]
            if others := [row.number for row in dead if row.number not in same[-1:]]:
                left = {"state": "interrupted", "holder": "", "alive_until_ns": 0}
                db.execute(update(ScanTable).where(ScanTable.number.in_(others)).values(left))
            if same:
                db.execute(update(ScanTable).where(ScanTable.number == same[-1]).values(mine))
                return int(same[-1])
            number = int(db.scalar(select(func.max(ScanTable.number))) or 0) + 1
            none = {"ended_at_ns": -1} | {field.name: 0 for field in fields(ScanTotals)}
            about = {"number": number, "job": job, "program_version": version, "started_at_ns": now}
            db.execute(insert(ScanTable).values(places=json.dumps(list(places)), **about, **mine, **none))
        return number

    def sweep(self) -> None:
        """Remove what scans left behind that were killed before their files had a place."""
        with self.database.reading() as db:
            running = db.scalars(select(ScanTable.number).where(ScanTable.state == "running")).all()
        self.details.sweep(running)

    def say_alive(self, scan: int) -> None:
        """Say that a scan is still at work, so that nobody takes over what it reads."""
        with self.database.writing() as db:
            until = time.time_ns() + LEASE_S * 10**9
            db.execute(update(ScanTable).where(ScanTable.number == scan).values(alive_until_ns=until))

    def claim(self, scan: int, keys: Sequence[str]) -> set[str]:
        """Take what nobody else is reading.

        Parameters
        ----------
        scan : int
            Who wants it.
        keys : sequence of str
            What: names that every scan gives to the same files.

        Returns
        -------
        set of str
            The keys that are this scan's now.
        """
        now = time.time_ns()
        mine: set[str] = set()
        with self.database.writing() as db:
            holders = db.execute(select(ScanTable.number, ScanTable.holder, ScanTable.alive_until_ns)).all()
            alive = {row.number for row in holders if not is_dead(row.holder, row.alive_until_ns, now)} - {scan}
            for some in _parts(keys):
                taken = db.execute(select(ClaimTable.key, ClaimTable.scan).where(ClaimTable.key.in_(some))).all()
                free = set(some) - {row.key for row in taken if row.scan in alive}
                db.execute(delete(ClaimTable).where(ClaimTable.key.in_(free)))
                if free:
                    db.execute(insert(ClaimTable), [{"key": key, "scan": scan} for key in sorted(free)])
                mine |= free
        return mine

    def known_files(self, paths: Sequence[str] | None = None) -> dict[str, KnownFile]:
        """Return what is known of files, all or some, by path."""
        wanted: list[Any] = [None] if paths is None else [FileTable.path.in_(some) for some in _parts(paths)]
        columns = FileTable.__table__.c
        known: dict[str, KnownFile] = {}
        with self.database.reading() as db:
            for where in wanted:
                query = select(*columns) if where is None else select(*columns).where(where)
                for row in db.execute(query):
                    known[row.path] = KnownFile(_file_record(row), row.program_version, row.scan)
        return known

    def known_captures(self, keys: Sequence[str]) -> dict[str, KnownCapture]:
        """Return what was read of captures, by key."""
        known = {}
        with self.database.reading() as db:
            for some in _parts(keys):
                for row in db.execute(select(*CaptureTable.__table__.c).where(CaptureTable.key.in_(some))):
                    paths, context = tuple(json.loads(row.paths)), tuple(json.loads(row.context_paths))
                    known[row.key] = KnownCapture(
                        *(row.key, row.series, row.program_version, paths, context),
                        *(row.after_ts_ns, row.until_ts_ns, row.last_ts_ns),
                    )
        return known

    def write_capture(self, scan: int, result: CaptureResult) -> None:
        """Write everything that reading one capture found, or nothing.

        Parameters
        ----------
        scan : int
            Which scan read it.
        result : CaptureResult
            What it found; takes the place of what an earlier reading of the same capture found.
        """
        self.details.place(result.details)
        with self.database.writing() as db:
            old = db.scalar(select(CaptureTable.details).where(CaptureTable.key == result.key))
            others = select(FileTable.path).where(
                FileTable.capture_key == result.key, FileTable.path.not_in([_clean(path) for path in result.paths])
            )
            copies = db.scalars(others).all()
            touched = _remove_capture(db, result.key)
            db.execute(delete(PendingTable).where(PendingTable.key == result.key))
            db.execute(insert(CaptureTable).values(_capture_values(scan, result)))
            _insert(db, ReportTable, [{"capture_key": result.key, "json": result.report, "html": result.html}])
            _insert(db, UpstreamDayTable, [{"capture_key": result.key, **_values(day)} for day in result.upstreams])
            _insert(db, SightingTable, [{"capture_key": result.key, **_values(seen)} for seen in result.sightings])
            _insert(db, OccurrenceTable, [{"capture_key": result.key, **_values(row)} for row in result.occurrences])
            _write_files(db, scan, result.program_version, result.files)
            for some in _parts(copies):
                same = {"capture_key": result.key, "program_version": result.program_version, "scan": scan}
                db.execute(update(FileTable).where(FileTable.path.in_(some)).values(same))
            sum_up(db, touched | {seen.identifier for seen in result.sightings})
        placed = {detail.name for detail in result.details}
        self.details.remove(name for name, _ in json.loads(old or "[]") if name not in placed)

    def write_files(
        self,
        scan: int,
        version: str,
        files: Sequence[FileRecord],
        *,
        pending: Sequence[PendingCapture] = (),
        instead_of: str = "",
    ) -> None:
        """Write what became of files apart from captures, and what captures are to be made of the others.

        Parameters
        ----------
        scan : int
            Which scan looked at them.
        version : str
            Of this program.
        files : sequence of FileRecord
            Those that failed, and those whose content proved to be known: they count as read when that was.
        pending : sequence of PendingCapture
            How the others are grouped.
        instead_of : str
            Key of a pending capture that this replaces.
        """
        with self.database.writing() as db:
            keys = {file.capture_key for file in files if file.capture_key}
            columns = CaptureTable.key, CaptureTable.scan
            read = db.execute(select(*columns).where(CaptureTable.key.in_(keys)))
            scans = {row.key: row.scan for row in read}
            for file in files:
                _write_files(db, scans.get(file.capture_key, scan), version, [file])
            gone = [instead_of, *(part.key for part in pending)]
            db.execute(delete(PendingTable).where(PendingTable.key.in_(gone)))
            rows = [
                {
                    **_values(part),
                    "paths": json.dumps(part.paths),
                    "context_paths": json.dumps(part.context_paths),
                    "stamps": json.dumps([astuple(stamp) for stamp in part.stamps]),
                }
                for part in pending
            ]
            _insert(db, PendingTable, rows)

    def pending(self) -> list[PendingCapture]:
        """Return the captures that scans were to read and have not read yet, by key."""
        with self.database.reading() as db:
            rows = db.execute(select(*PendingTable.__table__.c).order_by(PendingTable.key)).all()
        return [
            PendingCapture(
                key=row.key,
                series=row.series,
                paths=tuple(json.loads(row.paths)),
                stamps=tuple(FileStamp(*stamp) for stamp in json.loads(row.stamps)),
                context_paths=tuple(json.loads(row.context_paths)),
                after_ts_ns=row.after_ts_ns,
                until_ts_ns=row.until_ts_ns,
            )
            for row in rows
        ]

    def finish_scan(self, scan: int, *, found: int, waiting: int) -> ScanTotals:
        """Write down that a scan has ended, judge every finding's state anew and count.

        Parameters
        ----------
        scan : int
            Which.
        found, waiting : int
            Files that it found, and those that it left for later.

        Returns
        -------
        ScanTotals
            What it did, what its interrupted beginning did included.
        """
        with self.database.writing() as db:
            refresh_states(db)
            columns = FileTable.status, func.count()
            rows = db.execute(select(*columns).where(FileTable.scan == scan).group_by(FileTable.status))
            counts: dict[str, int] = {status: int(n_files) for status, n_files in rows}
            n_read = sum(counts.values())
            totals = ScanTotals(
                found=found,
                read=n_read,
                **{status.value: counts.get(status.value, 0) for status in FileStatus},
                unchanged=max(found - n_read - waiting, 0),
                waiting=waiting,
            )
            ended = {"state": "finished", "ended_at_ns": time.time_ns(), "holder": "", "alive_until_ns": 0}
            db.execute(update(ScanTable).where(ScanTable.number == scan).values(ended | _values(totals)))
            mine = select(ClaimTable.key).where(ClaimTable.scan == scan)
            db.execute(delete(PendingTable).where(PendingTable.series.in_(mine)))
            db.execute(delete(ClaimTable).where(ClaimTable.scan == scan))
        return totals


def _file_record(row: Any) -> FileRecord:
    return FileRecord(
        path=row.path,
        stamp=FileStamp(row.size, row.mtime_ns, row.inode, row.etag),
        status=FileStatus(row.status),
        head_sha256=row.head_sha256,
        head_bytes=row.head_bytes,
        sha256=row.sha256,
        capture_key=row.capture_key or "",
        first_ts_ns=row.first_ts_ns,
        last_ts_ns=row.last_ts_ns,
        notes=tuple(FileNote(*note) for note in json.loads(row.notes)) if row.notes != "[]" else (),
        retry=row.retry,
    )


def _capture_values(scan: int, result: CaptureResult) -> dict[str, Any]:
    own = {"files", "upstreams", "sightings", "occurrences", "details", "report", "html"}
    values = {f.name: _clean(getattr(result, f.name)) for f in fields(result) if f.name not in own}
    return values | {
        "scan": scan,
        "status": result.status.value,
        "paths": json.dumps(list(result.paths)),
        "context_paths": json.dumps(list(result.context_paths)),
        "details": json.dumps([[detail.name, detail.n_bytes] for detail in result.details]),
    }


def _remove_capture(db: Connection, key: str) -> set[str]:
    """Remove a capture with all that hangs on it; return the findings that it had seen."""
    touched = set(db.scalars(select(SightingTable.identifier).where(SightingTable.capture_key == key)))
    db.execute(delete(CaptureTable).where(CaptureTable.key == key))
    return touched


def _write_files(db: Connection, scan: int, version: str, files: Sequence[FileRecord]) -> None:
    rows = []
    for file in files:
        row = _values(file)
        row |= dict(zip(("size", "mtime_ns", "inode", "etag"), astuple(row.pop("stamp")), strict=True))
        row["notes"] = json.dumps([[note.code, note.text] for note in file.notes])
        rows.append(row | {"capture_key": file.capture_key or None, "program_version": version, "scan": scan})
    for some in _parts([row["path"] for row in rows]):
        db.execute(delete(FileTable).where(FileTable.path.in_(some)))
    _insert(db, FileTable, rows)


def _insert(db: Connection, table: type[Any], rows: list[dict[str, Any]]) -> None:
    for some in _parts(rows):
        db.execute(insert(table), list(some))


def _values(item: Any) -> dict[str, Any]:
    """Return the fields of a row as columns: enumerations by name."""
    values = {field.name: _clean(getattr(item, field.name)) for field in fields(item)}
    for name in ("severity", "confidence", "idle_timeout_confidence"):
        if name in values:
            values[name] = values[name].name.lower() if values[name] is not None else ""
    if "status" in values:
        values["status"] = values["status"].value
    return values


def _clean(value: Any) -> Any:
    """Return text as every database takes it: PostgreSQL knows no NUL, and none knows half a surrogate pair."""
    return storable(value).replace("\0", "\\x00") if isinstance(value, str) else value


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Yield a sequence in parts that one statement can hold."""
    for start in range(0, len(items), _ROWS_AT_ONCE):
        yield items[start : start + _ROWS_AT_ONCE]
