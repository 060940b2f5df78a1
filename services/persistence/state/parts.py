"""Objects over the limit of a frame: their slices are kept until the last has come."""

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.errors import ContractError
from schemas.frames import Part
from schemas.ids import Target
from services.persistence import tables
from services.persistence.state.rows import Key
from services.persistence.targets import is_target

MAX_PARTS = 64
"""Parts of one object: far more than the largest object of the API server needs."""

_PART = tables.table_of(tables.Part)


async def take(connection: AsyncConnection, key: Key, part: Part, body: bytes) -> bytes | None:
    """Keep a slice; the object's bytes once its last one has come, None before.

    `body` is a JSON string with the slice in Base64. Raises ContractError for slices that do not follow each
    other.
    """
    if not 0 <= part.index < part.count <= MAX_PARTS:
        raise ContractError(f"part {part.index} of {part.count} of {key.resource} {key.name}")
    try:
        data = msgspec.json.decode(body, type=bytes)
    except msgspec.MsgspecError as error:
        raise ContractError(f"part of {key.resource} {key.name} is not Base64: {error}") from error
    this = [_PART.c[name] == value for name, value in key.columns().items()]
    if part.index == 0:
        await connection.execute(sa.delete(_PART).where(*this))
    earlier = await connection.scalars(sa.select(_PART.c.data).where(*this).order_by(_PART.c.index))
    slices = [*earlier, data]
    if len(slices) != part.index + 1:
        raise ContractError(
            f"part {part.index} of {key.resource} {key.name} came after {len(slices) - 1} others"
        )
    if len(slices) < part.count:
        await connection.execute(sa.insert(_PART).values(**key.columns(), index=part.index, data=data))
        return None
    await connection.execute(sa.delete(_PART).where(*this))
    return b"".join(slices)


async def forget(connection: AsyncConnection, target: Target) -> None:
    """Drop the slices of an agent: its new epoch sends everything again."""
    await connection.execute(sa.delete(_PART).where(is_target(_PART.c, target)))
