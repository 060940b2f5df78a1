"""`atlhyper tokens`: who may ask the API."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from services.runtime.errors import UserError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

Result = TypeVar("Result")
_LONGEST = 100 * 366 * 86_400.0
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def tokens() -> None:
    """Tokens of the API, in the database of DATABASE_URL.

    Every request brings one (`Authorization: Bearer …`); only `/livez` and `/readyz` are answered without.
    What a token does is done in its name. `atlhyper up` makes one for you, in ATLHYPER_HOME.

    Example: `atlhyper tokens create --name alice --expires 30d`
    """


@tokens.command()
@click.option("--name", required=True, help="Whose it is: the actor of what is done with it.")
@click.option("--expires", help="Time until it ends, such as `12h` or `30d`; never if left out.")
@click.option(
    "--file",
    type=_FILE,
    help="Write it there, for you alone to read, and print nothing; a valid token that is there stays.",
)
def create(name: str, expires: str | None, file: Path | None) -> None:
    """Make a token and print it, this once: the database has only its hash.

    A token that is to replace another can have its name; revoke the old one by its id then.

    Examples:

    - `atlhyper tokens create --name ci --expires 90d`
    - `atlhyper tokens create --name me | atlhyper context set prod --token-file -`
    - `atlhyper tokens create --name prometheus --file /etc/prometheus/atlhyper.token`
    """
    from services.cli import token_files
    from services.persistence import tokens as stored

    lifetime = _lifetime(expires)
    if file is None:
        secret, token = _run(stored.create, name, lifetime)
        click.echo(secret)
    elif (made := _run(token_files.ensure, file, name, lifetime)) is not None:
        token = made
    else:
        click.echo(f"{file} holds a valid token already; nothing was made", err=True)
        return
    until = "until it is revoked" if token.expires_at is None else f"until {_time(token.expires_at)}"
    click.echo(f"token {name!r}: keep it secret; it is valid {until}", err=True)


@tokens.command("list")
def list_tokens() -> None:
    """Show the tokens: name, id, and when each was made, ends, and was used last (to the minute).

    Example: `atlhyper tokens list`
    """
    from services.cli import render
    from services.persistence import tokens as stored

    rows = [
        [token.name, token.id, *map(_time, (token.created_at, token.expires_at, token.last_used_at))]
        for token in _run(stored.list_tokens)
    ]
    if rows:
        click.echo(render.table(["NAME", "ID", "CREATED", "EXPIRES", "LAST-USED"], rows))
    else:
        click.echo("no tokens; `atlhyper tokens create --name NAME` makes one", err=True)


@tokens.command()
@click.argument("token", metavar="NAME|ID")
def revoke(token: str) -> None:
    """Revoke the token with that id, or all of that name.

    Within 5 seconds no request is answered with it, and those under way, such as `get -w`, are ended.

    Example: `atlhyper tokens revoke ci`
    """
    from services.persistence import tokens as stored

    removed = _run(stored.revoke, token)
    if not removed:
        raise UserError(f"no token has the name or id {token!r}", "`atlhyper tokens list` shows them", 3)
    for one in removed:
        click.echo(f"token {one.name} ({one.id}) revoked")


def _time(moment: "datetime | None") -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%dT%H:%MZ}"


def _lifetime(expires: str | None) -> "timedelta | None":
    from datetime import timedelta

    from services.runtime.settings import parse_duration

    if expires is None:
        return None
    try:
        seconds = parse_duration(expires)
        if seconds <= 0:
            raise ValueError("it has to be longer than nothing")
        if seconds > _LONGEST:
            raise ValueError("that is longer than 100 years; leave it out for a token that does not end")
        return timedelta(seconds=seconds)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--expires") from error


def _run(work: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any) -> Result:
    """What `work` returns of the database and these. Raises UserError."""
    from services.persistence.tokens import BadName

    try:
        return asyncio.run(_with_database(work, *arguments))
    except BadName as error:
        raise click.BadParameter(str(error), param_hint="--name") from error


async def _with_database(work: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any) -> Result:
    from services.persistence.database.engine import Database
    from services.persistence.database.migrate import check_revision
    from services.runtime import logs
    from services.runtime.settings import StoreSettings, load

    logs.configure("error")
    async with Database(load(StoreSettings).database_url, "tokens") as database:
        await check_revision(database)
        return await work(database, *arguments)
