"""Dead letters, newest first."""

from typing import Any

import msgspec
import sqlalchemy as sa

from services.persistence import tables
from services.persistence.engine import Session
from services.persistence.queries.paging import Page, newest_first

_LETTERS = tables.table_of(tables.DeadLetter)
_SHOWN = [column for column in _LETTERS.columns if column.name != "body"]


async def list_dead_letters(session: Session, *, limit: int, continue_: str = "") -> Page:
    """Dead letters without their bodies, by the time they were stored, newest first. Raises BadContinue."""
    rows, next_page, remaining = await newest_first(
        await session.connection(),
        _SHOWN,
        [_LETTERS.c.received_at, _LETTERS.c.id],
        [],
        query="dead letters",
        limit=limit,
        continue_=continue_,
    )
    items = [_json(_SHOWN, row) for row in rows]
    return Page(items=items, continue_=next_page, remaining=remaining, as_of=None)


async def get_dead_letter(session: Session, id: str) -> bytes | None:
    """One dead letter as JSON, with the original's body in Base64."""
    found = await (await session.connection()).execute(sa.select(_LETTERS).where(_LETTERS.c.id == id))
    row = found.first()
    return _json(list(_LETTERS.columns), tuple(row)) if row else None


def _json(columns: list[sa.Column[Any]], row: tuple[Any, ...]) -> bytes:
    names = (column.name for column in columns)
    return msgspec.json.encode(dict(zip(names, row, strict=True)))
