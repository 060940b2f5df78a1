"""What the scheduler knows of the thing an agent serves: nothing of Kubernetes in here.

A capability observes: it puts what it sees into a Sink, and says how it is doing. The next kind of agent
implements Capability in a folder of its own; scheduler and gateway stay as they are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from schemas.frames import Scope
from schemas.ids import AgentKind
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


class Capability(Protocol):
    """One kind of thing an agent can serve."""

    kind: AgentKind

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
