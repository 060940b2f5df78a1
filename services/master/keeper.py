"""Which duties this master has among the masters that are alive, and the tasks that do them."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.ids import SHARDS
from services.master import metrics
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.database.lock import ProcessLock
from services.persistence.leases import Holding, LeaseLost, Leases, Situation
from services.runtime import logs
from services.runtime.backoff import Backoff
from services.runtime.bus.consumer import Consumer
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

HEARTBEATS = "heartbeats"
"""The lease of the agents' heartbeats, the clock and the removal of old rows."""
COMMANDS = "commands"
"""The lease of the commands: sending them, and what becomes of them."""
SINGLE = (HEARTBEATS, COMMANDS)
"""The leases that are no shards."""
SHARD_LEASES = tuple(f"shard/{shard}" for shard in range(SHARDS))
"""The leases of the shards, each of its snapshots and its Events."""
_TURNS = 6
"""Turns of the keeper in the time that a lease lasts: so many renewals, and looks at what is free."""
_MARGIN = 1 / 12
"""Part of the time that a lease lasts by which its holder gives up before the others may have it."""
_JITTER = 0.1
"""Seconds at most between the end of another's lease and our turn."""
_LOOK = 0.5
"""Seconds between two looks whether the one process that is served has ended."""
_LAST_WORDS = 2.0
"""Seconds at most for giving everything back on the way out."""
_ENDING = 5.0
"""Seconds at most for work to end on the way out; a transaction in hand is finished in far less."""
_SILENT = "the database does not answer"


Turn = tuple[Situation, frozenset[Holding]]


class Duty(Protocol):
    """What the holder of a lease does."""

    @property
    def consumers(self) -> Sequence[Consumer]: ...

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        ...


