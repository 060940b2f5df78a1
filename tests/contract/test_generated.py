"""The generated files: current, sound, and true to what crosses the bus."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from schemas import registry
from schemas.kubernetes import KINDS
from schemas.registry import EventType
from services.cli.generate import ROOT, files, stale, write
from services.cli.reference.contract import ASYNCAPI_FILE, asyncapi

GOLDEN = Path(__file__).parent / "golden"


def test_the_files_are_current() -> None:
    """What is checked in is what the code generates; `make generate` makes it so."""
    assert stale() == []


def test_a_stale_file_is_noticed_and_mended(tmp_path: Path) -> None:
    """One that is missing, edited or no longer generated."""
    assert len(write(tmp_path)) == len(files())
    (tmp_path / ASYNCAPI_FILE).write_text("edited")
    left_over = tmp_path / "schemas" / "json" / "io.atlhyper.gone.v1.schema.json"
    left_over.write_text("{}")
    expected = [ASYNCAPI_FILE, str(left_over.relative_to(tmp_path))]
    assert stale(tmp_path) == expected
    assert write(tmp_path) == expected
    assert stale(tmp_path) == []


@pytest.mark.parametrize("event_type", registry.ALL.values(), ids=lambda event_type: event_type.name)
def test_the_schema_describes_the_golden_message(event_type: EventType[Any]) -> None:
    """JSON Schema of each type is valid, accepts the golden body, tolerates a new field, refuses a body that
    lacks what is required."""
    schema = json.loads((ROOT / f"schemas/json/{event_type.name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    body = _golden_body(event_type.name)
    validator.validate(body)
    validator.validate({**body, "added_by_a_newer_sender": 1})
    assert not validator.is_valid([])


def test_the_schema_of_a_whole_cluster() -> None:
    """It is valid, has a list for each resource of KINDS, and refuses a snapshot without its version."""
    schema = json.loads((ROOT / "schemas/json/ClusterSnapshot.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    head = {"cluster_id": "c1", "fetched_at": "2026-11-21T07:00:00Z"}
    validator.validate({**head, "version": 1, **{resource: [] for resource in KINDS}})
    assert not validator.is_valid(head)
    assert all(not validator.is_valid({**head, "version": 1, resource: [3]}) for resource in KINDS)


def test_asyncapi_has_every_type_and_no_loose_end() -> None:
    """Every event type is a message on a channel of its own with an operation; every reference resolves;
    every parameter of an address is described."""
    document = yaml.safe_load((ROOT / ASYNCAPI_FILE).read_text())
    assert document == json.loads(json.dumps(asyncapi()))
    assert document["asyncapi"] == "3.0.0"
    names = {message["name"] for message in document["components"]["messages"].values()}
    assert names == set(registry.ALL)
    assert len(document["channels"]) == len(document["operations"]) == len(names)
    for reference in _references(document):
        assert _resolve(document, reference) is not None, reference
    for channel in document["channels"].values():
        in_address = {part[1:-1] for part in channel["address"].split(".") if part.startswith("{")}
        assert set(channel["parameters"]) == in_address
        assert all(parameter["description"] for parameter in channel["parameters"].values())


def test_asyncapi_schemas_accept_the_golden_messages() -> None:
    """The bodies' schemas survived being moved into one document."""
    document = asyncapi()
    for message in document["components"]["messages"].values():
        schema = {**message["payload"], "components": document["components"]}
        jsonschema.Draft7Validator(schema).validate(_golden_body(message["name"]))


def _golden_body(name: str) -> dict[str, Any]:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    body: dict[str, Any] = golden["body"]
    return body


def _references(value: Any) -> list[str]:
    match value:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for part in value.values() for found in _references(part)]
        case list():
            return [found for part in value for found in _references(part)]
    return []


def _resolve(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document.get(part) if isinstance(document, dict) else None
    return document
