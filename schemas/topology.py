"""The broker as data: streams, accounts, users and what each may do.

`services.runtime.bus` applies it to a running broker, `deploy/nats/` is generated from it, and a test
holds broker, files and this page against each other.

Two accounts: agents live in EDGE, streams and core services in CORE. Agents reach CORE through service
imports, so that a reply subject of theirs never re-enters CORE: in one account an agent could have the
broker itself write a PubAck onto another agent's subject, since permissions do not look at reply subjects.
"""

from dataclasses import dataclass, field

from schemas import subjects
from schemas.ids import Target

MIB = 1024 * 1024
HOUR = 3600
DAY = 24 * HOUR

MAX_PAYLOAD = MIB
"""Largest message of the broker, bytes of headers and payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One JetStream stream; all have limits retention, discard the old and refuse purges and deletes."""

    name: str
    description: str
    subjects: tuple[str, ...]
    max_age: int
    """Seconds."""
    max_bytes: int
    """Reserved in the account as soon as the stream exists."""
    max_messages_per_subject: int = -1
    duplicate_window: int = 120
    """Seconds in which a repeated `Nats-Msg-Id` is dropped."""
    allow_direct: bool = True


HEARTBEATS = Stream(
    name="ATLHYPER_HEARTBEATS",
    description="Last sign of life of each agent and core service",
    subjects=subjects.ALL_HEARTBEATS,
    max_age=30 * DAY,
    max_bytes=64 * MIB,
    max_messages_per_subject=1,
)
SNAPSHOTS = Stream(
    name="ATLHYPER_SNAPSHOTS",
    description="Frames of state, by shard",
    subjects=(subjects.ALL_SNAPSHOTS,),
    max_age=2 * HOUR,
    max_bytes=1024 * MIB,
    max_messages_per_subject=20_000,
)
EVENTS = Stream(
    name="ATLHYPER_EVENTS",
    description="Kubernetes Events as observed, one message per version",
    subjects=(subjects.ALL_EVENTS,),
    max_age=7 * DAY,
    max_bytes=1024 * MIB,
)
DEAD_LETTERS = Stream(
    name="ATLHYPER_DEAD_LETTERS",
    description="What somebody could not read, whole, with the reason",
    subjects=subjects.ALL_DEAD_LETTERS,
    max_age=30 * DAY,
    max_bytes=128 * MIB,
)

STREAMS = (HEARTBEATS, SNAPSHOTS, EVENTS, DEAD_LETTERS)
"""Every stream. One is added here when somebody writes it; together at most 4 GiB."""

DEAD_LETTERS_DURABLE = "api"
"""The api's durable consumer on DEAD_LETTERS: it keeps them in the database."""

CORE = "CORE"
EDGE = "EDGE"
EXPORTED_SERVICE = "atlhyper.up.>"
"""CORE exports it as a service: what agents publish, with the stream's acknowledgement as the reply."""
EXPORTED_STREAM = "atlhyper.down.*.*.ctl.>"
"""CORE exports it as a stream: each agent's subscribe permission narrows it to its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of the broker: an nkey in an account, and its permissions.

    An empty allow list would mean everything, so each user lists what it may do.
    """

    name: str
    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    allow_responses: bool = False
    """May answer requests whose reply subject it does not know beforehand."""

    @property
    def inbox(self) -> str:
        """Prefix of its private inbox: whoever may subscribe `_INBOX.>` reads everybody's replies."""
        return inbox(self.name)


def inbox(user: str) -> str:
    """`_INBOX_<user>`"""
    return f"_INBOX_{user}"


def _read(stream: Stream) -> tuple[str, ...]:
    """JetStream API subjects to read one stream through consumers of one's own."""
    return (
        f"$JS.API.STREAM.INFO.{stream.name}",
        f"$JS.API.CONSUMER.CREATE.{stream.name}.>",
        f"$JS.API.CONSUMER.DELETE.{stream.name}.*",
        f"$JS.API.CONSUMER.INFO.{stream.name}.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.*",
        f"$JS.ACK.{stream.name}.>",
        f"$JS.ACK.*.*.{stream.name}.>",
    )


def agent(target: Target) -> User:
    """One agent: it publishes under its own id and hears its own `ctl`, nothing else."""
    return User(
        name=target.durable,
        account=EDGE,
        publish=(subjects.up(target),),
        subscribe=(f"{inbox(target.durable)}.>", subjects.controls(target)),
    )


OPERATOR = User(
    name="operator",
    account=CORE,
    publish=("$JS.API.>",),
    subscribe=(f"{inbox('operator')}.>",),
)
"""Creates and changes streams (`atlhyper bus apply`); no service runs as it."""

MASTER = User(
    name="master",
    account=CORE,
    publish=(
        *_read(HEARTBEATS),
        *_read(SNAPSHOTS),
        *_read(EVENTS),
        "atlhyper.core.heartbeat.master.*",
        "atlhyper.core.dead.master",
        "atlhyper.down.*.*.ctl.*",
    ),
    subscribe=(f"{inbox('master')}.>",),
)
API = User(
    name="api",
    account=CORE,
    publish=(*_read(DEAD_LETTERS), "atlhyper.core.heartbeat.api.*", "atlhyper.core.dead.api"),
    subscribe=(f"{inbox('api')}.>",),
)
READER = User(
    name="reader",
    account=CORE,
    publish=(
        "$JS.API.INFO",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.INFO.*",
        "$JS.API.STREAM.MSG.GET.*",
        "$JS.API.DIRECT.GET.>",
        "$JS.API.CONSUMER.LIST.*",
        "$JS.API.CONSUMER.NAMES.*",
        "$JS.API.CONSUMER.INFO.*.*",
    ),
    subscribe=("_INBOX.>", f"{inbox('reader')}.>", "atlhyper.>"),
)
"""For people and third parties: sees everything, changes nothing.

Its `_INBOX.>` is for the `nats` command, whose inboxes are there; the services have private ones.
"""

CORE_USERS = (OPERATOR, MASTER, API, READER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the CORE account may use."""

    max_file: int = field(default=4096 * MIB)
    max_memory: int = field(default=64 * MIB)
    max_consumers: int = field(default=20_000)


LIMITS = Limits()
