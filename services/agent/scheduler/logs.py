"""Sessions: one reader's logs, sent as calls, no faster than the reader takes them.

A session has one chunk under way. Its answer says how much the next may have, so that a slow reader holds up
its own session only: what it does not take is not read. Who is not there to answer has no session.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from schemas.logs import MAX_CHUNK, LogError, LogPiece, LogPosition, LogsPublished, LogsRequested, LogsTaken
from services.agent.capability import Logs, LogsUnavailable
from services.agent.gateway.interfaces import LogCalls, ReaderGone, Unavailable
from services.runtime import logs
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

KEEPALIVE = 5.0
"""Seconds without a line after which an empty chunk looks whether the reader is there."""
GIVE_UP = 60.0
"""Seconds that a chunk waits for the broker; the api begins the session anew if it still wants it."""
WAITING = MAX_CHUNK
"""Bytes of lines that wait for the next chunk; whoever has more waits with them."""
_REQUESTS = 256
"""Requests that wait to be looked at; further ones are dropped, since they are repeated."""

SESSIONS = Gauge("atlhyper_log_sessions", "Readers whose logs are read now")
SENT = Counter("atlhyper_log_sent_bytes", "Bytes of log lines that readers have taken")
REFUSED = Counter("atlhyper_log_refused", "Readers turned away because there were too many")


class LogScheduler:
    """Runs a session for each reader, at most `max_sessions` at once."""

    def __init__(self, source: Logs, calls: LogCalls, max_sessions: int) -> None:
        self._source = source
        self._calls = calls
        self._max_sessions = max_sessions
        self._requests: asyncio.Queue[LogsRequested] = asyncio.Queue(_REQUESTS)
        self._sessions: dict[str, tuple[int, asyncio.Task[None]]] = {}
        """By id: its run, and what reads."""

    async def requested(self, asked: LogsRequested) -> None:
        """A request has come; the same one comes several times."""
        if not self._requests.full():
            self._requests.put_nowait(asked)

    async def run(self) -> None:
        """Until cancelled, which ends every session."""
        try:
            while True:
                await self._take(await self._requests.get())
        finally:
            for _, task in list(self._sessions.values()):
                await cancelled(task)

    async def _take(self, asked: LogsRequested) -> None:
        run, task = self._sessions.get(asked.session, (0, None))
        if task is not None and (asked.closed or asked.run > run):
            await cancelled(task)
        if asked.closed or asked.run <= run:
            return
        if len(self._sessions) >= self._max_sessions:
            REFUSED.inc()
            session = Session(asked, _Full(self._max_sessions), self._calls)
        else:
            session = Session(asked, self._source, self._calls)
        task = asyncio.create_task(self._run(session), name=f"logs {asked.session}")
        self._sessions[asked.session] = asked.run, task
        # Not in the task itself: one that is cancelled before its first step never comes to its `finally`.
        task.add_done_callback(lambda ended: self._forget(asked.session, ended))

    def _forget(self, session: str, ended: asyncio.Task[None]) -> None:
        _, task = self._sessions.get(session, (0, None))
        if task is ended:
            del self._sessions[session]

    async def _run(self, session: "Session") -> None:
        asked = session.asked
        where = asked.pod or f"{asked.resource}/{asked.name}".strip("/") or asked.selector
        _log.info("logs", session=asked.session, run=asked.run, namespace=asked.namespace, of=where)
        try:
            with SESSIONS.track_inprogress():
                await session.run()
        except Exception:  # noqa: BLE001 - one session's trouble is not the next one's
            _log.exception("logs failed", session=asked.session)


class Session:
    """One reader. It is the LogSink of what is read for it."""

    def __init__(self, asked: LogsRequested, source: Logs, calls: LogCalls) -> None:
        self.asked = asked
        self._source = source
        self._calls = calls
        self._pieces: deque[LogPiece] = deque()
        self._waiting = 0
        """Bytes in `_pieces`."""
        self._room = asyncio.Event()
        self._room.set()
        self._news = asyncio.Event()
        self._opened = self._told = False
        self._warnings: list[str] = []
        self._ended = False
        self._error: LogError | None = None

    async def run(self) -> None:
        """Until all is sent, or the reader is gone."""
        reading = asyncio.create_task(self._read(), name=f"reading for {self.asked.session}")
        try:
            await self._send()
        except ReaderGone as gone:
            _log.info("reader of logs is gone", session=self.asked.session, reason=str(gone))
        finally:
            await cancelled(reading)

    # --- what is read --------------------------------------------------------------------------------

    def opened(self, warnings: Sequence[str]) -> None:
        self._opened = True
        self._warnings = list(warnings)
        self._news.set()

    async def put(self, data: bytes, position: LogPosition) -> None:
        await self._room.wait()
        last = self._pieces[-1] if self._pieces else None
        of = (position.pod, position.container)
        if last and (last.position.pod, last.position.container) == of and _fit(last.data, data):
            last.data += data
            last.position = position
        else:
            self._pieces.append(LogPiece(data=data, position=position))
        self._waiting += len(data)
        if self._waiting >= WAITING:
            self._room.clear()
        self._news.set()

    async def _read(self) -> None:
        try:
            await self._source.read_logs(self.asked, self)
        except LogsUnavailable as unavailable:
            self._error = unavailable.error
        except Exception as error:  # noqa: BLE001 - told to the reader
            _log.exception("logs could not be read", session=self.asked.session)
            self._error = LogError(code="failed", message=f"internal error: {type(error).__name__}")
        self._ended = True
        self._news.set()

    # --- what is sent --------------------------------------------------------------------------------

    async def _send(self) -> None:
        sequence, credit = 0, self.asked.credit
        chunk = self._chunk(sequence, [])  # the agent is at it
        while True:
            taken = await self._deliver(chunk)
            SENT.inc(sum(len(piece.data) for piece in chunk.pieces))
            if taken.gone:
                raise ReaderGone("it has left")
            if chunk.ended:
                return
            sequence, credit = sequence + 1, taken.credit
            chunk = await self._next(sequence, credit)

    async def _next(self, sequence: int, credit: int) -> LogsPublished:
        """The next chunk; an empty one when there is nothing to say, or nothing more is taken now."""
        try:
            async with asyncio.timeout(KEEPALIVE):
                while credit and not self._pieces and not self._ended and self._told == self._opened:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        pieces: list[LogPiece] = []
        while self._pieces and len(self._pieces[0].data) <= credit:
            piece = self._pieces.popleft()
            credit -= len(piece.data)
            self._waiting -= len(piece.data)
            pieces.append(piece)
        if self._waiting < WAITING:
            self._room.set()
        return self._chunk(sequence, pieces)

    def _chunk(self, sequence: int, pieces: list[LogPiece]) -> LogsPublished:
        ended = self._ended and not self._pieces
        self._told = self._opened
        warnings, self._warnings = self._warnings, []
        return LogsPublished(
            session=self.asked.session,
            run=self.asked.run,
            sequence=sequence,
            opened=self._opened,
            warnings=warnings,
            pieces=pieces,
            ended=ended,
            error=self._error if ended else None,
        )

    async def _deliver(self, chunk: LogsPublished) -> LogsTaken:
        """Send a chunk until it is answered. Raises ReaderGone."""
        reason = "the broker is away"
        try:
            async with asyncio.timeout(GIVE_UP):
                while True:
                    try:
                        return await self._calls.publish_logs(chunk)
                    except Unavailable as error:
                        reason = str(error)
        except TimeoutError:
            raise ReaderGone(reason) from None


class _Full:
    """Logs of an agent that reads for as many as it may."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions

    async def read_logs(self, asked: LogsRequested, sink: object) -> None:  # noqa: ARG002 - it reads nothing
        message = f"the agent reads logs for {self._max_sessions} readers already; AGENT_LOG_SESSIONS"
        raise LogsUnavailable(LogError(code="too_many", message=message))


def _fit(*parts: bytes) -> bool:
    return sum(map(len, parts)) <= MAX_CHUNK // 4
