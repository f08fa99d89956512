"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "announcements",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_day", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "identifier", "state", "state_day", name=op.f("pk_announcements")),
    )
    op.create_table(
        "findings",
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_day", sa.Text(), nullable=False),
        sa.Column("last_count", sa.BigInteger(), nullable=False),
        sa.Column("last_capture_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("identifier", name=op.f("pk_findings")),
    )
    op.create_table(
        "pending",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("stamps", sa.Text(), nullable=False),
        sa.Column("context_paths", sa.Text(), nullable=False),
        sa.Column("after_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ts_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_pending")),
    )
    op.create_index(op.f("ix_pending_series"), "pending", ["series"], unique=False)
    op.create_table(
        "scans",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("program_version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("alive_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("read", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.BigInteger(), nullable=False),
        sa.Column("partial", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_scans")),
    )
    op.create_table(
        "captures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.Column("program_version", sa.Text(), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("context_paths", sa.Text(), nullable=False),
        sa.Column("after_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("first_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("connections", sa.BigInteger(), nullable=False),
        sa.Column("exchanges", sa.BigInteger(), nullable=False),
        sa.Column("unanswered", sa.BigInteger(), nullable=False),
        sa.Column("truncated", sa.BigInteger(), nullable=False),
        sa.Column("report_identifier", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["scan"], ["scans.number"], name=op.f("fk_captures_scan")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_captures")),
    )
    op.create_index(op.f("ix_captures_scan"), "captures", ["scan"], unique=False)
    op.create_index(op.f("ix_captures_series"), "captures", ["series"], unique=False)
    op.create_table(
        "claims",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["scan"], ["scans.number"], name=op.f("fk_claims_scan"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_claims")),
    )
    op.create_index(op.f("ix_claims_scan"), "claims", ["scan"], unique=False)
    op.create_table(
        "files",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("head_sha256", sa.Text(), nullable=False),
        sa.Column("head_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("program_version", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("retry", sa.Boolean(), nullable=False),
        sa.Column("capture_key", sa.Text(), nullable=True),
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.Column("first_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capture_key"], ["captures.key"], name=op.f("fk_files_capture_key"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["scan"], ["scans.number"], name=op.f("fk_files_scan")),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_capture_key"), "files", ["capture_key"], unique=False)
    op.create_index(op.f("ix_files_scan"), "files", ["scan"], unique=False)
    op.create_table(
        "occurrences",
        sa.Column("capture_key", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("depth", sa.BigInteger(), nullable=False),
        sa.Column("orig", sa.Text(), nullable=False),
        sa.Column("resp", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("idle_before_ns", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("request_frame", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capture_key"], ["captures.key"], name=op.f("fk_occurrences_capture_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("capture_key", "identifier", "number", name=op.f("pk_occurrences")),
    )
    op.create_index(op.f("ix_occurrences_identifier_ts_ns"), "occurrences", ["identifier", "ts_ns"], unique=False)
    op.create_table(
        "reports",
        sa.Column("capture_key", sa.Text(), nullable=False),
        sa.Column("json", sa.LargeBinary(), nullable=False),
        sa.Column("html", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capture_key"], ["captures.key"], name=op.f("fk_reports_capture_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("capture_key", name=op.f("pk_reports")),
    )
    op.create_table(
        "sightings",
        sa.Column("capture_key", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("first_ts_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ts_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capture_key"], ["captures.key"], name=op.f("fk_sightings_capture_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("capture_key", "identifier", "day", name=op.f("pk_sightings")),
    )
    op.create_index(op.f("ix_sightings_identifier_day"), "sightings", ["identifier", "day"], unique=False)
    op.create_table(
        "upstream_days",
        sa.Column("capture_key", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("connections", sa.BigInteger(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("exchanges", sa.BigInteger(), nullable=False),
        sa.Column("reused", sa.BigInteger(), nullable=False),
        sa.Column("near_misses", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("rtt_min_ns", sa.BigInteger(), nullable=False),
        sa.Column("rtt_p50_ns", sa.BigInteger(), nullable=False),
        sa.Column("rtt_p99_ns", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_ns", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_spread_ns", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_samples", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_confidence", sa.Text(), nullable=False),
        sa.Column("server_field", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capture_key"], ["captures.key"], name=op.f("fk_upstream_days_capture_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("capture_key", "endpoint", "day", name=op.f("pk_upstream_days")),
    )
    op.create_index(op.f("ix_upstream_days_day_endpoint"), "upstream_days", ["day", "endpoint"], unique=False)


def downgrade() -> None:
    """Take this step back."""
    op.drop_index(op.f("ix_upstream_days_day_endpoint"), table_name="upstream_days")
    op.drop_table("upstream_days")
    op.drop_index(op.f("ix_sightings_identifier_day"), table_name="sightings")
    op.drop_table("sightings")
    op.drop_table("reports")
    op.drop_index(op.f("ix_occurrences_identifier_ts_ns"), table_name="occurrences")
    op.drop_table("occurrences")
    op.drop_index(op.f("ix_files_scan"), table_name="files")
    op.drop_index(op.f("ix_files_capture_key"), table_name="files")
    op.drop_table("files")
    op.drop_index(op.f("ix_claims_scan"), table_name="claims")
    op.drop_table("claims")
    op.drop_index(op.f("ix_captures_series"), table_name="captures")
    op.drop_index(op.f("ix_captures_scan"), table_name="captures")
    op.drop_table("captures")
    op.drop_table("scans")
    op.drop_index(op.f("ix_pending_series"), table_name="pending")
    op.drop_table("pending")
    op.drop_table("findings")
    op.drop_table("announcements")
