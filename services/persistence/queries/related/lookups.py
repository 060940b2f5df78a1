"""Finding related objects: one statement for many of them at a time, each with a limit."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.frames import Scope
from schemas.ids import AgentKind, Target
from schemas.kubernetes.event import EVENT
from schemas.selectors import LabelSelector
from services.persistence.database.dialects import KEYS, encode_keys
from services.persistence.queries.related import statements
from services.persistence.queries.related.graph import Entry, group_of
from services.persistence.queries.related.statements import ANY, EVENTS_OF_EACH

COUNTED = 10_000
"""Objects that were left out are counted up to here, per statement: counting looks at each."""
TOGETHER = 20
"""Selectors in one statement."""
Keys = Sequence[tuple[str, str, str]]


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


class Found(NamedTuple):
    """What a statement has found within its limit, and how much more there is."""

    rows: list[Stored]
    left_out: int


class Lookups:
    """Reads the objects of one agent, in one transaction."""

    def __init__(self, connection: AsyncConnection, target: Target) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._is_cluster = target.kind is AgentKind.KUBERNETES
        self._target = (target.kind.value, target.id)
        self._ours = {"target_kind": target.kind.value, "target_id": target.id}

    async def one(self, resource: str, namespace: str, name: str) -> Stored | None:
        """One object; an Event is found by its uid."""
        key = {"namespace": namespace, "name": name}
        if self._is_cluster and resource == EVENT.resource:
            rows = await self._rows(statements.ONE_EVENT, key)
        else:
            rows = await self._rows(statements.ONE, {"resource": resource, **key})
        return rows[0] if rows else None

    async def by_keys(self, keys: Keys) -> list[Stored]:
        """Those that are there, by resource, namespace and name."""
        return await self._rows(statements.by_keys(self._dialect), self._given(keys)) if keys else []

    async def owned(self, owners: Keys, limit: int) -> Found:
        """What these own, by kind, name and namespace; the namespace may be ANY."""
        return await self._limited(statements.owned(self._dialect), self._given(owners), limit)

    async def on_nodes(self, names: Sequence[str], limit: int) -> Found:
        """The pods on these nodes."""
        return await self._limited(statements.ON_NODES, {"nodes": names}, limit)

    async def selected(self, selectors: Sequence[tuple[str, LabelSelector]], limit: int) -> Found:
        """The pods that these select, each in its namespace; one that several select comes once."""
        found: dict[tuple[str, str, str], Stored] = {}
        left_out = 0
        for start in range(0, len(selectors), TOGETHER):
            several = [
                statements.selected(self._dialect, self._target, *item)
                for item in selectors[start : start + TOGETHER]
            ]
            rows = (await self._connection.execute(statements.together(several), {"limit": limit + 1})).all()
            sizes: Counter[int] = Counter()
            for *row, which in rows:
                sizes[which] += 1
                if sizes[which] <= limit:
                    stored = Stored(*row)
                    found[stored[:3]] = stored
            more = [statements.counting(several[which]) for which, size in sizes.items() if size > limit]
            if more:
                counts = await self._connection.scalars(sa.union_all(*more), {"limit": limit + COUNTED})
                left_out += sum(count - limit for count in counts)
        return Found([*found.values()], left_out)

    async def naming(
        self, resources: Collection[str], namespaces: Collection[str], needles: Sequence[bytes], limit: int
    ) -> Found:
        """Objects of these resources, in these namespaces (or ANY), whose body has one of the needles.

        They may name what is looked for: whoever asks has to look. No needles: all.
        """
        anywhere = ANY in namespaces
        statement = statements.naming(self._dialect, len(needles), anywhere=anywhere)
        values: dict[str, Any] = {f"needle_{number}": needle for number, needle in enumerate(needles)}
        values["resources"] = sorted(resources)
        if not anywhere:
            values["namespaces"] = sorted(namespaces)
        return await self._limited(statement, values, limit)

    async def events_of(self, kind: str, namespaces: Sequence[str], name: str, limit: int) -> Found:
        """The Events about one object, the one seen last first."""
        values = {f"namespace_{number}": namespace for number, namespace in enumerate(namespaces)}
        statement = statements.events_of(len(namespaces))
        return await self._limited(statement, {"kind": kind, "name": name, **values}, limit)

    async def events_of_each(self, objects: Keys, limit: int) -> Found:
        """The newest Events about these, by kind, namespace and name: EVENTS_OF_EACH, in all `limit`."""
        given = self._given(objects)
        rows = await self._rows(statements.events_of_each(self._dialect), {**given, "limit": limit})
        if len(rows) < min(limit, EVENTS_OF_EACH):
            return Found(rows, 0)
        number = await self._count(statements.all_events_of_each(self._dialect), given, len(rows))
        return Found(rows, number)

    async def generic(self, resources: Sequence[str]) -> list[Entry]:
        """The kinds of resources that have no projection, as far as there are objects of them."""
        found = []
        for resource in resources:
            values = {"resource": resource, **self._ours}
            row = (await self._connection.execute(statements.SOME_OF, values)).first()
            if row is not None:
                found.append(Entry(resource, row.kind, group_of(resource), bool(row.namespace)))
        return found

    async def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the agent is set to collect; empty for all."""
        scope = await self._connection.scalar(statements.SCOPE, self._ours)
        return tuple(msgspec.convert(scope, Scope).namespaces) if scope else ()

    # -- inside -------------------------------------------------------------------------------------------

    def _given(self, keys: Keys) -> dict[str, Any]:
        return {KEYS: encode_keys([(*self._target, *key) for key in keys])}

    async def _rows(self, statement: sa.Select[Any], values: dict[str, Any]) -> list[Stored]:
        found = await self._connection.execute(statement, {**self._ours, **values})
        return [Stored(*row) for row in found]

    async def _limited(self, statement: sa.Select[Any], values: dict[str, Any], limit: int) -> Found:
        rows = await self._rows(statement, {**values, "limit": limit + 1})
        if len(rows) <= limit:
            return Found(rows, 0)
        return Found(rows[:limit], await self._count(statement, values, limit))

    async def _count(self, statement: sa.Select[Any], values: dict[str, Any], shown: int) -> int:
        """How many rows there are beyond those that are shown."""
        values = {**self._ours, **values, "limit": shown + COUNTED}
        number = await self._connection.scalar(statements.counting(statement), values)
        return (number or 0) - shown
