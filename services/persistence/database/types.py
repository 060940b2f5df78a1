"""Column types that read back what was written, on every database."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


class UTCDateTime(sa.TypeDecorator[datetime]):
    """An aware time, in UTC: SQLite keeps no time zone, so it is taken off on the way in and put back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Text(sa.TypeDecorator[str]):
    """A text, ordered by code point on every database: PostgreSQL would sort it as its host's language does.

    PostgreSQL's texts hold no U+0000; U+FFFD stands in its place, on every database. Bytes keep what came.
    """

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(sa.String(collation=collation))

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return without_nul(value) if value is not None and "\0" in value else value


class JSONValue(sa.TypeDecorator[Any]):
    """A JSON value: text in SQLite, `jsonb` in PostgreSQL, which holds no U+0000 either (see Text)."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(postgresql.JSONB() if dialect.name == "postgresql" else sa.JSON())


def json_in_postgresql(stored: Any) -> sa.ColumnElement[Any]:
    """Stored bytes as JSON to look into, in PostgreSQL.

    `json` and not `jsonb`, and without U+0000: an object may hold numbers of any size and a character that
    this database does not read, and one such row must not make every list fail.
    """
    text = sa.func.replace(sa.func.convert_from(stored, "UTF8"), r"\u0000", r"\ufffd")
    return sa.cast(text, postgresql.JSON())


def encode_json(value: Any) -> str:
    """What a JSONValue is written as."""
    text = msgspec.json.encode(value).decode()
    # It may also be six characters of a text, behind a backslash: then a look at it changes nothing.
    return msgspec.json.encode(without_nul(value)).decode() if r"\u0000" in text else text


def without_nul(value: Any) -> Any:
    """The value with U+FFFD for each U+0000 in its texts and in the keys of its objects."""
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {without_nul(key): without_nul(item) for key, item in value.items()}
        case list():
            return [without_nul(item) for item in value]
    return value


def in_utc(time: datetime) -> datetime:
    """The time in UTC; one without a zone is taken to be in it.

    Raises ValueError for a time at the end of the calendar that has no equal in UTC.
    """
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{time.isoformat()} is outside of the calendar in UTC") from error
