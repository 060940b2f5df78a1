"""Whoever destroys something, or changes several clusters, is asked before."""

import sys
from collections.abc import Sequence

import rich_click as click

from services.cli.acting.items import verb
from services.cli.acting.options import Handling
from services.cli.acting.running import Request
from services.runtime.errors import UserError
from services.runtime.terminal import printable
from services.runtime.words import counted

_SHOWN = 20


def ask(requests: Sequence[Request], handling: Handling) -> None:
    """Raises UserError unless it is agreed, or needs no agreement."""
    from schemas.commands import Nature
    from schemas.kubernetes.actions import ACTIONS

    if handling.agreed or handling.dry_run or not requests:
        return
    clusters = {request.about.cluster for request in requests}
    destroys = any(ACTIONS[request.action].nature is Nature.DESTROY for request in requests)
    if not destroys and len(clusters) == 1:
        return
    what = f"{_verbs(requests)} {counted(len(requests), 'object')} in {counted(len(clusters), 'cluster')}"
    agree(what, [_line(request) for request in requests])


def agree(what: str, lines: Sequence[str]) -> None:
    """Show what it is about, and have it agreed to. Raises UserError."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            f"nobody can be asked here whether it is meant: {what}",
            "-y says that it is; --dry-run has it tried without an effect",
            2,
        )
    click.echo(printable(f"{what}:"), err=True)
    for line in lines[:_SHOWN]:
        click.echo(printable(f"  {line}"), err=True)
    if len(lines) > _SHOWN:
        click.echo(f"  … and {len(lines) - _SHOWN} more", err=True)
    if not _confirmed():
        raise UserError("not agreed: nothing was done")


def _confirmed() -> bool:
    try:
        return click.confirm("Is that meant?", err=True)
    except click.Abort:  # Ctrl-C, or the end of what is typed
        click.echo(err=True)
        return False


def _line(request: Request) -> str:
    where = f" -n {request.namespace}" if request.namespace else ""
    return f"{request.about.cluster}   {request.label}{where}"


def _verbs(requests: Sequence[Request]) -> str:
    return ", ".join(dict.fromkeys(verb(request.action) for request in requests))
