"""The broker as data: streams, accounts, users and what each may do.

`services.runtime.bus` applies it to a running broker, `deploy/nats/` is generated from it, and a test
holds broker, files and this page against each other.

Streams and core services live in the account CORE, agents in EDGE, readers in READ. EDGE and READ reach
CORE through imports, so that a reply subject of theirs never re-enters CORE: in one account an agent could
have the broker write a PubAck onto another agent's subject, and a reader a copy of an old message, since
permissions do not look at reply subjects.
"""

from dataclasses import dataclass
from typing import Literal

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
    max_consumers: int = 1000
    """Written out: the broker reads "unlimited" (-1) as its own default, which is this."""
    message_ttl: bool = False
    """Whether a message may say how long it is kept (`Nats-TTL`). Not where agents write: it can also say
    for ever."""


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
COMMANDS = Stream(
    name="ATLHYPER_COMMANDS",
    description="Commands on their way to their agents",
    subjects=(subjects.ALL_COMMANDS,),
    max_age=7 * DAY,
    max_bytes=256 * MIB,
    max_consumers=20_000,
    message_ttl=True,
)
RESULTS = Stream(
    name="ATLHYPER_RESULTS",
    description="What agents say of their commands",
    subjects=(subjects.ALL_RESULTS,),
    max_age=7 * DAY,
    max_bytes=512 * MIB,
)
DEAD_LETTERS = Stream(
    name="ATLHYPER_DEAD_LETTERS",
    description="What somebody could not read, whole, with the reason",
    subjects=subjects.ALL_DEAD_LETTERS,
    max_age=30 * DAY,
    max_bytes=128 * MIB,
)

STREAMS = (HEARTBEATS, SNAPSHOTS, EVENTS, COMMANDS, RESULTS, DEAD_LETTERS)
"""Every stream. One is added here when somebody writes it; together at most 4 GiB."""

DEAD_LETTERS_DURABLE = "api"
"""The api's durable consumer on DEAD_LETTERS: it keeps them in the database."""

CORE = "CORE"
EDGE = "EDGE"
READ = "READ"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of the broker: an nkey in an account, and its permissions.

    An empty allow list would mean everything, so each user lists what it may do.
    """

    name: str
    account: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False
    """Whether it may answer requests: their reply subject is one that no list can name."""


def inbox(user: str) -> str:
    """`_INBOX_<user>`, a private one: whoever may subscribe `_INBOX.>` reads everybody's replies."""
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
    """One agent: it publishes under its own id, hears its own `ctl`, takes its own commands, nothing else."""
    return User(
        name=target.durable,
        account=EDGE,
        publish=(
            subjects.up(target),
            f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS.name}.{target.durable}",
            f"$JS.ACK.{COMMANDS.name}.{target.durable}.>",
            f"$JS.ACK.*.*.{COMMANDS.name}.{target.durable}.>",
        ),
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
        *_read(RESULTS),
        # It makes the durable consumer of each agent; it takes nothing from it.
        f"$JS.API.STREAM.INFO.{COMMANDS.name}",
        f"$JS.API.CONSUMER.CREATE.{COMMANDS.name}.>",
        f"$JS.API.CONSUMER.DELETE.{COMMANDS.name}.*",
        f"$JS.API.CONSUMER.INFO.{COMMANDS.name}.*",
        f"$JS.API.CONSUMER.NAMES.{COMMANDS.name}",
        subjects.ALL_COMMANDS,
        "atlhyper.core.heartbeat.master.*",
        "atlhyper.core.dead.master",
        subjects.COMMANDS_CHANGED,
        subjects.ALL_NUDGES,
        "atlhyper.down.*.*.ctl.*",
    ),
    subscribe=(f"{inbox('master')}.>", subjects.COMMANDS_CHANGED),
)
API = User(
    name="api",
    account=CORE,
    publish=(
        *_read(DEAD_LETTERS),
        "atlhyper.core.heartbeat.api.*",
        "atlhyper.core.dead.api",
        subjects.COMMANDS_CHANGED,
        "atlhyper.down.*.*.ctl.logs",
    ),
    subscribe=(f"{inbox('api')}.>", subjects.ALL_NUDGES, subjects.COMMANDS_CHANGED, subjects.ALL_CALLS),
    answers=True,
)
READABLE = (
    "$JS.API.INFO",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.NAMES.*",
    "$JS.API.CONSUMER.INFO.*.*",
)
"""The part of the JetStream API that changes nothing."""

READER = User(
    name="reader",
    account=READ,
    publish=READABLE,
    subscribe=("_INBOX.>", f"{inbox('reader')}.>", "atlhyper.>"),
)
"""For people and third parties: sees everything, changes nothing.

Its `_INBOX.>` is for the `nats` command, whose inboxes are there; the services have private ones.
"""

CORE_USERS = (OPERATOR, MASTER, API, READER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What one account lets another import."""

    kind: Literal["service", "stream"]
    """`service`: requests go in, answers come back. `stream`: messages come out."""
    subject: str
    to: str
    of: str = CORE
    several_answers: bool = False


EXPORTS = (
    # What agents publish, with the stream's acknowledgement as the answer.
    Export(kind="service", subject="atlhyper.up.>", to=EDGE),
    # Each agent's subscribe permission narrows it to its own.
    Export(kind="stream", subject="atlhyper.down.*.*.ctl.>", to=EDGE),
    # Taking commands: each agent's publish permission narrows it to its own consumer.
    Export(
        kind="service", subject=f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS.name}.*", to=EDGE, several_answers=True
    ),
    Export(kind="service", subject=f"$JS.ACK.{COMMANDS.name}.>", to=EDGE),
    Export(kind="service", subject=f"$JS.ACK.*.*.{COMMANDS.name}.>", to=EDGE),
    *(
        Export(kind="service", subject=subject, to=READ, several_answers="GET" in subject)
        for subject in READABLE
    ),
    # Live. What enters CORE as a service leaves it for no third account: readers hear agents where they are.
    Export(kind="stream", subject="atlhyper.up.>", to=READ, of=EDGE),
    Export(kind="stream", subject="atlhyper.core.>", to=READ),
    Export(kind="stream", subject="atlhyper.down.>", to=READ),
)

MAX_FILE_STORE = 4096 * MIB
MAX_MEMORY_STORE = 64 * MIB
MAX_CONSUMERS = 20_000
"""What the CORE account may use, in all streams together."""
