"""The walk through what is related to one object: which relations are followed from where, step by step."""

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from schemas.kubernetes.event import EVENT
from schemas.kubernetes.links import NAME_ANYTHING, NAMED_BY, SELECT_PODS, Link, Relation, declared
from schemas.kubernetes.network import SERVICE
from schemas.kubernetes.node import NODE
from schemas.kubernetes.pod import POD
from schemas.kubernetes.storage import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from schemas.selectors import LabelSelector, SelectorError, label_selector_of
from services.persistence.queries.related.graph import Catalogue, Edge, Node, missing, object_id
from services.persistence.queries.related.lookups import Found, Lookups, Question, Stored
from services.persistence.queries.related.statements import ANY, EVENTS_OF_EACH, NEEDLES

CANDIDATES = 5_000
"""Objects that are looked into at most, per step, for what they name or select."""
_DEFAULT_NAMESPACE = "default"
"""Some emitters put a cluster-scoped object here: it is where the Events about it are."""


class Move(NamedTuple):
    """A step along a relation: in its direction, or back."""

    relation: Relation
    outward: bool


def _to(relation: Relation) -> Move:
    return Move(relation, True)


def _back(relation: Relation) -> Move:
    return Move(relation, False)


_R = Relation
EVERYTHING = tuple(Move(relation, outward) for relation in Relation for outward in (True, False))
"""From the root, every relation is followed both ways."""
FOLLOWED: dict[Move, tuple[Move, ...]] = {
    _to(_R.OWNS): (
        *(_to(_R.OWNS), _to(_R.RUNS_ON), _to(_R.MOUNTS), _to(_R.USES), _to(_R.BINDS)),
        *(_back(_R.SELECTS), _back(_R.SCALES), _back(_R.CONCERNS)),
    ),
    _back(_R.OWNS): (_back(_R.OWNS), _back(_R.SCALES)),
    _to(_R.SELECTS): (_to(_R.RUNS_ON), _back(_R.OWNS)),
    _back(_R.SELECTS): (_back(_R.OWNS), _back(_R.SCALES), _back(_R.ROUTES_TO)),
    _back(_R.RUNS_ON): (_back(_R.OWNS),),
    _to(_R.ROUTES_TO): (_to(_R.SELECTS),),
    _to(_R.MOUNTS): (_to(_R.BINDS),),
    _back(_R.MOUNTS): (_back(_R.OWNS),),
    _back(_R.USES): (_back(_R.OWNS),),
    _back(_R.BINDS): (_back(_R.MOUNTS),),
    _to(_R.SCALES): (_to(_R.OWNS), _to(_R.SELECTS)),
    _to(_R.CONCERNS): (_to(_R.RUNS_ON), _back(_R.OWNS)),
}
"""Behind an object that was reached by the one, which others are followed: never back to what else its
owner, its node or its service has, or the graph of one pod would be that of the cluster."""
_NAMED = (_R.ROUTES_TO, _R.MOUNTS, _R.USES, _R.SCALES)
"""Relations that are found by the name of an object, in the bodies of others of its namespace."""

Search = Generator[Question, Found, None]
"""Asks once, or not at all, and adds what is found."""


