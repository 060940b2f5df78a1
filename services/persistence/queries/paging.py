"""Pages by key: each `continue` names the last row that was sent, so rows that come and go shift nothing."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.engine import Session
from services.persistence.database.types import UTCDateTime
from services.persistence.targets import any_target

COUNTED = 100_000
"""Rows behind a page that are counted at most: counting looks at each."""


class BadContinue(ValueError):
    """A `continue` that is not ours, or that belongs to another query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of an answer."""

    items: list[bytes]
    """JSON objects."""
    continue_: str
    """What to ask with for the next page; empty on the last."""
    remaining: int
    """How many items follow this page, counted up to COUNTED."""
    as_of: datetime | None
    """The moment of which the oldest state of the agents asked about is; of dead letters, when the newest was
    stored. None before there is any."""


def after(
    continue_: str, query: object, order: Sequence[sa.Column[Any]], *, down: bool
) -> sa.ColumnElement[bool]:
    """The condition of the rows behind a page, by the columns of its order; true on the first page.

    Raises BadContinue.
    """
    if not continue_:
        return sa.true()
    try:
        bound_to, *key = msgspec.json.decode(base64.urlsafe_b64decode(continue_ + "=="), type=list[str])
        if bound_to != _fingerprint(query) or len(key) != len(order):
            raise BadContinue("`continue` belongs to another query")
        values = [_read(text, column) for text, column in zip(key, order, strict=True)]
    except BadContinue:
        raise
    except ValueError as error:
        raise BadContinue("`continue` is not one that was given out") from error
    here, last = sa.tuple_(*order), sa.tuple_(*values)
    return here < last if down else here > last


def token(query: object, key: Sequence[Any]) -> str:
    """The `continue` behind the row with that key. `query` is whatever the next page must have in common."""
    texts = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(msgspec.json.encode([_fingerprint(query), *texts])).rstrip(b"=").decode()


def _fingerprint(query: object) -> str:
    return hashlib.sha256(repr(query).encode()).hexdigest()[:16]


def _read(text: str, column: sa.Column[Any]) -> sa.BindParameter[Any]:
    if not isinstance(column.type, UTCDateTime):
        return sa.literal(text, column.type)
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return sa.literal(time, column.type)


def item(summary: bytes, body: bytes | None = None) -> bytes:
    """A row's JSON as stored; with `body` the projection is its field `object`."""
    return summary if body is None else b'%b,"object":%b}' % (summary[:-1], body)


async def page_of(
    session: Session,
    shown: Sequence[sa.ColumnElement[Any]],
    order: Sequence[sa.Column[Any]],
    conditions: Sequence[sa.ColumnElement[bool]],
    as_of: sa.Select[Any],
    *,
    query: object,
    limit: int,
    continue_: str,
    down: bool = False,
    make: Callable[..., bytes] = item,
) -> Page:
    """A page in that order, `down` from the greatest; `make` turns the columns `shown` into an item.

    `query` is whatever the next page must have in common. Raises BadContinue.
    """
    connection = await session.connection()
    page = sa.and_(*conditions, after(continue_, query, order, down=down))
    by = [column.desc() for column in order] if down else order
    select = sa.select(*shown).where(page).order_by(*by).limit(limit + 1)
    rows = (await connection.execute(select)).all()
    next_page, remaining = "", 0
    if len(rows) > limit:
        rows = rows[:limit]
        # Asked for by itself: its columns in each of 5,000 rows would cost more.
        last = sa.select(*order).where(page).order_by(*by).limit(1).offset(limit - 1)
        next_page = token(query, (await connection.execute(last)).one())
        behind = sa.and_(*conditions, after(next_page, query, order, down=down))
        some = sa.select(sa.literal(1)).select_from(order[0].table).where(behind).limit(COUNTED)
        remaining = await connection.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
    return Page(
        items=[make(*row) for row in rows],
        continue_=next_page,
        remaining=remaining,
        as_of=await connection.scalar(as_of),
    )


def oldest(targets: Sequence[Target] | None) -> sa.Select[Any]:
    """The `as_of` of an answer about those agents; None for all."""
    columns: Any = tables.table_of(tables.Epoch).c
    query = sa.select(sa.func.min(columns.as_of))
    return query if targets is None else query.where(any_target(columns, targets))
