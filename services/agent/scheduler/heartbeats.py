"""Signs of life, whatever else is going on."""

import asyncio
import random
from collections.abc import Callable, Hashable

from schemas.presence import ActionSchemas, Heartbeat
from services.agent.gateway.interfaces import MasterGateway, Unavailable
from services.runtime import logs

_log = logs.get_logger(__name__)


LOOK_INTERVAL = 1.0
"""Seconds between two looks at `state`: news travel that soon, and not more often."""
JITTER = 0.1
"""Fraction of the interval by which a heartbeat may be early; it is never late."""
ANNOUNCING = 0.5
"""Fraction of the interval during which early heartbeats repeat what the one before them has announced: the
stream keeps the last one only, and nobody may have read that one."""
ANNOUNCED_EACH = 40
"""Heartbeats of which one announces anew what all who read them may have lost: 10 minutes by default."""


class HeartbeatScheduler:
    """Beats each interval (seconds), and early when `state` has changed.

    A beat that fails is not repeated: the next one is due anyway. `actions` are in those that announce them:
    the first ones over each connection, those after a change, and one of ANNOUNCED_EACH.
    """

    def __init__(
        self,
        compose: Callable[[], Heartbeat],
        actions: Callable[[], ActionSchemas | None],
        state: Callable[[], Hashable],
        gateway: MasterGateway,
        *,
        interval: float,
        timeout: float,
    ) -> None:
        self._compose = compose
        self._actions = actions
        self._state = state
        self._gateway = gateway
        self._interval = interval
        self._timeout = timeout
        self._announced: tuple[int, ActionSchemas | None] | None = None
        """What the bus has last taken of it, and over which connection."""
        self._announcing_until = 0.0
        self._since = 0
        """Heartbeats from that one on."""
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
        now = asyncio.get_running_loop().time()
        actions = self._actions()
        told = self._gateway.connections, actions
        anew = told != self._announced or self._since >= ANNOUNCED_EACH
        heartbeat = self._compose()
        if anew or now < self._announcing_until:
            heartbeat = heartbeat.model_copy(update={"actions": actions})
        try:
            async with asyncio.timeout(self._timeout):
                await self._gateway.beat(heartbeat)
        except (TimeoutError, Unavailable) as error:
            cause = str(error) or f"no answer within {self._timeout:g} s"
            if cause != self.last_error:
                _log.warning("heartbeat was not sent", reason=cause)
            self.last_error = cause
        else:
            self.last_error = ""
            self._since += 1
            if anew:
                self._announced, self._since = told, 1
                self._announcing_until = now + ANNOUNCING * self._interval
