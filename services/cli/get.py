"""`atlhyper get`: rows of one, several or all clusters, with kubectl's habits."""

import rich_click as click

from services.cli import completion, options
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.follow import Follower
from services.cli.listing import Listing
from services.cli.options import Selection
from services.cli.render import Display
from services.cli.resources import FLEET, queries
from services.runtime.errors import UserError

_SORT = {
    "metadata.name": "name",
    "metadata.namespace": "namespace",
    "metadata.creationTimestamp": "created_at",
    "spec.nodeName": "node",
}
"""kubectl's paths that are columns."""


@click.command()
@click.argument("resource", shell_complete=completion.resources)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.names)
@options.where
@options.selectors
@click.option("--owner", help="Only what KIND/NAME owns, also through others: `Deployment/web`.")
@click.option("--node", help="Only what is bound to this node.")
@click.option("-q", "--query", "text", help="Only rows with this text in name, namespace, node or owner.")
@click.option("--sort-by", help="A column such as `restarts`; `-restarts` for the greatest first.")
@click.option("-w", "--watch", is_flag=True, help="Then follow the changes.")
@click.option("--watch-only", is_flag=True, help="Follow the changes, without what is there.")
@click.option("--output-watch-events", is_flag=True, help="Say what happened to each row that is followed.")
@click.option(
    "--live", is_flag=True, help="Have the clusters read the objects that are named, now and whole."
)
@options.display
@options.labels
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Most rows of each kind; 0 for all.")
@options.context
def get(
    resource: str,
    names: tuple[str, ...],
    where: Selection,
    owner: str | None,
    node: str | None,
    text: str | None,
    sort_by: str | None,
    watch: bool,
    watch_only: bool,
    live: bool,
    display: Display,
    limit: int,
    context: str | None,
) -> None:
    """Show what clusters hold.

    RESOURCE is kubectl's word (pods, po, pod, deployments.apps, …), several with commas between them,
    `clusters` or `agents`; `pod/web-1` names one object. Rows come from the control plane's database, so a
    cluster that cannot be reached is shown as it was; a note on standard error says so.

    Examples: `atlhyper get pods -A`, `atlhyper get deploy -n shop -o wide`, `atlhyper get no --cluster a,b`,
    `atlhyper get pods -A -l app=web --field-selector status.phase!=Running --sort-by=-restarts -w`,
    `atlhyper get deploy/web -n shop --live -o yaml`
    """
    if resource in FLEET:
        from services.cli.agents import show_agents

        if watch or watch_only:
            raise UserError(f"{resource} cannot be followed", "ask again, as with `watch atlhyper agents`", 2)
        only = [*where.clusters, *names]
        kubernetes_only = resource.startswith("cluster")
        show_agents(display.output, kubernetes_only=kubernetes_only, only=only, context=context)
        return
    follow = watch or watch_only
    asked = queries(resource, names)
    if live:
        from services.cli.live import show_live

        if follow:
            raise UserError("--live and --watch exclude each other", "leave one of them away", 2)
        with Client(resolve(context)) as client:
            raise SystemExit(show_live(client, asked, where, display.output))
    if follow and (owner or text):
        raise UserError(
            "changes cannot be followed by --owner or --query", "follow by -l or --field-selector", 2
        )
    filters = {"owner": owner, "node": node, "q": text, "sort": _column(sort_by)}
    with Client(resolve(context)) as client:
        listing = Listing(client, asked, where, filters, display, limit)
        if not follow:
            raise SystemExit(listing.run())
        Follower(listing).run(initial=not watch_only)


def _column(path: str | None) -> str | None:
    """A column, from kubectl's ways to write one (`.metadata.name`, `{.metadata.name}`) or a table's heading.

    The lowest age is the latest creation.
    """
    if not path:
        return None
    sign, bare = ("-", path[1:]) if path.startswith("-") else ("", path)
    bare = bare.strip("{}").removeprefix(".")
    column = _SORT.get(bare) or (bare if "." in bare else bare.lower().replace("-", "_"))
    if column == "age":
        return "created_at" if sign else "-created_at"
    return sign + column
