"""The revision of each shard's rows: by it others follow what changes.

Whoever changes rows takes the next revision first and holds the shard's row until the commit, so that
revisions are committed in their order: a reader that has seen one never finds an earlier row later.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persistence import tables
from services.persistence.database.dialects import insert_new

_SHARD = tables.table_of(tables.Shard)


async def next_one(connection: AsyncConnection, shard: int) -> int:
    """The revision for the rows that this transaction changes; others of the shard wait for its end.

    It counts once `raise_to` is called, in the same transaction; when nothing has changed, it is not.
    """
    current = sa.select(_SHARD.c.rev).where(_SHARD.c.shard == shard).with_for_update()
    rev = await connection.scalar(current)
    if rev is None:
        await insert_new(connection, tables.Shard, [{"shard": shard, "rev": 0, "forgotten": 0}])
        rev = await connection.scalar(current) or 0
    return rev + 1


async def raise_to(connection: AsyncConnection, shard: int, rev: int) -> None:
    """Rows of the shard have changed at that revision, which `next_one` gave."""
    await connection.execute(sa.update(_SHARD).where(_SHARD.c.shard == shard).values(rev=rev))


async def forget(connection: AsyncConnection, gone: dict[int, int]) -> None:
    """Tombstones are gone: of each shard up to that revision."""
    for shard, rev in sorted(gone.items()):
        await connection.execute(
            sa.update(_SHARD).where(_SHARD.c.shard == shard, _SHARD.c.forgotten < rev).values(forgotten=rev)
        )
