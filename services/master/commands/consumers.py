"""The durable consumer of one agent on the stream of commands, and what the broker is asked about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas import subjects, topology
from schemas.ids import Target
from services.runtime.bus.client import ApiError, Bus
from services.runtime.bus.topology import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND

STREAM = topology.COMMANDS.name
ACK_WAIT = 5.0
"""Seconds in which an agent takes custody, or the broker hands the command out again."""
SINCE = "atlhyper-since"
"""In a consumer's metadata: what stood in the stream up to this sequence, it may have missed."""

_EXISTS = (10013, 10148)
"""The broker's errors for a consumer that is there, with another configuration."""


def consumer_config(target: Target) -> dict[str, Any]:
    """The consumer of one agent, without its metadata."""
    return {
        "name": target.durable,
        "durable_name": target.durable,
        "description": f"Commands for {target}",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ACK_WAIT * 1e9),
        "max_deliver": -1,
        "max_ack_pending": 256,
        "max_waiting": 64,
        "replay_policy": "instant",
        "filter_subject": subjects.commands(target),
    }


@dataclass(frozen=True, slots=True)
class Handed:
    """How far the broker has handed out the commands of one agent."""

    since: int
    """It knows nothing of what stood in the stream up to here."""
    delivered: int
    """The highest sequence that was handed out."""

    def never(self, sequence: int) -> bool:
        """Whether a message was certainly never handed out, nor any after it."""
        return sequence > max(self.since, self.delivered)


async def make(bus: Bus, target: Target, since: int) -> bool:
    """Make an agent's consumer, which may have missed what stood in the stream up to `since`.

    False: there is one already. Raises BusError.
    """
    config = consumer_config(target) | {"metadata": {SINCE: str(since)}}
    try:
        await _write(bus, target, config, "create")
    except ApiError as error:
        if error.code not in _EXISTS:
            raise
        return False
    return True


async def mend(bus: Bus, target: Target, info: Mapping[str, Any]) -> bool:
    """Change what is not as it should be, by its `info`; what the broker knows of deliveries stays.

    Whether there was anything. Raises BusError.
    """
    wanted, actual = consumer_config(target), info["config"]
    if all(actual.get(name) == value for name, value in wanted.items()):
        return False
    metadata = {
        name: value for name, value in (actual.get("metadata") or {}).items() if not name.startswith("_nats.")
    }
    await _write(bus, target, wanted | {"metadata": metadata}, "update")
    return True


async def info_of(bus: Bus, target: Target) -> Mapping[str, Any] | None:
    """What the broker says of an agent's consumer; None: there is none. Raises BusError."""
    try:
        return await bus.api(f"$JS.API.CONSUMER.INFO.{STREAM}.{target.durable}")
    except ApiError as error:
        if error.code in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
            return None
        raise


async def names(bus: Bus) -> set[str]:
    """Of all consumers that there are. Raises BusError."""
    found: set[str] = set()
    while True:
        page = await bus.api(f"$JS.API.CONSUMER.NAMES.{STREAM}", {"offset": len(found)})
        some = page.get("consumers") or []
        found.update(some)
        if not some or len(found) >= page.get("total", 0):
            return found


async def _write(bus: Bus, target: Target, config: Mapping[str, Any], action: str) -> None:
    await bus.api(
        f"$JS.API.CONSUMER.CREATE.{STREAM}.{target.durable}",
        {"stream_name": STREAM, "config": config, "action": action},
    )
