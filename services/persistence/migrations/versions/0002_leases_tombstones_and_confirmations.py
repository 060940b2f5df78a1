"""leases, tombstones and confirmations

Code that does not know leases would write beside their holders, so it is refused from here on.
"""

import sqlalchemy as sa
from alembic import op

from schemas.ids import Target
from services.persistence.types import UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _add_shard_and_rev()
    with op.batch_alter_table("shard") as table:
        table.add_column(sa.Column("forgotten", sa.BigInteger(), nullable=False, server_default="0"))
    # No removal before this one has left a tombstone.
    op.execute(sa.text("UPDATE shard SET forgotten = rev"))
    with op.batch_alter_table("shard") as table:
        table.alter_column("forgotten", server_default=None)
    with op.batch_alter_table("agent") as table:
        table.add_column(sa.Column("rival_seen", UTCDateTime(), nullable=True))
        table.add_column(sa.Column("rival", sa.LargeBinary(), nullable=True))
    op.create_table(
        "tombstone",
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("rev", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("resource", "target_kind", "target_id", "namespace", "name", "uid")
        ),
        sa.Column("removed_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            *("shard", "rev", "resource", "target_kind", "target_id", "namespace", "name"),
            name="pk_tombstone",
        ),
    )
    op.create_index("ix_tombstone_removed_at", "tombstone", ["removed_at"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
    op.create_table(
        "confirmation",
        sa.Column("target_kind", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("target_kind", "target_id", "epoch", name="pk_confirmation"),
    )
    op.execute(sa.text("UPDATE compatibility SET needs = :needs").bindparams(needs=revision))


def _add_shard_and_rev() -> None:
    """The shard on each row, worked out from its target; Events get a revision too."""
    for table in ("resource", "event"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("shard", sa.Integer(), nullable=False, server_default="0"))
            if table == "event":
                batch.add_column(sa.Column("rev", sa.BigInteger(), nullable=False, server_default="0"))
    connection = op.get_bind()
    for kind, name in connection.execute(sa.text("SELECT DISTINCT target_kind, target_id FROM resource")):
        connection.execute(
            sa.text("UPDATE resource SET shard = :shard WHERE target_kind = :kind AND target_id = :name"),
            {"shard": Target.parse(kind, name).shard, "kind": kind, "name": name},
        )
    for (name,) in connection.execute(sa.text("SELECT DISTINCT cluster_id FROM event")):
        connection.execute(
            sa.text("UPDATE event SET shard = :shard WHERE cluster_id = :name"),
            {"shard": Target.parse("kubernetes", name).shard, "name": name},
        )
    for table in ("resource", "event"):
        with op.batch_alter_table(table) as batch:
            batch.alter_column("shard", server_default=None)
            if table == "event":
                batch.alter_column("rev", server_default=None)
        op.create_index(f"ix_{table}_shard_rev", table, ["shard", "rev"])
