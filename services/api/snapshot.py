"""A whole cluster as one JSON document, sent as it is read: nobody holds all of it at once."""

from collections.abc import AsyncIterator, Sequence
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
from services.api.http import etags, problems
from services.api.http.limits import NoSeat, Seats
from services.api.http.streaming import is_head, while_there
from services.api.lookup import collection_status, find_agent
from services.api.models import AsOf, CollectionStatus, Position
from services.api.watch.position import Position as At
from services.persistence import queries
from services.persistence.database.engine import Connection, Database
from services.persistence.queries import AgentStatus
from services.runtime.tasks import to_its_end

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
        async with self._database.read() as connection, queries.reading_all(connection, _PATIENCE):
            # Whatever is asked of the database is awaited to its end: a connection that is interrupted in
            # the middle is lost, and on SQLite it may go on reading.
            head, etag = await to_its_end(_begin(connection, self._target, self._request))
            headers = [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-cache"),
                (b"etag", etag.encode()),
            ]
            fresh = etags.matches(self._known, etag)
            await send({"type": "http.response.start", "status": 304 if fresh else 200, "headers": headers})
            if not fresh and not is_head(scope):
                out = _Writer(send)
                await out.write(head)
                await _write_lists(out, connection, self._target)
                await out.flush()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _begin(
    connection: Connection, target: Target, request: Request[Any, Any, Any]
) -> tuple[bytes, str]:
    """The document up to its lists, and its tag."""
    revisions = (await queries.revisions(connection)).revs
    status = await find_agent(connection, target)
    summaries = await queries.summaries(connection, [target])
    head = SnapshotHead(
        cluster_id=target.id,
        version=status.version,
        fetched_at=status.as_of,
        as_of=status.as_of,
        position=str(At.at(revisions)),
        collection=[collection_status(entry) for entry in status.collection],
        summary=summaries[target],
    )
    members = msgspec.to_builtins(head)
    del members["generic"]
    return encode(members)[:-1], await _etag(request, connection, status, revisions)


class _Writer:
    """Sends in pieces what is written bit by bit."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._gathered = bytearray()

    async def write(self, part: bytes) -> None:
        self._gathered += part
        if len(self._gathered) >= _PIECE:
            await self.flush()

    async def flush(self) -> None:
        piece, self._gathered = bytes(self._gathered), bytearray()
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})


async def _write_lists(out: _Writer, connection: Connection, target: Target) -> None:
    held = await to_its_end(queries.held_resources(connection, target))
    for resource in KINDS:
        await out.write(b',"%b":' % resource.encode())
        await _write_list(out, connection, target, resource)
    await out.write(b',"generic":{')
    for number, resource in enumerate(name for name in held if name not in KINDS):
        await out.write(b"%b%b:" % (b"," if number else b"", encode(resource)))
        await _write_list(out, connection, target, resource)
    await out.write(b"}}")


async def _write_list(out: _Writer, connection: Connection, target: Target, resource: str) -> None:
    separator = b"["
    # Closed here and not when somebody finds it: SQLite reads on as long as a cursor is open.
    async with aclosing(queries.bodies(connection, target, resource)) as portions:
        while portion := await to_its_end(_next(portions)):
            for row in portion:
                await out.write(separator)
                await out.write(row.body if row.body != b"null" else _unreadable(row))
                separator = b","
    await out.write(b"[]" if separator == b"[" else b"]")


async def _next(portions: AsyncIterator[Sequence[Any]]) -> Sequence[Any]:
    """The next portion; empty behind the last."""
    async for portion in portions:
        return portion
    return ()


def _unreadable(row: Any) -> bytes:
    """An object whose projection could not be read is there all the same."""
    return encode({"metadata": {"namespace": row.namespace, "name": row.name, "uid": row.uid}})


async def _etag(
    request: Request[Any, Any, Any], connection: Connection, status: AgentStatus, revisions: tuple[int, ...]
) -> str:
    states = [(entry.resource, entry.state) for entry in status.collection]
    oldest = await queries.oldest_event(connection, status.target)
    of_shard = etags.of_shards(revisions, [status.target])
    return etags.tag(request, status.version, status.as_of, of_shard, oldest, states)
