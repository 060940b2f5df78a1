"""`atlhyper get`: rows of one, several or all clusters, with kubectl's habits."""

import urllib.parse
from collections.abc import Iterator
from typing import Any

import rich_click as click

from services.cli import render
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.render import Output
from services.runtime.errors import UserError

SHORT_NAMES = {
    "cj": "cronjobs",
    "cm": "configmaps",
    "deploy": "deployments",
    "ds": "daemonsets",
    "ev": "events",
    "hpa": "horizontalpodautoscalers",
    "ing": "ingresses",
    "no": "nodes",
    "ns": "namespaces",
    "po": "pods",
    "pv": "persistentvolumes",
    "pvc": "persistentvolumeclaims",
    "rs": "replicasets",
    "sts": "statefulsets",
    "svc": "services",
}
"""kubectl's short names."""

NARROW = {
    "configmaps": ("data",),
    "cronjobs": ("schedule", "timezone", "suspend", "active", "last_schedule"),
    "daemonsets": ("desired", "current", "ready", "up_to_date", "available", "node_selector"),
    "deployments": ("ready", "up_to_date", "available"),
    "events": ("last_seen", "type", "reason", "object", "message"),
    "horizontalpodautoscalers": ("reference", "targets", "min_pods", "max_pods", "replicas"),
    "ingresses": ("class", "hosts", "address", "ports"),
    "jobs": ("status", "completions", "duration_seconds"),
    "namespaces": ("status",),
    "nodes": ("status", "roles", "version"),
    "persistentvolumeclaims": ("status", "volume", "capacity", "access_modes", "storage_class"),
    "persistentvolumes": (
        *("capacity", "access_modes", "reclaim_policy", "status", "claim", "storage_class", "reason"),
    ),
    "pods": ("ready", "status", "restarts"),
    "replicasets": ("desired", "current", "ready"),
    "secrets": ("type", "data"),
    "services": ("type", "cluster_ip", "external_ip", "ports"),
    "statefulsets": ("ready",),
}
"""What `kubectl get` shows between name and age; `-o wide` adds the rest of a row."""

_FIXED = ("cluster", "kind", "name", "namespace", "uid", "owner", "created_at", "object")
"""Not columns by themselves; an Event's `object` is one of NARROW."""
_TIMES = frozenset({"first_seen", "last_seen", "last_schedule"})
FLEET = ("clusters", "agents")


