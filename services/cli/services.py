"""The commands that run one service, and the one that makes its tables."""

import asyncio
import importlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import rich_click as click

from services.runtime.errors import EXIT_TEMPORARY, UserError

SUPERVISED = "ATLHYPER_SUPERVISED"
"""Set by `atlhyper up`: standard input is a pipe that ends with it, and so do we."""
EXIT_DENIED = 4
"""A credential or a right is missing: starting again does not help either."""


class ServiceCommand(click.RichCommand):
    """A command whose help ends with the variables it reads, taken from its settings model."""

    settings: str = ""
    """Where the model is: `module:Class`."""

    def format_epilog(self, ctx: click.RichContext, formatter: click.RichHelpFormatter) -> None:  # type: ignore[override]
        from rich.markup import escape
        from rich.table import Table

        from services.runtime.settings import describe

        table = Table(box=None, padding=(0, 2, 0, 1), title="Variables", title_justify="left", expand=False)
        for column in ("Name", "Default", "Meaning"):
            table.add_column(column, overflow="fold", no_wrap=column == "Name")
        for variable in describe(_load(self.settings)):
            table.add_row(*map(escape, (" or ".join(variable.names), variable.default, variable.description)))
        formatter.write(table)
        super().format_epilog(ctx, formatter)


def service_command(settings: str) -> type[ServiceCommand]:
    """The command class of a service, with its settings model `module:Class`."""
    return type("ServiceCommand", (ServiceCommand,), {"settings": settings})


MASTER = "services.master.settings:MasterSettings"
API = "services.api.settings:ApiSettings"
AGENT = "services.agent.settings:AgentSettings"
STORE = "services.runtime.settings:StoreSettings"


@click.command(cls=service_command(MASTER))
def master() -> None:
    """Run the master: it turns what agents send into rows of the database.

    On PostgreSQL any number run beside each other and share the work; on SQLite a second one stands by until
    the process of the first has ended.

    Example: `NATS_URL=nats://broker:4222 DATABASE_URL=sqlite+aiosqlite:////srv/atlhyper.db atlhyper master`
    """
    _serve(MASTER, "services.master.app:run")


@click.command(cls=service_command(API))
def api() -> None:
    """Run the HTTP API: the query side of the database.

    Example: `API_LISTEN=127.0.0.1:9000 atlhyper api`, then `curl http://127.0.0.1:9000/api/v1/clusters`
    """
    _serve(API, "services.api.app:run")


@click.group()
def agent() -> None:
    """Run an agent: it reports what it serves, over the bus. Nothing dials in."""


@agent.command(cls=service_command(AGENT))
def kubernetes() -> None:
    """Run the agent of one Kubernetes cluster.

    It reads the kubeconfig's current context, or the service account when it runs inside the cluster, and
    changes nothing there unless AGENT_READ_ONLY is false.

    Example: `AGENT_CLUSTER_ID=prod-1 AGENT_MASTER_URL=tls://broker:4222 atlhyper agent kubernetes`
    """
    _serve(AGENT, "services.agent.app:run")


@click.group()
def db() -> None:
    """Tables of the database."""


@db.command(cls=service_command(STORE))
def upgrade() -> None:
    """Make the tables, or bring them to what this version needs.

    Safe to repeat, and safe to run from several machines at a time: each waits for the one before it.
    Upgrade the database first, then the services.

    Example: `DATABASE_URL=postgresql+asyncpg://atlhyper@localhost/atlhyper atlhyper db upgrade`
    """
    from services.persistence.database.migrate import upgrade as upgrade_tables
    from services.runtime import logs
    from services.runtime.settings import StoreSettings, load

    settings = load(StoreSettings)
    logs.configure(settings.log_level)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    before, after = asyncio.run(upgrade_tables(settings.database_url))
    where = logs.mask(settings.database_url)
    click.echo(
        f"{where}: {after}" + (" (nothing to do)" if before == after else f", before: {before or 'empty'}")
    )


def _serve(model: str, run: str) -> None:
    """Load the settings, run the service.

    A UserError that was denied something ends with 4, one that may be gone at the next start with 75, and
    every other with 78.
    """
    from services.runtime import logs
    from services.runtime.settings import EXIT_CONFIG, load

    logs.configure()
    try:
        settings = load(_load(model))
        logs.configure(settings.log_level)
        service: Callable[[Any], Coroutine[Any, Any, None]] = _load(run)
        _follow_supervisor()
        asyncio.run(service(settings))
    except UserError as error:
        click.echo(error.render(), err=True)
        kept = error.exit_code in (EXIT_DENIED, EXIT_TEMPORARY)
        raise SystemExit(error.exit_code if kept else EXIT_CONFIG) from error


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _follow_supervisor() -> None:
    """End when the `atlhyper up` that started us is gone, however it went."""
    if not os.environ.get(SUPERVISED):
        return

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
