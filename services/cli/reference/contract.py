"""The contract for readers in other languages: JSON Schema per event type, and AsyncAPI 3 of the bus."""

import json
from typing import Any

import msgspec
import yaml

from schemas import registry
from schemas.envelope import EXTENSIONS, JSON
from schemas.kubernetes.snapshot import ClusterSnapshot
from schemas.registry import EventType
from schemas.topology import Stream
from services.runtime.version import VERSION

ASYNCAPI_FILE = "docs/reference/asyncapi.yaml"

_NOTICE = "# Generated from schemas/ by `python -m services.cli.generate`. Do not edit.\n"

PARAMETERS = {
    "cluster": "The agent's id: 1 to 63 characters of a-z, 0-9 and '-'.",
    "shard": "crc32 of `kubernetes/<cluster>`, modulo 16. A wrong one is dead-lettered.",
    "scope": "The namespace; `_` for none. Characters that a subject cannot have are `_`.",
    "objectKind": "The kind of the object that the Event is about.",
    "service": "The name of a core service: master, api.",
    "instance": "One process of that service.",
    "action": "The name of the action.",
    "command": "The command's id.",
    "session": "Random; one reader of logs.",
}
"""The parameters of the registry's channels."""

_DESCRIPTION = """\
Everything that crosses AtlHyper's message bus, a NATS broker with JetStream. This page is written
from the core's side: it *receives* what agents send up and *sends* what goes down to them.

Every message is a CloudEvent 1.0 in the binary mode of the NATS protocol binding: attributes are
headers `ce-<name>`, percent-encoded, the body is the payload. `Content-Encoding: gzip` marks a
compressed payload. `Nats-Msg-Id` is the CloudEvent's id, by which a stream drops a repeated message.

The sender's identity is the subject, which the broker enforces; an envelope whose `source` disagrees
is dead-lettered. Within a version fields are only added: readers ignore what they do not know, and
enums are open.
"""


def json_schema_files() -> dict[str, str]:
    """`schemas/json/<name>.schema.json`: the body of each event type, and a cluster as one document."""
    schemas = {event_type.name: event_type.json_schema() for event_type in registry.ALL.values()}
    schemas["ClusterSnapshot"] = msgspec.json.schema(ClusterSnapshot)
    return {
        f"schemas/json/{name}.schema.json": json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": f"urn:io:atlhyper:{name.removeprefix('io.atlhyper.').replace('.', ':')}",
                **schema,
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
        for name, schema in schemas.items()
    }


def asyncapi_file() -> dict[str, str]:
    """`docs/reference/asyncapi.yaml`."""
    text = yaml.dump(asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return {ASYNCAPI_FILE: _NOTICE + text}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, repeated values written out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 PyYAML's signature
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    types = registry.ALL.values()
    schemas: dict[str, Any] = {"Headers": _headers()}
    for event_type in types:
        _hoist(event_type, schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AtlHyper bus",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "embedded": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The broker of `atlhyper up`. Others: NATS_URL.",
                "security": [{"$ref": "#/components/securitySchemes/nkey"}],
            }
        },
        "channels": {_short(event_type): _channel(event_type) for event_type in types},
        "operations": {
            f"{_action(event_type)}.{_short(event_type)}": {
                "action": _action(event_type),
                "channel": {"$ref": f"#/channels/{_short(event_type)}"},
                "summary": event_type.description,
                "messages": [{"$ref": f"#/channels/{_short(event_type)}/messages/{_short(event_type)}"}],
            }
            for event_type in types
        },
        "components": {
            "messages": {_short(event_type): _message(event_type) for event_type in types},
            "schemas": schemas,
            "securitySchemes": {
                "nkey": {
                    "type": "asymmetricEncryption",
                    "description": (
                        "A NATS nkey: the client signs the server's nonce with the seed of its user. "
                        "`deploy/nats` has the users and what each may publish and subscribe."
                    ),
                }
            },
        },
    }


def _short(event_type: EventType[Any]) -> str:
    """`kubernetes.frame.published.v1`"""
    return event_type.name.removeprefix("io.atlhyper.")


def _action(event_type: EventType[Any]) -> str:
    return "send" if event_type.name.startswith("io.atlhyper.core.") else "receive"


def _channel(event_type: EventType[Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in event_type.channel.split(".") if part.startswith("{")]
    channel: dict[str, Any] = {
        "address": event_type.channel,
        "messages": {_short(event_type): {"$ref": f"#/components/messages/{_short(event_type)}"}},
        "parameters": {name: {"description": PARAMETERS[name]} for name in names},
    }
    if event_type.stream is not None:
        channel["x-jetstream"] = _stream(event_type.stream)
    return channel


def _stream(stream: Stream) -> dict[str, Any]:
    described: dict[str, Any] = {
        "stream": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "maxAgeSeconds": stream.max_age,
        "maxBytes": stream.max_bytes,
        "duplicateWindowSeconds": stream.duplicate_window,
    }
    if stream.max_messages_per_subject > 0:
        described["maxMessagesPerSubject"] = stream.max_messages_per_subject
    if stream.message_ttl:
        described["messageTTL"] = True
    return described


def _message(event_type: EventType[Any]) -> dict[str, Any]:
    return {
        "name": event_type.name,
        "summary": event_type.description,
        "contentType": JSON,
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/Headers"},
                {"type": "object", "properties": {"ce-type": {"const": event_type.name}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{event_type.model.__name__}"},
    }


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "CloudEvents attributes, and the two headers of NATS and of the content coding.",
        "required": ["ce-specversion", "ce-id", "ce-source", "ce-type"],
        "properties": {
            "ce-specversion": {"const": "1.0"},
            "ce-id": {**text, "description": "UUIDv7, never changed once made."},
            "ce-source": {
                **text,
                "description": "`/atlhyper/<kind>/<id>` of an agent, `/atlhyper/core/<service>/<instance>`.",
            },
            "ce-type": text,
            "ce-time": {**text, "format": "date-time"},
            "ce-datacontenttype": {**text, "default": JSON},
            **{f"ce-{name}": text for name in EXTENSIONS},
            "Nats-Msg-Id": {
                **text,
                "description": "The id; a command's has its attempt. A stream drops repeats.",
            },
            "Content-Encoding": {"enum": ["identity", "gzip"]},
        },
    }


def _hoist(event_type: EventType[Any], schemas: dict[str, Any]) -> None:
    """Move the definitions of a body's schema to `components/schemas`, where AsyncAPI's references look."""
    schema = _point(event_type.json_schema())
    found = dict(schema.pop("$defs", {}))
    name = event_type.model.__name__
    if set(schema) != {"$ref"}:
        found[name] = schema
    for key, value in found.items():
        if schemas.setdefault(key, value) != value:
            raise ValueError(f"two different schemas are called {key}")


def _point(value: Any) -> Any:
    """`value` with every `#/$defs/…` as `#/components/schemas/…`.

    Without `discriminator`, which in AsyncAPI names a property whose values are schema names; the `const`s
    of the alternatives say as much.
    """
    match value:
        case {"$ref": str(reference), **rest}:
            target = reference.replace("#/$defs/", "#/components/schemas/")
            return {"$ref": target, **{key: _point(part) for key, part in rest.items()}}
        case dict():
            return {key: _point(part) for key, part in value.items() if key != "discriminator"}
        case list():
            return [_point(part) for part in value]
    return value
