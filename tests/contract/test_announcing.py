"""A heartbeat with and without what an agent announces of its actions."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas import registry
from schemas.actions import ACTIONS
from schemas.ids import AgentKind
from schemas.presence import Health, Heartbeat

BEAT = Heartbeat(
    version="0.1.0", interval=15, health=Health(healthy=True, start_time=datetime(2026, 11, 22, tzinfo=UTC))
)


def members(beat: Heartbeat) -> dict[str, Any]:
    """As they are on the bus."""
    found: dict[str, Any] = msgspec.json.decode(registry.HEARTBEAT_SENT.encode(beat))
    return found


def test_one_that_announces_nothing_has_no_word_of_it() -> None:
    """It is what it was before agents announced; to be able to do nothing is something else."""
    assert "actions" not in members(BEAT)
    assert members(BEAT.model_copy(update={"actions": {}})) == members(BEAT) | {"actions": {}}


def test_one_of_an_agent_that_does_not_announce_is_read() -> None:
    """The field is not there in what older agents send."""
    assert registry.HEARTBEAT_SENT.decode(registry.HEARTBEAT_SENT.encode(BEAT)).actions is None


def test_what_is_announced_is_read_as_it_was_said() -> None:
    """Every action's schema forbids parameters that it does not name."""
    said = {name: action.schema() for name, action in ACTIONS[AgentKind.KUBERNETES].items()}
    beat = BEAT.model_copy(update={"actions": said})
    assert registry.HEARTBEAT_SENT.decode(registry.HEARTBEAT_SENT.encode(beat)).actions == said
    assert {schema["additionalProperties"] for schema in said.values()} == {False}
    assert "continue" in said["dynamic"]["properties"]
