"""leases, tombstones and confirmations; texts by code point

Code that does not know leases would write beside their holders, so it is refused from here on.
"""

import sqlalchemy as sa
from alembic import op

from schemas.ids import Target
from services.persistence.database.types import Text, UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _sort_by_code_point()
        _keep_the_counting_index_for_counting()
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
            sa.Column(name, Text(), nullable=False)
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
        sa.Column("name", Text(), nullable=False),
        sa.Column("holder", Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
    op.create_table(
        "confirmation",
        sa.Column("target_kind", Text(), nullable=False),
        sa.Column("target_id", Text(), nullable=False),
        sa.Column("epoch", Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("target_kind", "target_id", "epoch", name="pk_confirmation"),
    )
    op.execute(sa.text("UPDATE compatibility SET needs = :needs").bindparams(needs=revision))


def _sort_by_code_point() -> None:
    """Texts were in the order of the server's language until here."""
    inspector = sa.inspect(op.get_bind())
    for table in inspector.get_table_names():
        texts = [item["name"] for item in inspector.get_columns(table) if isinstance(item["type"], sa.String)]
        changes = [f'ALTER COLUMN "{name}" TYPE VARCHAR COLLATE "C"' for name in texts]
        if changes and table != "alembic_version":
            op.execute(sa.text(f'ALTER TABLE "{table}" {", ".join(changes)}'))


def _keep_the_counting_index_for_counting() -> None:
    columns = ["target_kind", "target_id", "resource", "state", "desired", "ready"]
    name = f"ix_resource_{'_'.join(columns)}"
    op.drop_index(name, "resource")
    op.create_index(name, "resource", columns, postgresql_where=sa.text("state >= ''"))


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
