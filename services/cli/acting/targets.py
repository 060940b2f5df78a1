"""What a command is about: objects as people name or select them, on the clusters that are meant."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from services.cli.client import Client, quote
from services.cli.listing import Listing
from services.cli.options import Selection
from services.cli.render import Display
from services.cli.resources import Query, queries
from services.runtime.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object of one cluster."""

    cluster: str
    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    """Where it was selected: the one that has the name must still be this one."""

    def body(self) -> dict[str, str]:
        """As the API shows it; it takes it without what is empty."""
        return {
            "resource": self.resource,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }


def clusters(client: Client, where: Selection) -> tuple[str, ...]:
    """The ones that are meant: those that were named, else the only one. Raises UserError."""
    if where.clusters:
        for cluster in where.clusters:  # before anything is done in one of them
            client.get(f"/clusters/{quote(cluster)}")
        return where.clusters
    items = client.get("/clusters", limit=10)["items"]
    if not items:
        raise UserError("no cluster is known yet", "start one with `atlhyper up`, or attach yours", 3)
    if len(items) > 1:
        known = ", ".join(item["id"] for item in items[:9]) + (", …" if len(items) > 9 else "")
        raise UserError("which cluster is meant?", f"give --cluster, with one or several of {known}", 2)
    return (items[0]["id"],)


def objects(
    client: Client, where: Selection, words: tuple[str, ...], *, everything: bool = False
) -> list[Object]:
    """Every object that is meant. Raises UserError.

    One that is named is not looked for: it may be newer than the rows are, and its agent knows. What is
    selected is taken from the rows, together with its uid.
    """
    asked = queries(words[0], words[1:])
    chosen = replace(where, clusters=clusters(client, where))
    selecting = bool(where.selector or where.field_selector or everything)
    named = [query for query in asked if query.name]
    if named and selecting:
        raise UserError("names and -l, --field-selector or --all exclude each other", "give one of them", 2)
    if not named and not selecting:
        raise UserError(
            f"no object is named, only {words[0]!r}",
            f"write {words[0].partition(',')[0]}/NAME, select by -l, or give --all",
            2,
        )
    if named and where.namespace is None and any(query.namespaced for query in named):
        raise UserError("a name needs its namespace", "give -n instead of -A", 2)
    if selecting:
        return list(_selected(client, chosen, asked))
    return [
        Object(
            cluster=cluster,
            resource=query.resource,
            namespace=where.namespace_of(query),
            name=query.name or "",
        )
        for cluster in chosen.clusters
        for query in dict.fromkeys(asked)
    ]


def nodes(client: Client, where: Selection, words: tuple[str, ...]) -> list[Object]:
    """Nodes by name (`n1`, `node/n1`) or by -l. Raises UserError."""
    names = tuple(
        word.partition("/")[2] if word.startswith(("node/", "nodes/", "no/")) else word for word in words
    )
    if not names and not where.selector:
        raise UserError("no node is named", "give its name, or select by -l", 2)
    return objects(client, where, ("nodes", *names))


def _selected(client: Client, where: Selection, asked: Iterable[Query]) -> Iterator[Object]:
    listing = Listing(client, list(asked), where, {}, Display())
    rows = listing.fetch()
    if not any(rows.values()):
        listing.print(rows)
    for query, some in rows.items():
        for row in some:
            yield Object(
                cluster=row["cluster"],
                resource=query.resource,
                namespace=row["namespace"],
                name=row["name"],
                uid=row["uid"],
            )
