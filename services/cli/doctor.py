"""`atlhyper doctor`: what works, what does not, and what to do about it."""

import asyncio
from dataclasses import dataclass

import rich_click as click


@click.command()
def doctor() -> None:
    """Check broker, streams, database, cluster and API, each with a line and what to do.

    It asks the same questions as the services, with the same settings and credentials, and changes nothing.
    Exit code 1 when a check fails.

    Examples: `atlhyper doctor`, `AGENT_KUBECONFIG=~/.kube/staging atlhyper doctor`
    """
    from services.cli import checks
    from services.runtime import logs

    logs.configure("error")
    findings = asyncio.run(checks.run(show))
    failed = sum(finding.state == "fail" for finding in findings)
    if failed:
        click.echo(f"{failed} of {len(findings)} checks failed", err=True)
    raise SystemExit(1 if failed else 0)


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
