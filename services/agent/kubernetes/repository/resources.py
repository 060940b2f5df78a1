"""Reads any kind from an API server: lists in pages, watches, discovery."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from schemas.kubernetes.generic import generic_kind
from schemas.kubernetes.kind import Kind
from services.agent.capability import Identity
from services.agent.kubernetes.repository.decoder import (
    Decoder,
    Status,
    WatchEvent,
    decoder_for,
    name_of,
)
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.repository.projecting import observed
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Access,
    Expired,
    Forbidden,
    KubernetesClient,
    KubernetesError,
)

PAGE_SIZE = 250
"""Objects in a page: half of client-go's, since two pages of several lists are in memory at one time."""
SLICE = 50
"""Objects decoded in one go; in between the next page is received, or the server would have to wait."""
_JSON = "application/json"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


Read = TypeVar("Read", bound=Struct)


class _ApiResource(Struct):
    """metav1.APIResource"""

    name: str = ""
    kind: str = ""
    namespaced: bool = False


class _ApiResourceList(Struct):
    """metav1.APIResourceList"""

    resources: list[_ApiResource] | None = None


class _Version(Struct, rename="camel"):
    """version.Info"""

    git_version: str = ""


class _Meta(Struct):
    uid: str = ""


class _Object(Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class KubernetesResources:
    """ResourceRepository over a KubernetesClient. `page_timeout`: seconds for one page of a list."""

    def __init__(self, client: KubernetesClient, *, page_timeout: float) -> None:
        self._client = client
        self._page_timeout = page_timeout

    async def pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        decoder = decoder_for(kind)
        next_page: asyncio.Task[bytes] | None = self._fetch(kind, namespace, "")
        try:
            while next_page:
                try:
                    cut = decoder.page(await next_page)
                except msgspec.DecodeError as error:
                    raise KubernetesError(f"the list of {kind.resource} can't be read: {error}") from error
                # The server works on the next page while this one is decoded and sent.
                next_page = self._fetch(kind, namespace, cut.continue_) if cut.continue_ else None
                page = Page([], cut.resource_version)
                for number, item in enumerate(cut.items):
                    if number % SLICE == 0:
                        await asyncio.sleep(0)
                    try:
                        page.objects.append(observed(kind, decoder.item(item)))
                    except (ValueError, RecursionError) as error:
                        page.rejected.append(f"{kind.resource} {name_of(item)}: {error}")
                del cut
                yield page
        finally:
            if next_page:
                next_page.cancel()
                await asyncio.gather(next_page, return_exceptions=True)

    def _fetch(self, kind: Kind, namespace: str, token: str) -> asyncio.Task[bytes]:
        query = {"limit": str(PAGE_SIZE), **({"continue": token} if token else {})}
        query |= {"includeObject": "Metadata"} if kind.as_table else {}
        return asyncio.create_task(
            self._client.get(
                kind.path(namespace),
                query,
                accept=_TABLE if kind.as_table else _JSON,
                timeout=self._page_timeout,
            )
        )

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncGenerator[Change, None]:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            # Spread, so that the watches of a fleet are not all renewed at one moment.
            "timeoutSeconds": str(random.randint(240, 300)),
        }
        query |= {"includeObject": "Metadata"} if kind.as_table else {}
        decoder = decoder_for(kind)
        accept = _TABLE if kind.as_table else _JSON
        async for line in self._client.watch(kind.path(namespace), query, accept=accept):
            if line:
                yield self._change(kind, decoder, line)
            else:  # accepted: nothing has changed up to here
                yield Change(ChangeType.BOOKMARK, resource_version)

    def _change(self, kind: Kind, decoder: Decoder, line: bytes) -> Change:
        try:
            event = msgspec.json.decode(line, type=WatchEvent)
            if event.type == "ERROR":
                raise _watch_error(msgspec.json.decode(event.object, type=Status))
            change = Change(ChangeType(event.type), decoder.version(event.object))
        except ValueError as error:  # not JSON, or not an event
            raise KubernetesError(f"the watch of {kind.resource} sent what can't be read: {error}") from error
        if change.type is not ChangeType.BOOKMARK:
            try:
                change.object = observed(kind, decoder.object(event.object))
            except (ValueError, RecursionError) as error:
                change.rejected = f"{kind.resource} {name_of(event.object)}: {error}"
        return change

    async def readable(self, kinds: Sequence[Kind], namespaces: Sequence[str]) -> list[Kind]:
        scopes = list(namespaces) or [""]

        async def allowed(kind: Kind) -> bool:
            questions = [
                Access(verb, kind.group, kind.plural, namespace if kind.namespaced else "")
                for verb in ("list", "watch")
                for namespace in (scopes if kind.namespaced else [""])
            ]
            return all(await asyncio.gather(*(self._client.may(question) for question in questions)))

        answers = await asyncio.gather(*(allowed(kind) for kind in kinds))
        return [kind for kind, answer in zip(kinds, answers, strict=True) if answer]

    async def resolve(self, gvr: str) -> Kind:
        plural, version, *rest = gvr.split(".", 2)
        group = "".join(rest)
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        listed = await self._read(path, _ApiResourceList)
        for resource in listed.resources or []:
            if resource.name == plural:
                return generic_kind(group, version, plural, resource.kind, resource.namespaced)
        raise Absent(f"404 {path} has no resource {plural}")

    async def identity(self) -> Identity:
        version = await self._read("/version", _Version)
        try:
            namespace = await self._read("/api/v1/namespaces/kube-system", _Object)
        except (Forbidden, Absent):
            return Identity("", version.git_version)
        return Identity(namespace.metadata.uid, version.git_version)

    async def _read(self, path: str, type_: type[Read]) -> Read:
        """One object. Raises KubernetesError, also for what is none: a proxy's page, say."""
        data = await self._client.get(path, {})
        try:
            return msgspec.json.decode(data, type=type_)
        except msgspec.DecodeError as error:
            raise KubernetesError(f"{path} is not what an API server says: {error}") from error


def _watch_error(status: Status) -> KubernetesError:
    return Expired(status.text) if status.code == 410 else KubernetesError(status.text)
