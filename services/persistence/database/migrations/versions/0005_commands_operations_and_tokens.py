"""commands, operations and tokens"""

import sqlalchemy as sa
from alembic import op

from services.persistence.database.types import Text, UTCDateTime

revision = "0005"
down_revision = "0004"


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Text(), nullable=False) for name in names]


def _time(name: str, *, nullable: bool = False) -> "sa.Column[sa.DateTime]":
    return sa.Column(name, UTCDateTime(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "command",
        *_texts("id", "target_kind", "target_id", "action"),
        *_texts("object_resource", "object_namespace", "object_name", "actor", "operation_id"),
        *_texts("idempotency_key", "fingerprint"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        *_texts("signature", "state"),
        *(_time(name) for name in ("created_at", "start_by", "finish_by")),
        *(
            _time(name, nullable=True)
            for name in ("sent_at", "received_at", "started_at", "executed_at", "finished_at")
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        *_texts("journal", "broker"),
        _time("stream_created", nullable=True),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=False),
        _time("cancel_requested_at", nullable=True),
        *_texts("cancel_reason"),
        sa.Column("progress", sa.LargeBinary(), nullable=True),
        sa.Column("progress_sequence", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("evidence", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_command"),
    )
    op.create_index("ix_command_target_kind_target_id_id", "command", ["target_kind", "target_id", "id"])
    op.create_index("ix_command_state_finish_by", "command", ["state", "finish_by"])
    canceled = "cancel_requested_at IS NOT NULL AND finished_at IS NULL"
    _where("ix_command_cancel_requested_at", "command", ["cancel_requested_at"], canceled)
    _where("ix_command_operation_id_id", "command", ["operation_id", "id"], "operation_id != ''")
    op.create_table(
        "command_part",
        *_texts("command_id"),
        sa.Column("index", sa.Integer(), nullable=False),
        *_texts("data"),
        sa.PrimaryKeyConstraint("command_id", "index", name="pk_command_part"),
    )
    op.create_table(
        "outbox",
        *_texts("command_id"),
        _time("due_at"),
        sa.PrimaryKeyConstraint("command_id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"])
    op.create_table(
        "operation",
        *_texts("id", "actor", "idempotency_key", "fingerprint"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        *_texts("state", "reason"),
        sa.Column("forgiven", sa.Integer(), nullable=False),
        *(_time(name) for name in ("created_at", "updated_at")),
        _time("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operation"),
    )
    op.create_index("ix_operation_state_id", "operation", ["state", "id"])
    for table in ("command", "operation"):
        name = f"ix_{table}_actor_idempotency_key"
        _where(name, table, ["actor", "idempotency_key"], "idempotency_key != ''", unique=True)
    op.create_table(
        "operation_target",
        *_texts("operation_id"),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        *_texts("target_kind", "target_id", "command_id"),
        sa.PrimaryKeyConstraint("operation_id", "position", name="pk_operation_target"),
    )
    op.create_table(
        "token",
        *_texts("id", "name", "hash"),
        _time("created_at"),
        *(_time(name, nullable=True) for name in ("expires_at", "last_used_at")),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        sa.UniqueConstraint("hash", name="uq_token_hash"),
    )


def _where(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)
