"""The tables of the store, typed. A change here needs a migration beside it (`migrations/versions`).

Every row but those of `scans` and `claims` is a function of what was read: no row number, no time of day, so that a run
that was interrupted and repeated leaves the same rows as one that was not.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What all tables have in common: names of constraints that migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text, int: BigInteger, bytes: LargeBinary}  # noqa: RUF012 - SQLAlchemy's own form


class ScanTable(Base):
    """One run of ``pcapdiag scan``; a run that continues an interrupted one takes over its row."""

    __tablename__ = "scans"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job: Mapped[str]
    """Hash of what was asked for: places, options, program version."""
    places: Mapped[str]
    """JSON list of the paths and URLs that were named."""
    program_version: Mapped[str]
    state: Mapped[str]
    """``running``, ``finished`` or ``interrupted``."""
    started_at_ns: Mapped[int]
    ended_at_ns: Mapped[int]
    holder: Mapped[str]
    """Machine and process that runs it; empty when it has ended."""
    alive_until_ns: Mapped[int]
    """Unless the holder says again that it lives, it counts as dead from then on."""
    found: Mapped[int]
    read: Mapped[int]
    ok: Mapped[int]
    partial: Mapped[int]
    failed: Mapped[int]
    unchanged: Mapped[int]
    waiting: Mapped[int]
    """Files left for later: still being written, or being read by another scan."""


class ClaimTable(Base):
    """What a running scan is reading: another one leaves it alone."""

    __tablename__ = "claims"

    key: Mapped[str] = mapped_column(primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.number", ondelete="CASCADE"), index=True)


class PendingTable(Base):
    """A capture that a running scan is to read: how files were grouped, so that a repeated run groups them alike."""

    __tablename__ = "pending"

    key: Mapped[str] = mapped_column(primary_key=True)
    series: Mapped[str] = mapped_column(index=True)
    paths: Mapped[str]
    stamps: Mapped[str]
    """JSON list of [size, mtime_ns, inode, etag], one per path: of another file it says nothing."""
    context_paths: Mapped[str]
    after_ts_ns: Mapped[int]
    until_ts_ns: Mapped[int]


class CaptureTable(Base):
    """One capture that was read: a file, or files of a rotation series; see `model.CaptureResult`."""

    __tablename__ = "captures"

    key: Mapped[str] = mapped_column(primary_key=True)
    series: Mapped[str] = mapped_column(index=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.number"), index=True)
    program_version: Mapped[str]
    paths: Mapped[str]
    context_paths: Mapped[str]
    after_ts_ns: Mapped[int]
    until_ts_ns: Mapped[int]
    status: Mapped[str]
    first_ts_ns: Mapped[int]
    last_ts_ns: Mapped[int]
    frames: Mapped[int]
    n_bytes: Mapped[int]
    connections: Mapped[int]
    exchanges: Mapped[int]
    unanswered: Mapped[int]
    truncated: Mapped[int]
    report_identifier: Mapped[str]
    details: Mapped[str]
    """JSON list of [name, bytes] of its Parquet files."""


class FileTable(Base):
    """One file that was looked at; `status` is ``ok``, ``partial`` or ``failed``."""

    __tablename__ = "files"

    path: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    mtime_ns: Mapped[int]
    inode: Mapped[str]
    etag: Mapped[str]
    head_sha256: Mapped[str]
    head_bytes: Mapped[int]
    sha256: Mapped[str]
    program_version: Mapped[str]
    status: Mapped[str]
    retry: Mapped[bool]
    capture_key: Mapped[str | None] = mapped_column(ForeignKey("captures.key", ondelete="SET NULL"), index=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.number"), index=True)
    first_ts_ns: Mapped[int]
    last_ts_ns: Mapped[int]
    notes: Mapped[str]
    """JSON list of [code, text]."""


class ReportTable(Base):
    """The full report of a capture; texts compressed with zlib."""

    __tablename__ = "reports"

    capture_key: Mapped[str] = mapped_column(ForeignKey("captures.key", ondelete="CASCADE"), primary_key=True)
    json: Mapped[bytes]
    html: Mapped[bytes]
    """Empty unless it was asked for."""


class UpstreamDayTable(Base):
    """One upstream on one day in one capture; see `model.UpstreamDay`."""

    __tablename__ = "upstream_days"
    __table_args__ = (Index(None, "day", "endpoint"),)

    capture_key: Mapped[str] = mapped_column(ForeignKey("captures.key", ondelete="CASCADE"), primary_key=True)
    endpoint: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    connections: Mapped[int]
    opened: Mapped[int]
    exchanges: Mapped[int]
    reused: Mapped[int]
    near_misses: Mapped[int]
    lost: Mapped[int]
    rtt_min_ns: Mapped[int]
    rtt_p50_ns: Mapped[int]
    rtt_p99_ns: Mapped[int]
    idle_timeout_ns: Mapped[int]
    idle_timeout_spread_ns: Mapped[int]
    idle_timeout_samples: Mapped[int]
    idle_timeout_confidence: Mapped[str]
    server_field: Mapped[str]
    gaps_near: Mapped[int]
    lost_near: Mapped[int]
    near_width_ns: Mapped[int]
    race_window_ns: Mapped[int]
    watched_ppm: Mapped[int]


class SightingTable(Base):
    """One finding on one day in one capture; see `model.Sighting`."""

    __tablename__ = "sightings"
    __table_args__ = (Index(None, "identifier", "day"),)

    capture_key: Mapped[str] = mapped_column(ForeignKey("captures.key", ondelete="CASCADE"), primary_key=True)
    identifier: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    name: Mapped[str]
    title: Mapped[str]
    subject: Mapped[str]
    severity: Mapped[str]
    confidence: Mapped[str]
    message: Mapped[str]
    count: Mapped[int]
    failures: Mapped[int]
    first_ts_ns: Mapped[int]
    last_ts_ns: Mapped[int]


class OccurrenceTable(Base):
    """One occurrence of a finding; see `model.OccurrenceRow`."""

    __tablename__ = "occurrences"
    __table_args__ = (Index(None, "identifier", "ts_ns"),)

    capture_key: Mapped[str] = mapped_column(ForeignKey("captures.key", ondelete="CASCADE"), primary_key=True)
    identifier: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    ts_ns: Mapped[int]
    uid: Mapped[str]
    depth: Mapped[int]
    orig: Mapped[str]
    resp: Mapped[str]
    method: Mapped[str]
    target: Mapped[str]
    idle_before_ns: Mapped[int]
    file: Mapped[str]
    request_frame: Mapped[int]


class FindingTable(Base):
    """One finding over all nights, summed up from its sightings; see `model.FindingRow`."""

    __tablename__ = "findings"

    identifier: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    name: Mapped[str]
    title: Mapped[str]
    subject: Mapped[str]
    severity: Mapped[str]
    confidence: Mapped[str]
    message: Mapped[str]
    count: Mapped[int]
    failures: Mapped[int]
    first_seen_ns: Mapped[int]
    last_seen_ns: Mapped[int]
    state: Mapped[str]
    state_day: Mapped[str]
    last_count: Mapped[int]
    last_capture_key: Mapped[str]


class AnnouncementTable(Base):
    """What was told to whom: a finding in a state on a day is announced once per channel."""

    __tablename__ = "announcements"

    channel: Mapped[str] = mapped_column(primary_key=True)
    identifier: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    state_day: Mapped[str] = mapped_column(primary_key=True)
