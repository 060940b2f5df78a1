"""The reflector against a scripted repository: every way in which a server says no."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Key, Observed
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.sdk.interfaces import Expired, Forbidden, KubernetesError, Unreachable
from services.agent.kubernetes.service import reflector as module
from services.agent.kubernetes.service.reflector import Reflector
from services.agent.kubernetes.service.status import ScopeStatus
from services.agent.scheduler.ledger import Gone, Ledger

POD = KINDS["pods"]


def pod(name: str, content: int = 0) -> Observed:
    """An observed pod."""
    return Observed("pods", Key("ns", name), f"uid-{name}", b"{}", content)


class Script:
    """A ResourceRepository that plays lists and watches in order; at the end it watches in silence."""

    def __init__(self, *acts: object) -> None:
        self.acts = list(acts)
        self.watched_from: list[str] = []

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        act = self.acts.pop(0)
        assert isinstance(act, list)
        for item in act:
            if isinstance(item, Exception):
                raise item
            yield item

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncIterator[Change]:
        self.watched_from.append(resource_version)
        yield Change(ChangeType.BOOKMARK, resource_version)
        if not self.acts:
            await asyncio.sleep(3600)
        act = self.acts.pop(0)
        assert isinstance(act, tuple)
        for item in act:
            if isinstance(item, Exception):
                raise item
            yield item


class Stage:
    """A reflector, its ledger and its status."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.ledger = Ledger()
        self.status = ScopeStatus("")
        self.completed = 0
        self.reflector = Reflector(
            POD,
            "",
            script,
            self.ledger,
            self.status,
            asyncio.Semaphore(1),
            self._complete,  # type: ignore[arg-type]
        )

    async def _complete(self) -> None:
        self.completed += 1

    async def play(self) -> dict[Key, int]:
        """Run until the script is at its end; what a reader holds then."""
        task = asyncio.create_task(self.reflector.run())
        async with asyncio.timeout(5):
            while self.script.acts or self.status.state is not CollectionState.SYNCED:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        held: dict[Key, int] = {}
        while self.ledger.pending:
            for change in self.ledger.take(100, 10_000).changes:
                if isinstance(change, Gone):
                    held.pop(change.key)
                else:
                    held[change.key] = change.hash
        return held


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off and pauses in no time."""
    monkeypatch.setattr(module, "REFUSED_PAUSE", 0.01)
    monkeypatch.setattr(module, "RELIST_JITTER", 0.01)
    monkeypatch.setattr(module, "BRIEF_WATCH", 0.0)
    monkeypatch.setattr(module.Backoff, "delay", lambda _self: 0.001)


async def test_list_then_follow() -> None:
    """The list's pages, then what the watch says, from the list's version on."""
    stage = Stage(
        Script(
            [Page([pod("a")], "10"), Page([pod("b")], "10")],
            (
                Change(ChangeType.MODIFIED, "11", pod("a", 1)),
                Change(ChangeType.DELETED, "12", pod("b")),
                Change(ChangeType.ADDED, "13", pod("c")),
            ),
        )
    )
    assert await stage.play() == {Key("ns", "a"): 1, Key("ns", "c"): 0}
    assert stage.script.watched_from == ["10", "13"]
    assert (stage.completed, stage.status.relists, stage.status.objects) == (1, 1, 2)


async def test_a_bookmark_is_where_the_next_watch_begins() -> None:
    """After a bookmark, and after an outage, the watch resumes instead of listing again."""
    stage = Stage(
        Script(
            [Page([], "1")],
            (Change(ChangeType.BOOKMARK, "7"),),
            (Unreachable("the line is cut"),),
            (KubernetesError("503 try later", 0.01),),
        )
    )
    await stage.play()
    assert stage.script.watched_from == ["1", "7", "7", "7"]
    assert stage.status.relists == 1


@pytest.mark.parametrize("where", ["list", "later page", "watch"])
async def test_gone_means_a_new_list_and_its_difference(where: str) -> None:
    """410, wherever it comes, is answered by a list; what it no longer holds is deleted."""
    gone = Expired("410 too old resource version")
    first: list[object] = [Page([pod("a"), pod("b")], "1")]
    acts: list[object] = {
        "list": [[gone], first],
        "later page": [[Page([pod("a")], "1"), gone], first],
        "watch": [first, (gone,), [Page([pod("b"), pod("c")], "9")]],
    }[where]  # type: ignore[assignment]
    stage = Stage(Script(*acts))
    held = await stage.play()
    names = {key.name for key in held}
    assert names == ({"b", "c"} if where == "watch" else {"a", "b"})
    assert stage.status.relists == 2


async def test_forbidden_is_tried_again() -> None:
    """A right that is granted later is noticed."""
    stage = Stage(Script([Forbidden("403 pods is forbidden")], [Page([pod("a")], "1")]))
    assert await stage.play() == {Key("ns", "a"): 0}


async def test_one_unreadable_object_is_counted() -> None:
    """What can't be read is left out and counted; the rest goes on."""
    stage = Stage(
        Script(
            [Page([pod("a")], "1", ["pods bad: no uid"])],
            (Change(ChangeType.MODIFIED, "2", rejected="pods bad: no uid"),),
        )
    )
    assert await stage.play() == {Key("ns", "a"): 0}
    assert stage.status.rejected == 2


async def test_a_bug_is_told_and_survived() -> None:
    """An exception nobody expected is a failure of this resource, not the end of the task."""
    stage = Stage(Script([RuntimeError("bug")], [Page([pod("a")], "1")]))
    assert await stage.play() == {Key("ns", "a"): 0}
