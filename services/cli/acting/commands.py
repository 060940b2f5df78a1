"""`atlhyper commands`: what was asked for, where it stands, waiting for it and ending it."""

import math
import time
from collections.abc import Iterator
from typing import Any

import rich_click as click

from services.cli import completion, options, render
from services.cli.acting import items, outcome
from services.cli.acting.items import Item
from services.cli.acting.options import Handling, output, seconds
from services.cli.acting.running import Runner, Task
from services.cli.client import Client, quote
from services.cli.context import resolve
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.render import Output
from services.runtime.errors import UserError
from services.runtime.terminal import printable

_POLL = 1.0
"""Seconds between two looks at the list that is followed."""

_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=completion.commands)
_wait = click.option("--timeout", metavar="DURATION", help="How long to wait.  [default: until it has ended]")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    shell_complete=completion.clusters,
    help="Clusters, separated by commas.  [default: all]",
)
@click.option("--state", help="Only those in these states, such as `open` or `failed,unknown`.")
@click.option("--action", help="Only this action, such as `scale`.")
@click.option("--actor", help="Only those that this user asked for.")
@click.option("--operation", metavar="ID", help="Only the parts of this operation.")
@click.option("-w", "--watch", is_flag=True, help="Then follow what changes.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Most of them; 0 for all."
)
@output
@options.context
def commands(
    clusters: tuple[str, ...],
    watch: bool,
    limit: int,
    output: str,
    context: str | None,
    **filters: str | None,
) -> None:
    """Show what clusters were asked to do, the newest first.

    Examples: `atlhyper commands --state failed,unknown`, `atlhyper commands --cluster eu -w`,
    `atlhyper commands cancel ID`
    """
    called = click.get_current_context()
    if called is not None and called.invoked_subcommand:
        return
    filters["cluster"] = Selection.of(clusters).named
    with Client(resolve(context)) as client:
        found = _list(client, filters, limit)
        if found or Output(output) in (Output.JSON, Output.YAML):
            outcome.show(found, Output(output), listed=True)
            _tell_shortened(found, Output(output))
        else:
            click.echo("No commands found.", err=True)
        if watch:
            _follow(client, filters, limit, found, Output(output))


def _list(client: Client, filters: dict[str, str | None], limit: int) -> list[Item]:
    return [item for page in client.pages("/commands", limit, **filters) for item in page["items"]]


def _tell_shortened(found: list[Item], form: Output) -> None:
    shortened = next((item for item in found if items.label(item) == items.UNKNOWN), None)
    if shortened is not None and form in (Output.TABLE, Output.WIDE):
        note(
            f"what `{items.UNKNOWN}` stands for is in parameters that are too large for a list: "
            f"`atlhyper commands show {shortened['id']}` has them"
        )


def _follow(
    client: Client, filters: dict[str, str | None], limit: int, shown: list[Item], form: Output
) -> None:
    """A line for each command that is new or has changed, until interrupted."""
    seen = {item["id"]: _mark(item) for item in shown}
    while True:
        time.sleep(_POLL)
        try:
            found = _list(client, filters, limit)
        except UserError as error:
            if error.exit_code not in (1, 124):
                raise
            note(f"{error.message}; trying again")
            continue
        changed = [item for item in found if seen.get(item["id"]) != _mark(item)]
        seen |= {item["id"]: _mark(item) for item in found}
        if changed:
            outcome.show(changed[::-1], form, listed=True, header=False)


def _mark(item: Item) -> tuple[Any, ...]:
    return item["state"], item["progress"], item["cancel_requested_at"]


@commands.command()
@_ids
@output
@options.context
def show(ids: tuple[str, ...], output: str, context: str | None) -> None:
    """Show commands with all that is known of them: times, progress, error, result.

    Example: `atlhyper commands show 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90`
    """
    with Client(resolve(context)) as client:
        found = [_one(client, each) for each in ids]
    if Output(output) is Output.TABLE:
        click.echo("\n\n".join("\n".join(_told(item)) for item in found))
    else:
        outcome.show(found, Output(output), one=len(ids) == 1, listed=True)


