"""The reflector against a scripted repository: every way in which a server says no."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.kubernetes import KINDS
from schemas.kubernetes.kind import Kind
from schemas.presence import CollectionState
from services.agent.capability import Key, Observed
from services.agent.kubernetes.repository.interfaces import Change, ChangeType, Page
from services.agent.kubernetes.sdk.interfaces import (
    Absent,
    Expired,
    Forbidden,
    KubernetesError,
    Unreachable,
    Unreadable,
)
from services.agent.kubernetes.service import reflector as module
from services.agent.kubernetes.service.reflector import Reflector
from services.agent.kubernetes.service.status import ScopeStatus
from services.agent.scheduler.ledger import Gone, Ledger
from services.runtime.backoff import Backoff

POD = KINDS["pods"]


def pod(name: str, content: int = 0) -> Observed:
    """An observed pod."""
    return Observed("pods", Key("ns", name), f"uid-{name}", b"{}", content)


class Script:
    """A ResourceRepository that plays lists and watches in order; at the end it watches in silence."""

    def __init__(self, *acts: object) -> None:
        self.acts = list(acts)
        self.refused: list[KubernetesError] = []
        """What the server says to the versions we hold."""
        self.watched_from: list[str] = []
        self.silent = False
        """Whether it is at its end."""

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[Page]:
        act = self.acts.pop(0)
        assert isinstance(act, list)
        for item in act:
            if isinstance(item, Exception):
                raise item
            yield item

    async def confirm(self, kind: Kind, namespace: str, resource_version: str) -> None:
        if self.refused:
            raise self.refused.pop(0)

    async def watch(self, kind: Kind, namespace: str, resource_version: str) -> AsyncIterator[Change]:
        self.watched_from.append(resource_version)
        yield Change(ChangeType.BOOKMARK, resource_version)
        if not self.acts:
            self.silent = True
            await asyncio.sleep(3600)
        act = self.acts.pop(0)
        assert isinstance(act, tuple)
        for item in act:
            if isinstance(item, Exception):
                raise item
            if item is None:
                await asyncio.sleep(3600)
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
        async with asyncio.timeout(30):
            while not self.script.silent or self.status.state is not CollectionState.SYNCED:
                await asyncio.sleep(0.001)
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
    monkeypatch.setattr(module, "RELIST_JITTER", 0.01)
    monkeypatch.setattr(module, "BRIEF_WATCH", 0.0)
    monkeypatch.setattr(module, "PROOF", 0.0)

    def delay(self: Backoff) -> float:
        self.attempts += 1
        return 0.001

    monkeypatch.setattr(module.Backoff, "delay", delay)


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


async def test_a_version_from_the_future_means_a_new_list() -> None:
    """A version that the server has not reached is not watched from: nothing would come for long."""
    script = Script([Page([pod("a")], "900")], (Unreachable("etcd is restored"),), [Page([pod("b")], "5")])
    script.refused = [Expired("504 Too large resource version: 900, current: 5")]
    stage = Stage(script)
    assert await stage.play() == {Key("ns", "b"): 0}
    assert script.watched_from == ["900", "5"]


async def test_what_can_not_be_read_is_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a watch that is garbage, and some time after an object without metadata."""
    monkeypatch.setattr(module, "REVIEW", 0.02)
    stage = Stage(
        Script(
            [Page([pod("a")], "1")],
            (Unreadable("the watch of pods sent what can't be read"),),
            [Page([pod("a"), pod("b")], "2")],
            (Change(ChangeType.ADDED, "3", rejected="pods c: no uid"), None),
            [Page([pod("a"), pod("b"), pod("c")], "4")],
        )
    )
    assert set(await stage.play()) == {Key("ns", name) for name in "abc"}
    assert stage.script.watched_from == ["1", "2", "4"]
    assert (stage.status.rejected, stage.status.missing, stage.status.relists) == (1, 0, 3)


async def test_who_says_410_for_ever_is_not_hammered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that expire again and again are spaced further and further."""
    pauses: list[float] = []

    def delay(self: Backoff) -> float:
        self.attempts += 1
        pauses.append(min(self.cap, self.base * 2.0**self.attempts))
        return 0.001

    monkeypatch.setattr(module.Backoff, "delay", delay)
    acts = [act for number in range(6) for act in ([Page([], str(number))], (Expired("410 gone"),))]
    await Stage(Script(*acts, [Page([], "9")])).play()
    assert pauses == sorted(pauses)
    assert pauses[-1] > 3 * pauses[0]


async def test_absent_is_said_to_who_follows() -> None:
    """Whether a resource that is not found exists is not the reflector's to find out."""
    stage = Stage(Script([Absent("404 not found")]))
    with pytest.raises(Absent):
        await stage.reflector.run()


async def test_a_failing_resource_proves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After failures in a row, a watch that is merely accepted does not make the resource synced."""
    monkeypatch.setattr(module, "PROOF", 3600)
    stage = Stage(Script([Page([], "1")], *[(Unreachable("cut"),)] * 4))
    task = asyncio.create_task(stage.reflector.run())
    async with asyncio.timeout(30):
        while len(stage.script.watched_from) < 5:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert (stage.status.state, stage.status.reason) == (CollectionState.FAILING, "cut")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
