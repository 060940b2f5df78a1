"""What a graph's answer depends on beside its rows, in one statement: it is asked for before each."""

from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import SHARDS, Target
from services.persistence import tables
from services.persistence.database.types import Text, UTCDateTime
from services.persistence.presence import heartbeats
from services.persistence.presence.heartbeats import StoredHeartbeat
from services.persistence.queries.agents import CollectionStatus, collection_statuses

_SHARD = tables.table_of(tables.Shard).c
_AGENT = tables.table_of(tables.Agent).c
_EPOCH = tables.table_of(tables.Epoch).c
_COLLECTION = tables.table_of(tables.Collection).c
_EVENT = tables.table_of(tables.Event).c


@dataclass(slots=True, kw_only=True)
class Moment:
    """Of when an agent's rows are, and how complete."""

    target: Target
    heartbeat: StoredHeartbeat | None = None
    """None when none has been seen."""
    as_of: datetime | None = None
    """None when nothing has been applied yet."""
    collection: list[CollectionStatus] = field(default_factory=list)
    revs: tuple[int, ...] = ()
    """Of each shard."""
    events_kept_since: datetime | None = None
    """When the oldest of all Events was last seen."""


async def moment(connection: AsyncConnection, target: Target) -> Moment | None:
    """How an agent stands; None when nothing was ever heard of it."""
    values = {"target_kind": target.kind.value, "target_id": target.id}
    found = Moment(target=target)
    revs, ours, known = [0] * SHARDS, [], False
    for what, name, number, time, data in await connection.execute(_STATEMENT, values):
        known |= what in ("agent", "epoch")
        match what:
            case "shard":
                revs[int(name)] = number
            case "agent":
                found.heartbeat = heartbeats.read(data)
            case "epoch":
                found.as_of = time
            case "collection":
                ours.append(SimpleNamespace(resource=name, synced_at=time))
            case "event":
                found.events_kept_since = time
    if not known:
        return None
    found.revs = tuple(revs)
    found.collection = collection_statuses(found.heartbeat.collection if found.heartbeat else [], ours)
    return found


_NONE: dict[str, Any] = {
    "name": sa.literal_column("''", sa.Text()),
    "number": sa.cast(sa.null(), sa.BigInteger()),
    "time": sa.cast(sa.null(), UTCDateTime()),
    "data": sa.cast(sa.null(), sa.LargeBinary()),
}


def _rows(what: str, **columns: Any) -> sa.Select[Any]:
    shown = [(columns.get(name, none)).label(name) for name, none in _NONE.items()]
    return sa.select(sa.literal_column(f"'{what}'", sa.Text()).label("what"), *shown)


def _ours(columns: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        *(columns[name] == sa.bindparam(name, type_=Text()) for name in ("target_kind", "target_id"))
    )


_STATEMENT = sa.union_all(
    _rows("epoch", time=_EPOCH.as_of).where(_ours(_EPOCH)),
    _rows("agent", data=_AGENT.heartbeat).where(_ours(_AGENT)),
    _rows("collection", name=_COLLECTION.resource, time=_COLLECTION.synced_at).where(_ours(_COLLECTION)),
    _rows("shard", name=sa.cast(_SHARD.shard, sa.Text()), number=_SHARD.rev).where(
        _SHARD.shard < sa.literal_column(str(SHARDS))
    ),
    # They go by age, which no revision tells.
    _rows("event", time=sa.func.min(_EVENT.last_seen)),
)
