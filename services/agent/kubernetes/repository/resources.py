"""Reads any kind from an API server: lists, watches, discovery, rights."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
from msgspec import Struct

from schemas.kubernetes.kind import Kind
from services.agent.capability import Identity
from services.agent.kubernetes.repository import discovery
from services.agent.kubernetes.repository.access import needed, wanted
from services.agent.kubernetes.repository.decoder import decoder_for
from services.agent.kubernetes.repository.events import change_of
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.repository.lists import Lists
from services.agent.kubernetes.repository.query import TABLE, accept_of, query_of
from services.agent.kubernetes.sdk.interfaces import (
    JSON,
    Absent,
    Access,
    Forbidden,
    Invalid,
    KubernetesClient,
)

WATCH_TIMEOUT = 45.0
"""Seconds after which the server is asked to end a watch, which is then made anew."""
WATCH_GRACE = 5.0
"""Seconds of silence beyond that: whoever should have ended the watch by then can't be reached."""
CONFIRM_TIMEOUT = 10.0
"""Seconds in which the server must say whether it has a resource version; it waits for 3 by itself."""


class _Version(Struct, rename="camel"):
    """version.Info"""

    git_version: str = ""


class _Meta(Struct):
    uid: str = ""


class _Object(Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class KubernetesResources:
    """ResourceRepository over a KubernetesClient.

    `page_timeout`: seconds for one page of a list. `watch_timeout`: seconds for one watch.
    """

    def __init__(
        self, client: KubernetesClient, *, page_timeout: float, watch_timeout: float = WATCH_TIMEOUT
    ) -> None:
        self._client = client
        self._lists = Lists(client, page_timeout)
        self._watch_timeout = watch_timeout

    def pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        return self._lists.pages(kind, namespace)

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncGenerator[Change, None]:
        # Spread, so that watches which began at one moment are not all renewed at one. Before the end the
        # server sends a bookmark, so silence beyond it is never that of a resource where nothing happens.
        seconds = max(1, round(self._watch_timeout * random.uniform(0.75, 1.0)))
        query = query_of(kind) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        decoder = decoder_for(kind)
        lines = self._client.watch(
            kind.path(namespace), query, accept=accept_of(kind), silence=seconds + WATCH_GRACE
        )
        async with aclosing(lines):
            async for line in lines:
                if line:
                    yield change_of(kind, decoder, line)
                else:  # accepted: nothing has changed up to here
                    yield Change(ChangeType.BOOKMARK, resource_version)

    async def confirm(self, kind: Kind, namespace: str, resource_version: str) -> None:
        query = {
            "limit": "1",
            "includeObject": "None",
            "resourceVersion": resource_version,
            "resourceVersionMatch": "NotOlderThan",
        }
        accept = TABLE if kind.as_table else f"{TABLE},{JSON}"
        try:
            await self._client.get(kind.path(namespace), query, accept=accept, timeout=CONFIRM_TIMEOUT)
        except Invalid:
            return  # a server that can't be asked this

    async def readable(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Kind]:
        lacking = set(await self.lacking(kinds, namespaces))
        return [kind for kind in kinds if lacking.isdisjoint(needed(kind, namespaces))]

    async def lacking(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Access]:
        rights = wanted(kinds, namespaces)
        answers = await asyncio.gather(*(self._client.may(access) for access in rights))
        return [access for access, allowed in zip(rights, answers, strict=True) if not allowed]

    async def whoami(self) -> str:
        return await self._client.whoami()

    async def resolve(self, kind: Kind) -> Kind:
        return await discovery.resolve(self._client, kind)

    async def identity(self) -> Identity:
        version = await discovery.read(self._client, "/version", _Version)
        try:
            namespace = await discovery.read(self._client, "/api/v1/namespaces/kube-system", _Object)
        except (Forbidden, Absent):
            return Identity("", version.git_version)
        return Identity(namespace.metadata.uid, version.git_version)
