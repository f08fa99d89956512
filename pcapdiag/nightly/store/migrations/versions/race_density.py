"""How close each upstream came to the idle-close race; what was written before does not tell."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_COLUMNS = ("gaps_near", "lost_near", "near_width_ns", "race_window_ns", "watched_ppm")


def upgrade() -> None:
    """Apply this step."""
    for name in _COLUMNS:
        op.add_column("upstream_days", sa.Column(name, sa.BigInteger(), nullable=False, server_default="-1"))


def downgrade() -> None:
    """Take this step back."""
    with op.batch_alter_table("upstream_days") as table:
        for name in reversed(_COLUMNS):
            table.drop_column(name)
