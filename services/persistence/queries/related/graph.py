"""What a graph of related objects is made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.kubernetes.links import NOTHING, Declared, Reference, Relation

NO_NAMESPACE = "_"
"""In an id, the namespace of an object that has none."""


def object_id(resource: str, namespace: str, name: str) -> str:
    """`pods/shop/web-0`, `nodes/_/node-1`: its path below that of its cluster. An Event's name is its uid."""
    return f"{resource}/{namespace or NO_NAMESPACE}/{name}"


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """One object of a graph."""

    id: str
    resource: str
    """Empty where nobody knows which resource its kind is."""
    kind: str
    namespace: str
    name: str
    uid: str
    """Empty where it is not known."""
    state: str = ""
    """The word that `kubectl get` shows under STATUS, for kinds that have one; an Event's type."""
    summary: bytes | None = None
    """Its row; None: it is named by another, and not stored."""
    group: str | None = None
    """Of its API, as far as it is known."""
    declared: Declared = NOTHING

    @property
    def is_missing(self) -> bool:
        """Whether it is only known by name."""
        return self.summary is None


class Edge(NamedTuple):
    """One relation, in its fixed direction; both ends are nodes' ids."""

    source: str
    target: str
    relation: Relation
    former: bool = False
    """The one names another uid than the other has: an object of this name that was there before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What is related to one object."""

    root: str
    """Its id."""
    nodes: list[Node]
    """The root first, then by steps from it."""
    edges: list[Edge]
    truncated: dict[Relation, int]
    """By relation, how many objects may have been left out; only where some were."""
    searched: list[str]
    """The resources that were looked into, sorted: where one is not complete, objects of it may lack."""
    namespaces: tuple[str, ...]
    """Those that the agent is set to collect, where a node is missing; empty for all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource, and what names of kinds mean it."""

    resource: str
    kind: str
    group: str
    namespaced: bool


@dataclass(slots=True)
class Catalogue:
    """The resources of one agent by the names of their kinds."""

    _entries: dict[str, list[Entry]] = field(default_factory=dict)
    _found: dict[tuple[str, str | None], Entry | None] = field(default_factory=dict)
    """What was asked for before: a graph names the same few kinds hundreds of times."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Those that are known; of two with one kind the first is meant where no group is named."""
        for entry in entries:
            self._entries.setdefault(entry.kind, []).append(entry)
        self._found.clear()

    def find(self, kind: str, group: str | None) -> Entry | None:
        """The resource of a kind; None for one that is not collected."""
        if (kind, group) not in self._found:
            entries = (item for item in self._entries.get(kind, []) if group in (None, item.group))
            self._found[kind, group] = next(entries, None)
        return self._found[kind, group]

    def place(self, reference: Reference) -> tuple[str, str, str]:
        """Resource (empty: unknown), namespace and name of what a reference names."""
        entry = self.find(reference.kind, reference.group)
        if entry is None:
            return "", reference.namespace, reference.name
        # An owner is in the namespace of what it owns, or in none.
        return entry.resource, reference.namespace if entry.namespaced else "", reference.name


def entry_of(kind: Kind) -> Entry:
    """A built-in kind as it is found."""
    return Entry(kind.resource, kind.kind, kind.group, kind.namespaced)


def group_of(resource: str) -> str:
    """The API group of a resource."""
    kind = KINDS.get(resource)
    return kind.group if kind else resource.partition(".")[2]


def missing(reference: Reference, place: tuple[str, str, str]) -> Node:
    """A node for what a reference names and is not stored."""
    resource, namespace, name = place
    unknown = f"{reference.kind}.{reference.group}" if reference.group else reference.kind
    return Node(
        id=object_id(resource or unknown, namespace, name),
        resource=resource,
        kind=reference.kind,
        namespace=namespace,
        name=name,
        uid=reference.uid,
        group=reference.group,
    )
