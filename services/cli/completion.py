"""Completion for bash, zsh and fish: of commands and options, and of what is there."""

from collections.abc import Iterator
from typing import Any

import rich_click as click

_PATIENCE = 1.0
"""Seconds that a press of the Tab key may take."""
_MOST = 200


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, resources, clusters and names.

    Examples: `source <(atlhyper completion bash)`, `atlhyper completion zsh > "${fpath[1]}/_atlhyper"`,
    `atlhyper completion fish > ~/.config/fish/completions/atlhyper.fish`
    """
    from click.shell_completion import get_completion_class

    from services.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.BadParameter(f"no completion for {shell}", param_hint="SHELL")
    script = made(cli, {}, "atlhyper", "_ATLHYPER_COMPLETE")
    click.echo(made.source_template % script.source_vars())


def contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Names of contexts."""
    from services.cli.config import config_file, read_config

    return [name for name in read_config(config_file()).contexts if name.startswith(incomplete)]


def resources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """kubectl's plurals; of several the last one."""
    from schemas.kubernetes import KINDS
    from services.cli.resources import FLEET

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*KINDS, *FLEET[::2]) if name.startswith(last)]


def clusters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Ids; of several the last one."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{row['id']}" for row in _rows(ctx, "/clusters") if row["id"].startswith(last)]


def namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Of the clusters that were chosen."""
    return sorted(
        {row["name"] for row in _rows(ctx, "/resources/namespaces") if row["name"].startswith(incomplete)}
    )


def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Of the objects of the resource that was typed before."""
    from services.cli.resources import FLEET

    word = ctx.params.get("resource") or ""
    if not word or "," in word or "/" in word:
        return []
    return clusters(ctx, param, incomplete) if word in FLEET else _names(ctx, word, incomplete)


def _names(ctx: click.Context, word: str, incomplete: str) -> list[str]:
    from services.cli.resources import Query

    found = Query.of(word)
    everywhere = ctx.params.get("all_namespaces") or not found.namespaced
    where = None if everywhere else ctx.params.get("namespace") or "default"
    rows = _rows(ctx, f"/resources/{found.resource}", namespace=where, q=incomplete or None)
    return sorted({row["name"] for row in rows if row["name"].startswith(incomplete)})


def objects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """`kind/name`: the kind, then the name; behind a kind alone, names."""
    from schemas.kubernetes import KINDS

    words = ctx.params.get("words") or ()
    if words and "/" not in words[0]:
        return _names(ctx, words[0], incomplete)
    kind, slash, name = incomplete.partition("/")
    if slash:
        return [f"{kind}/{found}" for found in _names(ctx, kind, name)]
    kinds = [each.kind.lower() for each in KINDS.values()]
    return [f"{each}/" for each in kinds if each.startswith(incomplete)]


def pods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Pods, or `kind/name`."""
    return objects(ctx, param, incomplete) if "/" in incomplete else _names(ctx, "pods", incomplete)


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Of the clusters that were chosen."""
    return _names(ctx, "nodes", incomplete)


def commands(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Ids, the newest first."""
    return [row["id"] for row in _rows(ctx, "/commands") if row["id"].startswith(incomplete)]


def operations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Ids, the newest first."""
    return [row["id"] for row in _rows(ctx, "/operations") if row["id"].startswith(incomplete)]


def _rows(ctx: click.Context, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Up to `_MOST` rows; none when the API can't be asked: whoever types is not to be bothered."""
    from services.cli.client import Client
    from services.cli.context import resolve
    from services.runtime.errors import UserError

    chosen = ",".join(ctx.params.get("clusters") or ()) or None
    if path != "/clusters":
        parameters["cluster"] = chosen
    try:
        with Client(resolve(ctx.params.get("context")), timeout=_PATIENCE) as client:
            yield from client.get(path, limit=_MOST, **parameters)["items"]
    except UserError:
        return
