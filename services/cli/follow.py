"""`atlhyper get -w`: what is there, and then each change as it comes."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich_click as click

from services.cli import render
from services.cli.listing import Listing
from services.cli.notes import note
from services.cli.render import Output
from services.cli.resources import Query
from services.runtime.errors import UserError

_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
"""Seconds between two tries to reach the API again."""

Key = tuple[str, str, str, str]


class Follower:
    """One run of `get -w`."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._queries = {query.resource: query for query in listing.queries}
        self._selects = _selection(listing)
        self._position = ""
        self._shown: dict[Key, dict[str, Any]] = {}
        """What has been printed, so that a row that is gone can be printed once more."""

    def run(self, *, initial: bool) -> None:
        """Print until interrupted."""
        self._start(printing=initial)
        pause = _PAUSE
        while True:
            try:
                for event, position, data in self._messages():
                    self._position, pause = position, _PAUSE
                    if event == "resync":
                        note(f"{data['reason']}; here is everything again")
                        self._start(printing=True)
                        break
                    if event in ("put", "delete"):
                        self._take(data)
            except UserError as error:
                if error.exit_code != 1:
                    raise
                note(f"{error.message}; trying again")
            # However it ended: one that ends each answer at once is not to be asked in a circle.
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _start(self, *, printing: bool) -> None:
        rows = self._listing.fetch()
        self._position = self._listing.position
        self._shown = {_key(query.resource, row): row for query, some in rows.items() for row in some}
        if printing:
            self._listing.print(rows)

    def _messages(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        where = self._listing.where
        cluster_scoped = any(not query.namespaced for query in self._queries.values())
        full = self._listing.display.full or self._selects is not None
        return self._listing.client.stream(
            "/watch",
            since=self._position,
            cluster=where.named,
            resource=",".join(self._queries),
            namespace=None if cluster_scoped else where.namespace,
            view="full" if full else None,
        )

    def _take(self, data: dict[str, Any]) -> None:
        query = self._queries[data["resource"]]
        row = data.get("item")
        key = _key(query.resource, row or data)
        before = self._shown.get(key)
        if row is not None and self._is_wanted(query, row):
            self._shown[key] = row
            self._print(query, row, "MODIFIED" if before else "ADDED")
        elif before is not None:
            del self._shown[key]
            self._print(query, before, "DELETED")

    def _is_wanted(self, query: Query, row: dict[str, Any]) -> bool:
        selected = self._selects is None or self._selects(query, row.get("object") or {})
        return selected and self._listing.follows(query, row)

    def _print(self, query: Query, row: dict[str, Any], event: str) -> None:
        listing = self._listing
        match listing.display.output:
            case Output.JSON | Output.YAML as form:
                value = {"type": event, "object": row} if listing.display.events else row
                click.echo(("---\n" if form is Output.YAML else "") + render.document(value, form))
            case Output.NAME:
                click.echo(listing.name(query, row))
            case _:
                line = {"event": event, **listing.line(query, row)}
                layout = listing.layouts.get(query.resource)
                if layout is None:
                    click.echo(listing.table(query, [row | {"event": event}]))
                    return
                cells = render.cells(layout.columns.cells(line, layout.keys))
                click.echo(render.line(cells, layout.widths))


def _key(resource: str, row: dict[str, Any]) -> Key:
    """An Event is known by its uid."""
    cluster = row.get("cluster") or row["cluster_id"]
    if resource == "events":
        return resource, cluster, "", row["uid"]
    return resource, cluster, row["namespace"], row["name"]


def _selection(listing: Listing) -> Callable[[Query, dict[str, Any]], bool] | None:
    """The selectors, as a question about a projection: the API follows everything."""
    where = listing.where
    if not where.selector and not where.field_selector:
        return None
    from schemas.kubernetes import selectable_fields
    from schemas.selectors import SelectorError, parse_field_selector, parse_label_selector

    try:
        labels = parse_label_selector(where.selector or "")
        fields = parse_field_selector(where.field_selector or "")
    except SelectorError as error:
        raise UserError(str(error), error.next_step, 2) from error

    def selects(query: Query, projection: dict[str, Any]) -> bool:
        known = selectable_fields(query.resource)
        of = (projection.get("metadata") or {}).get("labels") or {}
        return labels.matches(of) and fields.matches(lambda field: known[field].value(projection))

    return selects
