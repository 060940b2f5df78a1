"""What a check of `atlhyper doctor` found, and how it is shown."""

from dataclasses import dataclass

import rich_click as click


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check: `ok`, `warn` or `fail`."""

    state: str
    check: str
    text: str
    next_step: str = ""


def show(finding: Finding) -> None:
    """A line of standard output, and one more where there is something to do."""
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.state]
    click.echo(f"{click.style(f'{finding.state:<5}', fg=colour)} {finding.check:<9} {finding.text}")
    if finding.next_step:
        click.echo(f"                next: {finding.next_step}")
