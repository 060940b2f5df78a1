"""Every table. Times are UTC; `*_time` and `as_of` are the broker's clock, never a service's own.

A row that comes from an agent is keyed by its target (kind, id), so that two agents' rows can never meet.
Bodies and summaries are JSON bytes that the API sends as they are.
"""

from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import AutoString, Field, SQLModel

from services.persistence.database.types import JSONValue, Text, UTCDateTime


class Table(SQLModel):
    """Base of the tables: its metadata names every constraint, so that migrations can name them too."""

    metadata: ClassVar[sa.MetaData] = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def only_on(dialect: str) -> dict[str, str]:
    """The `info` of a table or an index that only one database has."""
    return {"only_on": dialect}


def _partial_index(*columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of the rows for which `where` holds, on every database."""
    condition = sa.text(where)
    return sa.Index(None, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


class Resource(Table, table=True):
    """One object that an agent holds.

    The key starts with the resource, so that one cluster's pods and the fleet's pods are both one range.
    """

    __table_args__ = (
        # Names of nodes and owners repeat from cluster to cluster.
        _partial_index(
            "node",
            "target_kind",
            "target_id",
            where="node != ''",
        ),
        _partial_index(
            "owner_name",
            "owner_kind",
            "target_kind",
            "target_id",
            where="owner_name != ''",
        ),
        # What clusters are counted by, without a look at the wide rows: five times as fast. PostgreSQL would
        # look for single rows in it too, as long as it has no statistics, were it not for the condition.
        sa.Index(
            None,
            "target_kind",
            "target_id",
            "resource",
            "state",
            "desired",
            "ready",
            postgresql_where=sa.text("state >= ''"),
        ),
        sa.Index(None, "shard", "rev"),
        sa.Index(None, "labels", postgresql_using="gin", info=only_on("postgresql")),
    )

    resource: str = Field(primary_key=True)
    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    """Empty for a cluster-scoped object."""
    name: str = Field(primary_key=True)
    uid: str
    kind: str
    node: str
    pod: str
    owner_kind: str
    owner_name: str
    labels: dict[str, str] = Field(sa_type=JSONValue)
    annotations: dict[str, str] = Field(sa_type=JSONValue)
    created_at: datetime | None = Field(sa_type=UTCDateTime)
    updated_at: datetime = Field(sa_type=UTCDateTime)
    """When its content last changed: the time of the frame that brought it."""
    state: str
    desired: int = Field(sa_type=sa.BigInteger)
    ready: int = Field(sa_type=sa.BigInteger)
    hash: int = Field(sa_type=sa.BigInteger)
    """`schemas.frames.content_hash` of the body."""
    epoch: str
    """The last epoch that named it."""
    shard: int
    """Of its target: whose revision `rev` is."""
    rev: int = Field(sa_type=sa.BigInteger)
    """Its shard's revision when its content last changed."""
    summary: bytes
    """What a list shows of it."""
    body: bytes
    """The projection, byte for byte as the agent sent it."""


class Label(Table, table=True):
    """One pair of an object's labels, to find objects by; kept by triggers on `resource`.

    SQLite only; PostgreSQL has an index over the labels themselves.
    """

    __table_args__ = {"sqlite_with_rowid": False, "info": only_on("sqlite")}

    resource: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)


class Tombstone(Table, table=True):
    """An object that is gone, for those who follow the changes; kept for an hour."""

    __table_args__ = (sa.Index(None, "removed_at"),)

    shard: int = Field(primary_key=True)
    rev: int = Field(primary_key=True, sa_type=sa.BigInteger)
    """The shard's revision that removed it."""
    resource: str = Field(primary_key=True)
    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    uid: str
    removed_at: datetime = Field(sa_type=UTCDateTime)
    """Time of the frame that removed it."""


class Part(Table, table=True):
    """A slice of the body of an object that is still on its way."""

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    resource: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    index: int = Field(primary_key=True)
    data: bytes


