"""What one transaction does to the objects of a shard, for those who follow: a revision, and tombstones."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persistence import revisions, tables
from services.persistence.database.dialects import KEYS, delete, encode_keys, keys_table
from services.persistence.database.types import UTCDateTime
from services.persistence.state.rows import Key
from services.persistence.targets import is_same_object

_RESOURCE = tables.table_of(tables.Resource)
_TOMBSTONE = tables.table_of(tables.Tombstone)


class Changes:
    """The revision of what one transaction changes, and what it leaves of the objects it removes."""

    time: datetime
    """Of the frame in hand."""

    def __init__(self, connection: AsyncConnection, shard: int) -> None:
        self._connection = connection
        self._shard = shard
        self._rev = 0
        self._removed: set[Key] = set()

    async def rev(self) -> int:
        """The revision for rows that are new or changed; see `revisions.next_one`."""
        if not self._rev:
            self._rev = await revisions.next_one(self._connection, self._shard)
        return self._rev

    async def remove(self, keys: Sequence[Key]) -> int:
        """Remove those objects that are there, and leave a tombstone of each; how many that were."""
        if not keys:
            return 0
        columns = [key.columns() for key in keys]
        left = await self._connection.execute(
            _bury(self._connection.dialect.name),
            {
                KEYS: encode_keys([[key[name] for name in tables.OBJECT_KEY] for key in columns]),
                "shard": self._shard,
                "rev": await self.rev(),
                "removed_at": self.time,
            },
        )
        await delete(self._connection, tables.Resource, columns)
        self._removed |= set(keys)
        return left.rowcount

    async def put(self, keys: Iterable[Key]) -> None:
        """These objects are there (again): what this transaction left of them goes, or it would hide them."""
        if again := self._removed.intersection(keys):
            self._removed -= again
            position = {"shard": self._shard, "rev": await self.rev()}
            await delete(self._connection, tables.Tombstone, [position | key.columns() for key in again])

    async def finish(self, *, changed: bool) -> int:
        """Raise the shard's revision, if rows have changed; the revision it has then, else 0."""
        if not changed:
            return 0
        await revisions.raise_to(self._connection, self._shard, self._rev)
        return self._rev


@cache
def _bury(dialect: str) -> sa.Executable:
    given, columns = keys_table(dialect, tables.OBJECT_KEY)
    there = (
        sa.select(
            sa.bindparam("shard", type_=sa.Integer()),
            sa.bindparam("rev", type_=sa.BigInteger()),
            *(_RESOURCE.c[name] for name in tables.OBJECT_KEY),
            _RESOURCE.c.uid,
            sa.bindparam("removed_at", type_=UTCDateTime()),
        )
        .select_from(given)
        .join(_RESOURCE, is_same_object(_RESOURCE.c, columns))
    )
    return sa.insert(_TOMBSTONE).from_select(["shard", "rev", *tables.OBJECT_KEY, "uid", "removed_at"], there)
