"""`atlhyper get --live`: objects as their clusters have them now, whole."""

from typing import Any

import rich_click as click

from services.cli import render
from services.cli.acting.targets import clusters
from services.cli.client import Client, quote
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.render import Output
from services.cli.resources import Query
from services.runtime.errors import UserError


def show_live(client: Client, asked: list[Query], where: Selection, output: Output) -> int:
    """Print each object that is named, and say of when it is; the exit code.

    Raises UserError when none can be had.
    """
    if not all(query.name for query in asked):
        raise UserError("--live is for objects that are named", "write kind/name, such as pod/web-1", 2)
    if where.namespace is None and any(query.namespaced for query in asked):
        raise UserError("a name needs its namespace", "give -n instead of -A", 2)
    if where.selector or where.field_selector:
        raise UserError("--live and a selector exclude each other", "name the objects", 2)
    if output not in (Output.JSON, Output.YAML):
        raise UserError("--live shows whole objects", "add -o yaml or -o json", 2)
    found: list[dict[str, Any]] = []
    failures: list[UserError] = []
    for cluster in clusters(client, where):
        for query in asked:
            namespace = where.namespace_of(query) or "_"
            path = f"{quote(query.resource)}/{quote(namespace)}/{quote(query.name or '')}/live"
            try:
                answer = client.get(f"/clusters/{quote(cluster)}/{path}")
            except UserError as error:
                failures.append(error)
            else:
                found.append(answer)
                label = f"{query.resource}/{query.name}"
                note(f"{cluster}: {label} as of {answer['read_at']}, {answer['age']:.1f}s ago, redacted")
    if not found:
        raise failures[0]
    objects = [answer["object"] for answer in found]
    click.echo(render.document(objects[0] if len(objects) == 1 else {"items": objects}, output))
    for failure in failures:
        click.echo(failure.render(), err=True)
    return 5 if failures else 0
