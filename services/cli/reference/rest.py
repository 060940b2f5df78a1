"""`docs/reference/rest.md` and `problems.md`: what the API answers, from its own description."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.api.http import problems
from services.cli.reference.text import one_line, page, table

_INTRO = """\
Every path, from [the OpenAPI document](openapi.json); a running API serves it at `/schema/openapi.json`.
Answers are JSON; errors are [problems](problems.md).
"""

_PROBLEMS = """\
Every error is `application/problem+json` (RFC 9457). Its `type` is `urn:atlhyper:problem:<name>`, and
`<name>` is the anchor on this page. `title` and `status` are the same each time; `detail` says what went
wrong this time, `next` what to do, and `errors` names the parameters that cannot be used, where any are.

What is shown are examples.
"""

_METHODS = ("get", "post", "put", "patch", "delete")


def rest_page(openapi: Mapping[str, str]) -> dict[str, str]:
    """The page of paths, from the generated OpenAPI document (`openapi_file`)."""
    [text] = openapi.values()
    document = json.loads(text)
    everywhere = [f"- {_body(answer)}" for answer in document["components"].get("responses", {}).values()]
    parts = ["# REST", _INTRO, "Every path may answer besides:", "\n".join(everywhere)]
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                parts += _operation(path, method, item[method], document["components"]["schemas"])
    return {"docs/reference/rest.md": page(parts)}


def _operation(
    path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## `{method.upper()} {path}`"
    yield operation.get("description") or operation.get("summary") or ""
    if parameters := operation.get("parameters"):
        yield table(
            ("Parameter", "In", "Type", "Meaning"),
            (
                (
                    f"`{each['name']}`" + (" (required)" if each.get("required") else ""),
                    each["in"],
                    _type(each.get("schema", {})),
                    one_line(each.get("description") or each.get("schema", {}).get("description", "")),
                )
                for each in parameters
            ),
        )
    if content := operation.get("requestBody", {}).get("content"):
        yield from _content(content["application/json"]["schema"], schemas)
    yield table(
        ("Status", "Body"),
        (
            (status, _body(answer))
            for status, answer in operation["responses"].items()
            if "$ref" not in answer
        ),
    )


def _content(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    """What is sent: its fields; where it is one of several shapes, what they have in common and each."""
    whole = _resolved(schema, schemas)
    shapes = [_resolved(each, schemas) for each in whole.get("oneOf", [whole])]
    fields = shapes[0]["properties"]
    if several := len(shapes) > 1:
        fields = {name: each for name, each in fields.items() if name not in _OF_EACH}
    yield "The content is JSON:"
    yield table(
        ("Field", "Type", "Meaning"),
        ((f"`{name}`", _type(each), one_line(each.get("description", ""))) for name, each in fields.items()),
    )
    if several:
        yield "And one of these:"
        yield table(
            ("`action`", "Meaning", "`params`"),
            (
                (
                    f"`{each['properties']['action']['const']}`",
                    one_line(each.get("description", "")),
                    _parameters(_resolved(each["properties"]["params"], schemas)),
                )
                for each in shapes
            ),
        )


_OF_EACH = ("action", "params")


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if reference := schema.get("$ref"):
        found: Mapping[str, Any] = schemas[str(reference).rpartition("/")[2]]
        return found
    return schema


def _parameters(params: Mapping[str, Any]) -> str:
    needed = params.get("required", ())
    described = []
    for name, schema in params.get("properties", {}).items():
        meaning = f": {one_line(schema['description'])}" if "description" in schema else ""
        told = "; needed" if name in needed else ""
        described.append(f"`{name}` ({_type(schema)}{told}){meaning.rstrip('.')}")
    return "; ".join(described) or "none"


def _type(schema: Mapping[str, Any]) -> str:
    """`string`, `array of string`, the values of an enum, the limits of a number."""
    if alternatives := schema.get("oneOf") or schema.get("anyOf") or schema.get("allOf"):
        return " or ".join(dict.fromkeys(_type(each) for each in alternatives if each.get("type") != "null"))
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    if reference := schema.get("$ref"):
        return str(reference).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    limits = [
        f"{word} {int(schema[name]):,}"
        for word, name in (("at least", "minimum"), ("at most", "maximum"))
        if name in schema
    ]
    kind = schema.get("type", "any")
    return " ".join([" or ".join(kind) if isinstance(kind, list) else str(kind), *limits])


def _body(answer: Mapping[str, Any]) -> str:
    for media, content in answer.get("content", {}).items():
        if media == problems.MEDIA_TYPE:
            types = (example["value"]["type"] for example in content.get("examples", {}).values())
            names = [str(each).rpartition(":")[2] for each in types]
            return ", ".join(f"[{name}](problems.md#{name})" for name in names)
        return one_line(f"`{_type(content.get('schema', {}))}`. {answer.get('description', '')}")
    return one_line(answer.get("description", ""))


def problems_page() -> dict[str, str]:
    """The page of problems, each under its name."""
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
    parts = ["# Problems", _PROBLEMS]
    for kind in sorted(kinds, key=lambda kind: kind.name):
        parts += [
            f"## {kind.name}",
            f"{kind.title}. Status {kind.status.value}.",
            table(("detail", "next"), [(kind.detail, kind.next)]),
        ]
    return {"docs/reference/problems.md": page(parts)}
