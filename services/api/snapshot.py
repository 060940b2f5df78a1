"""A whole cluster as one JSON document, sent as it is read: nobody holds all of it at once."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.types import Receive, Scope, Send
from msgspec import Meta, Struct, defstruct, field
from msgspec.json import encode

from schemas.ids import Target
from schemas.kubernetes import KINDS
from schemas.snapshot import ClusterSummary
from services.api import etags, problems
from services.api.limits import NoSeat, Seats
from services.api.lookup import collection_status, find_agent
from services.api.models import AsOf, CollectionStatus, Position
from services.api.streaming import is_head, while_there
from services.api.watch.position import Position as At
from services.persistence import queries
from services.persistence.database.engine import Database, Session
from services.persistence.queries import AgentStatus

_PIECE = 64 * 1024
"""Bytes that are sent at once, at least."""
_PATIENCE = 3600.0
"""Seconds that PostgreSQL waits between two portions; the answer's own time limit is shorter."""


class SnapshotHead(Struct, kw_only=True):
    """What a snapshot says beside the objects."""

    cluster_id: str
    version: Annotated[int, Meta(ge=0, description="Frames applied since it is known; it only grows.")]
    fetched_at: Annotated[
        datetime | None, Meta(description="The broker's time of the last frame applied; null: none has been.")
    ]
    as_of: AsOf
    position: Position
    collection: Annotated[
        list[CollectionStatus], Meta(description="Whether these objects are all there are, and why not.")
    ]
    summary: ClusterSummary
    generic: Annotated[
        dict[str, list[dict[str, Any]]],
        Meta(description="Objects of the resources that were added by setting, by resource."),
    ] = field(default_factory=dict)


Snapshot: type[SnapshotHead] = defstruct(  # type: ignore[assignment]
    "Snapshot",
    [(kind.resource, list[dict[str, Any]], field(default_factory=list)) for kind in KINDS.values()],
    bases=(SnapshotHead,),
    kw_only=True,
    namespace={"__doc__": "A cluster as of one moment: its objects' projections, by resource."},
)


class SnapshotStream:
    """An ASGI application that answers one request from one transaction.

    Before the first byte it raises ProblemError and DatabaseUnavailable. What fails later breaks the
    transfer.
    """

    def __init__(
        self,
        database: Database,
        seats: Seats,
        target: Target,
        request: Request[Any, Any, Any],
        known: str | None,
    ) -> None:
        """`known`: the `If-None-Match` of the request."""
        self._database = database
        self._seats = seats
        self._target = target
        self._request = request
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._seats.seat():
                await while_there(receive, self._answer(scope, send))
        except NoSeat:
            detail = f"{self._seats.number} snapshots are being sent already"
            kind = problems.TOO_MANY_SNAPSHOTS
            raise problems.ProblemError(kind, detail, kind.next) from None

    async def _answer(self, scope: Scope, send: Send) -> None:
        async with self._database.read() as session, queries.reading_all(session, _PATIENCE):
            revisions = (await queries.revisions(session)).revs
            status = await find_agent(session, self._target)
            etag = await _etag(self._request, session, status, revisions)
            headers = [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-cache"),
                (b"etag", etag.encode()),
            ]
            fresh = etags.matches(self._known, etag)
            await send({"type": "http.response.start", "status": 304 if fresh else 200, "headers": headers})
            if not fresh and not is_head(scope):
                head = await _head(session, status, revisions)
                async with aclosing(_document(session, self._target, head)) as pieces:
                    async for piece in _joined(pieces):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _head(session: Session, status: AgentStatus, revisions: tuple[int, ...]) -> bytes:
    summaries = await queries.summaries(session, [status.target])
    head = SnapshotHead(
        cluster_id=status.target.id,
        version=status.version,
        fetched_at=status.as_of,
        as_of=status.as_of,
        position=str(At.at(revisions)),
        collection=[collection_status(entry) for entry in status.collection],
        summary=summaries[status.target],
    )
    members = msgspec.to_builtins(head)
    del members["generic"]
    return encode(members)[:-1]


async def _document(session: Session, target: Target, head: bytes) -> AsyncGenerator[bytes, None]:
    held = await queries.held_resources(session, target)
    yield head
    for resource in KINDS:
        yield b',"%b":' % resource.encode()
        async for part in _list(session, target, resource):
            yield part
    yield b',"generic":{'
    for number, resource in enumerate(name for name in held if name not in KINDS):
        yield b"%b%b:" % (b"," if number else b"", encode(resource))
        async for part in _list(session, target, resource):
            yield part
    yield b"}}"


async def _list(session: Session, target: Target, resource: str) -> AsyncGenerator[bytes, None]:
    separator = b"["
    async with aclosing(queries.bodies(session, target, resource)) as portions:
        async for portion in portions:
            for row in portion:
                yield separator
                yield row.body if row.body != b"null" else _unreadable(row)
                separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _unreadable(row: Any) -> bytes:
    """An object whose projection could not be read is there all the same."""
    return encode({"metadata": {"namespace": row.namespace, "name": row.name, "uid": row.uid}})


async def _joined(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    gathered = bytearray()
    async for part in parts:
        gathered += part
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def _etag(
    request: Request[Any, Any, Any], session: Session, status: AgentStatus, revisions: tuple[int, ...]
) -> str:
    states = [(entry.resource, entry.state) for entry in status.collection]
    oldest = await queries.oldest_event(session, status.target)
    of_shard = etags.of_shards(revisions, [status.target])
    return etags.tag(request, status.version, status.as_of, of_shard, oldest, states)
