"""Stored heartbeats: what the read side decodes is what the agent said."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from pydantic import BaseModel

from schemas import registry
from schemas.errors import ContractError
from schemas.presence import Collection, Health, Heartbeat
from services.persistence.presence import heartbeats
from services.persistence.presence.heartbeats import StoredCollection, StoredHealth, StoredHeartbeat

PAIRS = [(StoredHeartbeat, Heartbeat), (StoredHealth, Health), (StoredCollection, Collection)]
STARTED = datetime(2026, 11, 1, 8, 30, 1, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))


@pytest.mark.parametrize(("stored", "sent"), PAIRS)
def test_fields_are_the_contract_s(stored: type[msgspec.Struct], sent: type[BaseModel]) -> None:
    """Each field is one of the contract's, asked for or with the same default."""
    for field in msgspec.structs.fields(stored):
        other = sent.model_fields[field.name]
        assert field.required == other.is_required(), field.name
        if not field.required:
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            assert default == other.get_default(), field.name


def test_what_was_said_is_read() -> None:
    """Every value comes out as it went in, from the shortest heartbeat and the longest; more is ignored."""
    short = Heartbeat(version="1", interval=15, health=Health(healthy=False, start_time=STARTED))
    collection = Collection(
        resource="pods",
        state="a later state",
        reason="ü \u0000",
        objects=2**70,
        relists=2,
        last_event_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    long = short.model_copy(
        update={
            "instance": "i",
            "platform": "v1.36.3",
            "epoch": "e",
            "capabilities": ["observe:pods"],
            "read_only": False,
            "health": Health(healthy=True, status="running", last_error="none", start_time=STARTED),
            "collection": [collection, Collection(resource="nodes", state="off")],
            "counters": {"dropped": 1},
        }
    )
    for said in (short, long):
        body = msgspec.json.decode(said.model_dump_json()) | {"of a newer agent": {}}
        read = msgspec.structs.asdict(heartbeats.read(msgspec.json.encode(body)))
        assert read.pop("health") == StoredHealth(**said.health.model_dump())
        assert read.pop("collection") == [StoredCollection(**item.model_dump()) for item in said.collection]
        assert read == said.model_dump(include=set(read))


@pytest.mark.parametrize("interval", ["1e999", "Infinity", "NaN", "0", "-1", "null"])
def test_an_interval_without_end_is_refused_at_the_bus(interval: str) -> None:
    """It would be stored as null, which nobody can read again: one agent would spoil the list of all."""
    health = '{"healthy":true,"start_time":"2026-11-01T00:00:00Z"}'
    body = f'{{"version":"1","interval":{interval},"health":{health}}}'
    with pytest.raises(ContractError):
        registry.HEARTBEAT_SENT.decode(body.encode())
    with pytest.raises(ContractError):
        registry.SERVICE_HEARTBEAT_SENT.decode(body.encode())
