"""One reader's session with an agent: its chunks come as calls, and the answer is how many bytes may follow.

The session outlives the broker and the agent. A chunk that is repeated is dropped by its sequence. When an
agent is not heard for too long it is asked anew, in another run, to go on from where the last chunk ended.
"""

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator

from msgspec.structs import replace

from schemas import registry, subjects
from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.ids import Target
from schemas.logs import MAX_CHUNK, LogError, LogPosition, LogsPublished, LogsRequested, LogsTaken
from services.api.logs import metrics
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

METHOD = "logs"
BUFFER = 4 * MAX_CHUNK
"""Bytes that are kept for a reader; beyond them the agent is to wait."""
HOLD = 4.0
"""Seconds that an answer waits for room: the agent takes no answer for a reader that is gone."""
REPEAT = 1.0
"""Seconds between two requests to an agent that has not begun."""
ANSWER = 10.0
"""Seconds, while the broker is there, in which an agent has to begin."""
OPEN = 60.0
"""Seconds in which it has to know whether the logs can be read, beside those in which it waits for a pod."""
SILENCE = 13.0
"""Seconds without a chunk, while the broker is there, after which a session is begun anew: agents send one
every 5."""
RETURN = 90.0
"""Seconds that an agent has to come back."""
_POSITIONS = 1000
"""Containers whose places are remembered; of those that were silent for the longest they are forgotten."""


class LogsRefused(Exception):
    """The logs cannot be read (any further)."""

    def __init__(self, error: LogError) -> None:
        super().__init__(error.message)
        self.error = error


class AgentSilent(Exception):
    """The agent, or the broker between us, does not answer. The text says which."""


