"""Signs of life, whatever else is going on."""

import asyncio
import random
from collections.abc import Callable, Hashable

from schemas.presence import Heartbeat
from services.agent.gateway.interfaces import MasterGateway, Unavailable
from services.runtime import logs

_log = logs.get_logger(__name__)


LOOK_INTERVAL = 1.0
"""Seconds between two looks at `state`: news travel that soon, and not more often."""
JITTER = 0.1
"""Fraction of the interval by which a heartbeat may be early; it is never late."""


class HeartbeatScheduler:
    """Beats each interval (seconds), and early when `state` has changed.

    A beat that fails is not repeated: the next one is due anyway.
    """

    def __init__(
        self,
        compose: Callable[[], Heartbeat],
        state: Callable[[], Hashable],
        gateway: MasterGateway,
        *,
        interval: float,
        timeout: float,
    ) -> None:
        self._compose = compose
        self._state = state
        self._gateway = gateway
        self._interval = interval
        self._timeout = timeout
        self.last_error = ""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            # Of two agents under one id with the same beat, one would always hide the other: the stream keeps
            # the last heartbeat only.
            told, due = self._state(), loop.time() + self._interval * random.uniform(1 - JITTER, 1)
            await self.beat()
            while (left := due - loop.time()) > 0:
                await asyncio.sleep(min(LOOK_INTERVAL, left))
                if self._state() != told:
                    break

    async def beat(self) -> None:
        """One beat now."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._gateway.beat(self._compose())
        except (TimeoutError, Unavailable) as error:
            cause = str(error) or f"no answer within {self._timeout:g} s"
            if cause != self.last_error:
                _log.warning("heartbeat was not sent", reason=cause)
            self.last_error = cause
        else:
            self.last_error = ""