@click.command()
@click.argument("resource")
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Namespace to look in.  [default: default]")
@click.option("-A", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@click.option("--cluster", "clusters", multiple=True, help="Clusters, separated by commas.  [default: all]")
@click.option("-o", "--output", type=click.Choice(render.OUTPUTS), default="table", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Most rows per cluster; 0 for all.")
def get(
    resource: str,
    name: str | None,
    namespace: str | None,
    all_namespaces: bool,
    clusters: tuple[str, ...],
    output: str,
    limit: int,
) -> None:
    """Show what clusters hold.

    RESOURCE is kubectl's word (pods, po, pod, deployments.apps, …), several with commas between them,
    `clusters` or `agents`; `pod/web-1` names one object. Rows come from the control plane's database, so a
    cluster that cannot be reached is shown as it was; a note on standard error says so.

    Examples: `atlhyper get pods -A`, `atlhyper get deploy -n shop -o wide`, `atlhyper get no --cluster a,b`
    """
    chosen = [part for text in clusters for part in text.split(",") if part]
    if "/" in resource and name is None:
        resource, _, name = resource.partition("/")
    if resource in (*FLEET, "cluster", "agent"):
        from services.cli.agents import show_agents

        only = [*chosen, name] if name else chosen
        show_agents(Output(output), kubernetes_only=resource.startswith("cluster"), only=only)
        return
    where = None if all_namespaces else namespace or "default"
    queries = [Query(plural(word), name, where) for word in resource.split(",") if word]
    if not queries:
        raise click.BadParameter("names no resource", param_hint="RESOURCE")
    with Client(resolve()) as client:
        raise SystemExit(Listing(client, queries, Output(output), limit).run(chosen))


def plural(word: str) -> str:
    """kubectl's plural of a resource as people write it; the API judges a word that is not known here."""
    from schemas.kubernetes import KINDS

    word = word.lower()
    for kind in KINDS.values():
        names = {kind.plural, kind.kind.lower()}
        if word in names | {f"{name}.{kind.group}" for name in names if kind.group}:
            return kind.resource
    return SHORT_NAMES.get(word, word)


class Query:
    """What is asked for."""

    def __init__(self, resource: str, name: str | None, namespace: str | None) -> None:
        from schemas.kubernetes import KINDS

        self.resource = resource
        self.name = name
        self.kind = KINDS.get(resource)
        self.namespaced = self.kind.namespaced if self.kind else True
        self.namespace = namespace if self.namespaced else None
        """None: all of them."""

    @property
    def prefix(self) -> str:
        """What kubectl writes before the `/` of a name: `deployment.apps`."""
        if not self.kind:
            return self.resource.partition(".")[0]
        return self.kind.kind.lower() + (f".{self.kind.group}" if self.kind.group else "")


class Listing:
    """One run of `get` over the clusters that were chosen."""

    def __init__(self, client: Client, queries: list[Query], output: Output, limit: int) -> None:
        self.client = client
        self.queries = queries
        self.output = output
        self.limit = limit

    def run(self, chosen: list[str]) -> int:
        """Print; the exit code."""
        if any(query.name and query.namespaced and query.namespace is None for query in self.queries):
            raise UserError("a name needs its namespace", "give -n instead of -A", 2)
        rows: dict[Query, list[dict[str, Any]]] = {query: [] for query in self.queries}
        errors: list[UserError] = []
        answered = 0
        pages = [] if chosen else self.client.pages("/clusters")
        known = {item["id"]: item for page in pages for item in page["items"]}
        clusters = chosen or [*known]
        if not clusters:
            note("no cluster is known yet; one appears with its first heartbeat, `atlhyper up` starts one")
            return 0
        for cluster in clusters:
            try:
                _tell_age(known.get(cluster) or self.client.get(f"/clusters/{quote(cluster)}"))
                for query in self.queries:
                    rows[query] += ({"cluster": cluster, **row} for row in self._rows(query, cluster))
                answered += 1
            except UserError as error:
                errors.append(error)
        # Without --cluster a named object need not be everywhere.
        missing_is_fine = not chosen and answered and all(error.exit_code == 3 for error in errors)
        if errors and not answered:
            raise errors[0]
        self._print(rows, several=len(clusters) > 1)
        if errors and not missing_is_fine:
            for failure in errors:
                click.echo(failure.render(), err=True)
            return 5
        return 0

    def _rows(self, query: Query, cluster: str) -> Iterator[dict[str, Any]]:
        path = f"/clusters/{quote(cluster)}/{quote(query.resource)}"
        whole = self.output in (Output.JSON, Output.YAML)
        if query.name:
            yield self.client.get(f"{path}/{quote(query.namespace or '_')}/{quote(query.name)}")
            return
        view = "full" if whole else None
        collection: dict[str, Any] = {}
        for page in self.client.pages(path, self.limit, namespace=query.namespace, view=view):
            collection = page.get("collection") or {}
            yield from page["items"]
        if collection.get("state") not in ("synced", None):
            why = f": {collection['reason']}" if collection.get("reason") else ""
            note(f"{query.resource} of cluster {cluster} may not be complete: {collection['state']}{why}")

    def _print(self, rows: dict[Query, list[dict[str, Any]]], several: bool) -> None:
        found = {query: some for query, some in rows.items() if some}
        match self.output:
            case Output.JSON | Output.YAML:
                items = [row for some in found.values() for row in some]
                value = items[0] if self.queries[0].name and len(items) == 1 else {"items": items}
                click.echo(render.document(value, self.output))
            case _ if not found:
                namespace = next((query.namespace for query in self.queries if query.namespace), None)
                where = f" in {namespace} namespace" if namespace else ""
                click.echo(f"No resources found{where}.", err=True)
                if namespace:
                    note("-A looks in all namespaces")
            case Output.NAME:
                names = (f"{query.prefix}/{row['name']}" for query, some in found.items() for row in some)
                click.echo("\n".join(names))
            case _:
                click.echo("\n\n".join(self._table(query, some, several) for query, some in found.items()))

    def _table(self, query: Query, rows: list[dict[str, Any]], several: bool) -> str:
        resource = query.resource
        if len(self.queries) > 1:
            rows = [row | {"name": f"{query.prefix}/{row['name']}"} for row in rows]
        if resource == "events":
            rows = [_event_row(row) for row in rows]
        # A row whose object could not be read has the fixed columns only.
        present = dict.fromkeys(key for row in rows for key in row)
        narrow = tuple(key for key in NARROW.get(resource, ()) if key in present)
        columns = narrow
        if self.output is Output.WIDE or resource not in NARROW:
            hidden = {*_FIXED, *narrow, "node"} - ({"node"} if resource == "pods" else set())
            columns += tuple(key for key in present if key not in hidden)
        lead = ["cluster"] if several else []
        lead += ["namespace"] if query.namespaced and query.namespace is None else []
        named = [] if resource == "events" else ["name"]
        aged = [] if resource == "events" else ["age"]
        header = [_header(key) for key in (*lead, *named, *columns, *aged)]
        return render.table(
            header, ([_value(row, key) for key in (*lead, *named, *columns, *aged)] for row in rows)
        )


def _duration(row: dict[str, Any]) -> str:
    """How long a Job has run: to its end, or until now."""
    if row.get("duration_seconds") is not None:
        return render.span(row["duration_seconds"])
    return render.age_of(row["started_at"]) if row.get("started_at") else ""


def _header(key: str) -> str:
    return key.removesuffix("_seconds").upper().replace("_", "-")


def _value(row: dict[str, Any], key: str) -> str:
    if key == "age":
        return render.age_of(row.get("created_at"))
    if key == "duration_seconds":
        return _duration(row)
    if key in _TIMES:
        return render.age_of(row[key]) if row.get(key) else ""
    return render.text(row.get(key))


def _event_row(row: dict[str, Any]) -> dict[str, Any]:
    """An Event with kubectl's columns."""
    involved, count = row["involved"], row["count"]
    shown = {key: row[key] for key in ("cluster", "namespace", "last_seen", "type", "reason")}
    shown |= {"object": f"{involved['kind'].lower()}/{involved['name']}", "message": row["message"]}
    return shown | {"source": row["component"], "first_seen": row["first_seen"], "count": count}


def _tell_age(cluster: dict[str, Any]) -> None:
    if cluster["state"] != "live":
        as_of = cluster["as_of"] or "never"
        since = f" ({render.age_of(cluster['as_of'])} ago)" if cluster["as_of"] else ""
        note(f"cluster {cluster['id']} is {cluster['state']}; its rows are as of {as_of}{since}")


def quote(text: str) -> str:
    """A segment of a path."""
    return urllib.parse.quote(text, safe="")


def note(message: str) -> None:
    """A remark on standard error."""
    click.echo(f"note: {message}", err=True)
