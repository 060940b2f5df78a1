"""Frames and a log for tests: an agent as simple as can be."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa

from schemas.frames import Delete, Frame, Phase, Put, ResourceDigest, Scope, content_hash
from schemas.ids import Target, kubernetes
from services.persistence import tables
from services.persistence.database.engine import Connection, Database
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import Position, ReceivedFrame
from services.persistence.state.report import Report
from services.runtime.bus.consumer import Cursor

START = datetime(2026, 11, 1, tzinfo=UTC)
Held = dict[tuple[str, str, str], bytes]
"""What somebody holds: body by resource, namespace and name."""


def body_of(name: str, namespace: str = "default", *, state: str = "Running", **spec: object) -> bytes:
    """A pod."""
    return msgspec.json.encode(
        {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
            "spec": spec,
            "status": {"phase": state},
        }
    )


def put(resource: str, namespace: str, name: str, body: bytes) -> Put:
    return Put(resource=resource, namespace=namespace, name=name, uid=f"uid-{name}", body=msgspec.Raw(body))


@dataclass
class Log:
    """A stream: numbers and times of its own."""

    created: datetime = START
    sequence: int = 0
    later: timedelta = timedelta()
    """By how much the frames from now on are later than their numbers say."""

    def receive(self, target: Target, frame: Frame) -> ReceivedFrame:
        """Append a frame."""
        self.sequence += 1
        time = self.created + timedelta(seconds=self.sequence) + self.later
        return ReceivedFrame(target, frame, Position(created=self.created, sequence=self.sequence, time=time))

    @property
    def cursor(self) -> Cursor:
        """Behind the last frame."""
        return Cursor("test", "FRAMES", self.created, self.sequence)


@dataclass
class FrameSource:
    """An agent's side: what it holds, and the frames that say so."""

    target: Target = field(default_factory=lambda: kubernetes("c1"))
    held: Held = field(default_factory=dict)
    epoch: str = ""
    sequence: int = 0
    resources: tuple[str, ...] = ("pods", "nodes")
    namespaces: tuple[str, ...] = ()

    def begin(self, epoch: str, instance: str = "instance-1") -> Frame:
        self.epoch, self.sequence = epoch, 0
        scope = Scope(resources=list(self.resources), namespaces=list(self.namespaces))
        return self._next(phase=Phase.BEGIN, instance=instance, scope=scope)

    def all(self, size: int = 500) -> list[Frame]:
        """Data frames of everything, then `synced`."""
        items = [put(*key, body) for key, body in self.held.items()]
        data = [
            self._next(phase=Phase.DATA, items=items[start : start + size])
            for start in range(0, len(items), size)
        ]
        return [*data, self.synced()]

    def synced(self) -> Frame:
        return self._next(phase=Phase.SYNCED, synced=list(self.resources))

    def put(
        self, name: str, body: bytes | None = None, resource: str = "pods", namespace: str = "default"
    ) -> Frame:
        body = body if body is not None else body_of(name, namespace)
        self.held[resource, namespace, name] = body
        return self._next(phase=Phase.DATA, items=[put(resource, namespace, name, body)])

    def delete(self, name: str, resource: str = "pods", namespace: str = "default") -> Frame:
        self.held.pop((resource, namespace, name), None)
        gone = Delete(resource=resource, namespace=namespace, name=name, uid=f"uid-{name}")
        return self._next(phase=Phase.DATA, items=[gone])

    def data(self, *items: Put | Delete) -> Frame:
        return self._next(phase=Phase.DATA, items=list(items))

    def digest(self) -> Frame:
        digest = {}
        for resource in self.resources:
            hashes = [content_hash(*key, body) for key, body in self.held.items() if key[0] == resource]
            digest[resource] = ResourceDigest(count=len(hashes), sum=sum(hashes))
        return self._next(phase=Phase.DIGEST, digest=digest)

    def _next(self, **fields: object) -> Frame:
        self.sequence += 1
        return Frame(epoch=self.epoch, sequence=self.sequence, **fields)  # type: ignore[arg-type]


class CrashError(Exception):
    """The process died, or the database failed, before or after the commit."""


class CrashingDatabase(Database):
    """Fails at chosen transactions: at the odd ones before the commit, at the even ones after it."""

    crashes: frozenset[int] = frozenset()
    writes = 0

    @asynccontextmanager
    async def write(self, *, durable: bool = False) -> AsyncIterator[Connection]:
        self.writes += 1
        async with super().write(durable=durable) as connection:
            yield connection
            if self.writes in self.crashes and self.writes % 2:
                raise CrashError
        if self.writes in self.crashes:
            raise CrashError


async def apply_all(applier: FrameApplier, received: Sequence[ReceivedFrame], cursor: Cursor) -> Report:
    """As many transactions as it takes; what they did together."""
    reports = []
    while True:
        reports.append(await applier.apply(received, cursor))
        received = received[len(reports[-1].frames) :]
        if not received:
            return Report(
                frames=[judged for report in reports for judged in report.frames],
                changed=sum(report.changed for report in reports),
                unchanged=sum(report.unchanged for report in reports),
                removed=sum(report.removed for report in reports),
                unreadable=[text for report in reports for text in report.unreadable],
                rev=max(report.rev for report in reports),
            )


async def rows(db: Database, target: Target) -> Held:
    """What the database holds of an agent."""
    table = tables.table_of(tables.Resource)
    async with db.read() as connection:
        found = await connection.execute(
            sa.select(table.c.resource, table.c.namespace, table.c.name, table.c.body).where(
                table.c.target_kind == target.kind.value, table.c.target_id == target.id
            )
        )
        return {(resource, namespace, name): body for resource, namespace, name, body in found}


async def only_row(db: Database, model: type[tables.Table]) -> sa.Row[tuple[object, ...]]:
    """The one row of a table."""
    async with db.read() as connection:
        return (await connection.execute(sa.select(tables.table_of(model)))).one()