class Walk:
    """One graph as it grows. It asks one statement at each step, however many objects there are."""

    def __init__(self, lookups: Lookups, catalogue: Catalogue, limit: int) -> None:
        """`limit`: objects that each relation may add."""
        self.nodes: dict[str, Node] = {}
        self.edges: set[Edge] = set()
        self.searched: set[str] = set()
        self._lookups = lookups
        self._catalogue = catalogue
        self._limit = limit
        self._added: Counter[Relation] = Counter()
        self._left_out: Counter[Relation] = Counter()
        self._unseen: set[tuple[Relation, str]] = set()
        """Objects that were found and are left out."""
        self._root = ""
        self._reached: dict[str, set[Move]] = {}
        """What is to be followed from where in the next step."""
        self._wanted: dict[Move, dict[str, Node]] = {}
        """What is followed in this step, and from which objects, by id."""
        self._with_events: dict[str, Node] = {}
        self._more_events = 0
        """Events shown of all objects but the root, where there may be more."""

    @property
    def truncated(self) -> dict[Relation, int]:
        """By relation, how many objects may have been left out."""
        return dict(sorted((self._left_out + Counter(relation for relation, _ in self._unseen)).items()))

    async def run(self, root: Node, depth: int) -> None:
        """Walk `depth` steps from the root."""
        self._root = root.id
        self.nodes[root.id] = root
        self._reached = {root.id: set(EVERYTHING)}
        followed: set[tuple[str, Move]] = set()
        for _ in range(depth):
            self._wanted = {move: {} for move in EVERYTHING}
            for id_, moves in self._reached.items():
                new = {move for move in moves if (id_, move) not in followed}
                followed.update((id_, move) for move in new)
                for move in new if not self.nodes[id_].is_missing else ():
                    self._wanted[move][id_] = self.nodes[id_]
            self._reached = {}
            await self._together(
                self._declared(),
                self._owned(),
                self._on_nodes(),
                *self._selected(),
                self._selecting(),
                self._naming(),
                self._naming_volumes(),
            )
            self._with_events |= self._wanted[_back(_R.CONCERNS)]
            if not self._reached:
                break
        await self._events()

    async def _together(self, *searches: Search) -> None:
        asked = [(search, question) for search in searches if (question := next(search, None)) is not None]
        found = await self._lookups.find([question for _, question in asked])
        for (search, _), answer in zip(asked, found, strict=True):
            with suppress(StopIteration):
                search.send(answer)

    # -- what objects declare themselves ------------------------------------------------------------------

    def _declared(self) -> Search:
        links = [
            (node, link, self._catalogue.place(link.reference))
            for move, nodes in self._wanted.items()
            for node in nodes.values()
            for link in node.declared.links
            if (link.relation, link.outward) == move
        ]
        unknown = {place for _, _, place in links if place[0] and object_id(*place) not in self.nodes}
        self.searched.update(resource for resource, _, _ in unknown)
        stored: dict[tuple[str, str, str], Node] = {}
        if unknown:
            found = yield self._lookups.by_keys(sorted(unknown))
            stored = {row[:3]: node_of(row) for row in found.rows}
        for node, link, place in links:
            other = self.nodes.get(object_id(*place)) or stored.get(place) or missing(link.reference, place)
            self._relate(node, link, other, reached=other)

    # -- what an index finds ------------------------------------------------------------------------------

    def _owned(self) -> Search:
        owners = self._wanted[_to(_R.OWNS)].values()
        keys = sorted({(node.kind, node.name, node.namespace or ANY) for node in owners})
        if keys:
            self._take((yield self._lookups.owned(keys, self._limit)), _R.OWNS)

    def _on_nodes(self) -> Search:
        nodes = self._wanted[_back(_R.RUNS_ON)].values()
        names = [node.name for node in nodes if node.resource == NODE.resource]
        if names:
            self.searched.add(POD.resource)
            self._take((yield self._lookups.on_nodes(names, self._limit)), _R.RUNS_ON)

    def _selected(self) -> Iterable[Search]:
        """Pods that are selected: for each selector there is, once."""
        selecting: dict[tuple[str, LabelSelector], list[Node]] = {}
        for node, selector in _selectors(self._wanted[_to(_R.SELECTS)].values()):
            selecting.setdefault((node.namespace, selector), []).append(node)
        return [self._selected_by(nodes, selector) for (_, selector), nodes in selecting.items()]

    def _selected_by(self, nodes: Sequence[Node], selector: LabelSelector) -> Search:
        self.searched.add(POD.resource)
        found = yield self._lookups.selected(nodes[0].namespace, selector, self._limit)
        self._left_out[_R.SELECTS] += found.left_out
        for pod in map(node_of, found.rows):
            for node in nodes:
                self._add(pod, _to(_R.SELECTS), Edge(node.id, pod.id, _R.SELECTS))

    # -- what is found by a look into bodies --------------------------------------------------------------

    def _selecting(self) -> Search:
        """What selects pods, in their namespaces."""
        pods = [node for node in self._wanted[_back(_R.SELECTS)].values() if node.resource == POD.resource]
        if not pods:
            return
        self.searched.update(SELECT_PODS)
        namespaces = {pod.namespace for pod in pods}
        found = yield self._lookups.naming(SELECT_PODS, namespaces, _label_needles(pods), CANDIDATES)
        self._left_out[_R.SELECTS] += found.left_out
        pairs = {pair for pod in pods for pair in pod.declared.labels.items()}
        likely = [node_of(row) for row in found.rows if _may_select(row, pairs)]
        for node, selector in _selectors(likely):
            for pod in pods:
                if _selects(node, selector, pod):
                    self._add(node, _back(_R.SELECTS), Edge(node.id, pod.id, _R.SELECTS))

    def _naming(self) -> Search:
        """What names objects in its own namespace."""
        named: dict[str, Node] = {}
        namers: dict[Relation, set[str]] = {}
        for relation in _NAMED:
            for node in self._wanted[_back(relation)].values():
                if node.namespace and (some := self._namers(node, relation)):
                    named[node.id] = node
                    namers.setdefault(relation, set()).update(some)
        if not named:
            return
        resources = set(chain.from_iterable(namers.values()))
        self.searched |= resources
        namespaces = {node.namespace for node in named.values()}
        needles = _name_needles(named.values())
        if needles and any(node.resource == PERSISTENT_VOLUME_CLAIM.resource for node in named.values()):
            needles.append(b'"ephemeral"')  # the pod's name and the volume's make that of the claim
        self._take((yield self._lookups.naming(resources, namespaces, needles, CANDIDATES)), *namers)

    def _namers(self, node: Node, relation: Relation) -> tuple[str, ...]:
        if relation in (special := NAMED_BY.get(node.resource, {})):
            return special[relation]
        # Anything may be scaled or routed to; what is never so is not asked for on the way.
        never = (POD.resource, SERVICE.resource)
        likely = node.id == self._root or (relation is _R.SCALES and node.resource not in never)
        return NAME_ANYTHING.get(relation, ()) if likely else ()

    def _naming_volumes(self) -> Search:
        """Claims that name a volume, from any namespace, and volumes that name a claim which names none."""
        claims = [
            node
            for node in self._wanted[_to(_R.BINDS)].values()
            if node.resource == PERSISTENT_VOLUME_CLAIM.resource
            and (node.id == self._root or not any(link.relation is _R.BINDS for link in node.declared.links))
        ]
        back = self._wanted[_back(_R.BINDS)].values()
        volumes = [node for node in back if node.resource == PERSISTENT_VOLUME.resource]
        resources = [PERSISTENT_VOLUME.resource] if claims else []
        resources += [PERSISTENT_VOLUME_CLAIM.resource] if volumes else []
        if resources:
            self.searched.update(resources)
            needles = _name_needles([*claims, *volumes])
            self._take((yield self._lookups.naming(resources, [ANY], needles, CANDIDATES)), _R.BINDS)

    # -- Events -------------------------------------------------------------------------------------------

    async def _events(self) -> None:
        """At the end, in one statement; the root's own come first."""
        self._wanted = {_back(_R.CONCERNS): dict(self._with_events)}
        root = self._with_events.pop(self._root, None)
        about = [
            (node.kind, namespace, node.name)
            for node in self._with_events.values()
            for namespace in _event_namespaces(node)
        ]
        await self._together(*([self._events_of(root)] if root else []), self._events_of_each(about))
        if self._more_events:
            self._left_out[_R.CONCERNS] += await self._lookups.more_events(about, self._more_events)
        self.searched.add(EVENT.resource)

    def _events_of(self, root: Node) -> Search:
        namespaces = _event_namespaces(root)
        self._take(
            (yield self._lookups.events_of(root.kind, namespaces, root.name, self._limit)), _R.CONCERNS
        )

    def _events_of_each(self, about: Sequence[tuple[str, str, str]]) -> Search:
        if about:
            events = self._take((yield self._lookups.events_of_each(about, self._limit)), _R.CONCERNS)
            of_each = Counter(
                (link.reference.kind, link.reference.namespace, link.reference.name)
                for event in events
                for link in event.declared.links
            )
            unread = sum(not event.declared.links for event in events)
            if len(events) == self._limit or max(of_each.values(), default=0) + unread >= EVENTS_OF_EACH:
                self._more_events = len(events)

    # -- inside -------------------------------------------------------------------------------------------

    def _take(self, found: Found, *relations: Relation) -> list[Node]:
        """Relate what was found to those of this step's objects that it names in one of these relations."""
        for relation in relations:
            self._left_out[relation] += found.left_out
        others = [*map(node_of, found.rows)]
        for other in others:
            for link in other.declared.links:
                if link.relation not in relations:
                    continue
                wanted = self._wanted.get(Move(link.relation, not link.outward), {})
                node = wanted.get(object_id(*self._catalogue.place(link.reference)))
                if node is not None:
                    self._relate(other, link, node, reached=other)
        return others

    def _relate(self, node: Node, link: Link, other: Node, *, reached: Node) -> None:
        """Add the edge of a link that `node` declares; `reached` is the one that was not there before."""
        source, target = (node, other) if link.outward else (other, node)
        uid = link.reference.uid
        # The uid in a node's Events is its name, where its kubelet reports them.
        former = uid not in ("", other.uid, other.name) and other.uid != ""
        edge = Edge(source.id, target.id, link.relation, former)
        self._add(reached, Move(link.relation, reached is target), edge)

    def _add(self, reached: Node, move: Move, edge: Edge) -> None:
        if reached.id not in self.nodes:
            if self._added[move.relation] >= self._limit:
                self._unseen.add((move.relation, reached.id))
                return
            self._added[move.relation] += 1
            self.nodes[reached.id] = reached
        self.edges.add(edge)
        self._reached.setdefault(reached.id, set()).update(FOLLOWED.get(move, ()))