class Agent(Table, table=True):
    """What an agent last said of itself."""

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    last_seen: datetime = Field(sa_type=UTCDateTime)
    """When the broker took its last heartbeat."""
    interval: float
    """Seconds until the next one."""
    stopping: bool
    """It said that it is going."""
    heartbeat: bytes
    """`schemas.presence.Heartbeat` as it was sent."""
    rival_seen: datetime | None = Field(sa_type=UTCDateTime)
    """When the broker took the last heartbeat of another agent that publishes under this id."""
    rival: bytes | None
    """That heartbeat; the rival stands by, or its id is another cluster's."""


class Announcement(Table, table=True):
    """What an agent last announced of its actions.

    Beside `agent`, whose rows are written with each heartbeat and read by the thousand: this is large, and
    seldom changes.
    """

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    announced_at: datetime = Field(sa_type=UTCDateTime)
    """When the broker took the heartbeat that said so first."""
    body: bytes
    """`version` and `actions` of that `schemas.presence.Heartbeat`."""


class Epoch(Table, table=True):
    """How far the frames of one agent have been applied."""

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    epoch: str
    sequence: int = Field(sa_type=sa.BigInteger)
    """Of the last frame applied; 0 while the epoch's `begin` has not been seen."""
    instance: str
    scope: dict[str, Any] = Field(sa_type=JSONValue)
    """`schemas.frames.Scope`"""
    previous: list[str] = Field(sa_type=JSONValue)
    """The epochs it superseded, the newest last."""
    stream_created: datetime = Field(sa_type=UTCDateTime)
    """Which stream `stream_sequence` counts in: one that was made again counts from 1."""
    stream_sequence: int = Field(sa_type=sa.BigInteger)
    """Of the last frame looked at: nothing at or below it is looked at again."""
    version: int = Field(sa_type=sa.BigInteger)
    """Frames applied since this agent is known."""
    as_of: datetime | None = Field(sa_type=UTCDateTime)
    """When the broker took the last frame applied."""
    gap: bool
    """A frame is missing: the rest of this epoch is ignored."""
    digest_agrees: bool | None
    summary: bytes | None
    """`schemas.snapshot.ClusterSummary` of the last digest."""
    resync_reason: str
    """Why a new epoch is wanted; empty when none is."""
    resync_since: datetime | None = Field(sa_type=UTCDateTime)


class Collection(Table, table=True):
    """One resource of one agent: whether its rows are complete."""

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    resource: str = Field(primary_key=True)
    synced_epoch: str
    """The epoch in which it was last complete."""
    synced_at: datetime | None = Field(sa_type=UTCDateTime)


class Event(Table, table=True):
    """One Kubernetes Event: its newest version. It outlives the object."""

    __table_args__ = (
        sa.Index(None, "last_seen", "cluster_id", "uid"),
        sa.Index(None, "cluster_id", "last_seen", "uid"),
        sa.Index(
            "ix_event_involved",  # its columns make a name too long for PostgreSQL
            "cluster_id",
            "involved_kind",
            "involved_namespace",
            "involved_name",
            "last_seen",
        ),
        sa.Index(None, "shard", "rev"),
    )

    cluster_id: str = Field(primary_key=True)
    uid: str = Field(primary_key=True)
    namespace: str
    name: str
    type: str
    reason: str
    message: str
    count: int = Field(sa_type=sa.BigInteger)
    first_seen: datetime = Field(sa_type=UTCDateTime)
    last_seen: datetime = Field(sa_type=UTCDateTime)
    involved_kind: str
    involved_namespace: str
    involved_name: str
    involved_uid: str
    component: str
    host: str
    epoch: str
    sequence: int = Field(sa_type=sa.BigInteger)
    shard: int
    rev: int = Field(sa_type=sa.BigInteger)
    """Its shard's revision when its newest version was stored."""
    summary: bytes
    """The row as the API sends it."""
    body: bytes
    """The projection as it was observed."""


class Confirmation(Table, table=True):
    """Up to where the Events of one spool are committed without a gap: what its agent may forget."""

    target_kind: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    epoch: str = Field(primary_key=True)
    """Of the agent's spool: each start of the agent begins one."""
    sequence: int = Field(sa_type=sa.BigInteger)
    updated_at: datetime = Field(sa_type=UTCDateTime)
    """Time of the last message that moved it."""