class BusState(Protocol):
    """The connection to the broker: who has none for as long as a lease lasts leaves the work to others."""

    @property
    def connected(self) -> bool: ...

    async def wait_connected(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Work:
    duty: Duty
    task: asyncio.Task[None]


def choose(situation: Situation, me: str) -> list[str]:
    """The leases that `me` should hold: what it has and what is free, up to its share of the shards.

    The shares of all members add up to all shards, so who has more gives up and who has less takes, and
    nothing moves once each has its own.
    """
    have = {holding.name for holding in situation.held}
    share, rest = divmod(SHARDS, max(1, len(situation.members)))
    if me in situation.members and situation.members.index(me) < rest:
        share += 1
    wanted = [name for name in SHARD_LEASES if name in have]
    wanted += [name for name in SHARD_LEASES if name in situation.free]
    return wanted[:share] + [name for name in SINGLE if name in have | situation.free]


class Keeper:
    """Holds leases and runs their duties: each from the moment it is taken until it is lost or given up.

    `lock`: of a database that serves one master; further ones stand by until that one's process has ended.
    """

    def __init__(
        self,
        leases: Leases,
        duty_of: Callable[[Holding], Duty],
        bus: BusState,
        lock: ProcessLock | None = None,
    ) -> None:
        self._leases = leases
        self._duty_of = duty_of
        self._bus = bus
        self._lock = lock
        self._work: dict[Holding, _Work] = {}
        self._ending: dict[Holding, asyncio.Task[None]] = {}
        """Work that is being ended: its lease is not taken again before."""
        self._present = False
        """Whether the database knows us: the leases are declared, and the lock is ours."""
        self._connected = -math.inf
        """Monotonic seconds when there was a connection to the broker."""
        self._renewed = 0.0
        """Monotonic seconds when the last turn that succeeded began."""
        self._others: frozenset[str] = frozenset()
        self._aside = ""
        """Why we do not even ask for leases."""
        self._trouble = ""
        self._told = ""

    @property
    def consumers(self) -> list[Consumer]:
        """All that this master reads with now."""
        return [consumer for work in self._work.values() for consumer in work.duty.consumers]

    def health(self) -> str | None:
        """A readiness check. Holding nothing is well: there are others."""
        return self._trouble or None

    def status(self) -> str:
        """What this master does now, for people."""
        names = {holding.name for holding in self._work}
        if names:
            shards = f"{len(names.difference(SINGLE))} of {SHARDS} shards"
            return "holds " + ", ".join([shards, *(f"the {name}" for name in SINGLE if name in names)])
        if self._aside:
            return f"stands by {self._aside}"
        return "stands by, others hold all shards" if self._others else "holds nothing yet"

    async def run(self) -> None:
        """Until cancelled; then all work has ended and everything is given back."""
        try:
            while True:
                await self._until_connected()
                trouble = ""
                try:
                    pause = await self._turn() if await self._appear() else _LOOK
                except (DatabaseUnavailable, TimeoutError) as error:
                    pause = self._leases.ttl * _MARGIN
                    trouble = self._cannot_renew(error)
                    if trouble != self._trouble:
                        _log.warning(trouble)
                self._trouble = trouble
                self._tell()
                await asyncio.sleep(pause)
        finally:
            await self._leave()

    async def _until_connected(self) -> None:
        """At once, unless the broker was out of reach for as long as a lease lasts: then others are to have
        the work, since all that we could do is to keep it from them.
        """
        now = time.monotonic()
        if self._bus.connected:
            self._connected = now
        elif now - self._connected > self._leases.ttl:
            self._aside = "without a connection to the broker"
            await self._leave()
            self._trouble = ""
            self._tell()
            await self._bus.wait_connected()
            self._connected, self._aside = time.monotonic(), ""

    async def _appear(self) -> bool:
        """Whether we may have leases. Raises DatabaseUnavailable."""
        if not self._present:
            if self._lock is not None and not self._lock.take(self._leases.holder):
                owner = self._lock.owner()
                self._aside = f"for {owner}: SQLite serves one master at a time, PostgreSQL several"
                return False
            self._aside = ""
            await self._leases.declare([*SHARD_LEASES, *SINGLE], alone=self._lock is not None)
            self._present = True
        return True

    # --- turns ---------------------------------------------------------------------------------------

    async def _turn(self) -> float:
        """Renew, give up and take; seconds until the next turn. Raises DatabaseUnavailable, TimeoutError."""
        started = time.monotonic()
        wanted: set[str] = set()

        def take(situation: Situation) -> set[str]:
            wanted.update(choose(situation, self._leases.holder))
            return wanted - {holding.name for holding in [*self._work, *self._ending]}

        turn = asyncio.ensure_future(self._within_ttl(self._leases.turn(list(self._work), take)))
        try:
            while not turn.done():
                self._lose_what_is_overdue()
                await asyncio.wait([turn], timeout=self._leases.ttl * _MARGIN)
        finally:  # cancelled: a transaction in hand is finished first
            if not turn.done():
                await asyncio.wait([turn], timeout=1.0)
                await cancelled(turn)
        situation, taken = turn.result()
        self._renewed = started
        self._others = situation.others
        for holding in list(self._work):
            if holding not in situation.held:
                self._lose(holding, "another has taken it")
            elif holding.name not in wanted:
                self._stop(holding, give_back=True)
        for holding in sorted(taken, key=lambda item: item.name):
            duty = self._duty_of(holding)
            task = asyncio.create_task(self._do(holding, duty), name=holding.name)
            self._work[holding] = _Work(duty, task)
            metrics.LEASES_TAKEN.inc()
        # In time to take over from one who is silent from now on.
        return min(self._leases.ttl / _TURNS, situation.expires_in + random.uniform(0, _JITTER))

    async def _within_ttl(self, turn: Awaitable[Turn]) -> Turn:
        async with asyncio.timeout(self._leases.ttl):
            return await turn

    def _lose_what_is_overdue(self) -> None:
        if self._work and time.monotonic() - self._renewed > self._leases.ttl * (1 - _MARGIN):
            _log.warning("leases could not be renewed in time", leases=len(self._work))
            metrics.LEASES_LOST.inc(len(self._work))
            self._trouble = self._cannot_renew()  # the turn in hand may take as long again to end
            for holding in list(self._work):
                self._stop(holding, give_back=False)

    def _cannot_renew(self, error: Exception | None = None) -> str:
        """Others of this process may have been told why, while our turn waits behind them."""
        return f"leases cannot be renewed: {str(error or '') or self._leases.trouble or _SILENT}"

    def _tell(self) -> None:
        metrics.LEASES_HELD.set(len(self._work))
        if (status := self.status()) != self._told:
            self._told = status
            _log.info("duties", holder=self._leases.holder, status=status)

    # --- work ----------------------------------------------------------------------------------------

    async def _do(self, holding: Holding, duty: Duty) -> None:
        """The duty, begun again when it fails, until the lease is lost."""
        backoff = Backoff(base=0.5, cap=5.0)
        while True:
            try:
                await duty.run()
                _log.error("work ended on its own", lease=holding.name)
            except LeaseLost as lost:
                metrics.FENCED.inc()
                self._lose(holding, str(lost))
                return
            except DatabaseUnavailable as error:
                _log.warning("work failed", lease=holding.name, reason=str(error))
            except Exception:  # noqa: BLE001 - whatever it was, it is logged and the work starts again
                _log.exception("work failed", lease=holding.name)
            await backoff.sleep()

    def _lose(self, holding: Holding, reason: str) -> None:
        if holding in self._work:
            _log.warning("lease lost", lease=holding.name, fence=holding.fence, reason=reason)
            metrics.LEASES_LOST.inc()
            self._stop(holding, give_back=False)

    def _stop(self, holding: Holding, *, give_back: bool) -> None:
        work = self._work.pop(holding)

        async def end() -> None:
            try:
                await cancelled(work.task)
                if give_back:
                    await self._leases.release(holding)
            except DatabaseUnavailable as error:
                _log.warning("lease could not be given back", lease=holding.name, reason=str(error))
            finally:
                del self._ending[holding]

        self._ending[holding] = asyncio.create_task(end(), name=f"end of {holding.name}")

    async def _leave(self) -> None:
        """End all work and give everything back: the others need not wait for the leases to expire."""
        for holding in list(self._work):
            self._stop(holding, give_back=False)
        if self._ending:
            await asyncio.wait(list(self._ending.values()), timeout=_ENDING)
        if self._present:
            try:
                async with asyncio.timeout(_LAST_WORDS):
                    await self._leases.leave()
            except (DatabaseUnavailable, TimeoutError) as error:
                _log.warning("leases could not be given back", reason=str(error) or "no answer in time")
        self._present = False
        if self._lock is not None:
            self._lock.give_back()
