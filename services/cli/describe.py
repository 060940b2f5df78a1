"""`atlhyper describe`: one object, what it is connected with, and what happened to it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import rich_click as click

from services.cli import completion, options, render
from services.cli.client import Client, quote
from services.cli.context import resolve
from services.cli.listing import Listing
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.render import Display
from services.cli.resources import Query, queries
from services.runtime.terminal import printable

_MOST = 100
"""Objects described at once."""
_EVENTS = 20
_HIDDEN = frozenset({"metadata", "apiVersion", "kind"})
_NAMED = frozenset(
    {
        *("labels", "annotations", "matchLabels", "selector", "nodeSelector", "data", "binaryData"),
        *("requests", "limits", "capacity", "allocatable", "hard", "used"),
    }
)
"""Maps whose keys are names that somebody gave, no fields; a `selector` of fields has maps or lists in it."""
_SIZES = ("data", "binaryData")
"""Of a ConfigMap: a projection has the size of each value in its place."""
_WORDS = {"ip": "IP", "Ip": "IP", "os": "OS", "cpu": "CPU", "qos": "QoS", "api": "API", "Api": "API"}
_FIXED = frozenset({"cluster", "kind", "name", "namespace", "uid", "node", "owner", "created_at", "object"})


@click.command()
@click.argument("resource", shell_complete=completion.resources)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.names)
@options.where
@options.selectors
@click.option("--show-events/--no-events", default=True, help="Show the Events about it.  [default: show]")
@options.context
def describe(
    resource: str,
    names: tuple[str, ...],
    where: Selection,
    show_events: bool,
    context: str | None,
) -> None:
    """Show one object in words: its fields, what it is connected with, and the Events about it.

    Examples: `atlhyper describe pod web-1 -n shop`, `atlhyper describe node n1 --cluster eu`,
    `atlhyper describe pods -l app=web`
    """
    with Client(resolve(context)) as client:
        listing = Listing(client, queries(resource, names), where, {}, Display(), _MOST)
        rows = [(query, row) for query, some in listing.fetch().items() for row in some]
        if listing.known and not rows:
            listing.print({})
        for number, (query, row) in enumerate(rows):
            if number:
                click.echo("\n")
            click.echo("\n".join(Description(client, query, row, show_events).lines()))
        code = listing.tell_errors()
        if len(rows) >= _MOST:
            note(f"the first {_MOST} are shown; narrow it by a selector or a name")
    raise SystemExit(code)


class Description:
    """One object."""

    def __init__(self, client: Client, query: Query, row: dict[str, Any], events: bool) -> None:
        self._path = (
            f"/clusters/{quote(row['cluster'])}/{quote(query.resource)}"
            f"/{quote(row['namespace'] or '_')}/{quote(row['name'])}"
        )
        self._client = client
        self._row = client.get(self._path)
        self._events = events

    def lines(self) -> Iterator[str]:
        """Everything, from the outside in."""
        row = self._row
        body: dict[str, Any] = row["object"] or {}
        meta = body.get("metadata") or {}
        yield from _fields(
            {
                "Name": row["name"],
                "Namespace": row["namespace"],
                "Cluster": row["cluster"],
                "Kind": row["kind"],
                "UID": row["uid"],
                "Created": f"{row['created_at'] or ''} ({render.age_of(row['created_at'])} ago)",
                "Node": row["node"],
                "Controlled By": row["owner"],
            }
        )
        yield from _mapping("Labels", meta.get("labels") or {})
        yield from _mapping("Annotations", meta.get("annotations") or {})
        shown = {key: value for key, value in row.items() if key not in _FIXED | {"updated_at", "as_of"}}
        yield from _fields({_title(key): value for key, value in shown.items()})
        if row["kind"] == "ConfigMap":
            body |= {key: _sizes(body[key]) for key in _SIZES if key in body}
        for key, value in body.items():
            if key in _HIDDEN:
                continue
            if not isinstance(value, Mapping | list):
                yield from _fields({_title(key): value} if key not in shown else {})
            elif lines := [*_tree(value, 1, named=_is_named(key, value))]:
                yield from (f"{_title(key)}:", *lines)
        yield from self._related()
        yield f"As Of: {row['as_of']} ({render.age_of(row['as_of'])} ago)"

    def _related(self) -> Iterator[str]:
        graph = self._client.get(f"{self._path}/related")
        nodes = {node["id"]: node for node in graph["nodes"]}
        root, events, lines = graph["root"], [], []
        for edge in graph["edges"]:
            outward = edge["from"] == root
            other = nodes[edge["to"] if outward else edge["from"]]
            if other["resource"] == "events":
                events.append(other)
            elif root in (edge["from"], edge["to"]):
                lines.append([edge["relation"] if outward else f"{edge['relation']} (from)", *_told(other)])
        if lines:
            yield "Related:"
            yield from (
                f"  {line}" for line in render.table(["RELATION", "OBJECT", "STATE"], lines).splitlines()
            )
        if self._events:
            yield from _event_lines([event["row"] for event in events if event["row"]])


def _told(node: Mapping[str, Any]) -> list[str]:
    name = f"{node['namespace']}/{node['name']}" if node["namespace"] else node["name"]
    state = f"missing: {node['why']}" if node["missing"] else node["state"] or "-"
    return [f"{node['kind'] or node['resource']} {name}", state]


def _event_lines(events: list[dict[str, Any]]) -> Iterator[str]:
    if not events:
        yield "Events: <none>"
        return
    events = sorted(events, key=lambda event: datetime.fromisoformat(event["last_seen"]))
    rows = [
        [
            event["type"],
            event["reason"],
            render.age_of(event["last_seen"]) + (f" (x{event['count']})" if event["count"] > 1 else ""),
            f"{event['involved']['kind'].lower()}/{event['involved']['name']}",
            event["component"],
            event["message"],
        ]
        for event in events[-_EVENTS:]
    ]
    header = ["TYPE", "REASON", "AGE", "OBJECT", "FROM", "MESSAGE"]
    yield "Events:"
    yield from (f"  {line}" for line in render.table(header, rows).splitlines())


def _fields(fields: dict[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if value not in (None, ""):
            yield f"{name + ':':<16} {printable(render.text(value))}"


def _mapping(name: str, values: Mapping[str, str]) -> Iterator[str]:
    for number, key in enumerate(sorted(values)):
        yield f"{name + ':' if not number else '':<16} {printable(f'{key}={values[key]}')}"
    if not values:
        yield f"{name + ':':<16} <none>"


def _tree(value: Any, depth: int, *, named: bool = False) -> Iterator[str]:
    """A projection as indented lines; what is empty is left out. `named`: keys are no fields, and stay."""
    indent = "  " * depth
    if isinstance(value, Mapping):
        for key, item in value.items():
            title = printable(key) if named else _title(key)
            if isinstance(item, Mapping | list) and item:
                yield f"{indent}{title}:"
                yield from _tree(item, depth + 1, named=_is_named(key, item))
            elif item not in (None, "", [], {}):
                yield f"{indent}{title}: {printable(render.text(item))}"
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping):
                first, *rest = _tree(item, depth + 1) if item else ["{}"]
                yield f"{indent}- {first.strip()}"
                yield from rest
            else:
                yield f"{indent}- {printable(render.text(item))}"
    else:
        yield f"{indent}{printable(render.text(value))}"


def _sizes(values: Mapping[str, int] | None) -> dict[str, str]:
    return {name: f"{size} bytes" for name, size in (values or {}).items()}


def _is_named(key: str, value: Any) -> bool:
    return (
        key in _NAMED
        and isinstance(value, Mapping)
        and not any(isinstance(item, Mapping | list) for item in value.values())
    )


def _title(key: str) -> str:
    """`hostIP` is `Host IP`, `node_name` is `Node Name`; what is no word stays: `app.kubernetes.io/name`."""
    if not key.replace("_", "").isalnum() or not key[0].islower():
        return key
    words = "".join(
        f" {c}" if c.isupper() and not key[max(n - 1, 0)].isupper() else c for n, c in enumerate(key)
    )
    return " ".join(_WORDS.get(word, word[:1].upper() + word[1:]) for word in words.replace("_", " ").split())
