"""One resource in all its scopes, for as long as we live: also before it exists, and after it is gone.

The definition of a custom resource may come after us, vanish, and come back with another scope.
"""

import asyncio
import random
from dataclasses import dataclass
from functools import partial

from schemas.kubernetes.generic import GenericKind
from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Sink
from services.agent.kubernetes.repository.interfaces import ResourceRepository
from services.agent.kubernetes.sdk.interfaces import Absent, KubernetesError
from services.agent.kubernetes.service.reflector import STEADY, Reflector
from services.agent.kubernetes.service.status import ResourceStatus
from services.runtime import logs
from services.runtime.backoff import Backoff

_log = logs.get_logger(__name__)

ABSENT_PAUSE = 10.0
"""Seconds, jittered, until the server is asked again for a resource that it does not have."""


@dataclass(slots=True)
class _Completion:
    """Says `synced` when the last namespace of a resource has been listed."""

    resource: str
    waiting: set[str]
    sink: Sink

    async def done(self, namespace: str) -> None:
        self.waiting.discard(namespace)
        if not self.waiting:
            await self.sink.synced(self.resource)


class Follower:
    """Follows a resource in the namespaces that are selected; none for all."""

    def __init__(
        self,
        kind: Kind,
        namespaces: tuple[str, ...],
        repository: ResourceRepository,
        sink: Sink,
        status: ResourceStatus,
        lists: asyncio.Semaphore,
    ) -> None:
        self._kind = kind
        self._namespaces = namespaces
        self._repository = repository
        self._sink = sink
        self._status = status
        self._lists = lists
        self._backoff = Backoff(base=1.0, cap=30.0)
        self._known = not isinstance(kind, GenericKind)
        """Whether the kind is as the server has it."""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        if not self._known:
            self._status.tell(CollectionState.LISTING, "")
        while True:
            try:
                if not self._known:
                    self._kind = await self._repository.resolve(self._kind)
                    self._known = True
                started = loop.time()
                reason = await self._reflect()
                if loop.time() - started >= STEADY:
                    self._backoff.reset()
                self._known = False  # who says 404 is asked whether it means it
                self._status.tell(CollectionState.FAILING, reason)
                await self._backoff.sleep()
            except Absent as error:
                await self._clear(error.reason)
                await asyncio.sleep(ABSENT_PAUSE * random.uniform(0.8, 1.2))
            except KubernetesError as error:
                self._status.tell(CollectionState.FAILING, error.reason)
                await asyncio.sleep((error.retry_after or 0) + self._backoff.delay())

    async def _reflect(self) -> str:
        """Run a reflector per scope until one is told that the resource is not there; what it was told."""
        namespaces = (self._namespaces if self._kind.namespaced else ()) or ("",)
        statuses = self._status.begin(namespaces)
        completion = _Completion(self._kind.resource, set(namespaces), self._sink)
        told = "its reflectors ended"
        try:
            async with asyncio.TaskGroup() as group:
                for status in statuses:
                    reflector = Reflector(
                        self._kind,
                        status.namespace,
                        self._repository,
                        self._sink,
                        status,
                        self._lists,
                        partial(completion.done, status.namespace),
                    )
                    name = f"reflector {self._kind.resource} {status.namespace}".rstrip()
                    group.create_task(reflector.run(), name=name)
        except* Absent as absent:
            told = str(absent.exceptions[0])
        return told

    async def _clear(self, reason: str) -> None:
        """What is not there has no objects, and that is the whole of it."""
        if self._status.absent(reason):
            _log.warning("collection", resource=self._kind.resource, state="absent", reason=reason)
        await self._sink.retain(self._kind.resource, None, set())
        await self._sink.synced(self._kind.resource)
        self._backoff.reset()
