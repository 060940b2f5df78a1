"""Stored heartbeats, as the read side decodes them by the thousand.

What `schemas.presence` has checked once, when it came from the bus, is not checked again: pydantic would take
most of the time that a list of agents takes. What nobody reads here is left out.
"""

from datetime import datetime

import msgspec
from msgspec import Struct


class StoredHealth(Struct, frozen=True, gc=False):
    """See `schemas.presence.Health`."""

    healthy: bool
    start_time: datetime
    status: str = ""
    last_error: str = ""


class StoredCollection(Struct, frozen=True, gc=False):
    """See `schemas.presence.Collection`."""

    resource: str
    state: str
    reason: str = ""
    objects: int = 0
    relists: int = 0
    last_event_at: datetime | None = None


class StoredHeartbeat(Struct, frozen=True):
    """See `schemas.presence.Heartbeat`."""

    version: str
    interval: float
    health: StoredHealth
    instance: str = ""
    platform: str = ""
    epoch: str = ""
    capabilities: list[str] = []
    labels: dict[str, str] = {}
    journal: str = ""
    read_only: bool = True
    collection: list[StoredCollection] = []


_DECODER = msgspec.json.Decoder(StoredHeartbeat)


def read(heartbeat: bytes) -> StoredHeartbeat:
    """The heartbeat in a row of `tables.Agent`."""
    return _DECODER.decode(heartbeat)