def node_of(row: Stored) -> Node:
    """The node of a stored object."""
    return Node(
        id=object_id(row.resource, row.namespace, row.name),
        resource=row.resource,
        kind=row.kind,
        namespace=row.namespace,
        name=row.name,
        uid=row.uid,
        state=row.state,
        summary=row.summary,
        declared=declared(row.resource, row.body),
    )


def _selectors(nodes: Iterable[Node]) -> list[tuple[Node, LabelSelector]]:
    """Those that select pods, with what they select by."""
    found = []
    for node in nodes:
        with suppress(SelectorError):  # an object may hold one that its API server would not take today
            selector = label_selector_of(node.declared.selector or {})
            if selector.requirements:
                found.append((node, selector))
    return found


class _Spec(msgspec.Struct):
    selector: dict[str, Any]


class _Selecting(msgspec.Struct):
    spec: _Spec


_SELECTING = msgspec.json.Decoder(_Selecting)


def _may_select(row: Stored, pairs: set[tuple[str, str]]) -> bool:
    """Whether all labels that its selector names are among these: most of those that have one of them in
    common have not, and all that there is to be read takes ten times as long."""
    try:
        selector = _SELECTING.decode(row.body).spec.selector
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return True
    labels = selector if row.resource == SERVICE.resource else selector.get("matchLabels")
    if not isinstance(labels, dict):
        return True
    try:
        return labels.items() <= pairs
    except TypeError:  # a value that is no text
        return True


def _selects(node: Node, selector: LabelSelector, pod: Node) -> bool:
    return node.namespace == pod.namespace and selector.matches(pod.declared.labels)


def _label_needles(pods: Sequence[Node]) -> list[bytes]:
    """What is in every body whose selector selects one of the pods: a value, else a key of their labels, or
    an expression. None where that would be too many.
    """
    for index in (1, 0):
        texts = {pair[index] for pod in pods for pair in pod.declared.labels.items()}
        if len(texts) < NEEDLES:
            return [_quoted(text) for text in sorted(texts)] + [b'"matchExpressions"']
    return []


def _name_needles(nodes: Iterable[Node]) -> list[bytes]:
    """What is in every body that names one of the nodes. None where that would be too many."""
    names = {node.name for node in nodes}
    return [_quoted(name) for name in sorted(names)] if len(names) < NEEDLES else []


def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


def _event_namespaces(node: Node) -> list[str]:
    """Where an Event says that the object is: some emitters do not leave it empty."""
    return [node.namespace] if node.namespace else ["", _DEFAULT_NAMESPACE]
