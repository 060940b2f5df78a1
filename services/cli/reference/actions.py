"""`docs/reference/actions.md`: what agents can be asked to do, from the declarations of the actions."""

import ast
import inspect
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from schemas import commands
from schemas.actions import ACTIONS, capability
from schemas.commands import Action, ErrorCode
from schemas.ids import AgentKind
from services.agent.kubernetes.repository.access import ACTING
from services.agent.kubernetes.sdk.interfaces import Access
from services.cli.reference.text import one_line, page, table

_INTRO = """\
What an agent can be asked to do, by its kind: the `action` of a command, its `params`, and the `data`
of its result. An unknown parameter is an error. An agent announces `act:<action>` where its settings
and its role allow it, and with it the JSON Schema of these `params`: an older agent may know fewer
(`GET /api/v1/agents/{kind}/{id}`).

`dry_run` asks the API server to do everything but keep it (`dryRun=All`), and gives its own answer and
warnings. A drain lists the pods that it would evict, and which of them a disruption budget would hold.

Changes of one object that a command names are made one after the other, in the order in which they came.

What is changed carries the id of the command as the annotation `atlhyper.io/command`, or, for what is
applied, `applied.atlhyper.io/<field manager>`: by it an agent proves after a crash, or when an answer
was lost, what it has done. `managedFields` names `atlhyper`. Objects in results are redacted: values of
Secrets never leave the cluster, nor does what has a secret's name or shape; nor do errors quote any.
"""

_UNQUEUED = (
    "Such commands do not queue per object, since only their parameters name it. Two that are posted without "
    "waiting may take effect in either order, and after a crash of the agent the first may end as `unknown`: "
    "wait for the end of the first (`?wait=30s`; `--wait`) before the next one about that object."
)

_CODES = "`error.code` of a command that did not succeed; further ones may come."


def actions_page() -> dict[str, str]:
    """The page, by its path in the repository."""
    parts = ["# Actions", _INTRO]
    for kind, actions in ACTIONS.items():
        parts.append(f"## {kind.value.capitalize()}")
        parts.append(
            table(
                ("Action", "Nature", "On", "What it does"),
                (
                    (f"[`{a.name}`](#{a.name})", _nature(a), _resources(a), a.description)
                    for a in actions.values()
                ),
            )
        )
        for action in actions.values():
            parts += _action(kind, action)
    meanings = _meanings(ErrorCode)
    parts += ["## Errors", _CODES, table(("Code", "Meaning"), ((f"`{c}`", meanings[c]) for c in ErrorCode))]
    return {"docs/reference/actions.md": page(parts)}


def _action(kind: AgentKind, action: Action) -> Iterator[str]:
    yield f"### `{action.name}`"
    traits = [f"Announced as `{capability(action.name)}`."]
    traits += ["It may take minutes, and reports its progress."] * action.long
    traits += ["It can be canceled while it runs."] * action.cancellable
    traits += ["After a crash of the agent it is done again."] * action.repeat_safe
    yield f"{action.description} {' '.join(traits)}"
    if not action.needs_object:
        yield _UNQUEUED
    if kind is AgentKind.KUBERNETES:
        yield f"Rights: {_rights(ACTING[action.name])}."
    schema = action.params.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        yield table(
            ("Parameter", "Type", "Default", "Meaning"),
            (
                (
                    f"`{name}`",
                    _type(field, definitions),
                    "required" if name in required else f"`{_default(field)}`",
                    one_line(field.get("description", "")),
                )
                for name, field in properties.items()
            ),
        )
    else:
        yield "It takes no parameters."
    yield table(("Data", "Meaning"), ((f"`{name}`", meaning) for name, meaning in action.data.items()))


def _nature(action: Action) -> str:
    return ", ".join(dict.fromkeys(action.by_verb.values())) or action.nature.value


def _resources(action: Action) -> str:
    if action.resources:
        return ", ".join(action.resources)
    return "any" if action.needs_object else "as its parameters say"


def _rights(ways: Sequence[Sequence[Access]]) -> str:
    """`get, patch` by resource; resources of one way that need the same are named together."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for way in ways:
        base = way[0].plural
        needs = tuple((access.verb, access.plural.removeprefix(base)) for access in way)
        alike[needs].append(f"{base}.{way[0].group}" if way[0].group else base)
    return "; or ".join(_way(needs, resources) for needs, resources in alike.items())


def _way(needs: tuple[tuple[str, str], ...], resources: list[str]) -> str:
    own = [verb if not rest else f"{verb} `{rest}`" for verb, rest in needs if rest[:1] in ("", "/")]
    others = [f"{verb} `{rest}`" for verb, rest in needs if rest[:1] not in ("", "/")]
    text = f"{', '.join(own)} on {', '.join(f'`{name}`' for name in resources)}"
    return f"{text}, with {', '.join(others)}" if others else text


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    return (
        json.dumps(default) if default is None or default == "" or isinstance(default, bool) else str(default)
    )


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    match field:
        case {"$ref": str(reference)}:
            return _type(definitions[reference.rpartition("/")[2]], definitions)
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"anyOf": list(several)}:
            return " or ".join(_type(one, definitions) for one in several)
        case {"allOf": [dict(only)]}:
            return _type(only, definitions)
        case {"type": "object", "additionalProperties": dict(value)}:
            return f"object of {_type(value, definitions)}"
    bounds = [f"{sign} {field[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in field]
    return " ".join((str(field.get("type", "any")), *bounds))


def _meanings(enum: type) -> dict[str, str]:
    """Value → the text under it, or its name in words."""
    (tree,) = (
        node
        for node in ast.parse(inspect.getsource(commands)).body
        if isinstance(node, ast.ClassDef) and node.name == enum.__name__
    )
    found: dict[str, str] = {}
    for member, text in zip(tree.body, [*tree.body[1:], None], strict=True):
        match member, text:
            case (
                ast.Assign(value=ast.Constant(value=str(value))),
                ast.Expr(value=ast.Constant(value=str(meaning))),
            ):
                found[value] = one_line(meaning)
            case ast.Assign(value=ast.Constant(value=str(value))), _:
                found[value] = value.replace("_", " ").capitalize() + "."
    return found
