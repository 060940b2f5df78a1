"""`atlhyper operations`: what goes over many clusters: looking at it, waiting for it, deciding of it."""

import math

import rich_click as click

from services.cli import completion, options, render
from services.cli.acting import outcome, turns, waiting
from services.cli.acting.items import Item
from services.cli.acting.options import seconds
from services.cli.client import Client, quote
from services.cli.context import resolve
from services.cli.notes import note
from services.cli.render import Output

_id = click.argument("id", metavar="ID", shell_complete=completion.operations)
_reason = click.option("--reason", default="", help="Why; it is kept with the operation.")
_output = click.option(
    *("-o", "--output"),
    type=click.Choice(render.OUTPUTS),
    default="table",
    show_default=True,
    help="Form; `name` prints the ids of the operations.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state", help="Only those in these states, such as `running,paused`.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Most of them; 0 for all."
)
@_output
@options.context
def operations(state: str | None, limit: int, output: str, context: str | None) -> None:
    """Show what goes over many clusters, a few at a time; the newest first.

    Examples: `atlhyper operations --state running,paused`, `atlhyper operations show ID`
    """
    called = click.get_current_context()
    if called is not None and called.invoked_subcommand:
        return
    with Client(resolve(context)) as client:
        found = [item for page in client.pages("/operations", limit, state=state) for item in page["items"]]
    match Output(output):
        case Output.JSON | Output.YAML as form:
            click.echo(render.document({"items": found}, form))
        case _ if not found:
            click.echo("No operations found.", err=True)
        case Output.NAME:
            click.echo("\n".join(item["id"] for item in found))
        case form:
            click.echo(turns.listing(found, wide=form is Output.WIDE))


@operations.command()
@_id
@_output
@options.context
def show(id: str, output: str, context: str | None) -> None:
    """Show an operation: where it stands, and what has become of each cluster, in its own words.

    Example: `atlhyper operations show 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90`
    """
    with Client(resolve(context)) as client:
        _show(_one(client, id), Output(output))


@operations.command()
@_id
@click.option("--timeout", metavar="DURATION", help="How long to wait.  [default: until it has ended]")
@_output
@options.context
def wait(id: str, timeout: str | None, output: str, context: str | None) -> None:
    """Wait for the end of an operation, and tell each cluster's on the way.

    The exit code is 0 when all have succeeded, 5 when some have, 1 when none has or it is paused, 124 when
    the time is up.

    Example: `atlhyper operations wait 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90 --timeout 30m`
    """
    patience = seconds("--timeout", timeout)
    with Client(resolve(context)) as client:
        found = _one(client, id)
        code = waiting.finish(client, found, patience or math.inf, Output(output), joined=True)
    raise SystemExit(code)


@operations.command()
@_id
@_reason
@_output
@options.context
def pause(id: str, reason: str, output: str, context: str | None) -> None:
    """Begin nothing further; what is under way goes on to its end.

    Example: `atlhyper operations pause 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90 --reason "a look at the first"`
    """
    found = _decide(id, "pause", {"reason": reason}, output, context)
    note(f"`atlhyper operations resume {found['id']}` goes on")


@operations.command()
@_id
@_output
@options.context
def resume(id: str, output: str, context: str | None) -> None:
    """Go on with one that is paused; what has failed so far no longer counts.

    Example: `atlhyper operations resume 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90`
    """
    found = _decide(id, "resume", {}, output, context)
    note(f"`atlhyper operations wait {found['id']}` waits for its end")


@operations.command()
@_id
@_reason
@_output
@options.context
def cancel(id: str, reason: str, output: str, context: str | None) -> None:
    """End an operation: nothing further begins, and what is under way is asked to end.

    Example: `atlhyper operations cancel 01a1fd3b-6a4e-7c51-9d2e-3f0c6a7b8d90 --reason "the wrong version"`
    """
    found = _decide(id, "cancel", {"reason": reason}, output, context)
    if turns.under_way(found):
        note(f"`atlhyper operations wait {found['id']}` waits for what is under way")


def _one(client: Client, id_: str) -> Item:
    with outcome.looking_up("operations"):
        return client.get(f"/operations/{quote(id_)}")


def _decide(id_: str, decision: str, body: dict[str, str], output: str, context: str | None) -> Item:
    with Client(resolve(context)) as client, outcome.looking_up("operations"):
        found = client.post(f"/operations/{quote(id_)}/{decision}", body)
    _show(found, Output(output))
    return found


def _show(found: Item, output: Output) -> None:
    if output in (Output.TABLE, Output.WIDE):
        click.echo("\n".join(turns.told(found)))
    else:
        turns.show(found, output)
