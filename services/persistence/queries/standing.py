"""How far an answer can be trusted, agent by agent: what it depends on beside the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import Target
from schemas.presence import CollectionState
from services.persistence import tables
from services.persistence.presence import heartbeats
from services.persistence.presence.liveness import CLOCK, AgentState, agent_state
from services.persistence.queries.agents import CollectionStatus, collection_statuses
from services.persistence.targets import any_target

_AGENT: Any = tables.table_of(tables.Agent).c
_EPOCH: Any = tables.table_of(tables.Epoch).c
_COLLECTION: Any = tables.table_of(tables.Collection).c
_CLOCK: Any = tables.table_of(tables.Clock).c


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One agent and one resource of it, or all."""

    target: Target
    state: AgentState
    heard: bool
    """A heartbeat of it is stored."""
    takes_commands: bool
    """It has a journal, so commands are sent to it."""
    as_of: datetime | None
    collections: list[CollectionStatus]
    """Of the resources asked about that its agent names, or of which all rows were there once."""

    @property
    def collection(self) -> CollectionStatus | None:
        """The one of the resource that was asked about."""
        return self.collections[0] if self.collections else None

    @property
    def lacking(self) -> list[CollectionStatus]:
        """Those whose rows are not all there is."""
        return [one for one in self.collections if one.state != CollectionState.SYNCED]

    @property
    def complete(self) -> bool:
        """The rows are all there is, and will follow what changes."""
        return bool(self.collections) and not self.lacking and self.state is AgentState.LIVE


async def standings(
    connection: AsyncConnection, resource: str | None, targets: Sequence[Target] | None
) -> list[Standing]:
    """How those agents that were ever heard of stand, by kind and id; `targets` None: all of them.

    One statement, since it is asked for before each list; a second one for all resources (None).
    """
    pairs = [sa.select(columns.target_kind, columns.target_id) for columns in (_AGENT, _EPOCH)]
    if targets is not None:
        pairs = [
            pair.where(any_target(columns, targets))
            for pair, columns in zip(pairs, (_AGENT, _EPOCH), strict=True)
        ]
    known: Any = sa.union(*pairs).subquery("known")

    def same(columns: Any) -> sa.ColumnElement[bool]:
        return sa.and_(columns.target_kind == known.c.target_kind, columns.target_id == known.c.target_id)

    source = known
    for columns, more in (
        (_AGENT, sa.true()),
        (_EPOCH, sa.true()),
        (_COLLECTION, _COLLECTION.resource == resource),
    ):
        source = source.outerjoin(columns.target_id.table, sa.and_(same(columns), more))
    source = source.outerjoin(_CLOCK.name.table, _CLOCK.name == CLOCK)
    found = await connection.execute(
        sa.select(
            known.c.target_kind.label("kind"),
            known.c.target_id.label("id"),
            *(_AGENT.last_seen, _AGENT.interval, _AGENT.stopping, _AGENT.heartbeat),
            _EPOCH.as_of,
            *(_COLLECTION.resource, _COLLECTION.synced_at),
            *(_CLOCK.latest, _CLOCK.continuous_since),
        )
        .select_from(source)
        .order_by(known.c.target_kind, known.c.target_id)
    )
    if resource is not None:
        return [_standing(row, resource, [row] if row.resource is not None else []) for row in found]
    ours: dict[tuple[str, str], list[Any]] = {}
    columns = (_COLLECTION.target_kind, _COLLECTION.target_id, _COLLECTION.resource, _COLLECTION.synced_at)
    which = sa.true() if targets is None else any_target(_COLLECTION, targets)
    for row in await connection.execute(sa.select(*columns).where(which)):
        ours.setdefault((row.target_kind, row.target_id), []).append(row)
    return [_standing(row, None, ours.get((row.kind, row.id), [])) for row in found]


def _standing(row: Any, resource: str | None, ours: Sequence[Any]) -> Standing:
    state, said, journal = AgentState.LOST, [], ""
    if row.heartbeat is not None:
        now, since = row.latest or row.last_seen, row.continuous_since or row.last_seen
        state = agent_state(row.last_seen, row.interval, now, since, row.stopping)
        heartbeat = heartbeats.read(row.heartbeat)
        said, journal = heartbeat.collection, heartbeat.journal
        said = said if resource is None else [one for one in said if one.resource == resource]
    return Standing(
        target=Target.parse(row.kind, row.id),
        state=state,
        heard=row.heartbeat is not None,
        takes_commands=bool(journal),
        as_of=row.as_of,
        collections=collection_statuses(said, ours),
    )
