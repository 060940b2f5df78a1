"""Pages by key: each `continue` names the last row that was sent, so rows that come and go shift nothing."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.types import UTCDateTime

COUNTED = 100_000
"""Rows that are counted at most where counting must look at each."""


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
    """How many items follow this page; of Events and dead letters at most COUNTED are counted."""
    as_of: datetime | None
    """Of the agents asked about, the moment of which the oldest state is; None before there is any."""


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


async def newest_first(
    connection: AsyncConnection,
    shown: Sequence[sa.ColumnElement[Any]],
    order: Sequence[sa.Column[Any]],
    conditions: Sequence[sa.ColumnElement[bool]],
    *,
    query: object,
    limit: int,
    continue_: str,
) -> tuple[list[tuple[Any, ...]], str, int]:
    """The columns `shown` of a page in descending order; then `continue_` and `remaining` as in Page."""
    page = sa.and_(*conditions, after(continue_, query, order, down=True))
    descending = [column.desc() for column in order]
    select = sa.select(*order, *shown).where(page).order_by(*descending).limit(limit + 1)
    rows = [tuple(row) for row in await connection.execute(select)]
    next_page, remaining = "", 0
    if len(rows) > limit:
        rows = rows[:limit]
        next_page = token(query, rows[-1][: len(order)])
        behind = sa.and_(*conditions, after(next_page, query, order, down=True))
        some = sa.select(sa.literal(1)).select_from(order[0].table).where(behind).limit(COUNTED)
        remaining = await connection.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
    return [row[len(order) :] for row in rows], next_page, remaining


def is_target(columns: Any, target: Target) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to an agent."""
    return sa.and_(columns.target_kind == target.kind.value, columns.target_id == target.id)


def any_target(columns: Any, targets: Sequence[Target]) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to one of some agents."""
    if len(targets) == 1:
        return is_target(columns, targets[0])
    ids: dict[str, list[str]] = {}
    for target in targets:
        ids.setdefault(target.kind.value, []).append(target.id)
    return sa.or_(
        sa.false(),
        *(sa.and_(columns.target_kind == kind, columns.target_id.in_(some)) for kind, some in ids.items()),
    )


def oldest(targets: Sequence[Target] | None) -> Any:
    """The `as_of` of an answer about those agents; None for all."""
    columns = tables.table_of(tables.Epoch).c
    query = sa.select(sa.func.min(columns.as_of))
    return query if targets is None else query.where(any_target(columns, targets))


def item(summary: bytes, body: bytes | None = None) -> bytes:
    """A row's JSON as stored; with `body` the projection is its field `object`."""
    return summary if body is None else b'%b,"object":%b}' % (summary[:-1], body)
