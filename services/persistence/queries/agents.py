"""Agents: whether they are there, how far their state is known, and what it counts up to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from schemas.presence import ActionSchemas, CollectionState
from schemas.snapshot import WORKLOADS, ClusterSummary, Workloads
from services.persistence import tables
from services.persistence.presence import announcements, heartbeats
from services.persistence.presence.heartbeats import StoredCollection, StoredHeartbeat
from services.persistence.presence.liveness import AgentState, ClockReading, agent_state, read_clock
from services.persistence.presence.store import cannot_collect
from services.persistence.queries.paging import after, token
from services.persistence.state.epochs import Ledger
from services.persistence.targets import any_target, is_target


class CollectionStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One resource of one agent: what the agent says of it, and whether we hold all of it."""

    resource: str
    state: str
    """A CollectionState as the agent said; `listing` until we have what it calls synced."""
    reason: str
    objects: int
    """At the agent."""
    relists: int
    last_event_at: datetime | None
    synced_at: datetime | None
    """When our rows were last complete; None for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalStatus:
    """Another agent under the same id, which does not serve it."""

    seen: datetime
    """When the broker took its last heartbeat."""
    heartbeat: StoredHeartbeat
    reason: str
    """Why it does not serve, with the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """One agent."""

    target: Target
    state: AgentState
    heartbeat: StoredHeartbeat | None
    """None when none has been seen."""
    last_seen: datetime | None
    instance: str
    """What its rows come from."""
    epoch: str
    version: int
    """Frames applied."""
    as_of: datetime | None
    """None when nothing has been applied yet."""
    in_sync: bool
    """All that the agent can collect is complete, no frame is missing and the last digest agreed."""
    resync_reason: str
    """Why a new epoch is wanted; empty when none is."""
    resync_since: datetime | None
    rival: RivalStatus | None
    """None when none has been heard for three of its intervals."""
    collection: list[CollectionStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPage:
    """A part of the list of agents."""

    items: list[AgentStatus]
    continue_: str
    """What to ask with for the next page; empty on the last."""
    remaining: int
    """How many agents follow this page."""


async def clock(connection: AsyncConnection) -> ClockReading | None:
    """The broker's clock; None when no master has beaten yet."""
    return await read_clock(connection)


async def list_agents(
    connection: AsyncConnection, kind: AgentKind | None = None, *, limit: int, continue_: str = ""
) -> AgentPage:
    """The agents that were ever heard of, or those of one kind, by kind and id. Raises BadContinue."""
    heard_of = [tables.table_of(model).c for model in (tables.Agent, tables.Epoch)]
    known = sa.union(*(sa.select(columns.target_kind, columns.target_id) for columns in heard_of)).subquery()
    order: Any = [known.c.target_kind, known.c.target_id]
    query = ("agents", kind)
    # Keys are short: those of all the rest are read, and with them it is known how many there are.
    keys = (
        await connection.execute(
            sa.select(*order)
            .where(sa.true() if kind is None else order[0] == kind.value)
            .where(after(continue_, query, order, down=False))
            .order_by(*order)
        )
    ).all()
    page, remaining = keys[:limit], max(0, len(keys) - limit)
    return AgentPage(
        items=await _agents(connection, lambda columns: _between(columns, page[0], page[-1])) if page else [],
        continue_=token(query, page[-1]) if remaining else "",
        remaining=remaining,
    )


def _between(columns: Any, first: sa.Row[Any], last: sa.Row[Any]) -> sa.ColumnElement[bool]:
    place = sa.tuple_(columns.target_kind, columns.target_id)
    return sa.and_(place >= sa.tuple_(*first), place <= sa.tuple_(*last))


async def get_agent(connection: AsyncConnection, target: Target) -> AgentStatus | None:
    """One agent; None when nothing was ever heard of it."""
    found = await _agents(connection, lambda columns: is_target(columns, target))
    return found[0] if found else None


async def announced(
    connection: AsyncConnection, agents: Sequence[AgentStatus]
) -> dict[Target, ActionSchemas]:
    """What agents can do, each action with the JSON Schema of its parameters, as they have announced it.

    Without those that have not, since they have the version that they have.
    """
    versions = {agent.target: agent.heartbeat.version for agent in agents if agent.heartbeat}
    return await announcements.announced(connection, versions)


async def summaries(connection: AsyncConnection, targets: Sequence[Target]) -> dict[Target, ClusterSummary]:
    """The counts of clusters, from their rows; Events are those still present, by the last digest."""
    rows: Any = tables.table_of(tables.Resource).c
    epochs: Any = tables.table_of(tables.Epoch).c
    counted = {target: ClusterSummary() for target in targets}
    by = (rows.target_kind, rows.target_id, rows.resource, rows.state)
    counts = await connection.execute(
        sa.select(*by, sa.func.count(), sa.func.sum(rows.desired), sa.func.sum(rows.ready))
        .where(
            rows.resource.in_(["nodes", "pods", *sorted(WORKLOADS)]),
            any_target(rows, targets),
            rows.state >= sa.literal_column("''"),  # always so: the index asks for it
        )
        .group_by(*by)
    )
    for kind, name, resource, state, count, desired, ready in counts:
        summary = counted[Target.parse(kind, name)]
        if resource in WORKLOADS:
            workloads = summary.workloads.setdefault(resource, Workloads())
            workloads.count += count
            workloads.desired += int(desired)
            workloads.ready += int(ready)
        else:
            (summary.nodes if resource == "nodes" else summary.pods)[state] = count
    digests = await connection.execute(
        sa.select(epochs.target_kind, epochs.target_id, epochs.summary).where(
            any_target(epochs, targets), epochs.summary.is_not(None)
        )
    )
    for kind, name, text in digests:
        counted[Target.parse(kind, name)].events = msgspec.json.decode(text, type=ClusterSummary).events
    return counted


async def _agents(
    connection: AsyncConnection, which: Callable[[Any], sa.ColumnElement[bool]]
) -> list[AgentStatus]:

    async def rows(model: type[SQLModel]) -> dict[tuple[str, str], list[Any]]:
        table = tables.table_of(model)
        found: dict[tuple[str, str], list[Any]] = {}
        for row in await connection.execute(sa.select(table).where(which(table.c))):
            found.setdefault((row.target_kind, row.target_id), []).append(row)
        return found

    agents, epochs = await rows(tables.Agent), await rows(tables.Epoch)
    collections = await rows(tables.Collection)
    reading = await clock(connection)
    none = [None]
    return [
        _status(
            Target.parse(*key),
            agents.get(key, none)[0],
            epochs.get(key, none)[0],
            collections.get(key, []),
            reading,
        )
        for key in sorted(agents.keys() | epochs.keys())
    ]


def _status(
    target: Target, agent: Any, epoch: Any, collections: Sequence[Any], reading: ClockReading | None
) -> AgentStatus:
    heartbeat = heartbeats.read(agent.heartbeat) if agent else None
    said = heartbeat.collection if heartbeat else []
    ledger = None
    if epoch:
        ledger = Ledger.from_row(target, epoch, {row.resource: row.synced_epoch for row in collections})
        ledger.not_collected = cannot_collect(said)
    elsewhere = ""
    if heartbeat and ledger and heartbeat.epoch not in ("", ledger.epoch):
        elsewhere = "the agent that beats publishes in another epoch than the one that counts"
    state = AgentState.LOST
    if agent:
        now, since = (
            (reading.latest, reading.continuous_since) if reading else (agent.last_seen, agent.last_seen)
        )
        state = agent_state(agent.last_seen, agent.interval, now, since, agent.stopping)
    return AgentStatus(
        target=target,
        state=state,
        heartbeat=heartbeat,
        last_seen=agent.last_seen if agent else None,
        instance=ledger.instance if ledger else "",
        epoch=ledger.epoch if ledger else "",
        version=ledger.version if ledger else 0,
        as_of=ledger.as_of if ledger else None,
        in_sync=ledger is not None and ledger.in_sync and not elsewhere,
        resync_reason=elsewhere or (ledger.resync_reason if ledger else ""),
        resync_since=ledger.resync_since if ledger else None,
        rival=_rival(agent, heartbeat, ledger.instance if ledger else "", reading) if agent else None,
        collection=collection_statuses(said, collections),
    )


def _rival(
    agent: Any, serving: StoredHeartbeat | None, instance: str, reading: ClockReading | None
) -> RivalStatus | None:
    if agent.rival is None:
        return None
    rival = heartbeats.read(agent.rival)
    if serving and rival.health.start_time == serving.health.start_time:
        return None  # it serves by now
    if reading:
        now, since = reading.latest, reading.continuous_since
        if agent_state(agent.rival_seen, rival.interval, now, since) is AgentState.LOST:
            return None
    reason = rival.health.last_error
    if not reason and "" not in (instance, rival.instance) and rival.instance != instance:
        reason = f"the id belongs to another instance than {rival.instance}"
    return RivalStatus(
        seen=agent.rival_seen,
        heartbeat=rival,
        reason=reason or "another agent serves the id; it has not heard of that yet",
    )


def collection_statuses(said: Sequence[StoredCollection], ours: Sequence[Any]) -> list[CollectionStatus]:
    """What an agent says of its resources, joined with the rows of `tables.Collection` that we have of it."""
    by_resource = {item.resource: item for item in said}
    synced_at = {row.resource: row.synced_at for row in ours}
    statuses = []
    for resource in sorted(by_resource.keys() | synced_at.keys()):
        item = by_resource.get(resource) or StoredCollection(resource, CollectionState.LISTING)
        known = synced_at.get(resource)
        # Events travel outside of frames: whether they are complete only the agent knows.
        early = item.state == CollectionState.SYNCED and known is None and resource != EVENT.resource
        statuses.append(
            CollectionStatus(
                resource=resource,
                state=CollectionState.LISTING if early else item.state,
                reason=item.reason,
                objects=item.objects,
                relists=item.relists,
                last_event_at=item.last_event_at,
                synced_at=known,
            )
        )
    return statuses