@commands.command()
@_ids
@_wait
@output
@options.context
def wait(ids: tuple[str, ...], timeout: str | None, output: str, context: str | None) -> None:
    """Wait for the end of commands. The exit code is 0 when all have succeeded.

    Example: `atlhyper commands wait "$(atlhyper restart deploy/web --no-wait -o name)"`
    """
    patience = seconds("--timeout", timeout)
    with Client(resolve(context)) as client:
        runner = _runner(client, ids, patience)
        runner.run()
        raise SystemExit(outcome.finish(runner, Output(output)))


@commands.command()
@_ids
@click.option("--reason", default="", help="Why; it is kept with the command.")
@click.option("--wait/--no-wait", "waiting", default=True, help="Wait for its end.  [default: wait]")
@_wait
@output
@options.context
def cancel(
    ids: tuple[str, ...], reason: str, waiting: bool, timeout: str | None, output: str, context: str | None
) -> None:
    """End commands before their time. What one has done by then stays done, and is in its result.

    Example: `atlhyper commands cancel 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90 --reason "wrong node"`
    """
    patience = seconds("--timeout", timeout)
    codes: set[int] = set()
    with Client(resolve(context)) as client:
        for each in ids:
            try:
                with outcome.looking_up("commands"):
                    client.post(f"/commands/{quote(each)}/cancel", {"reason": reason})
            except UserError as error:
                click.echo(error.render(), err=True)
                codes.add(error.exit_code)
                ids = tuple(other for other in ids if other != each)
        runner = _runner(client, ids, patience)
        if waiting:
            runner.run()
    found = [task.item for task in runner.tasks if task.item]
    outcome.show(found, Output(output), one=len(ids) == 1, listed=True)
    for item in found:
        missed = item["state"] in items.TERMINAL and item["state"] != "canceled"
        if missed:
            note(f"{item['id']} ended before it could be canceled: {item['state']}")
        codes.add(1 if missed else 0)
    if waiting and runner.tell_late():
        codes.add(124)
    raise SystemExit(outcome.exit_code(codes))


def _runner(client: Client, ids: tuple[str, ...], patience: float | None) -> Runner:
    tasks = [Task(None, _one(client, each)) for each in dict.fromkeys(ids)]
    return Runner(client, [[task] for task in tasks], Handling(timeout=patience or math.inf))


def _one(client: Client, id_: str) -> Item:
    with outcome.looking_up("commands"):
        return client.get(f"/commands/{quote(id_)}")


def _told(item: Item) -> Iterator[str]:
    """One command in words."""
    error = item["error"]
    fields: dict[str, Any] = {
        "ID": item["id"],
        "Agent": f"{item['target']['kind']}/{item['target']['id']}",
        "Action": item["action"],
        "Object": items.label(item),
        "Namespace": items.namespace(item),
        "UID": item["object"]["uid"],
        "Dry Run": True if item["dry_run"] else None,
        "Actor": item["actor"],
        "Operation": item["operation_id"],
        "State": item["state"],
        "Note": item["note"],
        "Progress": items.progress(item),
        "Error": f"{error['code']}: {error['message']}" if error else None,
        "Cancel Asked": item["cancel_requested_at"],
        "Cancel Reason": item["cancel_reason"],
        "Attempts": item["attempts"],
    }
    fields |= {name: item[key] for name, key in _TIMES.items()}
    for name, value in fields.items():
        if value not in (None, ""):
            yield f"{name + ':':<16} {printable(render.text(value))}"
    for warning in item["warnings"] or ():
        yield f"{'Warning:':<16} {printable(warning)}"
    for name in ("params", "data", "evidence"):
        if item[name] not in (None, {}, []):
            yield f"{name.capitalize()}:"
            yield from (
                f"  {printable(line)}" for line in render.document(item[name], Output.YAML).splitlines()
            )


_TIMES = {
    "Created": "created_at",
    "Start By": "start_by",
    "Finish By": "finish_by",
    "Sent": "sent_at",
    "Received": "received_at",
    "Started": "started_at",
    "Executed": "executed_at",
    "Finished": "finished_at",
}
