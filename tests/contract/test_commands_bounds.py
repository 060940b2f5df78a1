"""What no command and no report may say: it breaks the contract, so its reader is done with it at once."""

from typing import Any

import msgspec
import pytest

from schemas import binding, registry
from schemas.commands import MAX_PARTS, MAX_RESULT
from schemas.envelope import SEQUENCE_DIGITS, Envelope
from schemas.errors import ContractError
from schemas.registry import EventType
from services.agent.scheduler.commands.results import SLICE
from tests.contract.samples import MESSAGES

TIMES = [
    "2026-11-22T04:00:00",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:00",
]
"""Without a zone; not to be said in UTC; with no moment after it; not to be said in UTC."""
IDS = ["", "a.b.>", "*", "a b", "a_b", "a\n", "\u00e4", "x" * 65, "x" * 5000]
MESSAGES_OF_COMMANDS: list[tuple[EventType[Any], str, tuple[str, ...]]] = [
    (registry.COMMAND_SENT, "id", ("created_at", "start_by", "finish_by")),
    (registry.COMMAND_RECEIVED, "command_id", ("at",)),
    (registry.COMMAND_STARTED, "command_id", ("at",)),
    (registry.COMMAND_PROGRESSED, "command_id", ("at",)),
    (registry.PART_PUBLISHED, "command_id", ()),
    (registry.COMMAND_COMPLETED, "command_id", ("executed_at",)),
    (registry.CANCEL_REQUESTED, "command_id", ()),
]
"""Each with the field of the command's id, and those of times."""
OF_AN_ID = [(event_type, field) for event_type, field, _ in MESSAGES_OF_COMMANDS]
OF_A_TIME = [(event_type, field) for event_type, _, fields in MESSAGES_OF_COMMANDS for field in fields]
NUMBERS = [
    (registry.COMMAND_PROGRESSED, "sequence", (0, -1, 2**53 + 1, 10**30)),
    (registry.COMMAND_PROGRESSED, "done", (-1, 2**53 + 1, 10**30)),
    (registry.COMMAND_PROGRESSED, "total", (-1, 2**53 + 1, 10**30)),
    (registry.PART_PUBLISHED, "index", (-1, MAX_PARTS, 10**30)),
    (registry.PART_PUBLISHED, "count", (0, MAX_PARTS + 1, 10**30)),
    (registry.COMMAND_COMPLETED, "parts", (-1, MAX_PARTS + 1, 10**30)),
]


def said(event_type: EventType[Any], **changed: Any) -> bytes:
    """A good one, changed."""
    return msgspec.json.encode(msgspec.json.decode(MESSAGES[event_type.name][1].data) | changed)


def refused(event_type: EventType[Any], field: str, value: str) -> None:
    with pytest.raises(ContractError, match=field):
        event_type.decode(said(event_type, **{field: msgspec.Raw(value.encode())}))


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize(("event_type", "field"), OF_A_TIME)
def test_a_time_is_one_in_utc_too(event_type: EventType[Any], field: str, value: str) -> None:
    """It is compared, counted from and stored; as it was said it stays."""
    refused(event_type, field, f'"{value}"')
    good = event_type.decode(said(event_type, **{field: "2026-11-22T04:00:00+14:00"}))
    assert getattr(good, field).isoformat() == "2026-11-22T04:00:00+14:00"


@pytest.mark.parametrize("value", TIMES)
def test_an_agents_start_is_a_time(value: str) -> None:
    """Heartbeats have times as well."""
    health = {"healthy": True, "start_time": value}
    with pytest.raises(ContractError, match="start_time"):
        registry.HEARTBEAT_SENT.decode(said(registry.HEARTBEAT_SENT, health=health))


@pytest.mark.parametrize("value", IDS, ids=range(len(IDS)))
@pytest.mark.parametrize(("event_type", "field"), OF_AN_ID)
def test_an_id_is_a_short_token_of_a_subject(event_type: EventType[Any], field: str, value: str) -> None:
    """The reports on a command are told apart by the subject, which has its id."""
    refused(event_type, field, msgspec.json.encode(value).decode())
    for good in ("7", "019a9d2e-7a00-7000-8000-000000000001", "X" * 64):
        assert getattr(event_type.decode(said(event_type, **{field: good})), field) == good


@pytest.mark.parametrize(("event_type", "field", "values"), NUMBERS)
def test_numbers_fit_the_database(event_type: EventType[Any], field: str, values: tuple[int, ...]) -> None:
    """And every language that reads JSON."""
    for value in values:
        refused(event_type, field, str(value))


def test_the_largest_result_has_fewer_parts_than_there_may_be() -> None:
    """Each is at most three bytes short of a slice, so as not to end inside a character."""
    assert -(-MAX_RESULT // (SLICE - 3)) < MAX_PARTS


@pytest.mark.parametrize("digits", [SEQUENCE_DIGITS + 1, 5000])
def test_an_envelopes_sequence_has_no_more_digits_than_are_written(digits: int) -> None:
    """More of them are no number that a database holds, nor one that Python reads."""
    envelope = Envelope(type="t", source="s", data=b"", extensions={"sequence": "9" * digits})
    with pytest.raises(ContractError, match="sequence"):
        _ = envelope.sequence


@pytest.mark.parametrize("time", ["9999-12-31T24:00:00Z", *TIMES])
def test_an_envelopes_time_is_one(time: str) -> None:
    """In both modes of the binding."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "time": time}
    with pytest.raises(ContractError):
        binding.decode({f"ce-{name}": value for name, value in attributes.items()}, b"")
    with pytest.raises(ContractError):
        binding.decode({"Content-Type": "application/cloudevents+json"}, msgspec.json.encode(attributes))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '{"a": [NaN]}'])
def test_what_a_result_holds_is_json(value: str) -> None:
    """It is stored as it came, and neither databases nor readers of the API take more (RFC 8259, 6)."""
    with pytest.raises(ContractError):
        registry.COMMAND_COMPLETED.decode(said(registry.COMMAND_COMPLETED, data=msgspec.Raw(value.encode())))
