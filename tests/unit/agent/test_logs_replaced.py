"""Logs of a pod that is deleted and made again by its name while it is followed, as a StatefulSet does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest

from schemas.kubernetes.pod import Pod
from schemas.logs import LogsRequested
from services.agent.kubernetes.repository.interfaces import ChangeType
from services.agent.kubernetes.sdk.interfaces import Absent, Unreachable
from services.agent.kubernetes.service import log_stream
from services.agent.kubernetes.service.logs import KubernetesLogs
from tests.unit.agent.test_logs_asked import RUNNING, Reader
from tests.waiting import until

NAME = "web-0"


def pod(uid: str) -> Pod:
    document = {
        "metadata": {"name": NAME, "namespace": "shop", "uid": uid},
        "spec": {"nodeName": "a", "containers": [{"name": "app", "image": "none"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "state": RUNNING}]},
    }
    return Pod.decode(msgspec.json.encode(document))


def line(text: str, second: int) -> bytes:
    return f"2026-11-21T08:00:{second:02}.000000000Z {text}\n".encode()


class Replacing:
    """A LogRepository of one name: it hands out the log of whichever pod has it, as an API server does."""

    def __init__(self) -> None:
        self.uid = "first"
        self.logs: dict[str, list[bytes]] = {"first": []}
        self.away = False
        """Nothing can be asked, and what is read breaks off."""
        self._changed = asyncio.Condition()
        self._changes: asyncio.Queue[tuple[ChangeType, Pod] | None] = asyncio.Queue()

    async def write(self, *lines: bytes) -> None:
        self.logs[self.uid] += lines
        await self._tell()

    async def replace(self, *lines: bytes) -> None:
        """Another pod has the name at once, and has written these lines."""
        changes = [(ChangeType.DELETED, pod(self.uid)), (ChangeType.ADDED, pod("second"))]
        self.uid = "second"
        self.logs[self.uid] = list(lines)
        for change in () if self.away else changes:
            self._changes.put_nowait(change)
        await self._tell()

    async def set_away(self, away: bool) -> None:
        self.away = away
        self._changes.put_nowait(None)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _check(self) -> None:
        if self.away:
            raise Unreachable("the API server can't be reached")

    # --- LogRepository ---------------------------------------------------------------------------------

    async def readable(self) -> bool:
        return True

    async def pods(self, namespace: str, selection: Mapping[str, str]) -> tuple[list[Pod], str]:
        self._check()
        return [pod(self.uid)], "1"

    async def watch(
        self, namespace: str, selection: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[ChangeType, Pod], None]:
        self._check()
        while True:
            change = await self._changes.get()
            self._check()
            if change is not None:
                yield change

    async def selector(self, resource: str, namespace: str, name: str) -> str:
        return "app=web"

    async def read(self, namespace: str, pod: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        self._check()
        uid, since, at = self.uid, query.get("sinceTime", "").removesuffix("Z"), 0
        if uid not in self.logs:
            raise Absent("404")
        while True:
            while at < len(self.logs[uid]):
                at += 1
                if self.logs[uid][at - 1] >= since.encode():
                    yield self.logs[uid][at - 1]
            if "follow" not in query:
                return
            async with self._changed:  # the end of its pod is not told by a kubelet that is slow
                await self._changed.wait()
            self._check()


@asynccontextmanager
async def followed(cluster: Replacing) -> AsyncIterator[Reader]:
    reader = Reader()
    asked = LogsRequested(session="", namespace="shop", selector="app=web", follow=True)
    following = asyncio.create_task(KubernetesLogs(cluster).read_logs(asked, reader))
    try:
        yield reader
        assert not following.done()
    finally:
        following.cancel()
        await asyncio.wait([following])


async def test_each_line_of_both_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the connection to the first one does not end by itself: all of it, then all of the other."""
    monkeypatch.setattr(log_stream, "DRAIN", 0.5)
    cluster = Replacing()
    await cluster.write(line("one", 1), line("two", 2))
    async with followed(cluster) as reader:
        await until(lambda: reader.text == b"one\ntwo\n")
        await cluster.replace(line("three", 2), line("four", 3))
        await until(lambda: b"four\n" in reader.text)
        await cluster.write(line("five", 3))
        await until(lambda: b"five\n" in reader.text)
        await asyncio.sleep(1)
        assert reader.text == b"one\ntwo\nthree\nfour\nfive\n"


async def test_it_is_replaced_while_nothing_can_be_asked() -> None:
    """By the time the API server answers again the name is another pod's: its log comes once."""
    cluster = Replacing()
    await cluster.write(line("one", 1))
    async with followed(cluster) as reader:
        await until(lambda: reader.text == b"one\n")
        await cluster.set_away(True)
        await asyncio.sleep(1)
        await cluster.replace(line("two", 2), line("three", 3))
        await cluster.set_away(False)
        await until(lambda: b"three\n" in reader.text, 30)
        await cluster.write(line("four", 4))
        await until(lambda: b"four\n" in reader.text, 30)
        await asyncio.sleep(2)
        assert reader.text == b"one\ntwo\nthree\nfour\n"
