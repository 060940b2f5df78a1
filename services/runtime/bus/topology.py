"""The streams of a running broker against `schemas.topology`: show, diff, apply. Nothing is ever deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from schemas import topology
from schemas.topology import Stream
from services.runtime.bus.client import ApiError, Bus
from services.runtime.bus.config import stream_config
from services.runtime.errors import UserError

STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
_NO_STORAGE = 10047
_OVERLAP = 10065

_FILLED_IN = {"metadata": "_nats.", "consumer_limits": ""}
"""Fields that the broker itself fills in."""


@dataclass(frozen=True, slots=True)
class Change:
    """One stream that is not as it should be: field → (as it is, as it should be)."""

    stream: str
    action: Literal["create", "update"]
    config: Mapping[str, Any] = field(repr=False)
    """The whole configuration as it should be."""
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people: one line per field."""
        if self.action == "create":
            return [f"+ {self.stream}"]
        return [f"~ {self.stream}"] + [
            f"    {name}: {actual!r} -> {wanted!r}" for name, (actual, wanted) in sorted(self.fields.items())
        ]


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream holds now."""

    name: str
    created: datetime
    messages: int
    bytes: int
    max_bytes: int
    first_sequence: int
    last_sequence: int
    consumers: int
    known: bool
    """Whether this version of AtlHyper has a stream of that name."""


async def diff(bus: Bus, *, replicas: int | None = None) -> list[Change]:
    """What `apply` would change. `replicas` None leaves that number as it is."""
    return [
        change for stream in topology.STREAMS if (change := await _compare(bus, stream, replicas)) is not None
    ]


async def apply(bus: Bus, *, replicas: int | None = None) -> list[Change]:
    """Create and update streams until nothing differs; what was done.

    Never deletes a stream, and data only as its limits say. All that can be done is done first, then
    UserError is raised with what the broker cannot change.
    """
    done, refused = [], []
    for change in await diff(bus, replicas=replicas):
        try:
            await bus.api(
                f"$JS.API.STREAM.{change.action.upper()}.{change.stream}", change.config, timeout=10.0
            )
        except ApiError as error:
            refused.append(_refusal(change, error))
        else:
            done.append(change)
    if refused:
        raise UserError(
            "; ".join(refused),
            "nothing was deleted; a stream that cannot be changed must be copied away and removed by hand "
            "(`nats stream backup`, `nats stream rm`), then apply again",
        )
    return done


async def show(bus: Bus) -> list[StreamState]:
    """Every stream of the broker, ours or not."""
    states, offset = [], 0
    while True:
        page = await bus.api("$JS.API.STREAM.LIST", {"offset": offset})
        streams = page.get("streams") or []
        states += [_state(info) for info in streams]
        offset += len(streams)
        if not streams or offset >= page.get("total", 0):
            return sorted(states, key=lambda state: state.name)


async def _compare(bus: Bus, stream: Stream, replicas: int | None) -> Change | None:
    try:
        actual = (await bus.api(f"$JS.API.STREAM.INFO.{stream.name}"))["config"]
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        return Change(stream.name, "create", stream_config(stream, replicas or 1))
    wanted = stream_config(stream, replicas or actual.get("num_replicas", 1))
    fields = {name: (actual.get(name), wanted.get(name)) for name in actual.keys() | wanted.keys()}
    fields = {name: pair for name, pair in fields.items() if not _same(name, *pair)}
    return Change(stream.name, "update", wanted, fields) if fields else None


def _same(name: str, actual: Any, wanted: Any) -> bool:
    """Whether a field is as it should be; one that is absent is at its zero."""
    if isinstance(actual, list) and isinstance(wanted, list):
        return sorted(actual) == sorted(wanted)
    if wanted is None and name in _FILLED_IN:
        return all(key.startswith(_FILLED_IN[name]) for key in actual or ())
    return actual == wanted or (not actual and not wanted)


def _refusal(change: Change, error: ApiError) -> str:
    if error.code == _NO_STORAGE:
        return f"{change.stream} reserves more bytes than the broker's account has left ({error.description})"
    if error.code == _OVERLAP:
        return f"{change.stream}: another stream already takes its subjects ({error.description})"
    what = "created" if change.action == "create" else f"changed in {', '.join(sorted(change.fields))}"
    return f"{change.stream} cannot be {what}: {error.description}"


def _state(info: Mapping[str, Any]) -> StreamState:
    state, config = info["state"], info["config"]
    return StreamState(
        name=config["name"],
        created=parse_time(info["created"]),
        messages=state["messages"],
        bytes=state["bytes"],
        max_bytes=config.get("max_bytes", -1),
        first_sequence=state["first_seq"],
        last_sequence=state["last_seq"],
        consumers=state["consumer_count"],
        known=config["name"] in {stream.name for stream in topology.STREAMS},
    )


def parse_time(text: str) -> datetime:
    """A time of the JetStream API (RFC 3339 with up to nine digits of the second), in microseconds."""
    return datetime.fromisoformat(text)
