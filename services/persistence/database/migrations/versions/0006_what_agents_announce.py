"""what agents announce of their actions"""

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
