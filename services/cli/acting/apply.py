"""`atlhyper apply`: server-side apply of what files hold, on one or several clusters."""

import rich_click as click

from services.cli.acting import options as acting
from services.cli.acting import targets
from services.cli.acting.options import Acting, Handling
from services.cli.acting.running import Request
from services.cli.acting.targets import Object
from services.cli.acting.verbs import carry_out
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.options import Selection, context


@click.command(cls=Acting)
@click.option(
    *("-f", "--filename", "names"),
    multiple=True,
    required=True,
    metavar="FILE",
    help="File, folder, http(s) address, or `-` for standard input; may be given several times.",
)
@click.option("-R", "--recursive", is_flag=True, help="Folders with all below them.")
@acting.cluster
@acting.namespace
@click.option("--force-conflicts", is_flag=True, help="Take fields over from other managers.")
@acting.handling
@context
def apply(
    names: tuple[str, ...],
    recursive: bool,
    clusters: tuple[str, ...],
    namespace: str | None,
    force_conflicts: bool,
    handling: Handling,
    context: str | None,
) -> None:
    """Make or change objects as files describe them, by server-side apply.

    Objects of a cluster are applied in the order of the files, each after the end of the one before it;
    with --no-wait all are asked for at once, in no order.

    Examples: `atlhyper apply -f web.yaml -n shop`,
    `atlhyper apply -f manifests/ -R --cluster eu,us --dry-run`, `kustomize build . | atlhyper apply -f -`
    """
    from services.cli.acting import manifests

    found = manifests.read(names, recursive=recursive)
    for manifest in found:
        manifest.check(namespace)
    with Client(resolve(context)) as client:
        lanes = [
            [
                Request(
                    action="apply",
                    about=Object(cluster=cluster),
                    params={
                        "manifest": manifest.content,
                        "namespace": namespace or "default",
                        "force": force_conflicts,
                    },
                )
                for manifest in found
            ]
            for cluster in targets.clusters(client, Selection.of(clusters))
        ]
        carry_out(client, lanes, handling)