class Session:
    """`take` answers the agent's calls, `keep` is to run beside it, `pieces` is for the reader."""

    def __init__(self, bus: Bus, target: Target, asked: LogsRequested, source: str) -> None:
        """`source`: ours, for the envelopes."""
        self._bus = bus
        self._target = target
        self._source = source
        self._first = replace(asked, session=secrets.token_hex(16))
        self._asked = self._first
        self._open = OPEN + asked.pod_running_timeout
        self._positions: dict[tuple[str, str], LogPosition] = {
            (position.pod, position.container): position for position in asked.positions
        }
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._next = 0
        self._begun_at = self._asked_at = self._heard_at = time.monotonic()
        self._begun = False
        """Whether a chunk of this run has come."""
        self._changed = asyncio.Event()
        """For the reader: there is something new."""
        self._room = asyncio.Event()
        self._opened: list[str] | None = None
        """The warnings, once the logs are open."""
        self._ended = False
        self._failure: Exception | None = None

    @property
    def subject(self) -> str:
        """Where the agent's calls come."""
        return subjects.call(self._target, METHOD, self._asked.session)

    # --- for the agent -------------------------------------------------------------------------------

    async def take(self, subject: str, envelope: Envelope) -> Envelope:
        """The answer to a chunk. Raises ContractError when it is none, or not this agent's."""
        if envelope.type != registry.LOGS_PUBLISHED.name:
            raise ContractError(f"event type {envelope.type!r} does not belong here")
        if envelope.source != subjects.agent_source(self._target):
            raise ContractError(f"source {envelope.source!r} is not the one of {subject}")
        chunk = registry.LOGS_PUBLISHED.decode(envelope.data)
        if chunk.run != self._asked.run or self._failure is not None:
            return self._answer(LogsTaken(gone=True))
        self._heard_at = time.monotonic()
        self._begun = True
        if chunk.sequence == self._next:
            self._next += 1
            self._accept(chunk)
        elif chunk.sequence < self._next:
            metrics.REPEATS.inc()
        if not self._has_room:
            self._room.clear()
            await set_within(self._room, HOLD)
            self._heard_at = time.monotonic()
        return self._answer(LogsTaken(sequence=self._next, credit=MAX_CHUNK if self._has_room else 0))

    def _accept(self, chunk: LogsPublished) -> None:
        for piece in chunk.pieces:
            at = piece.position
            self._positions.pop((at.pod, at.container), None)
            self._positions[at.pod, at.container] = at
            self._buffer.append(piece.data)
            self._size += len(piece.data)
        while len(self._positions) > _POSITIONS:
            del self._positions[next(iter(self._positions))]
        if chunk.opened and self._opened is None:
            self._opened = chunk.warnings
        if chunk.ended:
            self._ended = True
            self._failure = LogsRefused(chunk.error) if chunk.error else None
        self._changed.set()

    @property
    def _has_room(self) -> bool:
        return self._size + MAX_CHUNK <= BUFFER

    def _answer(self, taken: LogsTaken) -> Envelope:
        return registry.LOGS_TAKEN.envelope(taken, source=self._source)

    # --- beside it -----------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Ask the agent until it begins, and anew when it is not heard any more."""
        while not self._ended and self._failure is None:
            now = time.monotonic()
            if not self._bus.connected:
                # What is not heard now says nothing of the agent.
                self._heard_at = max(self._heard_at, now)
                if now - self._asked_at > RETURN:
                    self._fail(f"no connection to the broker: {self._bus.last_error}")
            elif not self._begun:
                limit = ANSWER if self._asked.run == 1 else RETURN
                if now - self._asked_at > limit:
                    self._fail(f"the agent of {self._target} did not answer within {limit:g}s")
                else:
                    await self._ask(self._asked)
            elif now - self._heard_at > SILENCE:
                self._begin_anew()
                continue
            elif self._opened is None and now - self._begun_at > self._open:
                within = f"within {self._open:g}s"
                self._fail(f"the cluster of {self._target} did not begin with the logs {within}")
            else:
                self._asked_at = now
            await asyncio.sleep(REPEAT * random.uniform(0.8, 1.0))

    async def farewell(self) -> None:
        """Tell the agent that the reader is gone; it would find out by itself, a little later."""
        if not self._ended:
            await self._ask(replace(self._asked, closed=True, positions=[]))

    async def _ask(self, asked: LogsRequested) -> None:
        envelope = registry.LOGS_REQUESTED.envelope(asked, source=self._source)
        try:
            await self._bus.send(subjects.control(self._target, METHOD), envelope)
        except BusError as error:
            _log.info("agent was not asked for logs", target=str(self._target), reason=str(error))

    def _begin_anew(self) -> None:
        metrics.RESUMED.inc()
        first, elapsed = self._first, int(time.monotonic() - self._begun_at) + 1
        self._asked = replace(
            first, run=self._asked.run + 1, positions=list(self._positions.values()), credit=MAX_CHUNK
        )
        if self._opened is not None and first.follow and (first.tail or first.since_seconds) is not None:
            # Of a container without a line yet, all that came since the beginning is wanted.
            since = elapsed + (first.since_seconds or 0)
            self._asked = replace(self._asked, tail=None, since_seconds=None if first.since_time else since)
        self._next, self._begun, self._asked_at = 0, False, time.monotonic()
        _log.warning("logs begun anew", target=str(self._target), session=self._asked.session)

    def _fail(self, reason: str) -> None:
        self._failure = AgentSilent(reason)
        self._changed.set()

    # --- for the reader ------------------------------------------------------------------------------

    async def opened(self) -> list[str]:
        """Wait until the logs are open; what a person should know of it. Raises LogsRefused, AgentSilent."""
        while self._opened is None:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return []
            await self._news()
        return self._opened

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The lines, as they come, until nothing more can. Raises LogsRefused, AgentSilent."""
        while True:
            while self._buffer:
                piece = self._joined()
                self._room.set()
                yield piece
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return
            await self._news()

    def end(self, failure: Exception) -> None:
        """Have `pieces` raise this, after what has come."""
        self._failure = self._failure or failure
        self._changed.set()

    def _joined(self) -> bytes:
        """What has come, up to the size of a chunk."""
        parts, size = list[bytes](), 0
        while self._buffer and (not parts or size + len(self._buffer[0]) <= MAX_CHUNK):
            parts.append(self._buffer.popleft())
            size += len(parts[-1])
        self._size -= size
        return b"".join(parts)

    async def _news(self) -> None:
        await self._changed.wait()
        self._changed.clear()
