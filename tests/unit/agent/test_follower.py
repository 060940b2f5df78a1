"""A resource through its absences, against a scripted repository."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.kubernetes.generic import generic_kind
from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Key, Observed
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.sdk.interfaces import Absent
from services.agent.kubernetes.service import follower as module
from services.agent.kubernetes.service.follower import Follower
from services.agent.kubernetes.service.status import ResourceStatus
from services.agent.scheduler.ledger import Ledger
from tests.waiting import until

RESOURCE = "widgets.example.com"


def widgets(*, namespaced: bool) -> Kind:
    """The kind as a server has it."""
    return generic_kind("example.com", "v1", "widgets", "Widget", namespaced)


class Server:
    """A ResourceRepository of one resource, which may be defined or not; lists know it before discovery."""

    def __init__(self) -> None:
        self.defined: Kind | None = None
        self.served = True
        """Whether its path is found."""
        self.gone = asyncio.Event()
        self.listed: list[str] = []

    async def resolve(self, kind: Kind) -> Kind:
        if self.defined is None:
            raise Absent("404 example.com/v1 has no widgets")
        return self.defined

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        self.listed.append(namespace)
        if not (self.defined and self.served):
            raise Absent("404 page not found")
        yield Page([Observed(RESOURCE, Key(namespace, "w"), "uid", b"{}", 1)], "1")

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncIterator[Change]:
        yield Change(ChangeType.BOOKMARK, resource_version)
        await self.gone.wait()
        raise Absent("404 page not found")

    async def confirm(self, kind: Kind, namespace: str, resource_version: str) -> None:
        return


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off and pauses in no time."""
    monkeypatch.setattr(module, "ABSENT_PAUSE", 0.01)
    monkeypatch.setattr(module.Backoff, "delay", lambda _self: 0.01)


async def test_what_vanishes_unseen_is_deleted() -> None:
    """Objects go with their definition, though nothing said so one by one; another scope is another path."""
    server, ledger, status = Server(), Ledger(), ResourceStatus(RESOURCE)
    follower = Follower(widgets(namespaced=True), ("a", "b"), server, ledger, status, asyncio.Semaphore(1))  # type: ignore[arg-type]
    task = asyncio.create_task(follower.run())
    sent = ledger._sent.setdefault(RESOURCE, {})

    def take() -> None:
        while ledger.pending:
            ledger.take(100, 10_000)

    def state() -> str:
        return status.collection().state if status.scopes else ""

    try:
        await until(lambda: state() == CollectionState.ABSENT and ledger.pending)
        take()
        assert ledger.digest()[RESOURCE].count == 0
        server.defined = widgets(namespaced=True)
        await until(lambda: state() == CollectionState.SYNCED)
        take()
        assert set(sent) == {Key("a", "w"), Key("b", "w")}
        server.defined = None
        server.gone.set()
        await until(lambda: state() == CollectionState.ABSENT)
        await until(lambda: ledger.pending)
        take()
        assert not sent
        assert status.collection().objects == 0
        server.gone.clear()
        server.listed.clear()
        server.defined = widgets(namespaced=False)
        await until(lambda: state() == CollectionState.SYNCED)
        take()
        assert (set(sent), server.listed) == ({Key("", "w")}, [""])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_404_alone_deletes_nothing() -> None:
    """A path that is not found while discovery lists the resource is a failure, and what we have stays."""
    server, ledger, status = Server(), Ledger(), ResourceStatus(RESOURCE)
    server.defined = widgets(namespaced=True)
    follower = Follower(server.defined, (), server, ledger, status, asyncio.Semaphore(1))  # type: ignore[arg-type]
    task = asyncio.create_task(follower.run())
    try:
        await until(lambda: status.scopes and status.collection().state == CollectionState.SYNCED)
        while ledger.pending:
            ledger.take(100, 10_000)
        server.served = False
        server.gone.set()
        await until(lambda: status.collection().state == CollectionState.FAILING)
        server.listed.clear()
        await until(lambda: len(server.listed) > 3)
        assert not ledger.pending
        # Each attempt begins without a reason.
        await until(lambda: "404 page not found" in status.collection().reason)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
