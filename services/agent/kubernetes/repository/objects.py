"""Reads and writes single objects of whatever resource the API server serves."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.kubernetes import KINDS
from services.agent.kubernetes.repository.discovery import served_resources
from services.agent.kubernetes.repository.interfaces import Json, Served, Written
from services.agent.kubernetes.sdk.interfaces import (
    JSON,
    Absent,
    Access,
    KubernetesClient,
    Unanswered,
    Unreadable,
)

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MAX_BYTES = 48 * 1024 * 1024
"""Bytes of one answer: it is in memory several times over while it is redacted and sent on."""
FRESH = 600.0
"""Seconds for which what is served is taken to be what was served."""
ANEW = 2.0
"""Seconds before the server is asked again for what it did not have: a definition may just have come."""


class KubernetesObjects:
    """ObjectRepository over a KubernetesClient."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._discovering = asyncio.Lock()
        self._served: list[Served] = []
        self._read_at = float("-inf")

    async def find(self, resource: str) -> Served:
        if resource in KINDS:
            kind = KINDS[resource]
            resource = ".".join(filter(None, (kind.plural, kind.version, kind.group)))
        found = await self._search(lambda item: _is_called(item, resource))
        groups = dict.fromkeys(item.group for item in found)
        if len(groups) > 1:
            names = ", ".join(f"{item.plural}.{item.version}.{item.group}".rstrip(".") for item in found)
            raise Absent(f"the cluster has several resources called {resource}: {names}")
        if not found:
            raise Absent(f"the cluster has no resource called {resource}")
        return found[0]  # the version that the server prefers

    async def find_kind(self, api_version: str, kind: str) -> Served:
        found = await self._search(lambda item: (item.api_version, item.kind) == (api_version, kind))
        if not found:
            raise Absent(f"the cluster has no kind {kind} in {api_version}")
        return found[0]

    async def _search(self, wanted: Any) -> list[Served]:
        async with self._discovering:
            for patience in (FRESH, ANEW):
                now = asyncio.get_running_loop().time()
                if now - self._read_at > patience:
                    self._served = await served_resources(self._client)
                    self._read_at = now
                if found := [item for item in self._served if wanted(item)]:
                    return found
        return []

    async def read(
        self, path: str, query: Mapping[str, str] | None = None, *, metadata_only: bool = False
    ) -> Json:
        accept = METADATA if metadata_only else JSON
        data = await self._client.get(path, query or {}, accept=accept, max_bytes=MAX_BYTES)
        try:
            return msgspec.json.decode(data, type=Json)
        except msgspec.DecodeError as error:
            raise Unreadable(f"{path} is not what an API server says: {error}") from error

    async def read_text(self, path: str, query: Mapping[str, str]) -> bytes:
        return await self._client.get(path, query, accept="*/*", max_bytes=MAX_BYTES)

    async def write(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str],
        *,
        audit_id: str,
        content_type: str = JSON,
        metadata_only: bool = False,
    ) -> Written:
        accept = METADATA if metadata_only else JSON
        reply = await self._client.write(
            method, path, query, body, content_type=content_type, accept=accept, audit_id=audit_id
        )
        try:
            return Written(msgspec.json.decode(reply.body, type=Json), reply.warnings)
        except msgspec.DecodeError as error:
            raise Unanswered(f"{path}: the answer can't be read: {error}") from error

    async def allowed(self, access: Access) -> bool:
        return await self._client.may(access)


def _is_called(item: Served, resource: str) -> bool:
    names = [item.plural, f"{item.plural}.{item.version}"]
    if item.group:
        names = [item.plural, f"{item.plural}.{item.group}", f"{item.plural}.{item.version}.{item.group}"]
    return resource in names
