"""`atlhyper up`: everything on this machine, with one command and nothing prepared."""

import asyncio
import time
from contextlib import suppress

import rich_click as click


@click.command()
def up() -> None:
    """Start everything on this machine and attach a cluster.

    An embedded broker, the database, master and API, each a process of its own that is started again when
    it dies, and an agent for the kubeconfig's current context. It changes nothing there until
    AGENT_READ_ONLY=false. Without a kubeconfig a local control plane is started and attached, writes allowed.

    Ctrl-C stops everything in order; a second one kills. The data stays in ATLHYPER_HOME
    (default `~/.local/share/atlhyper`), the logs in its folder `logs`.

    Examples:

    - `atlhyper up`
    - `AGENT_KUBECONFIG=~/.kube/staging AGENT_CLUSTER_ID=staging atlhyper up`
    - `ATLHYPER_HOME=/tmp/try API_LISTEN=127.0.0.1:9000 atlhyper up`
    """
    from services.cli.plan import Plan
    from services.cli.system import System, locked
    from services.runtime import logs
    from services.runtime.settings import Settings, load

    logs.configure("error")  # what matters is told in lines of our own
    with locked(load(Settings).home):
        asyncio.run(System(Plan.load(say), say).run())


def say(who: str, what: str) -> None:
    """A line of state on standard error. Never fails: what it tells goes on when nobody listens any more."""
    clock = click.style(time.strftime("%H:%M:%S"), dim=True)
    with suppress(OSError):
        click.echo(f"{clock} {click.style(f'{who:<8}', fg='cyan')} {what}", err=True)
