"""Parameters against what an agent has announced: it may be older than this version, and know fewer of them.

Their values were checked by this version's declarations before; what an agent may not know is a name. The
schema is what some agent has sent: where it is not as JSON Schema has it, it forbids nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.ids import Target
from schemas.presence import ActionSchemas
from services.api.commands.accepting import Intent
from services.api.http.content import invalid
from services.api.http.problems import InvalidParameter
from services.persistence.presence.liveness import AgentState
from services.persistence.queries import AgentStatus


def unknown_to(wish: Intent, announced: Mapping[Target, ActionSchemas]) -> dict[Target, list[str]]:
    """By agent, the places of the parameters that it does not know, by what it has announced.

    What is one object for several agents, as `queries.announced` gives it, is gone through once.
    """
    found: dict[int, list[str]] = {}
    for schemas in announced.values():
        if id(schemas) not in found:
            schema = schemas.get(wish.action.name, {})
            found[id(schemas)] = list(_unknown(wish.params, schema, _mapping(schema.get("$defs"))))
    return {target: found[id(schemas)] for target, schemas in announced.items()}


def check_known(status: AgentStatus, unknown: Sequence[str]) -> None:
    """Raises ProblemError for parameters that an agent does not know; `unknown` are their places.

    One that is lost may come back as another version: its command waits.
    """
    said = status.heartbeat
    if not unknown or said is None or status.state is AgentState.LOST:
        return
    message = f"is not known to {status.target}, whose agent has version {said.version}"
    raise invalid(
        [InvalidParameter(parameter=f"params.{place}", message=message) for place in unknown],
        "upgrade the agent, or leave out what it does not know",
    )


_FORBIDDING = frozenset({"properties", "additionalProperties", "items", "anyOf", "$ref"})
"""Without one of these a schema forbids no member, at any depth."""


def _unknown(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """The places of the members that a schema forbids by their names.

    Of several shapes that a value may have, what one of them has is known: which one is meant, nobody says.
    """
    if not _FORBIDDING & schema.keys():
        return  # as below a manifest, however large it is
    several = schema.get("anyOf")
    shapes = [_resolved(one, definitions) for one in (several if isinstance(several, list) else [schema])]
    members = [shape for shape in shapes if shape.get("type", "object") == "object"]
    known = {name: inner for shape in members for name, inner in _mapping(shape.get("properties")).items()}
    others = [shape.get("additionalProperties", True) for shape in members]
    of_others = _mapping(next((other for other in others if isinstance(other, dict)), None))
    of_items = _mapping(next((shape["items"] for shape in shapes if "items" in shape), None))
    match value:
        case list():
            inside = [(str(place), item, of_items) for place, item in enumerate(value)]
        case dict():
            inside = [(name, item, _mapping(known.get(name, of_others))) for name, item in value.items()]
        case _:
            return
    closed = isinstance(value, dict) and others and not any(other is not False for other in others)
    for place, item, inner in inside:
        if closed and place not in known:
            yield place
        else:
            yield from (f"{place}.{rest}" for rest in _unknown(item, inner, definitions))


def _resolved(shape: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = _mapping(shape).get("$ref")
    return _mapping(definitions.get(str(reference).rpartition("/")[2]) if reference else shape)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
