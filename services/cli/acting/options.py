"""Options of the commands that change something, and kubectl's ways to write them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import rich_click as click

from services.cli import completion, options, render
from services.cli.acting.rollout import Portion, Rollout
from services.cli.options import Selection
from services.cli.render import Output
from services.runtime.errors import UserError

Command = TypeVar("Command", bound=Callable[..., Any])

PATIENCE = 120.0
"""Seconds that a command is waited for."""
LONG_PATIENCE = 600.0
"""The same for one that may take minutes."""
output = click.option(
    *("-o", "--output"),
    type=click.Choice(render.OUTPUTS),
    default="table",
    show_default=True,
    help="Form; `name` prints the ids of the commands.",
)


class Acting(click.RichCommand):
    """Takes flags as kubectl's users write them: `--wait=false`, `--force=true`, `--dry-run=server`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [word for arg in args[:end] for word in self._plain(arg)] + args[end:])

    def _plain(self, arg: str) -> list[str]:
        name, equals, value = arg.partition("=")
        flags = {
            opt: option
            for option in self.params
            if isinstance(option, click.Option) and option.is_flag
            for opt in option.opts
        }
        flag = flags.get(name)
        if not equals or flag is None:
            return [arg]
        if name == "--dry-run" and value in ("server", "none"):
            value = "true" if value == "server" else "false"
        if value == "true":
            return [name]
        if value == "false":
            return flag.secondary_opts[:1]
        return [arg]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """How a command is carried out, and what is shown of it."""

    wait: bool = True
    timeout: float | None = None
    """Seconds; None: as long as the action usually may take."""
    start_within: float | None = None
    dry_run: bool = False
    agreed: bool = False
    """Nobody has to be asked (`-y`)."""
    output: Output = Output.TABLE
    rollout: Rollout | None = None
    """One operation for all clusters, a few at a time; None: a command for each object."""

    @classmethod
    def of(
        cls,
        wait: bool,
        timeout: str | None,
        start_within: str | None,
        dry_run: bool,
        yes: bool,
        output: str,
        max_unavailable: Portion | None = None,
        max_failures: Portion | None = None,
        cluster_selector: str | None = None,
    ) -> "Handling":
        """From what was typed. Raises UserError."""
        return cls(
            wait=wait,
            timeout=seconds("--timeout", timeout),
            start_within=seconds("--start-within", start_within),
            dry_run=dry_run,
            agreed=yes,
            output=Output(output),
            rollout=Rollout.of(max_unavailable, max_failures, cluster_selector),
        )


def handling(command: Command) -> Command:
    """`--wait --timeout --start-within --dry-run -y -o`, given to the command as `handling`."""
    return options.given(
        options.gathered(command, "handling", Handling.of),
        click.option(
            "--wait/--no-wait", default=True, help="Wait for its end; else print its id.  [default: wait]"
        ),
        click.option(
            "--timeout",
            metavar="DURATION",
            help="How long it may take, and is waited for.  [default: 2m; drain: 10m]",
        ),
        click.option(
            "--start-within",
            metavar="DURATION",
            help="How long it may wait for an agent that is away; then it expires.  [default: 5m]",
        ),
        click.option("--dry-run", is_flag=True, help="Have the API server try it, without an effect."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask whether it is meant."),
        output,
    )


def seconds(option: str, text: str | None) -> float | None:
    """Of `30s`, `5m`, `1h30m` is none. Raises UserError."""
    if text is None:
        return None
    from services.runtime.settings import parse_duration  # 0.2 s that `--help` does not pay

    try:
        found = parse_duration(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}", f"write it as in {option} 90s", 2) from None
    if found <= 0:
        raise UserError(f"{option}: {text!r} leaves no time", f"write it as in {option} 90s", 2)
    return found


cluster = click.option(
    "--cluster",
    "clusters",
    multiple=True,
    shell_complete=completion.clusters,
    help="Clusters, separated by commas.  [default: the only one there is]",
)
namespace = click.option(
    "-n",
    "--namespace",
    shell_complete=completion.namespaces,
    help="Namespace of the objects.  [default: default]",
)
_ALL = click.option("--all", "everything", is_flag=True, help="All objects of the kind that is named.")


def objects(command: Command) -> Command:
    """`KIND/NAME… --cluster -n -A -l --field-selector --all`: as `words`, `where`, `everything`."""
    return options.given(
        options.gathered(command, "where", Selection.of),
        click.argument(
            "words", nargs=-1, required=True, metavar="KIND/NAME...", shell_complete=completion.objects
        ),
        cluster,
        namespace,
        click.option("-A", "--all-namespaces", is_flag=True, help="With -l or --all: in all namespaces."),
        options.selector,
        options.field_selector,
        _ALL,
    )


def nodes(command: Command) -> Command:
    """`NODE… --cluster -l`: as `words` and `where`."""
    return options.given(
        options.gathered(command, "where", Selection.of),
        click.argument("words", nargs=-1, metavar="NODE...", shell_complete=completion.nodes),
        cluster,
        options.selector,
    )
