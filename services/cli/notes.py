"""Remarks beside what a command prints."""

import rich_click as click

from services.runtime.terminal import printable


def note(message: str) -> None:
    """A line on standard error: standard output is for what was asked for."""
    click.echo(f"note: {printable(message)}", err=True)
