"""An operation as the API tells it: in a line, in words, and with what has become of each cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich_click as click

from services.cli import render
from services.cli.acting import items
from services.cli.acting.items import TERMINAL, Item
from services.cli.render import Output
from services.runtime.errors import UserError
from services.runtime.terminal import printable

ENDED = frozenset({"succeeded", "failed", "canceled"})
"""The last states (`schemas.operations.OperationState`, whose import takes longer than a command)."""
_PARTLY = 5
_NAMED = 10
"""How many clusters an advice names."""


def title(operation: Item) -> str:
    """What is done to what: `restart deployment.apps/web -n shop`."""
    namespace = items.namespace(operation)
    where = f" -n {namespace}" if namespace else ""
    return f"{items.verb(operation['action'])} {items.label(operation)}{where}"


def cluster(turn: Item) -> str:
    """The cluster whose turn it is."""
    return str(turn["target"]["id"])


def under_way(operation: Item) -> list[Item]:
    """The turns that have begun and not ended."""
    return [turn for turn in operation["targets"] if turn["state"] and turn["state"] not in TERMINAL]


def over(operation: Item) -> list[Item]:
    """The turns that have ended, well or not."""
    return [turn for turn in operation["targets"] if turn["state"] in TERMINAL]


def stands(operation: Item) -> bool:
    """Whether there is nothing to wait for: it has ended everywhere, or only a person makes it go on."""
    return operation["state"] == "paused" or (operation["state"] in ENDED and not under_way(operation))


def failure(operation: Item) -> UserError | None:
    """What is to be told of one that `stands` and has not succeeded, with its exit code."""
    id_, state = operation["id"], operation["state"]
    if state == "succeeded":
        return None
    message = f"operation {id_} is {state}" if state == "paused" else f"operation {id_} ended as {state}"
    message += f": {operation['reason']}" if operation["reason"] else ""
    if state == "paused":
        advice = f"`atlhyper operations resume {id_}` goes on, `atlhyper operations cancel {id_}` ends it"
        return UserError(message, advice, 1)
    advice = f"`atlhyper operations show {id_}` has what has become of each cluster"
    failed = [cluster(turn) for turn in over(operation) if turn["state"] != "succeeded"]
    if state == "failed" and len(failed) <= _NAMED:
        advice = f"look at what these say, then ask them again: --cluster {','.join(failed)}"
    return UserError(message, advice, _PARTLY if operation["counts"].get("succeeded") else 1)


def show(found: Item, output: Output) -> None:
    """One operation on standard output: its clusters, or a document."""
    match output:
        case Output.JSON | Output.YAML:
            click.echo(render.document(found, output))
        case Output.NAME:
            click.echo(found["id"])
        case _:
            click.echo(table(found["targets"]))


def table(turns: Sequence[Item]) -> str:
    """A line for each cluster, in the order in which they are taken."""
    header = ("CLUSTER", "STATE", "COMMAND", "SINCE", "ERROR")
    return render.table(header, (_cells(turn) for turn in turns))


def _cells(turn: Item) -> tuple[str, ...]:
    since = turn["finished_at"] or turn["started_at"]
    return (
        cluster(turn),
        turn["state"] or "waiting",
        turn["command_id"] or "",
        render.age_of(since) if since else "",
        turn["error"]["message"] if turn["error"] else "",
    )


def listing(found: Sequence[Item], *, wide: bool) -> str:
    """A line for each operation."""
    columns: dict[str, Callable[[Item], str]] = {
        "ID": lambda item: item["id"],
        "ACTION": lambda item: item["action"],
        "NAMESPACE": items.namespace,
        "OBJECT": items.label,
        "STATE": lambda item: item["state"],
        "SUCCEEDED": lambda item: f"{item['counts'].get('succeeded', 0)}/{_total(item)}",
        "AGE": lambda item: render.age_of(item["created_at"]),
    }
    if wide:
        columns |= {
            "AT-A-TIME": lambda item: str(item["strategy"]["max_unavailable"]),
            "MAX-FAILURES": lambda item: str(item["strategy"]["max_failures"]),
            "TIMEOUT": _timeout,
            "DRY-RUN": lambda item: render.text(item["dry_run"]),
            "ACTOR": lambda item: item["actor"],
        }
    columns["REASON"] = lambda item: item["reason"]
    return render.table(list(columns), ([cell(item) for cell in columns.values()] for item in found))


def told(operation: Item) -> Iterator[str]:
    """One operation in words, then its clusters."""
    strategy, counts = operation["strategy"], operation["counts"]
    at_once, failures = strategy["max_unavailable"], strategy["max_failures"]
    each = ", ".join(f"{number} {state}" for state, number in counts.items())
    fields: dict[str, Any] = {
        "ID": operation["id"],
        "Action": operation["action"],
        "Object": items.label(operation),
        "Namespace": items.namespace(operation),
        "Dry Run": True if operation["dry_run"] else None,
        "Actor": operation["actor"],
        "State": operation["state"],
        "Reason": operation["reason"],
        "Clusters": f"{_total(operation)}: {each}",
        "Strategy": f"{at_once} at a time, at most {failures} failed, {_timeout(operation)} each",
        "Created": operation["created_at"],
        "Updated": operation["updated_at"],
        "Finished": operation["finished_at"],
    }
    for name, value in fields.items():
        if value not in (None, ""):
            yield f"{name + ':':<16} {printable(render.text(value))}"
    yield ""
    yield table(operation["targets"])


def _total(operation: Item) -> int:
    return sum(operation["counts"].values())


def _timeout(operation: Item) -> str:
    return render.span(round(operation["strategy"]["timeout"]))
