"""Storing a command: its row and its place in the outbox, in the caller's transaction.

Whoever accepts a command does it here: an api for a request, the master for a step of an operation.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import Command, CommandState
from services.persistence import tables
from services.persistence.database import dialects

_OUTBOX = tables.table_of(tables.Outbox)


async def insert_command(
    connection: AsyncConnection,
    command: Command,
    *,
    idempotency_key: str = "",
    fingerprint: str = "",
    signature: str = "",
) -> bool:
    """Accept a command, to be sent at once; False when its actor has used the key already.

    Nothing is stored then. While another transaction that uses the key has not ended, this waits for it.
    """
    about = command.object
    row = {
        "id": command.id,
        "target_kind": command.target.kind.value,
        "target_id": command.target.id,
        "action": command.action,
        "object_resource": about.resource,
        "object_namespace": about.namespace,
        "object_name": about.name,
        "actor": command.actor,
        "operation_id": command.operation,
        "idempotency_key": idempotency_key,
        "fingerprint": fingerprint,
        "body": command.model_dump_json().encode(),
        "signature": signature,
        "state": CommandState.ACCEPTED.value,
        "created_at": command.created_at,
        "start_by": command.start_by,
        "finish_by": command.finish_by,
        "attempts": 0,
        "journal": "",
        "broker": "",
        "stream_sequence": 0,
        "cancel_reason": "",
        "progress_sequence": 0,
    }
    if not await dialects.insert_unless_there(connection, tables.Command, row):
        return False
    await connection.execute(sa.insert(_OUTBOX).values(command_id=command.id, due_at=command.created_at))
    return True
