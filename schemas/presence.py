"""Signs of life: what an agent and a service say of themselves.

The words are OpAMP's (Open Agent Management Protocol) where they fit: capabilities, health, instance.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.times import Time


class Message(BaseModel):
    """Base of the bodies that services exchange: unknown fields are ignored, a newer sender may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Health(Message):
    """OpAMP's ComponentHealth."""

    healthy: bool
    status: str = ""
    """One word: `starting`, `running`, `degraded`, `standby` (another agent serves the id), `stopping`."""
    last_error: str = ""
    start_time: Time


class CollectionState(StrEnum):
    """Where the collection of one resource stands. Open: a reader must expect others."""

    LISTING = "listing"
    SYNCED = "synced"
    FORBIDDEN = "forbidden"
    FAILING = "failing"
    ABSENT = "absent"
    OFF = "off"


class Collection(Message):
    """How the collection of one resource is doing."""

    resource: str
    state: str
    """A CollectionState."""
    reason: str = ""
    """Why it is not synced, in the API server's words where it has any."""
    objects: int = 0
    relists: int = 0
    """Full lists since the agent started."""
    last_event_at: Time | None = None
    """When the API server last sent something for it: an object, a bookmark or a page."""


ActionSchemas = dict[str, dict[str, Any]]
"""By an action's name, the JSON Schema (2020-12) of its parameters."""


class Heartbeat(Message):
    """An agent's sign of life; the stream keeps the last one."""

    version: str
    """Of the agent's code."""
    instance: str = ""
    """The real thing under the id; for Kubernetes the UID of the namespace kube-system. Empty: not known."""
    platform: str = ""
    """Version of the thing it serves, such as `v1.36.3`."""
    epoch: str = ""
    """Of the frames it publishes now; empty before the first."""
    interval: float = Field(gt=0, allow_inf_nan=False)
    """Seconds until the next heartbeat; two of them missed make the agent stale, three lost."""
    capabilities: list[str] = []
    """What this agent can do: `observe:pods`, `act:scale`, … (asked of the API server at start)."""
    labels: dict[str, str] = {}
    """By which people select agents, such as `env: prod`."""
    journal: str = ""
    """Random id of the agent's journal of commands; another one than before: what it held is lost."""
    read_only: bool = True
    actions: ActionSchemas | None = Field(default=None, exclude_if=lambda actions: actions is None)
    """The actions among `capabilities`, each with the JSON Schema of its parameters; only in the first
    heartbeats over each connection, and in few of the others. Not there: as it was said before."""
    health: Health
    collection: list[Collection] = []
    counters: dict[str, int] = {}
    """Totals since start, such as `dropped` and `rejected`."""


class ServiceHeartbeat(Message):
    """A core service's sign of life; the master's is also the clock by which agents are judged."""

    version: str
    interval: float = Field(gt=0, allow_inf_nan=False)
    health: Health
