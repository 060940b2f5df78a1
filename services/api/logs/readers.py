"""Who reads logs: so many at a time, each with a session of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas import subjects
from schemas.ids import Target
from schemas.logs import LogsRequested
from services.api.http.limits import NoSeat, Seats
from services.api.logs import metrics
from services.api.logs.session import AgentSilent, Session
from services.runtime.bus.client import Bus, BusError
from services.runtime.tasks import cancelled


class Stopping(AgentSilent):
    """This replica of the api ends; another one can go on."""

    def __init__(self) -> None:
        super().__init__("this replica of the api is stopping")


class LogReaders:
    """`close` sends all of them away."""

    def __init__(self, bus: Bus | None, instance: str = "", max_readers: int = 100) -> None:
        """Without a bus nobody can read."""
        self._bus = bus
        self._source = subjects.service_source("api", instance)
        self._seats = Seats(max_readers)
        self._sessions: set[Session] = set()
        self._closed = False

    @property
    def max_readers(self) -> int:
        """How many there may be."""
        return self._seats.number

    @asynccontextmanager
    async def session(self, target: Target, asked: LogsRequested) -> AsyncIterator[Session]:
        """A session for as long as the block runs. Raises NoSeat, AgentSilent."""
        try:
            seat = self._seats.seat()
            with seat, metrics.READERS.track_inprogress():
                async with self._listening(target, asked) as session:
                    yield session
        except NoSeat:
            metrics.REFUSED.inc()
            raise

    @asynccontextmanager
    async def _listening(self, target: Target, asked: LogsRequested) -> AsyncIterator[Session]:
        if self._bus is None or not self._bus.connected:
            reason = self._bus.last_error if self._bus else "there is none"
            raise AgentSilent(f"no connection to the broker: {reason or 'connecting'}")
        session = Session(self._bus, target, asked, self._source)
        try:
            subscription = await self._bus.answer(session.subject, session.take)
        except BusError as error:
            raise AgentSilent(str(error)) from error
        keeping = asyncio.create_task(session.keep(), name=f"logs of {target}")
        self._sessions.add(session)
        if self._closed:
            session.end(Stopping())
        try:
            yield session
        finally:
            self._sessions.discard(session)
            await cancelled(keeping)
            await subscription.close()
            await session.farewell()

    def close(self) -> None:
        """End every session: its reader is told by a transfer that is broken off."""
        self._closed = True
        for session in self._sessions:
            session.end(Stopping())
