"""The reflector: one resource (in one namespace or in all), listed and then followed for as long as we live.

The shape is that of client-go's: list in pages, watch from the list's resource version, resume from the
last one seen when a watch ends, list again when the server says that it is too old (410, in its three
forms). What differs from the list is told to the sink, which knows what is there already.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Key, Sink
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, ResourceRepository
from services.agent.kubernetes.sdk.interfaces import Absent, Expired, Forbidden, KubernetesError
from services.agent.kubernetes.service.status import ScopeStatus
from services.runtime import logs
from services.runtime.backoff import Backoff

_log = logs.get_logger(__name__)

REFUSED_PAUSE = 60.0
"""Seconds, jittered, until a resource that is forbidden or absent is tried again."""
RELIST_JITTER = 2.0
"""Seconds within which the resources of one server, all told 410 at once, list again."""
BRIEF_WATCH = 1.0
"""Seconds: a watch that ends sooner counts as a failure, or a server in trouble would be hammered."""


class Reflector:
    """Follows one resource in one scope. `lists` bounds how many list at once: memory, and the server."""

    def __init__(
        self,
        kind: Kind,
        namespace: str,
        repository: ResourceRepository,
        sink: Sink,
        status: ScopeStatus,
        lists: asyncio.Semaphore,
        complete: Callable[[], Awaitable[None]],
    ) -> None:
        self._kind = kind
        self._namespace = namespace
        self._repository = repository
        self._sink = sink
        self._status = status
        self._lists = lists
        self._complete = complete
        self._backoff = Backoff(base=1.0, cap=30.0)
        self._version = ""

    async def run(self) -> None:
        """Until cancelled."""
        self._status.state = CollectionState.LISTING
        while True:
            try:
                if not self._version:
                    self._version = await self._list()
                    await self._complete()
                await self._watch()
            except Expired as error:
                self._tell(CollectionState.LISTING, error.reason)
                self._version = ""
                await asyncio.sleep(random.uniform(0, RELIST_JITTER))
            except (Forbidden, Absent) as error:
                forbidden = isinstance(error, Forbidden)
                self._tell(CollectionState.FORBIDDEN if forbidden else CollectionState.ABSENT, error.reason)
                self._version = ""
                await asyncio.sleep(REFUSED_PAUSE * random.uniform(0.8, 1.2))
            except KubernetesError as error:
                await self._fail(error.reason, error.retry_after)
            except Exception as error:  # noqa: BLE001 - told below
                # A bug of ours in one resource must not cost the others; it is told like any failure.
                _log.exception("reflector failed", resource=self._kind.resource)
                self._version = ""
                await self._fail(f"internal error: {type(error).__name__}", None)

    async def _fail(self, reason: str, retry_after: float | None) -> None:
        self._tell(CollectionState.FAILING, reason)
        await asyncio.sleep(max(self._backoff.delay(), retry_after or 0))

    async def _list(self) -> str:
        """List the whole, tell the sink, return the resource version from which to watch."""
        keys: set[Key] = set()
        version = ""
        async with self._lists:
            self._status.relists += 1
            async with aclosing(self._repository.pages(self._kind, self._namespace)) as pages:
                async for page in pages:
                    self._status.touch()
                    self._reject(page.rejected)
                    keys.update(observed.key for observed in page.objects)
                    await self._sink.put(page.objects)
                    version = page.resource_version
        await self._sink.retain(self._kind.resource, self._namespace or None, keys)
        self._status.objects = len(keys)
        return version

    async def _watch(self) -> None:
        """Follow until the server ends the watch, keeping the version from which to resume."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with aclosing(self._repository.watch(self._kind, self._namespace, self._version)) as changes:
            async for change in changes:
                await self._take(change)
        if loop.time() - started < BRIEF_WATCH:
            await self._fail("the API server ends the watch at once", None)
        else:
            self._backoff.reset()

    async def _take(self, change: Change) -> None:
        self._status.touch()
        if self._status.state is not CollectionState.SYNCED:
            self._tell(CollectionState.SYNCED, "")
        self._version = change.resource_version or self._version
        if change.rejected:
            self._reject([change.rejected])
        elif change.object and change.type is ChangeType.DELETED:
            self._status.objects -= 1
            await self._sink.delete(self._kind.resource, [change.object.key])
        elif change.object:
            self._status.objects += change.type is ChangeType.ADDED
            await self._sink.put([change.object])

    def _reject(self, reasons: list[str]) -> None:
        for reason in reasons:
            self._status.rejected += 1
            _log.warning("object can't be read and is left out", resource=self._kind.resource, reason=reason)

    def _tell(self, state: CollectionState, reason: str) -> None:
        """Record where we stand; each new cause is one line in the log."""
        if (state, reason) == (self._status.state, self._status.reason):
            return
        self._status.state, self._status.reason = state, reason
        say = _log.info if state in (CollectionState.SYNCED, CollectionState.LISTING) else _log.warning
        say("collection", resource=self._kind.resource, namespace=self._namespace, state=state, reason=reason)
