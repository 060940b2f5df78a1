"""The log of one container, read to its end: over connections that break, and over silence."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.kubernetes.pod import Pod
from schemas.logs import LogPosition, LogsRequested
from services.agent.capability import LogSink
from services.agent.kubernetes.repository.interfaces import LogRepository
from services.agent.kubernetes.sdk.interfaces import Absent, Forbidden, Invalid, KubernetesError
from services.agent.kubernetes.service.log_containers import standing
from services.agent.kubernetes.service.log_lines import LogLines
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

SLICE = 16 * 1024
"""Bytes of a log that are made into lines at once: with the longest prefix they still fit into a chunk."""
DRAIN = 2.0
"""Seconds of silence after which the log of a pod that is gone has ended: its connection may not tell. While
the reader is waited for it is not silent."""
STALL = 1.0
"""Seconds that the middle of a line may keep the lines of others waiting."""


class _State(Enum):
    """How the container is, as far as its log goes."""

    RUNS = auto()
    ENDED = auto()
    """Nothing can be added to its log any more."""
    GONE = auto()
    """With its pod. Another pod may have the name by which logs are asked for."""
    UNKNOWN = auto()


@dataclass(eq=False)
class Shared:
    """What the streams of one session have in common."""

    repository: LogRepository
    asked: LogsRequested
    sink: LogSink
    floor: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from the beginning of a line to its end, so that no other comes between."""
    waiting: int = 0
    """Streams that wait for the floor."""
    inside: bool = False
    """The reader has half of a line."""
    told: set[str] = field(default_factory=set)
    """Errors that the reader has among the lines."""


