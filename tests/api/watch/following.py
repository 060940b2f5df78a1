"""A reader of `/api/v1/watch`, and replicas of the api for it to read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import sqlalchemy as sa

from services.api.app import create_app
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from services.persistence import tables
from services.persistence.database.engine import Database
from services.runtime.health import Health
from tests.tokens import AUTHORIZED
from tests.waiting import until

Mirror = dict[tuple[str, ...], str]
"""By cluster, resource and what identifies an object there: its uid and, for an object, its status."""


@dataclass
class Message:
    event: str
    id: str
    data: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.data.get("name", ""))


@dataclass
class Follower:
    """What one reader has been sent."""

    response: httpx.Response
    messages: list[Message] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    position: str = ""
    ended: bool = False

    def of(self, *events: str) -> list[Message]:
        return [message for message in self.messages if message.event in events]

    async def until(self, condition: Callable[["Follower"], object], seconds: float = 40.0) -> "Follower":
        try:
            await until(lambda: condition(self), seconds)
        except TimeoutError:
            raise AssertionError(f"sent until then: {self.blocks[-5:]}") from None
        return self

    async def synced(self, times: int = 1) -> "Follower":
        return await self.until(lambda reader: len(reader.of("synced")) >= times)

    def take(self, block: str) -> None:
        self.blocks.append(block)
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "id" in fields:
            self.position = fields["id"]
        if "data" in fields:
            self.messages.append(Message(fields["event"], fields["id"], json.loads(fields["data"])))


@asynccontextmanager
async def follow(url: str, query: str = "", since: str = "") -> AsyncIterator[Follower]:
    """Read `/api/v1/watch?query` of the replica at `url`, from a position on."""
    headers = AUTHORIZED | ({"Last-Event-ID": since} if since else {})
    async with (
        httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(40)) as client,
        client.stream("GET", f"/api/v1/watch?{query}", headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        follower = Follower(response)
        reading = asyncio.create_task(_read(response, follower))
        try:
            yield follower
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def _read(response: httpx.Response, follower: Follower) -> None:
    rest = b""
    try:
        async for piece in response.aiter_raw():
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                follower.take(block.decode())
    except httpx.HTTPError:
        pass
    follower.ended = True


def apply(mirror: Mirror, messages: list[Message]) -> None:
    """What a reader makes of it: with `resync` it begins anew."""
    for message in messages:
        if message.event == "resync":
            mirror.clear()
        elif message.event == "put":
            mirror[key_of(message)] = f"{message.data['uid']} {message.data['item'].get('status')}"
        elif message.event == "delete":
            mirror.pop(key_of(message), None)


def mirror_of(messages: list[Message]) -> Mirror:
    """What a reader holds after these."""
    mirror: Mirror = {}
    apply(mirror, messages)
    return mirror


def key_of(message: Message) -> tuple[str, ...]:
    data = message.data
    own = (data["uid"],) if data["resource"] == "events" else (data["namespace"], data["name"])
    return data["cluster"], data["resource"], *own


async def table(database: Database) -> Mirror:
    """What the database holds, in the form of a mirror."""
    resource, event = tables.table_of(tables.Resource).c, tables.table_of(tables.Event).c
    async with database.read() as connection:
        objects = await connection.execute(
            sa.select(
                resource.target_id,
                resource.resource,
                resource.namespace,
                resource.name,
                resource.uid,
                resource.summary,
            )
        )
        events = await connection.execute(sa.select(event.cluster_id, event.uid))
        held = {
            tuple(key): f"{uid} {json.loads(summary).get('status')}" for *key, uid, summary in objects.all()
        }
        return held | {(cluster, "events", uid): f"{uid} None" for cluster, uid in events.all()}


@dataclass
class Replica:
    """One api of several on a database."""

    url: str
    hub: Hub
    serving: asyncio.Task[None]
    looking: asyncio.Task[None]


@asynccontextmanager
async def replica(database_url: str, max_readers: int = 500) -> AsyncIterator[Replica]:
    """An api over real HTTP with a connection to the database of its own, and without a bus."""
    async with Database(database_url) as database:
        hub = Hub(database, max_readers)
        with bind("127.0.0.1:0", "API_LISTEN") as listener:
            host, port = listener.getsockname()
            looking = asyncio.create_task(hub.run())
            serving = asyncio.create_task(
                serve(create_app(database, Health("api"), hub), listener, hub.close)
            )
            try:
                yield Replica(f"http://{host}:{port}", hub, serving, looking)
            finally:
                serving.cancel()
                looking.cancel()
                await asyncio.wait([serving, looking])
