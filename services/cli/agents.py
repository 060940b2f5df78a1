"""`atlhyper agents`: who is there, how they are, and what they cannot collect."""

from collections.abc import Iterator, Sequence
from typing import Any

import rich_click as click

from services.cli import completion, options, render
from services.cli.client import Client, quote
from services.cli.context import resolve
from services.cli.notes import note
from services.cli.render import Output
from services.runtime.errors import UserError

_WELL = frozenset({"synced", "listing", "off"})
"""States of a collection that are not a problem."""


@click.command()
@click.argument("id", required=False, shell_complete=completion.clusters)
@options.output
@options.context
def agents(id: str | None, output: str, context: str | None) -> None:
    """Show the agents: state, version, how fresh their rows are, and which kinds have problems.

    Of a single one `-o wide` also shows what it can be asked to do, with which parameters, and `-o yaml` the
    JSON Schemas of these.

    Examples: `atlhyper agents -o wide`, `atlhyper agents eu -o yaml`
    """
    show_agents(Output(output), kubernetes_only=False, only=[id] if id else [], context=context)


def show_agents(
    output: Output, *, kubernetes_only: bool, only: Sequence[str], context: str | None = None
) -> None:
    """Print all agents, or those with these ids."""
    with Client(resolve(context)) as client:
        pages = list(client.pages("/clusters" if kubernetes_only else "/agents"))
    items: list[dict[str, Any]] = [item for page in pages for item in page["items"]]
    if why := pages[-1]["clock"]["stands"]:
        note(f"{why}; states are as of {pages[-1]['clock']['as_of'] or 'never'}")
    noun = "clusters" if kubernetes_only else "agents"
    found = [item for item in items if not only or item["id"] in only]
    if missing := [wanted for wanted in only if all(item["id"] != wanted for item in found)]:
        known = ", ".join(sorted(item["id"] for item in items)) or "none yet"
        raise UserError(f"no such {noun[:-1]}: {', '.join(missing)}", f"known {noun}: {known}", 3)
    if len(only) == 1 and output in (Output.WIDE, Output.JSON, Output.YAML):
        with Client(resolve(context)) as client:
            found = [client.get(f"/agents/{item['kind']}/{quote(item['id'])}") for item in found]
    match output:
        case Output.JSON | Output.YAML:
            value: Any = found[0] if len(only) == 1 else {"items": found}
            click.echo(render.document(value, output))
        case _ if not found:
            click.echo(f"No {noun} found.", err=True)
            note("one appears with its first heartbeat; `atlhyper up` starts one")
        case Output.NAME:
            click.echo("\n".join(f"{item['kind']}/{item['id']}" for item in found))
        case _:
            click.echo(_table(found, kinds=not kubernetes_only, wide=output is Output.WIDE))
            for item in found:
                if actions := item.get("actions"):
                    click.echo(f"\n{_actions(actions)}")


def _table(items: list[dict[str, Any]], *, kinds: bool, wide: bool) -> str:
    header = [*(["KIND"] if kinds else []), "ID", "STATE", "VERSION", "AS-OF", "AGENT", "PLATFORM"]
    header += ["READ-ONLY", "INSTANCE", "EPOCH", "LABELS"] if wide else []
    rows = []
    for item in items:
        row = [*([item["kind"]] if kinds else []), item["id"], item["state"], str(item["version"])]
        row += [f"{render.age_of(item['as_of'])} ago" if item["as_of"] else "never"]
        row += [item["agent_version"], item["platform"]]
        if wide:
            row += [
                render.text(item["read_only"]),
                item["instance"],
                item["epoch"],
                render.text(item["labels"]),
            ]
        rows.append([*row, "; ".join(_problems(item, wide))])
    return render.table([*header, "PROBLEMS"], rows)


def _actions(actions: dict[str, dict[str, Any]]) -> str:
    properties = {name: schema.get("properties") for name, schema in sorted(actions.items())}
    rows = [[name, ", ".join(known if isinstance(known, dict) else [])] for name, known in properties.items()]
    return render.table(["ACTION", "PARAMETERS"], rows)


def _problems(item: dict[str, Any], wide: bool) -> Iterator[str]:
    for entry in item["collection"]:
        if entry["state"] not in _WELL:
            reason = f" ({entry['reason']})" if wide and entry["reason"] else ""
            yield f"{entry['resource']} {entry['state']}{reason}"
    error = item["health"]["last_error"]
    told = tuple(f"{entry['resource']}: " for entry in item["collection"])
    if error and not item["health"]["healthy"] and not error.startswith(told):  # else it is said above
        yield error
    if rival := item["rival"]:
        yield f"another agent (version {rival['version']}) uses this id: {rival['reason']}"
    if item["resync_reason"]:
        yield f"resync asked for: {item['resync_reason']}"
