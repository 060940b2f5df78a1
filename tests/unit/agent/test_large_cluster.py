"""A cluster of 150,000 pods passes through the agent: it is never there as a whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import pytest

from schemas.frames import MAX_ITEMS
from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from services.agent.capability import Key, Observed
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.repository.lists import PAGE_SIZE
from services.agent.kubernetes.service.reflector import Reflector
from services.agent.kubernetes.service.status import ScopeStatus
from services.agent.scheduler.ledger import MAX_PENDING_BYTES, Ledger
from services.agent.scheduler.snapshots import MAX_BODY

pytestmark = pytest.mark.timeout(180)

PODS, SIZE = 150_000, 2_000


class Body(bytes):
    """Bytes that know how many of them there are at a time."""

    alive = most = 0

    def __new__(cls, data: bytes) -> Self:
        Body.alive += 1
        Body.most = max(Body.most, Body.alive)
        return super().__new__(cls, data)

    def __del__(self) -> None:
        Body.alive -= 1


class Cluster:
    """A ResourceRepository with so many pods, in pages that are made as they are asked for."""

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        for start in range(0, PODS, PAGE_SIZE):
            yield Page([pod(number) for number in range(start, min(start + PAGE_SIZE, PODS))], "1")

    async def confirm(self, kind: Kind, namespace: str, resource_version: str) -> None:
        return

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncIterator[Change]:
        yield Change(ChangeType.BOOKMARK, resource_version)
        await asyncio.Event().wait()


def pod(number: int) -> Observed:
    return Observed("pods", Key("ns", f"p{number}"), f"uid-{number}", Body(bytes(SIZE)), number)


async def test_so_many_pods_are_never_in_memory_at_once() -> None:
    """What is kept of a pod is its key, uid and hash; of bodies there are a few pages, while all are sent."""
    ledger, complete = Ledger(), asyncio.Event()

    async def done() -> None:
        await ledger.synced("pods")
        complete.set()

    lists = asyncio.Semaphore(1)
    following = Reflector(KINDS["pods"], "", Cluster(), ledger, ScopeStatus(""), lists, done)  # type: ignore[arg-type]
    task = asyncio.create_task(following.run())
    sent = 0
    while not complete.is_set() or ledger.pending:
        await ledger.wait()
        sent += len(ledger.take(MAX_ITEMS, MAX_BODY).changes)
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (sent, len(ledger)) == (PODS, PODS)
    assert ledger.digest()["pods"].count == PODS
    assert Body.most * SIZE < MAX_PENDING_BYTES + MAX_BODY + 3 * PAGE_SIZE * SIZE
    assert Body.alive <= PAGE_SIZE
