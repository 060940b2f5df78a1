"""The API server as its administrator has it, for whoever plays the cluster's users."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from services.cli.cluster.control_plane import ControlPlane


@asynccontextmanager
async def administrator(
    plane: ControlPlane, *, connections: int, seconds: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """Requests to the API server, each within so many seconds."""
    token = plane.layout.token_file.read_text().split(",", 1)[0]
    trust = ssl.create_default_context(cafile=str(plane.layout.certificate("kube-apiserver")))
    async with aiohttp.ClientSession(
        plane.layout.url("kube-apiserver"),
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(limit=connections, ssl=trust),
        timeout=aiohttp.ClientTimeout(total=seconds),
    ) as session:
        yield session
        await asyncio.sleep(0.25)  # aiohttp leaves the end of TLS connections to the loop
