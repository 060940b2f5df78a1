"""The API over a real socket: with limits of its own, and byte by byte."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.api.app import create_app
from services.api.http.limits import DEFAULTS, Limits
from services.api.http.server import bind, serve
from services.api.watch.hub import Hub
from services.persistence.database.engine import Database
from services.runtime.health import Health
from tests.tokens import AUTHORIZATION, AUTHORIZED

_HOST = b"Host: localhost\r\n"
_PATH = re.compile(r"([\w.~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*", re.ASCII)
"""What a path may hold (RFC 3986, 3.3)."""


@dataclass
class Served:
    """An API that listens."""

    host: str
    port: int
    client: httpx.AsyncClient

    async def send(self, *parts: bytes, seconds: float = 30.0) -> "Answer":
        """Send bytes as they are, in turn, and read until the server closes or has answered.

        But for the token: each head with `Host: localhost` gets it.
        """
        parts = tuple(part.replace(_HOST, _HOST + AUTHORIZATION) for part in parts)
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                return await _read(reader)
            finally:
                writer.close()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    def problem(self, name: str) -> dict[str, Any]:
        """The content, which has to be that problem."""
        assert self.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = json.loads(self.content)
        assert body["type"] == f"urn:atlhyper:problem:{name}"
        assert body["status"] == self.status
        assert body["next"]
        assert _PATH.fullmatch(body["instance"])
        return body


async def _read(reader: asyncio.StreamReader) -> Answer:
    status = int((await reader.readline()).split()[1])
    headers: dict[str, str] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        content = await reader.readexactly(int(headers["content-length"]))
    else:
        content = b""
        while status not in (204, 304):
            size = int(await reader.readline(), 16)
            content += await reader.readexactly(size)
            await reader.readline()
            if not size:
                break
    return Answer(status, headers, content)


@asynccontextmanager
async def listening(
    database: Database, limits: Limits = DEFAULTS, cors_origins: Sequence[str] = ()
) -> AsyncIterator[Served]:
    """The API on that database over real HTTP."""
    app = create_app(database, Health("api"), Hub(database), cors_origins, None, limits)
    with bind("127.0.0.1:0", "API_LISTEN") as listener:
        host, port = listener.getsockname()
        serving = asyncio.create_task(serve(app, listener, limits=limits))
        try:
            async with httpx.AsyncClient(
                base_url=f"http://{host}:{port}", headers=AUTHORIZED, timeout=40
            ) as client:
                yield Served(host, port, client)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
