"""The registry: each event type, its body, its subject and its stream, declared once.

JSON Schema, AsyncAPI, the documentation's tables and the golden messages are generated from it.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas import subjects, topology
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    ResultPart,
)
from schemas.control import (
    CancelRequested,
    CommandsChanged,
    Confirmed,
    Nudge,
    ResultsConfirmed,
    Resync,
    Superseded,
)
from schemas.deadletter import DeadLetter
from schemas.envelope import Envelope
from schemas.errors import ContractError, UnknownType
from schemas.frames import Frame
from schemas.kubernetes.event import KubernetesEvent
from schemas.logs import LogsPublished, LogsRequested, LogsTaken
from schemas.presence import Heartbeat, ServiceHeartbeat
from schemas.topology import Stream

Body = TypeVar("Body", bound=BaseModel | msgspec.Struct)


@dataclass(frozen=True, slots=True)
class EventType(Generic[Body]):
    """One type of message: `io.atlhyper.<kind>.<noun>.<past participle>.v1`."""

    name: str
    model: type[Body]
    channel: str
    """Its subject with parameters in braces, as AsyncAPI writes an address."""
    stream: Stream | None
    """None: core NATS, not stored."""
    description: str

    def encode(self, body: Body) -> bytes:
        """The body as JSON."""
        if isinstance(body, BaseModel):
            return body.model_dump_json(exclude_defaults=False).encode()
        return msgspec.json.encode(body)

    def decode(self, data: bytes) -> Body:
        """The body read from JSON. Raises ContractError naming the first thing that is wrong."""
        try:
            if issubclass(self.model, BaseModel):
                msgspec.json.decode(data, type=msgspec.Raw)  # pydantic takes NaN as well, which is no JSON
                return self.model.model_validate_json(data)
            return msgspec.json.decode(data, type=self.model)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ContractError(f"{self.name}: {where}: {first['msg']}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ContractError(f"{self.name}: {error}") from error

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the body."""
        if issubclass(self.model, BaseModel):
            return TypeAdapter(self.model).json_schema()
        return msgspec.json.schema(self.model)

    def envelope(self, body: Body, *, source: str, subject: str | None = None, **extensions: str) -> Envelope:
        """A new envelope around a body; `subject` is the CloudEvents attribute, not NATS'."""
        return Envelope(
            type=self.name, source=source, data=self.encode(body), subject=subject, extensions=extensions
        )


