"""Whole lists: streamed object by object where the server can (WatchList), else in pages.

A streamed list is served from the API server's watch cache and costs it, and us, a few objects at a time.
Pages are for a server that refuses such a watch (400, 422), or takes it for an ordinary one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from schemas.kubernetes.kind import Kind
from services.agent.kubernetes.repository.decoder import decoder_for, name_of
from services.agent.kubernetes.repository.events import change_of
from services.agent.kubernetes.repository.interfaces import ChangeType, Page
from services.agent.kubernetes.repository.projecting import observed
from services.agent.kubernetes.repository.query import accept_of, query_of
from services.agent.kubernetes.sdk.interfaces import (
    Invalid,
    KubernetesClient,
    Silent,
    Unreachable,
    Unreadable,
)
from services.runtime import logs

_log = logs.get_logger(__name__)

PAGE_SIZE = 250
"""Objects in a page: half of client-go's, since two pages of several lists are in memory at one time."""
PAGE_BYTES = 2 * 1024 * 1024
"""Bytes of a page to aim at: the next one of large objects has fewer."""
SLICE = 50
"""Objects decoded in one go; in between more is received, or the server would have to wait."""
STREAM_SILENCE = 10.0
"""Seconds without a byte after which a streamed list is taken to have no end."""
STREAM_TIMEOUT = 600
"""Seconds in which a streamed list must be over."""


class Lists:
    """Reads lists of any kind. `page_timeout`: seconds for one page."""

    def __init__(self, client: KubernetesClient, page_timeout: float) -> None:
        self._client = client
        self._page_timeout = page_timeout
        self._paged: set[str] = set()
        """API versions whose server does not stream lists: each may be another server's."""

    async def pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        """See ResourceRepository."""
        if kind.api_version not in self._paged:
            try:
                async with aclosing(self._streamed(kind, namespace)) as pages:
                    async for page in pages:
                        yield page
                return
            except Invalid as error:
                self._page_from_now_on(kind, error.reason)
            except Silent as error:
                self._page_from_now_on(kind, error.reason)
                raise
        async with aclosing(self._in_pages(kind, namespace)) as pages:
            async for page in pages:
                yield page

    def _page_from_now_on(self, kind: Kind, reason: str) -> None:
        self._paged.add(kind.api_version)
        _log.info("lists are read in pages", api_version=kind.api_version, reason=reason)

    async def _streamed(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        """Raises Invalid before the first page, and Silent when it seems to have no end."""
        decoder = decoder_for(kind)
        query = query_of(kind) | {
            "watch": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(STREAM_TIMEOUT),
        }
        lines = self._client.watch(
            kind.path(namespace), query, accept=accept_of(kind), silence=STREAM_SILENCE
        )
        page = Page([], "")
        async with aclosing(lines):
            async for line in lines:
                if not line:
                    continue
                change = change_of(kind, decoder, line)
                if change.object:
                    page.objects.append(change.object)
                elif change.rejected:
                    page.rejected.append(change.rejected)
                if change.complete:
                    page.resource_version = change.resource_version
                    yield page
                    return
                if change.type is ChangeType.BOOKMARK:
                    raise Silent(f"the list of {kind.resource} was answered with a watch")
                if len(page.objects) + len(page.rejected) >= SLICE:
                    yield page
                    page = Page([], "")
                    await asyncio.sleep(0)
        raise Unreachable(f"the list of {kind.resource} ended before it was whole")

    async def _in_pages(self, kind: Kind, namespace: str) -> AsyncGenerator[Page, None]:
        decoder = decoder_for(kind)
        next_page: asyncio.Task[bytes] | None = self._fetch(kind, namespace, "", PAGE_SIZE)
        try:
            while next_page:
                try:
                    data = await next_page
                    cut = decoder.page(data)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise Unreadable(f"the list of {kind.resource} can't be read: {error}") from error
                # The server works on the next page while this one is decoded and sent.
                fitting = max(1, min(PAGE_SIZE, PAGE_BYTES * len(cut.items) // max(1, len(data))))
                next_page = self._fetch(kind, namespace, cut.continue_, fitting) if cut.continue_ else None
                page = Page([], cut.resource_version)
                for number, item in enumerate(cut.items):
                    if number % SLICE == 0:
                        await asyncio.sleep(0)
                    try:
                        page.objects.append(observed(kind, decoder.item(item)))
                    except (ValueError, RecursionError) as error:
                        page.rejected.append(f"{kind.resource} {name_of(item)}: {error}")
                del cut, data
                yield page
        finally:
            if next_page:
                next_page.cancel()
                await asyncio.gather(next_page, return_exceptions=True)

    def _fetch(self, kind: Kind, namespace: str, token: str, limit: int) -> asyncio.Task[bytes]:
        query = query_of(kind) | {"limit": str(limit), **({"continue": token} if token else {})}
        return asyncio.create_task(
            self._client.get(kind.path(namespace), query, accept=accept_of(kind), timeout=self._page_timeout)
        )
