"""`atlhyper doctor`: what works, what does not, and what to do about it."""

import asyncio

import rich_click as click


@click.command()
def doctor() -> None:
    """Check broker, streams, database, cluster and API, each with a line and what to do.

    It asks the same questions as the services, with the same settings and credentials, and changes nothing.
    Exit code 1 when a check fails.

    Examples: `atlhyper doctor`, `AGENT_KUBECONFIG=~/.kube/staging atlhyper doctor`
    """
    from services.cli import checks
    from services.cli.findings import show
    from services.runtime import logs

    logs.configure("error")
    findings = asyncio.run(checks.run(show))
    failed = sum(finding.state == "fail" for finding in findings)
    if failed:
        click.echo(f"{failed} of {len(findings)} checks failed", err=True)
    raise SystemExit(1 if failed else 0)
