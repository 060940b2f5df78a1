"""tables of the first version"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from services.persistence.database.types import JSONValue, UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "resource",
        text("resource"),
        text("target_kind"),
        text("target_id"),
        text("namespace"),
        text("name"),
        text("uid"),
        text("kind"),
        text("node"),
        text("pod"),
        text("owner_kind"),
        text("owner_name"),
        sa.Column("labels", JSONValue(), nullable=False),
        sa.Column("annotations", JSONValue(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=True),
        time("updated_at"),
        text("state"),
        number("desired"),
        number("ready"),
        number("hash"),
        text("epoch"),
        number("rev"),
        data("summary"),
        data("body"),
        sa.PrimaryKeyConstraint(
            "resource", "target_kind", "target_id", "namespace", "name", name="pk_resource"
        ),
    )
    create_partial_index("ix_resource_node", "resource", "node")
    create_partial_index("ix_resource_owner_name_owner_kind", "resource", "owner_name", "owner_kind")
    counted_by = ["target_kind", "target_id", "resource", "state", "desired", "ready"]
    op.create_index(f"ix_resource_{'_'.join(counted_by)}", "resource", counted_by)
    op.create_table(
        "part",
        text("target_kind"),
        text("target_id"),
        text("resource"),
        text("namespace"),
        text("name"),
        sa.Column("index", sa.Integer(), nullable=False),
        data("data"),
        sa.PrimaryKeyConstraint(
            "target_kind", "target_id", "resource", "namespace", "name", "index", name="pk_part"
        ),
    )
    op.create_table(
        "agent",
        text("target_kind"),
        text("target_id"),
        time("last_seen"),
        sa.Column("interval", sa.Float(), nullable=False),
        sa.Column("stopping", sa.Boolean(), nullable=False),
        data("heartbeat"),
        sa.PrimaryKeyConstraint("target_kind", "target_id", name="pk_agent"),
    )
    op.create_table(
        "epoch",
        text("target_kind"),
        text("target_id"),
        text("epoch"),
        number("sequence"),
        text("instance"),
        sa.Column("scope", JSONValue(), nullable=False),
        sa.Column("previous", JSONValue(), nullable=False),
        time("stream_created"),
        number("stream_sequence"),
        number("version"),
        sa.Column("as_of", UTCDateTime(), nullable=True),
        sa.Column("gap", sa.Boolean(), nullable=False),
        sa.Column("digest_agrees", sa.Boolean(), nullable=True),
        sa.Column("summary", sa.LargeBinary(), nullable=True),
        text("resync_reason"),
        sa.Column("resync_since", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("target_kind", "target_id", name="pk_epoch"),
    )
    op.create_table(
        "collection",
        text("target_kind"),
        text("target_id"),
        text("resource"),
        text("synced_epoch"),
        sa.Column("synced_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("target_kind", "target_id", "resource", name="pk_collection"),
    )
    op.create_table(
        "event",
        text("cluster_id"),
        text("uid"),
        text("namespace"),
        text("name"),
        text("type"),
        text("reason"),
        text("message"),
        number("count"),
        time("first_seen"),
        time("last_seen"),
        text("involved_kind"),
        text("involved_namespace"),
        text("involved_name"),
        text("involved_uid"),
        text("component"),
        text("host"),
        text("epoch"),
        number("sequence"),
        data("summary"),
        data("body"),
        sa.PrimaryKeyConstraint("cluster_id", "uid", name="pk_event"),
    )
    op.create_index("ix_event_last_seen_cluster_id_uid", "event", ["last_seen", "cluster_id", "uid"])
    op.create_index("ix_event_cluster_id_last_seen_uid", "event", ["cluster_id", "last_seen", "uid"])
    op.create_table(
        "cursor",
        text("name"),
        text("stream"),
        time("created"),
        number("sequence"),
        sa.PrimaryKeyConstraint("name", "stream", name="pk_cursor"),
    )
    op.create_table(
        "shard",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        number("rev"),
        sa.PrimaryKeyConstraint("shard", name="pk_shard"),
    )
    op.create_table(
        "clock",
        text("name"),
        time("latest"),
        time("continuous_since"),
        sa.PrimaryKeyConstraint("name", name="pk_clock"),
    )
    op.create_table(
        "dead_letter",
        text("id"),
        time("received_at"),
        text("sender"),
        text("reason"),
        text("consumer"),
        text("subject"),
        text("stream"),
        number("stream_sequence"),
        sa.Column("original_at", UTCDateTime(), nullable=True),
        sa.Column("headers", JSONValue(), nullable=False),
        data("body"),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letter"),
    )
    op.create_index("ix_dead_letter_received_at_id", "dead_letter", ["received_at", "id"])
    compatibility = op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        text("needs"),
        sa.PrimaryKeyConstraint("id", name="pk_compatibility"),
    )
    op.bulk_insert(compatibility, [{"id": 1, "needs": revision}])


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def time(name: str) -> sa.Column[Any]:
    return sa.Column(name, UTCDateTime(), nullable=False)


def data(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def create_partial_index(name: str, table: str, column: str, *more: str) -> None:
    """An index of the rows whose `column` is not empty."""
    filled = sa.text(f"{column} != ''")
    op.create_index(name, table, [column, *more], sqlite_where=filled, postgresql_where=filled)
