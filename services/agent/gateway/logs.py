"""Calls with the lines of logs, over the bus."""

import asyncio

from schemas import registry, subjects
from schemas.errors import ContractError
from schemas.ids import Target
from schemas.logs import LogsPublished, LogsTaken
from services.agent.gateway.interfaces import ReaderGone, Unavailable
from services.runtime.backoff import Backoff
from services.runtime.bus.client import Bus, BusError, BusUnavailable, NoAnswer, NoResponders

ANSWER = 10.0
"""Seconds in which a chunk is answered; the api takes at most half of that for a slow reader."""
RETURN = 3.0
"""Seconds that the api has to listen again where nobody does: after an outage we may be back before it."""


class BusLogCalls:
    """LogCalls of one agent."""

    def __init__(self, bus: Bus, target: Target) -> None:
        self._bus = bus
        self._target = target
        self._source = subjects.agent_source(target)
        self._away = Backoff(base=0.2, cap=2.0)
        """Of all sessions: what one meets, the others meet too."""

    async def publish_logs(self, chunk: LogsPublished) -> LogsTaken:
        subject = subjects.call(self._target, "logs", chunk.session)
        envelope = registry.LOGS_PUBLISHED.envelope(chunk, source=self._source)
        loop, backoff = asyncio.get_running_loop(), Backoff(base=0.1, cap=0.5)
        give_up = loop.time() + RETURN
        while True:
            try:
                answer = await self._bus.call(subject, envelope, timeout=ANSWER)
                taken = registry.LOGS_TAKEN.decode(answer.data)
                self._away.reset()
                return taken
            except NoResponders as error:
                if loop.time() > give_up:
                    raise ReaderGone(str(error)) from error
                await backoff.sleep()
            except NoAnswer as error:
                raise ReaderGone(str(error)) from error
            except BusUnavailable as error:
                await self._bus.pause(self._away)
                raise Unavailable(str(error)) from error
            except (BusError, ContractError) as error:
                raise ReaderGone(str(error)) from error
