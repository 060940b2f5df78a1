"""Finding related objects: one statement for all questions of a step, each with a limit."""

from collections.abc import Collection, Sequence
from itertools import product
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.frames import Scope
from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from schemas.selectors import LabelSelector, Operator
from services.persistence.database.types import encode_json
from services.persistence.queries.related import statements
from services.persistence.queries.related.graph import Entry, group_of
from services.persistence.queries.related.statements import ANY, Part

COUNTED = 10_000
"""Objects that were left out are counted up to here, per question: counting looks at each."""
TOGETHER = 20
"""Questions in one statement."""
Keys = Sequence[tuple[str, ...]]


class Stored(NamedTuple):
    """A row; `namespace` and `name` are its key, of an Event its uid."""

    resource: str
    namespace: str
    name: str
    kind: str
    uid: str
    state: str
    summary: bytes
    body: bytes


class Question(NamedTuple):
    """What is to be found."""

    part: Part | None
    """How; None: by `statement`."""
    values: dict[str, Any]
    """Its parameters but the limit, by their names in the part."""
    limit: int | None = None
    """Rows at most; None: as many as there are, and nothing is counted."""
    statement: sa.Select[Any] | None = None


class Found(NamedTuple):
    """What a question has found within its limit, and how much more there is."""

    rows: list[Stored]
    left_out: int