class Cursor(Table, table=True):
    """How far a consumer has read a stream."""

    name: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    created: datetime = Field(sa_type=UTCDateTime)
    """When the stream was made: a sequence means nothing in another one of the same name."""
    sequence: int = Field(sa_type=sa.BigInteger)


class Shard(Table, table=True):
    """The revision of one shard's rows, raised in each commit that changes one."""

    shard: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    rev: int = Field(sa_type=sa.BigInteger)
    forgotten: int = Field(sa_type=sa.BigInteger)
    """Tombstones up to this revision may be gone: whoever has seen less has to read all rows again."""


class Lease(Table, table=True):
    """Who may write what: one row per shard and per other duty, and one per living replica.

    Its clock is the database's own. The fence rises with each new holder; a transaction of an earlier one
    does not commit.
    """

    name: str = Field(primary_key=True)
    holder: str
    fence: int = Field(sa_type=sa.BigInteger)
    expires_at: datetime = Field(sa_type=UTCDateTime)


class Clock(Table, table=True):
    """The master's own beats as the broker saw them: the clock by which agents are judged."""

    name: str = Field(primary_key=True)
    latest: datetime = Field(sa_type=UTCDateTime)
    continuous_since: datetime = Field(sa_type=UTCDateTime)
    """The first beat after the last gap: silence before it proves nothing."""


class Command(Table, table=True):
    """One command, from the moment it is accepted. Its state only moves on (`schemas.commands`)."""

    __table_args__ = (
        sa.Index(None, "target_kind", "target_id", "id"),
        sa.Index(None, "state", "finish_by"),
        # Those that no broker has: of each agent the oldest one goes first.
        _partial_index(
            "target_kind",
            "target_id",
            "created_at",
            where="state = 'accepted' AND attempts = 0",
        ),
        # Those that are to be ended on request, and have not.
        _partial_index(
            "cancel_requested_at",
            where="cancel_requested_at IS NOT NULL AND finished_at IS NULL",
        ),
        _partial_index(
            "operation_id",
            "id",
            where="operation_id != ''",
        ),
        # A request that is repeated under one key is one command.
        _partial_index(
            "actor",
            "idempotency_key",
            unique=True,
            where="idempotency_key != ''",
        ),
    )

    id: str = Field(primary_key=True)
    """UUIDv7, so that the order of ids is that of acceptance."""
    target_kind: str
    target_id: str
    action: str
    object_resource: str
    object_namespace: str
    object_name: str
    actor: str
    operation_id: str
    """Empty for a single command."""
    idempotency_key: str
    fingerprint: str
    """Of the request that had the key: another one under the same key is refused."""
    body: bytes
    """`schemas.commands.Command`, byte for byte as it is sent and signed."""
    signature: str
    """Over these bytes; empty until commands are signed."""
    state: str
    created_at: datetime = Field(sa_type=UTCDateTime)
    start_by: datetime = Field(sa_type=UTCDateTime)
    finish_by: datetime = Field(sa_type=UTCDateTime)
    sent_at: datetime | None = Field(sa_type=UTCDateTime)
    """When it was first given to the broker."""
    received_at: datetime | None = Field(sa_type=UTCDateTime)
    """By the database's clock, as its agent knows it; likewise `started_at` and `executed_at`."""
    started_at: datetime | None = Field(sa_type=UTCDateTime)
    executed_at: datetime | None = Field(sa_type=UTCDateTime)
    finished_at: datetime | None = Field(sa_type=UTCDateTime)
    """When its terminal state was stored."""
    attempts: int
    """How often it was given to the broker. Counted before it is, so that 0 is certain."""
    journal: str
    """Id of the agent's journal when it was first sent: only that one knows what became of it."""
    broker: str
    """Id of the run of the broker that took its attempts."""
    stream_created: datetime | None = Field(sa_type=UTCDateTime)
    """Of the stream that its last attempt is in."""
    stream_sequence: int = Field(sa_type=sa.BigInteger)
    """Of its first attempt in that stream; 0 when not all attempts are known to be there, in one run of the
    broker: then the broker cannot say any longer whether it was ever handed out."""
    cancel_requested_at: datetime | None = Field(sa_type=UTCDateTime)
    cancel_reason: str
    progress: bytes | None
    """`schemas.commands.CommandProgressed`, the newest one."""
    progress_sequence: int = Field(sa_type=sa.BigInteger)
    result: bytes | None
    """`schemas.commands.CommandCompleted` that ended it: the agent's, or a master's in its place."""
    evidence: bytes | None
    """The agent's `CommandCompleted` that came after the end."""


