"""The reflector: one resource (in one namespace or in all), listed and then followed for as long as we live.

The shape is that of client-go's: list, watch from the list's resource version, resume from the last one seen
when a watch ends, list again when the server can't go on from there (410, in its three forms, and versions
that it has not reached). What differs from the list is told to the sink, which knows what is there already.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Key, Sink
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, ResourceRepository
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Expired,
    Forbidden,
    KubernetesError,
    Unreadable,
)
from services.agent.kubernetes.service.status import ScopeStatus
from services.runtime import logs
from services.runtime.backoff import Backoff

_log = logs.get_logger(__name__)

REFUSED_CAP = 60.0
"""Seconds at most until a resource that is forbidden is tried again; at first sooner, as an API server that
has just started refuses everything until it has read its own rules."""
RELIST_JITTER = 2.0
"""Seconds within which the resources of one server, all told 410 at once, list again; then back-off."""
BRIEF_WATCH = 1.0
"""Seconds: a watch that ends sooner counts as a failure, or a server in trouble would be hammered."""
STEADY = 20.0
"""Seconds after which a watch has worked, however it ends: back-offs begin anew."""
REPEATED, PROOF = 2, 2.0
"""After so many failures in a row, seconds that a watch must live before the resource is called synced."""
REVIEW, REVIEW_CAP = 5.0, 600.0
"""Seconds until what could not be read is listed again; twice as long each time, up to the cap."""


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
        self._failures = Backoff(base=1.0, cap=30.0)
        self._expiries = Backoff(base=RELIST_JITTER, cap=30.0)
        self._refusals = Backoff(base=1.0, cap=REFUSED_CAP)
        self._reviews = 0
        self._review_at: float | None = None
        self._version = ""

    async def run(self) -> None:
        """Until cancelled. Raises Absent when the server does not have the resource."""
        self._tell(CollectionState.LISTING, "")
        while True:
            try:
                if self._version:
                    # A watch from a version that is yet to come would be silent about all up to there.
                    await self._repository.confirm(self._kind, self._namespace, self._version)
                else:
                    self._version = await self._list()
                    await self._complete()
                await self._watch()
            except Absent:
                raise
            except Expired as error:
                self._tell(CollectionState.LISTING, error.reason)
                self._version = ""
                await asyncio.sleep(self._expiries.delay())
            except Forbidden as error:
                self._tell(CollectionState.FORBIDDEN, error.reason)
                self._version = ""
                await self._refusals.sleep()
            except KubernetesError as error:
                if isinstance(error, Unreadable):
                    self._version = ""  # whatever it was, the list has it
                await self._fail(error.reason, error.retry_after)
            except Exception as error:  # noqa: BLE001 - told below
                # A bug of ours in one resource must not cost the others; it is told like any failure.
                _log.exception("reflector failed", resource=self._kind.resource)
                self._version = ""
                await self._fail(f"internal error: {type(error).__name__}", None)

    async def _fail(self, reason: str, retry_after: float | None) -> None:
        self._tell(CollectionState.FAILING, reason)
        await asyncio.sleep((retry_after or 0) + self._failures.delay())

    async def _list(self) -> str:
        """List the whole, tell the sink, return the resource version from which to watch."""
        keys: set[Key] = set()
        version, rejected = "", 0
        async with self._lists:
            self._status.relists += 1
            async with aclosing(self._repository.pages(self._kind, self._namespace)) as pages:
                async for page in pages:
                    self._status.touch()
                    self._reject(page.rejected)
                    rejected += len(page.rejected)
                    keys.update(observed.key for observed in page.objects)
                    await self._sink.put(page.objects)
                    version = page.resource_version
        await self._sink.retain(self._kind.resource, self._namespace or None, keys)
        self._status.objects = len(keys)
        self._status.missing = rejected
        if not rejected:
            self._review_at, self._reviews = None, 0
        return version

    async def _watch(self) -> None:
        """Follow until the server ends the watch, keeping the version from which to resume."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        proof: asyncio.TimerHandle | None = None
        try:
            async with (
                asyncio.timeout_at(self._review_at) as review,
                aclosing(self._repository.watch(self._kind, self._namespace, self._version)) as changes,
            ):
                async for change in changes:
                    proof = proof or loop.call_later(self._proof, self._tell, CollectionState.SYNCED, "")
                    await self._take(change)
                    if change.rejected:
                        review.reschedule(self._review_at)
        except TimeoutError:
            self._version, self._review_at = "", None
            return
        finally:
            if proof:
                proof.cancel()
            if loop.time() - started >= STEADY:
                self._worked()
        if loop.time() - started < BRIEF_WATCH:
            await self._fail("the API server ends the watch at once", None)
        else:
            self._worked()

    @property
    def _proof(self) -> float:
        """Seconds until a watch that has been accepted counts."""
        return PROOF if self._failures.attempts > REPEATED else 0

    def _worked(self) -> None:
        self._failures.reset()
        self._expiries.reset()
        self._refusals.reset()

    async def _take(self, change: Change) -> None:
        self._status.touch()
        self._version = change.resource_version or self._version
        if change.rejected:
            self._reject([change.rejected])
        elif change.object and change.type is ChangeType.DELETED:
            self._status.objects -= 1
            await self._sink.delete(self._kind.resource, [change.object.key])
        elif change.object:
            self._status.objects += change.type is ChangeType.ADDED
            await self._sink.put([change.object])

    def _reject(self, reasons: Sequence[str]) -> None:
        """Count what can't be read, and see to it that it is listed again: it may have been the way here."""
        for reason in reasons:
            self._status.rejected += 1
            self._status.missing += 1
            self._status.last_rejected = reason
            _log.warning("object can't be read and is left out", resource=self._kind.resource, reason=reason)
        if reasons and self._review_at is None:
            pause = min(REVIEW * 2.0**self._reviews, REVIEW_CAP) * random.uniform(0.8, 1.2)
            self._reviews += 1
            self._review_at = asyncio.get_running_loop().time() + pause

    def _tell(self, state: CollectionState, reason: str) -> None:
        """Record where we stand; each new cause is one line in the log."""
        if (state, reason) == (self._status.state, self._status.reason):
            return
        self._status.state, self._status.reason = state, reason
        say = _log.info if state in (CollectionState.SYNCED, CollectionState.LISTING) else _log.warning
        say("collection", resource=self._kind.resource, namespace=self._namespace, state=state, reason=reason)