class Lookups:
    """Reads the objects of one agent, in one transaction.

    `find` answers questions; what the other methods return without waiting are questions.
    """

    def __init__(self, connection: AsyncConnection, target: Target) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._is_cluster = target.kind is AgentKind.KUBERNETES
        self._target = (target.kind.value, target.id)
        self._ours = {"target_kind": target.kind.value, "target_id": target.id}

    async def one(self, resource: str, namespace: str, name: str) -> Stored | None:
        """One object; an Event is found by its uid."""
        key = {"namespace": namespace, "name": name, **self._ours}
        if self._is_cluster and resource == EVENT.resource:
            found = await self._connection.execute(statements.ONE_EVENT, key)
        else:
            found = await self._connection.execute(statements.ONE, {"resource": resource, **key})
        row = found.first()
        return Stored(*row) if row else None

    async def find(self, questions: Sequence[Question]) -> list[Found]:
        """The answers, in the order of the questions."""
        found: list[Found] = []
        for start in range(0, len(questions), TOGETHER):
            found += await self._find(questions[start : start + TOGETHER])
        return found

    # -- questions ----------------------------------------------------------------------------------------

    def by_keys(self, keys: Keys) -> Question:
        """Those that are there, by resource, namespace and name."""
        return Question(Part.KEYS, self._given(keys))

    def owned(self, owners: Keys, limit: int) -> Question:
        """What these own, by kind, name and namespace; the namespace may be ANY."""
        return Question(Part.OWNED, self._given(owners), limit)

    def on_nodes(self, names: Sequence[str], limit: int) -> Question:
        """The pods on these nodes."""
        return Question(Part.ON_NODES, self._given([(name,) for name in names]), limit)

    def selected(self, namespace: str, selector: LabelSelector, limit: int) -> Question:
        """The pods of a namespace that a selector selects."""
        equal = {
            item.key: item.values[0]
            for item in selector.requirements
            if item.operator is Operator.IN and len(item.values) == 1
        }
        if len(equal) < len(selector.requirements):
            statement = statements.selected(self._dialect, self._target, namespace, selector)
            return Question(None, {}, limit, statement)
        *_, (key, value) = equal.items()
        pair = {"key": key, "value": value} if self._dialect == "sqlite" else {}
        return Question(Part.SELECTED, {"namespace": namespace, "labels": equal, **pair}, limit)

    def naming(
        self, resources: Collection[str], namespaces: Collection[str], needles: Sequence[bytes], limit: int
    ) -> Question:
        """Objects of these resources, in these namespaces (or ANY), whose body has one of the needles.

        They may name what is looked for: whoever asks has to look. No needles: all. At most
        `statements.NEEDLES`.
        """
        anywhere = ANY in namespaces
        places: Keys = [(resource,) for resource in sorted(resources)]
        if not anywhere:
            places = [*product(sorted(resources), sorted(namespaces))]
        texts = dict.fromkeys(map(statements.needle, range(statements.NEEDLES)), None) | {
            statements.needle(number): needle for number, needle in enumerate(needles)
        }
        part = Part.NAMING_ANYWHERE if anywhere else Part.NAMING
        return Question(part, {**self._given(places), "all": int(not needles), **texts}, limit)

    def events_of(self, kind: str, namespaces: Sequence[str], name: str, limit: int) -> Question:
        """The Events about one object, the one seen last first; at most two namespaces."""
        places = dict(enumerate(namespaces))
        values = {f"namespace_{number}": places.get(number) for number in range(2)}
        return Question(Part.EVENTS, {"kind": kind, "name": name, **values}, limit)

    def events_of_each(self, objects: Keys, limit: int) -> Question:
        """The newest Events about these, by kind, namespace and name: EVENTS_OF_EACH, in all `limit`."""
        return Question(Part.EVENTS_OF_EACH, {**self._given(objects), "limit": limit})

    # -- other answers ------------------------------------------------------------------------------------

    async def more_events(self, objects: Keys, shown: int) -> int:
        """How many Events about these there are beyond those that are shown."""
        values = {**self._given(objects), "limit": shown + COUNTED}
        number = await self._connection.scalar(statements.all_events_of_each(self._dialect), values)
        return (number or 0) - shown

    async def generic(self, resources: Sequence[str]) -> list[Entry]:
        """The kinds of resources that have no projection, as far as there are objects of them."""
        if not resources:
            return []
        given = self._given([(resource,) for resource in resources])
        rows = await self._connection.execute(statements.some_of_each(self._dialect), given)
        return [
            Entry(resource, kind, group_of(resource), bool(namespace)) for resource, kind, namespace in rows
        ]

    async def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the agent is set to collect; empty for all."""
        scope = await self._connection.scalar(statements.SCOPE, self._ours)
        return tuple(msgspec.convert(scope, Scope).namespaces) if scope else ()

    # -- inside -------------------------------------------------------------------------------------------

    def _given(self, keys: Keys) -> dict[str, Any]:
        return {"keys": encode_json([(*self._target, *key) for key in keys])}

    async def _find(self, questions: Sequence[Question]) -> list[Found]:
        rows: list[list[Stored]] = [[] for _ in questions]
        parts = [(number, one.part) for number, one in enumerate(questions) if one.part is not None]
        if parts:
            statement = statements.together(self._dialect, tuple(part for _, part in parts))
            values: dict[str, Any] = dict(self._ours)
            for place, (number, _) in enumerate(parts):
                values |= _named(place, questions[number])
            for row in (await self._connection.execute(statement, values)).all():
                rows[parts[row[-1]][0]].append(Stored._make(row[:-1]))
        for number, question in enumerate(questions):
            if question.statement is not None:
                limited = {"limit": (question.limit or 0) + 1}
                found = await self._connection.execute(question.statement, limited)
                rows[number] = [Stored(*row) for row in found]
        return [await self._within(*pair) for pair in zip(questions, rows, strict=True)]

    async def _within(self, question: Question, rows: list[Stored]) -> Found:
        if question.part in (Part.NAMING, Part.NAMING_ANYWHERE):
            rows.sort()
        if question.limit is None or len(rows) <= question.limit:
            return Found(rows, 0)
        return Found(rows[: question.limit], await self._count(question))

    async def _count(self, question: Question) -> int:
        """How many rows there are beyond the question's limit."""
        shown = question.limit or 0
        if question.statement is not None:
            statement = statements.count_of(question.statement)
            values: dict[str, Any] = {"limit": shown + COUNTED}
        else:
            assert question.part is not None
            statement = statements.counting(self._dialect, question.part)
            values = {**self._ours, **_named(0, question._replace(limit=shown + COUNTED - 1))}
        number = await self._connection.scalar(statement, values)
        return (number or 0) - shown


def _named(place: int, question: Question) -> dict[str, Any]:
    """A question's parameters as they are called at its place in a statement."""
    values = {statements.named(place, name): value for name, value in question.values.items()}
    if question.limit is not None:
        values[statements.named(place, "limit")] = question.limit + 1
    return values
