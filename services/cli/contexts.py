"""`atlhyper context`: the control planes that this person speaks with."""

from dataclasses import replace
from typing import IO

import rich_click as click

from services.cli import completion, render
from services.cli.config import Config, Context, config_file, read_config, write_config
from services.cli.context import checked_token, resolve, usable
from services.cli.notes import note
from services.runtime.errors import UserError


@click.group("context", context_settings={"help_option_names": ["-h", "--help"]})
def context() -> None:
    """Choose the control plane to speak with.

    A context is a name for an address and a token, kept in the config file that only you can read.
    ATLHYPER_URL and ATLHYPER_TOKEN are used before the current one, `--context` before these.

    Example: `atlhyper context set staging --url https://atlhyper.staging.example.com && atlhyper context use
    staging`
    """


@context.command("list")
def list_contexts() -> None:
    """Show the contexts; a star marks the current one. One that cannot be used is shown with the reason.

    Example: `atlhyper context list`
    """
    config = read_config(config_file())
    problems = [_problem(entry) for _, entry in sorted(config.contexts.items())]
    shown = slice(None if any(problems) else -1)
    rows = [
        ["*" if name == config.current else " ", name, entry.url, "yes" if entry.token else "no", problem]
        for (name, entry), problem in zip(sorted(config.contexts.items()), problems, strict=True)
    ]
    if rows:
        header = ["CURRENT", "NAME", "URL", "TOKEN", "PROBLEM"]
        click.echo(render.table(header[shown], (row[shown] for row in rows)))
    try:
        usable(used := resolve())
    except UserError as error:
        note(f"without --context nothing can be asked: {error.message}; {error.next_step}")
    else:
        note(f"without --context it is {used.url}, from {used.origin}")


def _problem(entry: Context) -> str:
    try:
        usable(entry)
    except UserError as error:
        return error.message
    return ""


@context.command()
@click.argument("name", shell_complete=completion.contexts)
def use(name: str) -> None:
    """Make NAME the current context.

    Example: `atlhyper context use staging`
    """
    config = _having(name)
    write_config(config_file(), replace(config, current=name))
    click.echo(f"context {name!r}: {config.contexts[name].url}", err=True)


@context.command("set")
@click.argument("name", shell_complete=completion.contexts)
@click.option("--url", help="Address of the API, such as `https://atlhyper.example.com`.")
@click.option("--token-file", type=click.File(), help="File that holds the token; `-` reads standard input.")
def set_context(name: str, url: str | None, token_file: IO[str] | None) -> None:
    """Add a context, or change one; also one that cannot be used as it is.

    The token is never an argument: other users of the machine see those.

    Example: `atlhyper context set staging --url https://atlhyper.staging.example.com --token-file token.txt`
    """
    config = read_config(config_file())
    known = config.contexts.get(name, Context(""))
    token = checked_token(token_file.read(), token_file.name) if token_file else known.token
    if isinstance(known.written, dict) and known.written.get("token") and not token:
        raise UserError(
            f"context {name!r} has a token that is no text", "give another one by --token-file", 2
        )
    made = Context(url or known.url, token or None)
    if not made.url.startswith(("http://", "https://")) or not made.is_address:
        raise UserError(f"context {name!r} needs an address", "give --url http://… or https://…", 2)
    current = config.current or ("" if config.default.url else name)
    write_config(config_file(), replace(config, contexts=config.contexts | {name: made}, current=current))


@context.command()
@click.argument("name", shell_complete=completion.contexts)
def delete(name: str) -> None:
    """Forget a context and its token.

    Example: `atlhyper context delete staging`
    """
    config = _having(name)
    rest = {other: entry for other, entry in config.contexts.items() if other != name}
    current = "" if config.current == name else config.current
    write_config(config_file(), replace(config, contexts=rest, current=current))


def _having(name: str) -> Config:
    config = read_config(config_file())
    if name not in config.contexts:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise UserError(f"no context {name!r}", f"known contexts: {known}; `atlhyper context set`", 3)
    return config
