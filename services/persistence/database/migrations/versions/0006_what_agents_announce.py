"""what agents announce of their actions, and commands found by what was not sent yet"""

import sqlalchemy as sa
from alembic import op

from services.persistence.database.types import Text, UTCDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "announcement",
        sa.Column("target_kind", Text(), nullable=False),
        sa.Column("target_id", Text(), nullable=False),
        sa.Column("announced_at", UTCDateTime(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("target_kind", "target_id", name="pk_announcement"),
    )
    unsent = sa.text("state = 'accepted' AND attempts = 0")
    op.create_index(
        "ix_command_target_kind_target_id_created_at",
        "command",
        ["target_kind", "target_id", "created_at"],
        sqlite_where=unsent,
        postgresql_where=unsent,
    )
