"""The command `atlhyper`. Subcommands are imported when they run, so that help is quick.

Importing Litestar, kubernetes-asyncio, SQLModel and nats-py takes more than a second together.
"""

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, TextIO

import rich_click as click
from click.exceptions import Exit

from services.runtime.errors import UserError


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a command is defined, and its line in the list."""

    where: str
    help: str


SECTIONS: dict[str, dict[str, Subcommand]] = {
    "Start": {
        "up": Subcommand("services.cli.up:up", "Start everything on this machine and attach a cluster."),
    },
    "Look": {
        "get": Subcommand("services.cli.get:get", "Show what clusters hold: pods, nodes, events, …"),
        "describe": Subcommand(
            "services.cli.describe:describe", "Show one object, what it is connected with, its Events."
        ),
        "logs": Subcommand("services.cli.logs:logs", "Show what containers write, and follow it."),
        "events": Subcommand("services.cli.events:events", "Show Kubernetes Events of the fleet."),
        "agents": Subcommand("services.cli.agents:agents", "Show the agents and how they are."),
        "doctor": Subcommand("services.cli.doctor:doctor", "Check broker, database, API and cluster."),
    },
    "Act": {
        "scale": Subcommand("services.cli.acting.verbs:scale", "Set how many replicas there are."),
        "restart": Subcommand(
            "services.cli.acting.verbs:restart", "Replace a workload's pods one after the other."
        ),
        "set-image": Subcommand("services.cli.acting.verbs:set_image", "Set the images of containers."),
        "rollback": Subcommand(
            "services.cli.acting.verbs:rollback", "Give a workload an earlier revision's pod template."
        ),
        "apply": Subcommand("services.cli.acting.apply:apply", "Make or change objects as files say."),
        "delete": Subcommand("services.cli.acting.verbs:delete", "Delete objects; evict pods."),
        "cordon": Subcommand("services.cli.acting.verbs:cordon", "Keep further pods off nodes."),
        "uncordon": Subcommand("services.cli.acting.verbs:uncordon", "Let pods come to nodes again."),
        "drain": Subcommand("services.cli.acting.verbs:drain", "Cordon nodes and evict their pods."),
        "commands": Subcommand(
            "services.cli.acting.commands:commands", "Show what was asked for; wait for it, cancel it."
        ),
        "operations": Subcommand(
            "services.cli.acting.operations:operations",
            "Show what goes over many clusters; wait for it, pause, resume, cancel it.",
        ),
    },
    "Services": {
        "master": Subcommand(
            "services.cli.services:master", "Run the master: what agents send becomes rows."
        ),
        "api": Subcommand("services.cli.services:api", "Run the HTTP API."),
        "agent": Subcommand("services.cli.services:agent", "Run an agent."),
    },
    "Set up": {
        "tokens": Subcommand("services.cli.tokens:tokens", "Tokens of the API: make, list, revoke."),
        "context": Subcommand("services.cli.contexts:context", "Choose the control plane to speak with."),
        "completion": Subcommand("services.cli.completion:command", "Completion for bash, zsh and fish."),
        "bus": Subcommand("services.cli.bus:bus", "Streams and credentials of the broker."),
        "db": Subcommand("services.cli.services:db", "Tables of the database."),
    },
}
COMMANDS = {name: command for section in SECTIONS.values() for name, command in section.items()}


class LazyGroup(click.RichGroup):
    """Holds stand-ins with a name and one line; imports a command to run it or to show its own help."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None or stand_in is None:
            return name, stand_in, rest
        module, _, attribute = COMMANDS[name].where.partition(":")
        return name, getattr(importlib.import_module(module), attribute), rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(error.render(), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)  # as a shell reports SIGINT
        except (click.ClickException, Exit, click.Abort, OSError) as error:
            if isinstance(error, OSError) and not _is_unwritten(error):
                _tell_bug(ctx)
            raise
        except Exception:  # noqa: BLE001 whatever it is: logged whole, told in one line
            _tell_bug(ctx)


def _tell_bug(ctx: click.Context) -> None:
    from services.runtime import logs

    logs.get_logger(__name__).exception("the command failed in a way it should not")
    ctx.exit(1)


_HELP = """One control plane for a fleet, on one message bus.

Try it: `atlhyper up`, and in a second terminal `atlhyper get pods -A`.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 partial, 75 try again later, 78 wrong
settings, 124 timeout.
"""


@click.group(cls=LazyGroup, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="atlhyper", message="atlhyper %(version)s")
@click.rich_config(
    {
        "text_markup": "markdown",
        "width": 100 if not sys.stdout.isatty() else None,
        "max_width": 110,
    }
)
def cli() -> None:
    pass


for _title, _commands in SECTIONS.items():
    cli.add_panel(click.RichCommandPanel(_title, commands=list(_commands)))
    for _name, _command in _commands.items():
        cli.add_command(click.RichCommand(name=_name, help=_command.help))


def main() -> None:
    """Runs the command line, and tells what standard output does not take."""
    try:
        try:
            cli(prog_name="atlhyper")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not _is_unwritten(error):
            raise
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough: `| head`
            _tell_unwritten(error)
        _give_up(sys.stdout)
        sys.exit(1)


_UNWRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE})


def _is_unwritten(error: OSError) -> bool:
    """Whether what a command prints was not taken. Where it is a file that it opened, that one has a name."""
    return error.errno in _UNWRITTEN and error.filename is None


def _tell_unwritten(error: OSError) -> None:
    told = UserError(f"cannot write: {error.strerror}", "free some space, or have it written elsewhere")
    try:
        click.echo(told.render(), err=True)
    except OSError:  # nor does standard error take it
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """What it holds goes nowhere, or Python would try once more at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
