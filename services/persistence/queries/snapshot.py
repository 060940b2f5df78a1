"""All objects of one agent, in portions: what is too much to be held at once."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from services.persistence import tables
from services.persistence.targets import is_target

PORTION = 50
"""Rows that are in memory at a time: an object may have a megabyte."""
_CACHE = -2048
"""Of SQLite's pages, in KiB when negative."""
_RESOURCE: Any = tables.table_of(tables.Resource).c
_EVENT: Any = tables.table_of(tables.Event).c


@asynccontextmanager
async def reading_all(connection: AsyncConnection, patience: float) -> AsyncIterator[None]:
    """Fit the transaction for reading everything once.

    PostgreSQL ends one that stands still between two portions, while they are being taken; here it waits
    `patience` seconds. SQLite would fill its cache with pages that nobody reads again.
    """
    if connection.dialect.name == "postgresql":
        milliseconds = int(patience * 1000)
        await connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")
        yield
        return
    usual = (await connection.exec_driver_sql("PRAGMA cache_size")).scalar_one()
    await connection.exec_driver_sql(f"PRAGMA cache_size = {_CACHE}")
    try:
        yield
    finally:
        with suppress(SQLAlchemyError):  # a connection that has failed is not used again
            await connection.exec_driver_sql(f"PRAGMA cache_size = {usual}")


async def held_resources(connection: AsyncConnection, target: Target) -> list[str]:
    """The resources of which the agent has rows."""
    found = await connection.scalars(
        sa.select(_RESOURCE.resource).where(is_target(_RESOURCE, target)).distinct()
    )
    return sorted(found)


async def oldest_event(connection: AsyncConnection, target: Target) -> Any:
    """When the oldest Event of a cluster was last seen: it moves when old ones go, as `rev` does not."""
    query = sa.select(sa.func.min(_EVENT.last_seen)).where(_EVENT.cluster_id == target.id)
    return await connection.scalar(query)


async def bodies(
    connection: AsyncConnection, target: Target, resource: str
) -> AsyncGenerator[Sequence[sa.Row[Any]], None]:
    """The rows (body, namespace, name, uid) of one resource in portions, by namespace and name.

    Those of a cluster's `events` are the stored Events, the newest first. To be closed when left early.
    """
    if target.kind is AgentKind.KUBERNETES and resource == EVENT.resource:
        columns, of_target = _EVENT, _EVENT.cluster_id == target.id
        order = [_EVENT.last_seen.desc(), _EVENT.uid.desc()]
    else:
        columns, of_target = _RESOURCE, sa.and_(_RESOURCE.resource == resource, is_target(_RESOURCE, target))
        order = [_RESOURCE.namespace, _RESOURCE.name]
    body: Any = sa.type_coerce(columns.body, sa.types.NullType())  # as the driver reads it
    query = sa.select(body, columns.namespace, columns.name, columns.uid).where(of_target).order_by(*order)
    async with connection.stream(query, execution_options={"yield_per": PORTION}) as result:
        async for portion in result.partitions():
            yield portion