class CommandPart(Table, table=True):
    """A slice of a result's `data` that is larger than a message."""

    __tablename__ = "command_part"

    command_id: str = Field(primary_key=True)
    index: int = Field(primary_key=True)
    data: str


class Outbox(Table, table=True):
    """A command that is to be given to the broker (again): made in the transaction that accepts it, and
    removed in the one that ends it.
    """

    __table_args__ = (sa.Index(None, "due_at"),)

    command_id: str = Field(primary_key=True)
    due_at: datetime = Field(sa_type=UTCDateTime)
    """Of the next attempt; the first is due at once."""


class Operation(Table, table=True):
    """One intent that is carried out by a command on each of many agents, a few at a time."""

    __table_args__ = (
        sa.Index(None, "state", "id"),
        _partial_index(
            "actor",
            "idempotency_key",
            unique=True,
            where="idempotency_key != ''",
        ),
    )

    id: str = Field(primary_key=True)
    actor: str
    idempotency_key: str
    fingerprint: str
    body: bytes
    """`schemas.operations.Operation` as it was accepted."""
    state: str
    reason: str
    """Why it is paused, or how it has ended."""
    forgiven: int
    """Failures before it was resumed, which do not pause it once more."""
    created_at: datetime = Field(sa_type=UTCDateTime)
    updated_at: datetime = Field(sa_type=UTCDateTime)
    finished_at: datetime | None = Field(sa_type=UTCDateTime)


class OperationTarget(Table, table=True):
    """One agent of an operation, in the order in which they are taken."""

    __tablename__ = "operation_target"

    operation_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    target_kind: str
    target_id: str
    command_id: str
    """Empty until its turn has come."""


class Token(Table, table=True):
    """A credential of the API. The token itself is nowhere: only its hash is."""

    id: str = Field(primary_key=True)
    name: str
    """Whose it is: the actor of what is done with it."""
    hash: str = Field(unique=True)
    """SHA-256, in hexadecimal. The token has 256 random bits, so nothing slower is needed."""
    created_at: datetime = Field(sa_type=UTCDateTime)
    expires_at: datetime | None = Field(sa_type=UTCDateTime)
    last_used_at: datetime | None = Field(sa_type=UTCDateTime)
    """To the minute."""


class DeadLetter(Table, table=True):
    """A message that somebody could not read, whole."""

    __tablename__ = "dead_letter"
    __table_args__ = (sa.Index(None, "received_at", "id"),)

    id: str = Field(primary_key=True)
    received_at: datetime = Field(sa_type=UTCDateTime)
    """When the broker took the dead letter."""
    sender: str
    """CloudEvents `source` of whoever could not read it."""
    reason: str
    consumer: str
    subject: str
    stream: str
    stream_sequence: int = Field(sa_type=sa.BigInteger)
    original_at: datetime | None = Field(sa_type=UTCDateTime)
    """When the broker took the original message."""
    headers: dict[str, str] = Field(sa_type=JSONValue)
    body: bytes


class Compatibility(Table, table=True):
    """The oldest revision whose code can use this database; a migration that breaks older code raises it."""

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    needs: str


for _column in (column for table in Table.metadata.tables.values() for column in table.columns):
    if isinstance(_column.type, AutoString):  # what SQLModel makes of `str`
        _column.type = Text()


def table_of(model: type[SQLModel]) -> sa.Table:
    """The table that a model declares."""
    table = sa.inspect(model).local_table
    assert isinstance(table, sa.Table)
    return table


OBJECT_KEY = tuple(column.name for column in table_of(Resource).primary_key)
"""What identifies an object: the columns of `Resource`, `Label` and `Tombstone` by which they are joined."""
