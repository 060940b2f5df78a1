"""`atlhyper apply`: server-side apply of what files hold, on one or several clusters."""

from typing import TYPE_CHECKING

import rich_click as click

from services.cli.acting import options as acting
from services.cli.acting import spreading, targets
from services.cli.acting.options import Acting, Handling
from services.cli.acting.rollout import rollout
from services.cli.acting.running import Request
from services.cli.acting.targets import Object
from services.cli.acting.verbs import carry_out
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.options import Selection, context
from services.runtime.errors import UserError

if TYPE_CHECKING:
    from services.cli.acting.manifests import Manifest


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
@rollout
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
    with --no-wait all are asked for at once, in no order, also where several are about one object.

    Examples: `atlhyper apply -f web.yaml -n shop`,
    `atlhyper apply -f manifests/ -R --cluster eu,us --dry-run`, `kustomize build . | atlhyper apply -f -`
    """
    from services.cli.acting import manifests

    found = manifests.read(names, recursive=recursive)
    for manifest in found:
        manifest.check(namespace)
    where = Selection.of(clusters)

    def request(manifest: "Manifest", cluster: str) -> Request:
        params = {
            "manifest": manifest.content,
            "namespace": namespace or "default",
            "force": force_conflicts,
        }
        return Request(action="apply", about=Object(cluster=cluster), params=params)

    with Client(resolve(context)) as client:
        if going := handling.rollout:
            if len(found) > 1:
                raise UserError(
                    f"an operation is for one object, and the files hold {len(found)}",
                    "apply one file, and the next one when that has succeeded",
                    2,
                )
            chosen = spreading.clusters(client, going, where)
            made = request(found[0], chosen[0])
            raise SystemExit(spreading.carry_out(client, going, handling, chosen, made))
        lanes = [
            [request(manifest, cluster) for manifest in found] for cluster in targets.clusters(client, where)
        ]
        carry_out(client, lanes, handling)