class LogStream:
    """One container. `fresh`: it came after the session had begun, so that all of its log is wanted."""

    def __init__(
        self, shared: Shared, pod: Pod, container: str, *, resume: LogPosition | None, fresh: bool
    ) -> None:
        self._shared = shared
        self._pod = pod.metadata.name
        self.uid = pod.metadata.uid
        self.container = container
        self.restarts = standing(pod, container).restarts
        self.fresh = fresh
        self._followed_at: float | None = None
        self._awaiting = False
        """The API server's next bytes are; and not the reader."""
        self._steps = 0
        """Counts what comes, and what has been handed on."""
        asked = shared.asked
        self._lines = LogLines(
            self._pod,
            container,
            timestamps=asked.timestamps,
            prefix=asked.prefix,
            limit=asked.limit_bytes,
            resume=resume,
            cut=not fresh and (asked.tail is not None or self._has_since),
        )
        self.whole = asyncio.Event()
        """The reader is not in the middle of a line of it that it had begun to read before."""
        if not self._lines.position.offset:
            self.whole.set()
        self.settled = asyncio.Event()
        """It is known whether it can be read, unless there is no line yet."""
        self.error: KubernetesError | None = None
        """Why it cannot be."""
        self.trouble: KubernetesError | None = None
        """What was wrong with it before it could be read."""
        self.gone = asyncio.Event()
        """To be set when its pod is."""

    @property
    def _has_since(self) -> bool:
        asked = self._shared.asked
        return asked.since_seconds is not None or bool(asked.since_time)

    @property
    def is_refused(self) -> bool:
        """Whether it cannot be read, and trying again would not help."""
        return isinstance(self.error, Absent | Forbidden | Invalid)

    @property
    def name(self) -> str:
        """As a prefix names it."""
        return f"pod/{self._pod}/{self.container}"

    async def read(self) -> None:
        """What there is, to its end. Raises KubernetesError."""
        await self._answer(follow=False)
        await self._finish()

    async def tell(self, words: str) -> None:
        """Tell the reader among the lines, as kubectl does with `--ignore-errors`; the same thing once."""
        words = " ".join(words.split())
        named = re.search(rf"(?<![\w.-]){re.escape(self._pod)}(?![\w.-])", words)
        line = f"error: {words}" if named else f"error: {self.name}: {words}"
        if line in self._shared.told:
            return
        self._shared.told.add(line)
        await self._take_floor()
        try:
            await self._put((b"\n" if self._shared.inside else b"") + line.encode() + b"\n")
        finally:
            self._shared.floor.release()

    def replaces(self, other: "LogStream") -> bool:
        """Whether it is of another pod, one that has been made again by the same name."""
        return self.uid != other.uid and self.name == other.name

    def may_go_on(self, restarts: int) -> bool:
        """Whether it is to be followed again, now that its container runs, having restarted so often."""
        return self.error is not None or restarts > self.restarts

    async def follow(self) -> None:
        """Until the container has ended or its pod is gone; what fails is tried again from where it stands.

        Ends with `error` when it cannot be read in the first place.
        """
        backoff = Backoff(base=0.5, cap=10.0)
        begun, self.error = asyncio.get_running_loop().time(), None
        while True:
            before = self._lines.position
            failed = await self._attempt(follow=True)
            if failed is not None and (self.error or not self.settled.is_set()):
                self.error = self.trouble = failed
            self.settled.set()
            self._followed_at = self._followed_at or begun
            if self._lines.full or self.is_refused:
                self.whole.set()
                return
            if self._lines.position != before:
                backoff.reset()
            state = await self._state()
            if state in (_State.RUNS, _State.UNKNOWN):
                if failed is not None:
                    _log.info("log is asked for again", log=self.name, reason=failed.reason)
                await backoff.sleep()
                # Looked at again, since by now the name may be another pod's, which is read by itself.
                while (state := await self._state()) is _State.UNKNOWN:
                    await backoff.sleep()
            if state is _State.ENDED:
                # The API server ends an answer in the same way when its connection to the kubelet breaks.
                await self._attempt(follow=False)
            if state is not _State.RUNS:
                await self._finish()
                return

    # --- one answer ----------------------------------------------------------------------------------

    async def _attempt(self, *, follow: bool) -> KubernetesError | None:
        """One answer, until the pod is gone and nothing more comes; why it broke, if it did."""
        work = asyncio.create_task(self._answer(follow=follow), name=f"log of {self.name}")
        gone = asyncio.create_task(self.gone.wait(), name=f"end of {self.name}")
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            silent = False
            while not (work.done() or silent):
                steps = self._steps
                await asyncio.wait([work], timeout=DRAIN)
                silent = self._awaiting and self._steps == steps
        finally:
            await cancelled(gone)
            await cancelled(work)
        if not work.cancelled():
            try:
                work.result()
            except KubernetesError as error:
                return error
        return None

    async def _answer(self, *, follow: bool) -> None:
        self._lines.begin()
        blocks = self._shared.repository.read(
            self._shared.asked.namespace, self._pod, self._query(follow=follow)
        )
        async with aclosing(blocks):
            await self._pass_on(blocks)

    def _query(self, *, follow: bool) -> dict[str, str]:
        """PodLogOptions"""
        asked, at = self._shared.asked, self._lines.position
        query = {"container": self.container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if asked.previous:
            query["previous"] = "true"
        if asked.skip_tls_verify_backend:
            query["insecureSkipTLSVerifyBackend"] = "true"
        if at.since:
            query["sinceTime"] = f"{at.since}Z"
        elif not self.fresh and not at.lines:
            query |= self._beginning()
        return query

    def _beginning(self) -> dict[str, str]:
        """Where to begin, as long as there is no line; once it was followed, all since then is wanted."""
        asked, since = self._shared.asked, self._shared.asked.since_seconds
        options: dict[str, str] = {}
        if self._followed_at is not None and (asked.tail is not None or since is not None):
            elapsed = asyncio.get_running_loop().time() - self._followed_at
            since = (since or 0) + int(elapsed) + 1
        elif asked.tail is not None:
            options["tailLines"] = str(asked.tail)
        if asked.since_time:
            options["sinceTime"] = asked.since_time
        elif since is not None:
            options["sinceSeconds"] = str(since)
        return options

    async def _pass_on(self, blocks: AsyncGenerator[bytes, None]) -> None:
        shared, holding = self._shared, False
        coming: asyncio.Task[bytes] | None = None
        try:
            while True:
                coming = coming or asyncio.create_task(_next(blocks), name=f"next of {self.name}")
                self._awaiting = True
                await asyncio.wait([coming], timeout=STALL if holding else None)
                self._awaiting = False
                if not coming.done():
                    if shared.waiting:
                        await self._put(self._lines.break_line())
                        shared.floor.release()
                        holding = False
                    continue
                self._steps += 1
                block, coming = coming.result(), None
                self.error = None  # it can be read, so what comes later is no refusal of what is asked for
                self.settled.set()
                if not block:
                    return
                for start in range(0, len(block), SLICE):
                    if not holding:
                        await self._take_floor()
                        holding = True
                    await self._put(self._lines.feed(block[start : start + SLICE]))
                    if self._lines.full:
                        return
                    if not self._lines.inside:
                        shared.floor.release()
                        holding = False
                self._steps += 1
        finally:
            if holding:
                shared.floor.release()
            if coming is not None:
                await cancelled(coming)

    async def _take_floor(self) -> None:
        self._shared.waiting += 1
        try:
            await self._shared.floor.acquire()
        finally:
            self._shared.waiting -= 1

    async def _put(self, data: bytes) -> None:
        if data:
            self._shared.inside = not data.endswith(b"\n")
            await self._shared.sink.put(data, self._lines.position)
            if not self._lines.position.offset:
                self.whole.set()

    async def _finish(self) -> None:
        """The log is over, and may have ended in the middle of a line."""
        await self._take_floor()
        try:
            await self._put(self._lines.finish())
            if self._lines.position.offset and self._shared.asked.prefix:
                await self._put(b"\n")
        finally:
            self._shared.floor.release()
            self.whole.set()

    async def _state(self) -> _State:
        if self.gone.is_set():
            return _State.GONE
        try:
            selection = {"fieldSelector": f"metadata.name={self._pod}"}
            pods, _ = await self._shared.repository.pods(self._shared.asked.namespace, selection)
        except KubernetesError:
            return _State.UNKNOWN
        pod = next((one for one in pods if one.metadata.uid == self.uid), None)
        if pod is None:
            return _State.GONE
        return _State.RUNS if standing(pod, self.container).running else _State.ENDED


async def _next(blocks: AsyncGenerator[bytes, None]) -> bytes:
    """The next bytes; none when it is over."""
    return await anext(blocks, b"")
