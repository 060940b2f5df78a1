"""What the scheduler knows of the thing an agent serves: nothing of Kubernetes in here.

A capability observes: it puts what it sees into a Sink, and says how it is doing. It acts: it looks at what
a command is about, and then does it. The next kind of agent implements Capability in a folder of its own;
scheduler, journal and gateway stay as they are.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from schemas.commands import Action, Command, CommandError
from schemas.frames import Scope
from schemas.ids import AgentKind
from schemas.logs import LogError, LogPosition, LogsRequested
from schemas.presence import Collection


class Key(NamedTuple):
    """An object's address inside its resource; the namespace is empty where there is none."""

    namespace: str
    name: str


NOTHING = Key("", "")


class Observed(Struct, frozen=True, gc=False):
    """One object as it is to be sent: its projection's bytes and what is counted of it."""

    resource: str
    key: Key
    uid: str
    body: bytes
    hash: int
    """`schemas.frames.content_hash` of the body."""
    state: str = ""
    desired: int = 0
    ready: int = 0
    about: Key = NOTHING
    """For an observed event: namespace and kind of the object it is about."""


class Sink(Protocol):
    """Takes what a capability observes; waits while the bus is slower than the source."""

    async def put(self, objects: Iterable[Observed]) -> None:
        """Objects that are there. Those that are known with the same content cost nothing."""

    async def delete(self, resource: str, keys: Iterable[Key]) -> None:
        """Objects that are gone."""

    async def retain(self, resource: str, namespace: str | None, keys: set[Key]) -> None:
        """After a whole list: of this resource (in this namespace; None for all) only `keys` are there."""

    async def synced(self, resource: str) -> None:
        """All that was put of this resource is, in order, complete."""


class Identity(NamedTuple):
    """The real thing under an agent's id."""

    instance: str
    """Unique and lasting, such as the UID of the namespace kube-system; empty when it may not be read."""
    platform: str
    """Its version, such as `v1.36.3`."""


# --- acting ------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What an action has brought about."""

    data: Any = None
    """JSON for whoever asked."""
    warnings: Sequence[str] = ()


class Refused(Exception):
    """It was not done, and it is certain that this attempt has done nothing: the error says why."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(error.message)
        self.error = error


class Incomplete(Exception):
    """It was done in part: the error says why not whole, `data` what has been done."""

    def __init__(self, error: CommandError, data: Any = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.data = data


class Stale(Exception):
    """What was seen has changed before the effect, and nothing was done: look again.

    An earlier attempt that rests on what was seen has no effect any more, unless it already had. `error`: how
    it was refused; None where it was seen before anything was asked for.
    """

    def __init__(self, error: CommandError | None = None) -> None:
        super().__init__(error.message if error else "")
        self.error = error


class Doubtful(Exception):
    """It was asked for, and the answer did not come: it may have been done or not."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(error.message)
        self.error = error


class Untouched(NamedTuple):
    """A verdict: what was seen before the effect is there unchanged, so it may be done now."""


class Done(NamedTuple):
    """A verdict: the effect is there, and it is this command's."""

    outcome: Outcome


class Unprovable(NamedTuple):
    """A verdict: neither is certain."""

    why: str


Verdict = Untouched | Done | Unprovable

Progress = Callable[[str, int, int], Awaitable[None]]
"""`await progress(message, done, total)`: how far an action has come; total 0 where it is not known."""


class Actions(Protocol):
    """What a capability can do. It knows neither of the journal nor of redelivery.

    The order is: `check`, `look`, what was seen is written to the journal, `perform`. After a crash, or when
    the answer to the effect was lost, `judge` says from what was seen and what is there now what is the case.
    """

    def declared(self) -> Mapping[str, Action]:
        """Every action that is declared, by name."""

    async def check(self, command: Command) -> None:
        """Whether it may be done at all, without asking anybody. Raises Refused."""

    async def look(self, command: Command) -> bytes:
        """What the effect will rest on, such as uid and resourceVersion; empty for an action without.

        Raises Refused.
        """

    async def perform(self, command: Command, seen: bytes, progress: Progress) -> Outcome:
        """Do it, under the precondition that what was seen is still so.

        Cancelled, it ends soon: by Incomplete with code `canceled` where what has been done is worth telling.

        Raises Refused, Incomplete, Stale, Doubtful.
        """

    async def judge(self, command: Command, seen: bytes) -> Verdict:
        """Whether the effect is there. Raises Refused when it cannot be asked: it may be asked again."""


# --- logs --------------------------------------------------------------------------------------------


class LogsUnavailable(Exception):
    """Logs cannot be read (any further): the error says why."""

    def __init__(self, error: LogError) -> None:
        super().__init__(error.message)
        self.error = error


class LogSink(Protocol):
    """Takes lines; waits while the reader is slower than the source."""

    def opened(self, warnings: Sequence[str]) -> None:
        """What cannot be read at all is known by now: the warnings name it."""

    async def put(self, data: bytes, position: LogPosition) -> None:
        """Lines of one container, as they are to be shown, and the place behind them."""


class Logs(Protocol):
    """What a capability can read aloud. It knows neither of sessions nor of calls."""

    async def read_logs(self, asked: LogsRequested, sink: LogSink) -> None:
        """Put what is asked for, until there can be nothing more of it. Raises LogsUnavailable."""


class Capability(Protocol):
    """One kind of thing an agent can serve."""

    kind: AgentKind

    @property
    def actions(self) -> Actions:
        """What it can do; `announce` names what it may."""

    @property
    def logs(self) -> Logs:
        """What can be read of the things it runs."""

    async def identify(self) -> Identity:
        """Who is there. Raises UserError when it can't be reached or refuses us."""

    async def announce(self) -> Sequence[str]:
        """What this agent may do there, such as `observe:pods`. Raises UserError when it can't be asked."""

    def scope(self) -> Scope:
        """What `observe` covers."""

    async def observe(self, sink: Sink) -> None:
        """All state, from a full list on, until cancelled."""

    async def follow_events(self, sink: Sink) -> None:
        """What happens there, from what is still known on, until cancelled."""

    def collection(self) -> list[Collection]:
        """How the collection of each resource is doing."""

    def counters(self) -> dict[str, int]:
        """Totals since start, for the heartbeat."""
