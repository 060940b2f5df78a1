"""Golden messages: a changed byte on the wire is a reviewed change.

`UPDATE_GOLDEN=1 pytest tests/contract/test_golden.py` writes them anew.
"""

import json
import os
from pathlib import Path

import jsonschema
import pytest

from schemas import binding, registry, subjects
from tests.contract.samples import MESSAGES

GOLDEN = Path(__file__).parent / "golden"


def test_every_event_type_has_one() -> None:
    """No event type is added without a golden message."""
    assert set(MESSAGES) == set(registry.ALL)
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(registry.ALL)


@pytest.mark.parametrize("name", registry.ALL)
def test_bytes_are_golden(name: str) -> None:
    """Subject, headers and body of each type are what they were."""
    subject, envelope = MESSAGES[name]
    headers, payload = binding.encode(envelope)
    written = {"subject": subject, "headers": headers, "body": json.loads(payload)}
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(path.read_text()) == written


@pytest.mark.parametrize("name", registry.ALL)
def test_golden_messages_are_read_back(name: str) -> None:
    """A golden message decodes to the body it was made of, and satisfies its type's JSON Schema."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    payload = json.dumps(golden["body"], separators=(",", ":")).encode()
    envelope = binding.decode(golden["headers"], payload)
    event_type = registry.lookup(envelope.type)
    assert event_type.decode(payload) == event_type.decode(MESSAGES[name][1].data)
    jsonschema.validate(golden["body"], event_type.json_schema())
    expected = subjects.parse(golden["subject"])
    # What answers a call goes to its reply subject; it has none of its own.
    if isinstance(expected, subjects.Up) and event_type.name != registry.LOGS_TAKEN.name:
        assert envelope.source == expected.source


@pytest.mark.parametrize("name", registry.ALL)
def test_fields_of_a_newer_sender_are_ignored(name: str) -> None:
    """Readers are tolerant: a field this version does not know changes nothing."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    event_type = registry.lookup(name)
    newer = golden["body"] | {"fieldOfTheFuture": {"a": [1]}}
    assert event_type.decode(json.dumps(newer).encode()) == event_type.decode(
        json.dumps(golden["body"]).encode()
    )
