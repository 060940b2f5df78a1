"""Rows of several resources and clusters, fetched and printed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import rich_click as click

from services.cli import render
from services.cli.client import Client, quote
from services.cli.columns import Columns, event_row
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.render import Display, Output
from services.cli.resources import Query
from services.runtime.errors import UserError
from services.runtime.terminal import printable
from services.runtime.words import are, counted


@dataclass(frozen=True, slots=True)
class Layout:
    """Of a table that has been printed."""

    columns: Columns
    keys: list[str]
    widths: list[int]


class Listing:
    """One run of `get`, `describe` or `events`."""

    def __init__(
        self,
        client: Client,
        queries: list[Query],
        where: Selection,
        filters: dict[str, str | None],
        display: Display,
        limit: int = 0,
    ) -> None:
        self.client = client
        self.queries = queries
        self.where = where
        self.filters = filters
        self.display = display
        self.limit = limit
        self.position = ""
        """Of the first page: where changes are followed from."""
        self.several = len(where.clusters) != 1
        self.layouts: dict[str, Layout] = {}
        """By resource."""
        self.remaining = 0
        """Rows behind the last one that was read."""
        self.known = False
        """Whether there is any cluster to ask about."""
        self._told: set[str] = set()
        self._errors: list[UserError] = []

    def run(self) -> int:
        """Print; the exit code."""
        rows = self.fetch()
        if self.known:
            self.print(rows)
        return self.tell_errors()

    def tell_errors(self) -> int:
        """Say what could not be had; the exit code."""
        for failure in self._errors:
            click.echo(failure.render(), err=True)
        return 5 if self._errors else 0

    def fetch(self) -> dict[Query, list[dict[str, Any]]]:
        """What is there. Raises UserError when nothing could be had."""
        if any(query.name and query.namespaced for query in self.queries) and self.where.namespace is None:
            raise UserError("a name needs its namespace", "give -n instead of -A", 2)
        self._errors, self.position = [], ""
        clusters = self._clusters()
        self.known = bool(clusters)
        if not clusters:
            return {}
        rows = {query: self.rows(query, clusters) for query in self.queries}
        for query in self.queries:
            if query.name:
                self._errors += self._missing(query, {row["cluster"] for row in rows[query]}, clusters)
        if self._errors and not any(rows.values()) and all(query.name for query in self.queries):
            raise self._errors[0]
        return rows

    def _clusters(self) -> list[str]:
        """Those of the chosen ones that are known; without a choice, whichever there are."""
        if self.where.clusters:
            items = list(self._chosen())
            if not items:
                raise self._errors[0]
        else:
            items = self.client.get("/clusters", limit=2)["items"]
            if not items:
                note(
                    "no cluster is known yet; one appears with its first heartbeat, `atlhyper up` starts one"
                )
        self.several = len(items) > 1
        return [item["id"] for item in items]

    def _chosen(self) -> Iterator[dict[str, Any]]:
        for cluster in self.where.clusters:
            try:
                yield self.client.get(f"/clusters/{quote(cluster)}")
            except UserError as error:
                if error.exit_code not in (2, 3):
                    raise
                self._errors.append(error)

    def parameters(self, query: Query) -> dict[str, Any]:
        """What the API is asked with, besides clusters, size and page."""
        fields = [self.where.field_selector] if self.where.field_selector else []
        fields += [f"metadata.name={query.name}"] if query.name else []
        return {
            "namespace": self.where.namespace if query.namespaced else None,
            "labelSelector": self.where.selector,
            "fieldSelector": ",".join(fields) or None,
            "view": "full" if self.display.full else None,
            **self.filters,
        }

    def path(self, query: Query) -> str:
        """Of the list."""
        return f"/resources/{quote(query.resource)}"

    def rows(self, query: Query, clusters: list[str]) -> list[dict[str, Any]]:
        """Of one resource, in the API's order."""
        chosen = ",".join(clusters) if self.where.clusters else None
        found: list[dict[str, Any]] = []
        for page in self.client.pages(self.path(query), self.limit, cluster=chosen, **self.parameters(query)):
            if not found:
                self.position = self.position or page["position"]
                self._tell(query, page["collections"], page["incomplete"])
            found += page["items"]
            self.remaining = page["remaining"]
        return found

    def _tell(self, query: Query, collections: list[dict[str, Any]], in_all: int) -> None:
        """Say on standard error whose rows are old or not all there is, the former once each."""
        for collection in collections:
            cluster, state, why = collection["cluster"], collection["state"], collection["reason"]
            if collection["agent"] != "live" and cluster not in self._told:
                self._told.add(cluster)
                as_of = collection["as_of"]
                age = f"{as_of} ({render.age_of(as_of)} ago)" if as_of else "never"
                note(f"cluster {cluster} is {collection['agent']}; its rows are as of {age}")
            if state != "synced":
                because = f": {why}" if why else ""
                note(f"{query.resource} of cluster {cluster} may not be complete: {state}{because}")
        if in_all > len(collections):
            more = in_all - len(collections)
            what = f"{counted(more, 'more cluster')} {are(more)} not live or not complete"
            note(f"{what}: `atlhyper agents`")

    def follows(self, query: Query, row: dict[str, Any]) -> bool:
        """Whether a row that has changed is one of those asked for."""
        namespace, node = self.where.namespace, self.filters.get("node")
        names = {each.name for each in self.queries if each.resource == query.resource}
        return (
            (not query.namespaced or namespace is None or row["namespace"] == namespace)
            and (None in names or row["name"] in names)
            and (not node or row.get("node") == node)
        )

    def _missing(self, query: Query, found: set[str], clusters: list[str]) -> Iterator[UserError]:
        """Who lacks an object; where no cluster was chosen, it need not be in each."""
        name = f"{self.where.namespace}/{query.name}" if query.namespaced else str(query.name)
        see = f"see what there is: `atlhyper get {query.resource}{' -A' if query.namespaced else ''}"
        if self.where.clusters:
            for cluster in clusters:
                if cluster not in found:
                    message = f"kubernetes/{cluster} has no {query.resource} {name}"
                    yield UserError(message, f"{see} --cluster {cluster}`", 3)
        elif not found:
            yield UserError(f"no cluster has {query.resource} {name}", f"{see}`", 3)

    def print(self, rows: dict[Query, list[dict[str, Any]]]) -> None:
        """The rows of each kind, in the form that was asked for."""
        found = {query: some for query, some in rows.items() if some}
        match self.display.output:
            case Output.JSON | Output.YAML:
                items = [row for some in found.values() for row in some]
                value = items[0] if len(self.queries) == 1 and self._is_one(items) else {"items": items}
                click.echo(render.document(value, self.display.output))
            case _ if not found:
                namespaces = {self.where.namespace for query in self.queries if query.namespaced}
                namespace = next(iter(namespaces), None)
                where = f" in {namespace} namespace" if namespace else ""
                click.echo(printable(f"No resources found{where}."), err=True)
                if namespace:
                    note("-A looks in all namespaces")
            case Output.NAME:
                names = (self.name(query, row) for query, some in found.items() for row in some)
                click.echo("\n".join(names))
            case _:
                click.echo("\n\n".join(self.table(query, some) for query, some in self._by_kind(found)))

    def _is_one(self, items: list[dict[str, Any]]) -> bool:
        return bool(self.queries[0].name) and len(items) == 1

    def _by_kind(
        self, rows: dict[Query, list[dict[str, Any]]]
    ) -> Iterable[tuple[Query, list[dict[str, Any]]]]:
        """Objects that were named one by one share the table of their kind."""
        tables: dict[str, tuple[Query, list[dict[str, Any]]]] = {}
        for query, some in rows.items():
            tables.setdefault(query.resource, (query, []))[1].extend(some)
        return tables.values()

    def columns(self, query: Query) -> Columns:
        """Of that kind's table."""
        return Columns(
            resource=query.resource,
            clusters=self.several,
            namespaces=query.namespaced and self.where.namespace is None,
            wide=self.display.output is Output.WIDE,
            labels=self.display.labels,
            all_labels=self.display.all_labels,
            events=self.display.events,
        )

    def line(self, query: Query, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it stands in a table."""
        if query.resource == "events":
            return event_row(row)
        several_kinds = len({each.resource for each in self.queries}) > 1
        return row | {"name": self.name(query, row)} if several_kinds else row

    @staticmethod
    def name(query: Query, row: dict[str, Any]) -> str:
        """`kind[.group]/name`"""
        return f"{query.prefix}/{row['name']}"

    def table(self, query: Query, rows: list[dict[str, Any]]) -> str:
        """Of one kind; its layout is kept for what follows."""
        columns = self.columns(query)
        event = {"event": "ADDED"} if self.display.events else {}
        shown = [event | self.line(query, row) for row in rows]
        keys = columns.keys(shown)
        lines = [columns.header(keys), *(render.cells(columns.cells(row, keys)) for row in shown)]
        layout = self.layouts[query.resource] = Layout(columns, keys, render.widths(lines))
        return "\n".join(render.line(each, layout.widths) for each in lines[not self.display.header :])
