"""Dead letters, newest first."""

from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persistence import tables
from services.persistence.queries.paging import Page, page_of

_LETTERS = tables.table_of(tables.DeadLetter)
_SHOWN = [column for column in _LETTERS.columns if column.name != "body"]


async def list_dead_letters(connection: AsyncConnection, *, limit: int, continue_: str = "") -> Page:
    """Dead letters without their bodies, by the time they were stored, newest first. Raises BadContinue."""
    return await page_of(
        connection,
        _SHOWN,
        [_LETTERS.c.received_at, _LETTERS.c.id],
        [],
        sa.select(sa.func.max(_LETTERS.c.received_at)),
        query="dead letters",
        limit=limit,
        continue_=continue_,
        down=True,
        make=partial(_json, _SHOWN),
    )


async def get_dead_letter(connection: AsyncConnection, id: str) -> bytes | None:
    """One dead letter as JSON, with the original's body in Base64."""
    found = await connection.execute(sa.select(_LETTERS).where(_LETTERS.c.id == id))
    row = found.first()
    return _json(list(_LETTERS.columns), *row) if row else None


def _json(columns: list[sa.Column[Any]], *row: Any) -> bytes:
    names = (column.name for column in columns)
    return msgspec.json.encode(dict(zip(names, row, strict=True)))
