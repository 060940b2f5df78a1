"""Pages by key: each `continue` names the last row that was sent, so rows that come and go shift nothing."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from services.persistence import tables
from services.persistence.database.types import UTCDateTime
from services.persistence.targets import any_target

COUNTED = 100_000
"""Rows behind a page that are counted at most: counting looks at each."""
KEYED = 500
"""Rows of a page that come with their keys; of a longer one the last key is asked for by itself, which costs
less than all those columns."""
_INT64 = range(-(2**63), 2**63)


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
    """Of dead letters, when the newest was stored, None before there is any; of what agents hold their
    `standings` say it."""


Order = Sequence[sa.ColumnElement[Any]]
"""What rows are in order of, all of it upwards or all downwards: texts, whole numbers, times; never null."""


def after(continue_: str, query: object, order: Order, *, down: bool) -> sa.ColumnElement[bool]:
    """The condition of the rows behind a page, by what they are in order of; true on the first page.

    Raises BadContinue.
    """
    if not continue_:
        return sa.true()
    try:
        text = base64.b64decode(continue_ + "=" * (-len(continue_) % 4), altchars=b"-_", validate=True)
        bound_to, *key = msgspec.json.decode(text, type=list[str | int])
        if bound_to != _fingerprint(query) or len(key) != len(order):
            raise BadContinue("`continue` belongs to another query")
        values = [_read(value, part.type) for value, part in zip(key, order, strict=True)]
    except BadContinue:
        raise
    except ValueError as error:
        raise BadContinue("`continue` is not one that was given out") from error
    here, last = sa.tuple_(*order), sa.tuple_(*values)
    return here < last if down else here > last


def token(query: object, key: Sequence[Any]) -> str:
    """The `continue` behind the row with that key. `query` is whatever the next page must have in common."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(msgspec.json.encode([_fingerprint(query), *values])).rstrip(b"=").decode()


def _fingerprint(query: object) -> str:
    return hashlib.sha256(repr(query).encode()).hexdigest()[:16]


def _read(value: str | int, type_: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    if isinstance(type_, sa.Integer):
        if not isinstance(value, int) or value not in _INT64:
            raise ValueError("not a whole number of 64 bits")
        return sa.literal(value, type_)
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - of a token, like all the others
    if not isinstance(type_, UTCDateTime):
        return sa.literal(value, type_)
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return sa.literal(time, type_)


def item(summary: bytes, body: bytes | None = None) -> bytes:
    """A row's JSON as stored; with `body` the projection is its field `object`."""
    return summary if body is None else b'%b,"object":%b}' % (summary[:-1], body)


async def page_of(
    connection: AsyncConnection,
    shown: Sequence[sa.ColumnElement[Any]],
    order: Order,
    conditions: Sequence[sa.ColumnElement[bool]],
    as_of: sa.Select[Any] | None = None,
    *,
    query: object,
    limit: int,
    continue_: str,
    down: bool = False,
    make: Callable[..., bytes] = item,
    source: sa.FromClause | None = None,
    keys: sa.FromClause | None = None,
) -> Page:
    """A page in that order, `down` from the greatest; `make` turns the columns `shown` into an item.

    `source` is where rows come from, where that is more than the columns say; `keys`, a part of it, has all
    that `order` and `conditions` need. `query` is whatever the next page must have in common. Raises
    BadContinue.
    """
    page = sa.and_(*conditions, after(continue_, query, order, down=down))
    by = [part.desc() for part in order] if down else order
    keyed, width = limit <= KEYED, len(shown)
    select = sa.select(*shown, *(order if keyed else ())).where(page).order_by(*by).limit(limit + 1)
    if source is not None:
        select = select.select_from(source)
    rows = (await connection.execute(select)).all()
    next_page, remaining = "", 0
    if len(rows) > limit:
        rows = rows[:limit]
        last = sa.select(*order).where(page).order_by(*by).limit(1).offset(limit - 1)
        some = sa.select(sa.literal(1)).limit(COUNTED)
        if keys is not None:
            last, some = last.select_from(keys), some.select_from(keys)
        next_page = token(query, rows[-1][width:] if keyed else (await connection.execute(last)).one())
        some = some.where(*conditions, after(next_page, query, order, down=down))
        remaining = await connection.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
    return Page(
        items=[row[0] for row in rows]
        if make is item and width == 1
        else [make(*row[:width]) for row in rows],
        continue_=next_page,
        remaining=remaining,
        as_of=None if as_of is None else await connection.scalar(as_of),
    )


def oldest(targets: Sequence[Target] | None) -> sa.Select[Any]:
    """The `as_of` of an answer about those agents; None for all."""
    columns: Any = tables.table_of(tables.Epoch).c
    query = sa.select(sa.func.min(columns.as_of))
    return query if targets is None else query.where(any_target(columns, targets))
