"""`atlhyper bus`: the broker's streams and credentials."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from services.runtime.bus.topology import Change, StreamState


@click.group()
def bus() -> None:
    """Streams and credentials of the broker: that of NATS_URL, else that of the running `atlhyper up`."""
    from services.runtime import logs

    logs.configure("error")  # asyncio warns at the end of each TLS connection that was made from a plain one


@bus.command()
@click.option("--dry-run", is_flag=True, help="Show what differs and change nothing.")
@click.option(
    "--replicas", type=click.IntRange(1, 5), help="Copies of each stream on a cluster; left as it is."
)
def apply(dry_run: bool, replicas: int | None) -> None:
    """Create the streams, and bring those that were changed by hand back. Never deletes anything.

    With --dry-run the exit code is 1 when something differs, as with `kubectl diff`.

    Example: `NATS_URL=tls://broker:4222 NATS_CREDENTIALS=operator.nk atlhyper bus apply --dry-run`
    """
    changes = asyncio.run(_apply(dry_run, replicas))
    for change in changes:
        click.echo("\n".join(change.lines()))
    if not changes:
        click.echo("streams are as they should be", err=True)
    elif dry_run:
        click.echo("nothing was changed; leave --dry-run out to apply this", err=True)
        raise SystemExit(1)


@bus.command()
def show() -> None:
    """Show the streams and what they hold.

    Example: `atlhyper bus show`
    """
    states = asyncio.run(_show())
    rows = [("STREAM", "MESSAGES", "BYTES", "OF", "FIRST", "LAST", "CONSUMERS"), *map(_row, states)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        click.echo("   ".join(cells))
    if any(not state.known for state in states):
        click.echo("* not a stream of this version; left alone", err=True)


@bus.command()
@click.argument("kind", type=click.Choice(["kubernetes", "host", "terraform"]), required=False)
@click.argument("agent_id", metavar="[ID]", required=False)
@click.option("--rotate", is_flag=True, help="Replace the key; whoever uses the old one is cut off.")
def credentials(kind: str | None, agent_id: str | None, rotate: bool) -> None:
    """Issue the credential of an agent; without KIND and ID those of the services and of the reader.

    Prints each file with a seed. The accounts for the broker are written beside them, and the embedded broker
    reads them at once.

    Examples: `atlhyper bus credentials kubernetes prod-1`, `atlhyper bus credentials`
    """
    from schemas import topology
    from schemas.errors import ContractError
    from schemas.ids import Target
    from services.runtime.bus import broker
    from services.runtime.bus import credentials as issued
    from services.runtime.settings import Settings, load

    if kind is None:
        names = [user.name for user in topology.CORE_USERS]
    elif agent_id is None:
        raise click.UsageError("Missing argument 'ID': the agent's id.")
    else:
        try:
            names = [Target.parse(kind, agent_id).durable]
        except ContractError as error:
            raise click.BadParameter(str(error), param_hint="ID") from error
    home = load(Settings).home
    paths = [issued.issue(home, name, rotate=rotate) for name in names]
    reloaded = broker.reload(home)
    for name, path in zip(names, paths, strict=True):
        click.echo(path)
        click.echo(f"public key: {issued.users(home)[name]}", err=True)
    if reloaded:
        click.echo("the running broker knows it now", err=True)
    else:
        click.echo("the embedded broker does not run; it knows this user when it starts", err=True)


async def _apply(dry_run: bool, replicas: int | None) -> "list[Change]":
    from services.cli.context import bus_settings
    from services.runtime.bus import client, topology

    async with client.connect(bus_settings(), "operator", name="atlhyper bus apply") as connection:
        with _explained():
            return await (topology.diff if dry_run else topology.apply)(connection, replicas=replicas)


async def _show() -> "list[StreamState]":
    from services.cli.context import bus_settings
    from services.runtime.bus import client, topology

    async with client.connect(bus_settings(), "reader", name="atlhyper bus show") as connection:
        with _explained():
            return await topology.show(connection)


@contextmanager
def _explained() -> Iterator[None]:
    """What the broker refuses, as an error for people."""
    from services.runtime.bus.client import BusError, PermissionDenied
    from services.runtime.errors import UserError

    try:
        yield
    except PermissionDenied as error:
        raise UserError(str(error), "use the credential of `operator` or `reader`", 4) from error
    except BusError as error:
        raise UserError(str(error), "look at the broker's log") from error


def _row(state: "StreamState") -> tuple[str, ...]:
    return (
        state.name + ("" if state.known else " *"),
        f"{state.messages:,}",
        f"{state.bytes:,}",
        f"{state.max_bytes:,}" if state.max_bytes >= 0 else "-",
        str(state.first_sequence),
        str(state.last_sequence),
        str(state.consumers),
    )
