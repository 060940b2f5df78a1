"""Asking agents for a new epoch, and telling those whose epoch has lost."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from schemas import registry, subjects
from schemas.control import Resync, Superseded
from schemas.envelope import Envelope
from schemas.ids import Target
from services.master import metrics
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError, BusUnavailable

_log = logs.get_logger(__name__)

PATIENCE = 30.0
"""Seconds after which an agent that does not get there makes room for the next one."""
_TOLD = 5.0
"""Seconds before the same loser is told again."""
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Want:
    epoch: str
    reason: str
    started: float = 0.0
    """Monotonic seconds when its turn began; 0: it waits."""
    next_request: float = 0.0
    begun: bool = False
    """Its new epoch has begun; what is left is its data."""


class Resyncs:
    """The agents of which a new epoch is wanted. At most `concurrency` have their turn at one time.

    A turn lasts from the first request until the agent is in sync again, or PATIENCE; requests are repeated
    until its `begin` is seen, since what is sent over `ctl` is not stored.
    """

    def __init__(self, bus: Bus, concurrency: int, interval: float) -> None:
        self._bus = bus
        self._concurrency = concurrency
        self._interval = interval
        self._wants: dict[Target, _Want] = {}
        """In the order of their turns."""
        self._changed = asyncio.Event()

    def want(self, target: Target, epoch: str, reason: str) -> None:
        """A new epoch is wanted; `epoch` is the one that is of no use (empty: whichever it is in)."""
        known = self._wants.get(target)
        if known is None:
            _log.warning("resync wanted", target=str(target), epoch=epoch, reason=reason)
            self._wants[target] = _Want(epoch, reason)
            self._changed.set()
        elif known.begun or known.epoch != epoch:
            known.epoch, known.reason, known.begun, known.next_request = epoch, reason, False, 0.0
            self._changed.set()
        metrics.RESYNCS_WANTED.set(len(self._wants))

    def begun(self, target: Target) -> None:
        """A new epoch has begun: no more requests."""
        if (known := self._wants.get(target)) is not None:
            known.begun = True

    def in_sync(self, target: Target, epoch: str) -> None:
        """The agent's state is whole in that epoch: the next one's turn, also if another was asked about."""
        known = self._wants.get(target)
        if known is not None and (known.begun or known.epoch not in ("", epoch)):
            del self._wants[target]
            metrics.RESYNCS_WANTED.set(len(self._wants))
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            await self._ask_those_due(time.monotonic())
            try:
                async with asyncio.timeout(self._pause(time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _pause(self, now: float) -> float:
        due = [want.next_request for want in self._wants.values() if want.started and not want.begun]
        ends = [want.started + PATIENCE for want in self._wants.values() if want.started]
        return max(0.01, min([*due, *ends, now + self._interval]) - now)

    async def _ask_those_due(self, now: float) -> None:
        for target, want in self._turns(now).items():
            if want.begun or want.next_request > now:
                continue
            want.next_request = now + self._interval * random.uniform(0.8, 1.2)
            body = Resync(epoch=want.epoch, reason=want.reason)
            envelope = registry.RESYNC_REQUESTED.envelope(body, source=_source(self._bus))
            if await _tell(self._bus, subjects.control(target, "resync"), envelope):
                metrics.RESYNC_REQUESTS.inc()

    def _turns(self, now: float) -> Mapping[Target, _Want]:
        """Those whose turn it is, after giving free places to the ones that wait."""
        for target, want in list(self._wants.items()):
            if want.started and now - want.started > PATIENCE:
                # To the end of the line; one that has begun needs no further turn.
                del self._wants[target]
                if not want.begun:
                    self._wants[target] = _Want(want.epoch, want.reason)
        metrics.RESYNCS_WANTED.set(len(self._wants))
        running = sum(1 for want in self._wants.values() if want.started)
        for want in self._wants.values():
            if running >= self._concurrency:
                break
            if not want.started:
                want.started = now
                running += 1
        return {target: want for target, want in self._wants.items() if want.started}


class Superseding:
    """Tells the losers: agents that still publish in an epoch after a newer one of the same id has begun."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._told: dict[tuple[Target, str], float] = {}

    async def tell(self, target: Target, epoch: str, by: str) -> None:
        """Tell one, unless it has just been told. While the broker is away nobody is."""
        now = time.monotonic()
        if now - self._told.get((target, epoch), -_TOLD) < _TOLD:
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[target, epoch] = now
        _log.warning("a newer epoch has begun, telling the older one", target=str(target), epoch=epoch, by=by)
        body = Superseded(epoch=epoch, by=by)
        envelope = registry.EPOCH_SUPERSEDED.envelope(body, source=_source(self._bus))
        if await _tell(self._bus, subjects.control(target, "superseded"), envelope):
            metrics.SUPERSEDED.inc()


def _source(bus: Bus) -> str:
    return subjects.service_source("master", bus.name)


async def _tell(bus: Bus, subject: str, envelope: Envelope) -> bool:
    """Whether it was sent. Never raises: what it follows from is committed already."""
    try:
        await bus.send(subject, envelope)
    except BusUnavailable:
        return False  # the bus itself tells of that
    except BusError as error:
        _log.error("agent could not be told", subject=subject, reason=str(error))
        return False
    return True
