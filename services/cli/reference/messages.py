"""`docs/reference/messages.md`: the body of each event type, field by field, from its JSON Schema.

What a field means stands under it in the code; neither msgspec nor JSON Schema knows of it.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import schemas
from schemas import registry
from schemas.envelope import JSON
from services.cli.reference.text import one_line, page, table

_INTRO = f"""\
The body (`{JSON}`) of each event type. The same as JSON Schema: `schemas/json/<type>.schema.json`;
with subjects and headers as [AsyncAPI](asyncapi.yaml). [The protocol](../explanation/protocol.md)
says how they are used.
Within a version fields are only added; ignore what you do not know.
"""


def messages_page() -> dict[str, str]:
    """The page, by its path in the repository."""
    meanings = _meanings()
    parts = ["# Messages", _INTRO]
    for event_type in registry.ALL.values():
        schema = event_type.json_schema()
        definitions = schema.get("$defs", {})
        main = _resolve(schema, definitions)
        known = meanings.get(event_type.model.__name__, {})
        parts += [f"## `{event_type.name}`", event_type.description, _fields(main, known)]
        for name in _used(main, definitions):
            parts += [f"`{name}`:", _fields(definitions[name], meanings.get(name, {}))]
    return {"docs/reference/messages.md": page(parts)}


def _meanings() -> dict[str, dict[str, str]]:
    """Class → field → the text under it, of all classes of the contract."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(*schemas.__path__).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                fields = found.setdefault(node.name, {})
                for field, text in zip(node.body, node.body[1:], strict=False):
                    match field, text:
                        case (
                            ast.AnnAssign(target=ast.Name(id=name)),
                            ast.Expr(value=ast.Constant(value=str(meaning))),
                        ):
                            fields[name] = meaning
    return found


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _used(schema: Any, definitions: Mapping[str, Any]) -> list[str]:
    """The definitions with fields that a schema leads to, the nearest first."""
    found: list[str] = []

    def look(value: Any) -> Iterator[str]:
        match value:
            case {"$ref": str(reference)}:
                yield reference.rpartition("/")[2]
            case dict():
                for part in value.values():
                    yield from look(part)
            case list():
                for part in value:
                    yield from look(part)

    waiting = [schema]
    while waiting:
        for name in look(waiting.pop(0)):
            if name not in found and "properties" in definitions[name]:
                found.append(name)
                waiting.append(definitions[name])
    return found


def _fields(schema: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    required = schema.get("required", ())
    return table(
        ("Field", "Type", "Meaning"),
        (
            (
                f"`{name}`" + ("" if name in required else " (optional)"),
                _type(field),
                one_line(meanings.get(name, "")),
            )
            for name, field in schema.get("properties", {}).items()
        ),
    )


def _type(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str(reference)}:
            return f"`{reference.rpartition('/')[2]}`"
        case {"const": value}:
            return f"`{value}`"
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"anyOf": list(several)} | {"oneOf": list(several)}:
            return " or ".join(dict.fromkeys(map(_type, several)))
        case {"allOf": [dict(only)]}:
            return _type(only)
        case {"type": "array", "items": dict(item)}:
            return f"array of {_type(item)}"
        case {"type": "object", "additionalProperties": dict(value)}:
            return f"object of {_type(value)}"
        case {"type": list(kinds)}:
            return " or ".join(map(str, kinds))
    kind = str(schema.get("type", "any"))
    return f"{kind} ({schema['format']})" if "format" in schema else kind