FRAME_PUBLISHED = EventType(
    "io.atlhyper.kubernetes.frame.published.v1",
    Frame,
    "atlhyper.up.kubernetes.{cluster}.snapshot.{shard}",
    topology.SNAPSHOTS,
    "A frame of a cluster's state: begin, data, synced or digest.",
)
EVENT_OBSERVED = EventType(
    "io.atlhyper.kubernetes.event.observed.v1",
    KubernetesEvent,
    "atlhyper.up.kubernetes.{cluster}.event.{shard}.{scope}.{objectKind}",
    topology.EVENTS,
    "One version of a Kubernetes Event.",
)
HEARTBEAT_SENT = EventType(
    "io.atlhyper.kubernetes.heartbeat.sent.v1",
    Heartbeat,
    "atlhyper.up.kubernetes.{cluster}.heartbeat",
    topology.HEARTBEATS,
    "An agent's sign of life; the stream keeps the last one.",
)
SERVICE_HEARTBEAT_SENT = EventType(
    "io.atlhyper.core.heartbeat.sent.v1",
    ServiceHeartbeat,
    "atlhyper.core.heartbeat.{service}.{instance}",
    topology.HEARTBEATS,
    "A core service's sign of life; the master's is the clock by which agents are judged.",
)
MESSAGE_REJECTED = EventType(
    "io.atlhyper.core.message.rejected.v1",
    DeadLetter,
    "atlhyper.core.dead.{service}",
    topology.DEAD_LETTERS,
    "A message that a core service could not read, whole, with the reason.",
)
AGENT_MESSAGE_REJECTED = EventType(
    "io.atlhyper.kubernetes.message.rejected.v1",
    DeadLetter,
    "atlhyper.up.kubernetes.{cluster}.dead",
    topology.DEAD_LETTERS,
    "A message or object that an agent could not read, with the reason.",
)
RESYNC_REQUESTED = EventType(
    "io.atlhyper.core.resync.requested.v1",
    Resync,
    "atlhyper.down.kubernetes.{cluster}.ctl.resync",
    None,
    "Asks an agent for a new epoch; repeated until it begins.",
)
EPOCH_SUPERSEDED = EventType(
    "io.atlhyper.core.epoch.superseded.v1",
    Superseded,
    "atlhyper.down.kubernetes.{cluster}.ctl.superseded",
    None,
    "Tells an agent that another one serves its id: it stands by.",
)
EVENTS_CONFIRMED = EventType(
    "io.atlhyper.core.events.confirmed.v1",
    Confirmed,
    "atlhyper.down.kubernetes.{cluster}.ctl.confirmed",
    None,
    "Tells an agent up to where its Events are committed.",
)
ROWS_CHANGED = EventType(
    "io.atlhyper.core.rows.changed.v1",
    Nudge,
    "atlhyper.core.nudge.{shard}",
    None,
    "Tells the apis that rows of a shard have changed.",
)
COMMAND_SENT = EventType(
    "io.atlhyper.core.command.sent.v1",
    Command,
    "atlhyper.down.kubernetes.{cluster}.cmd.{action}",
    topology.COMMANDS,
    "A command, or the question what has become of it: its id tells the agent which.",
)
_RESULT = "atlhyper.up.kubernetes.{cluster}.result.{command}"
COMMAND_RECEIVED = EventType(
    "io.atlhyper.kubernetes.command.received.v1",
    CommandReceived,
    _RESULT,
    topology.RESULTS,
    "A command is in its agent's journal.",
)
COMMAND_STARTED = EventType(
    "io.atlhyper.kubernetes.command.started.v1",
    CommandStarted,
    _RESULT,
    topology.RESULTS,
    "A command may have an effect from now on.",
)
COMMAND_PROGRESSED = EventType(
    "io.atlhyper.kubernetes.command.progressed.v1",
    CommandProgressed,
    _RESULT,
    topology.RESULTS,
    "How far a long command has come.",
)
PART_PUBLISHED = EventType(
    "io.atlhyper.kubernetes.part.published.v1",
    ResultPart,
    _RESULT,
    topology.RESULTS,
    "A slice of a result that is larger than a message.",
)
COMMAND_COMPLETED = EventType(
    "io.atlhyper.kubernetes.command.completed.v1",
    CommandCompleted,
    _RESULT,
    topology.RESULTS,
    "The end of a command; repeated until it is confirmed.",
)
RESULTS_CONFIRMED = EventType(
    "io.atlhyper.core.results.confirmed.v1",
    ResultsConfirmed,
    "atlhyper.down.kubernetes.{cluster}.ctl.results",
    None,
    "Tells an agent which results are committed.",
)
CANCEL_REQUESTED = EventType(
    "io.atlhyper.core.cancel.requested.v1",
    CancelRequested,
    "atlhyper.down.kubernetes.{cluster}.ctl.cancel",
    None,
    "Asks an agent to end a command; repeated until it has ended.",
)
COMMANDS_CHANGED = EventType(
    "io.atlhyper.core.commands.changed.v1",
    CommandsChanged,
    subjects.COMMANDS_CHANGED,
    None,
    "Tells masters and apis that commands were accepted or have moved on.",
)
LOGS_REQUESTED = EventType(
    "io.atlhyper.core.logs.requested.v1",
    LogsRequested,
    "atlhyper.down.kubernetes.{cluster}.ctl.logs",
    None,
    "Asks an agent for logs; repeated until the first call of the session.",
)
_LOGS = "atlhyper.up.kubernetes.{cluster}.call.logs.{session}"
LOGS_PUBLISHED = EventType(
    "io.atlhyper.kubernetes.log.published.v1",
    LogsPublished,
    _LOGS,
    None,
    "The next lines of a session, as a request; only the api that holds the session answers.",
)
LOGS_TAKEN = EventType(
    "io.atlhyper.core.logs.taken.v1",
    LogsTaken,
    _LOGS,
    None,
    "The answer to that request, on its reply subject: how much may follow.",
)

ALL: dict[str, EventType[Any]] = {
    event_type.name: event_type
    for event_type in (
        FRAME_PUBLISHED,
        EVENT_OBSERVED,
        HEARTBEAT_SENT,
        SERVICE_HEARTBEAT_SENT,
        MESSAGE_REJECTED,
        AGENT_MESSAGE_REJECTED,
        RESYNC_REQUESTED,
        EPOCH_SUPERSEDED,
        EVENTS_CONFIRMED,
        ROWS_CHANGED,
        COMMAND_SENT,
        COMMAND_RECEIVED,
        COMMAND_STARTED,
        COMMAND_PROGRESSED,
        PART_PUBLISHED,
        COMMAND_COMPLETED,
        RESULTS_CONFIRMED,
        CANCEL_REQUESTED,
        COMMANDS_CHANGED,
        LOGS_REQUESTED,
        LOGS_PUBLISHED,
        LOGS_TAKEN,
    )
}
"""Every event type, by name."""


def lookup(name: str) -> EventType[Any]:
    """The event type of that name. Raises UnknownType."""
    try:
        return ALL[name]
    except KeyError:
        raise UnknownType(f"event type {name[:120]!r} is not known to this version") from None
