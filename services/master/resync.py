"""Asking agents for a new epoch, and telling those that share an id who serves it."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from schemas import registry, subjects
from schemas.control import Resync, Superseded
from schemas.ids import Target
from services.master import metrics
from services.master.teller import Teller
from services.persistence.presence.rivals import Rival
from services.runtime import logs
from services.runtime.tasks import set_within

_log = logs.get_logger(__name__)

_REMEMBERED = 10_000
_LONGEST_REST = 600.0
"""Seconds at most that an agent which never answers is left alone between two of its turns."""


@dataclass(slots=True)
class _Want:
    epoch: str
    reason: str
    started: float = 0.0
    """Monotonic seconds when its turn began; 0: it waits."""
    requests: int = 0
    """In this turn."""
    next_request: float = 0.0
    turns: int = 0
    """That ended without an answer."""
    rests_until: float = 0.0
    begun: bool = False
    """Its new epoch has begun; what is left is its data."""


class Resyncs:
    """The agents of which a new epoch is wanted. At most `concurrency` have their turn at one time.

    A turn lasts from the first request until the agent is in sync again, or for `patience` seconds. Requests
    are repeated until its `begin` is seen, since what is sent over `ctl` is not stored: first after
    `interval` seconds, then after twice as long, and so on. An agent that let its turn pass, lost as a rule,
    rests for longer after each, so that those who are there need not wait for it.
    """

    def __init__(self, teller: Teller, concurrency: int, interval: float, patience: float) -> None:
        self._teller = teller
        self._concurrency = concurrency
        self._interval = interval
        self._patience = patience
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
            known.epoch, known.reason, known.begun = epoch, reason, False
            known.requests, known.next_request, known.turns, known.rests_until = 0, 0.0, 0, 0.0
            self._changed.set()
        elif known.rests_until:  # it has published since
            known.turns, known.rests_until = 0, 0.0
            self._changed.set()
        metrics.RESYNCS_WANTED.set(len(self._wants))

    def forget(self, shard: int) -> None:
        """The agents of a shard are another master's from now on."""
        for target in [target for target in self._wants if target.shard == shard]:
            del self._wants[target]
        metrics.RESYNCS_WANTED.set(len(self._wants))
        self._changed.set()

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
            await set_within(self._changed, self._pause(time.monotonic()))

    def _pause(self, now: float) -> float:
        due = [want.next_request for want in self._wants.values() if want.started and not want.begun]
        ends = [want.started + self._patience for want in self._wants.values() if want.started]
        return max(0.01, min([*due, *ends, now + self._interval]) - now)

    async def _ask_those_due(self, now: float) -> None:
        for target, want in self._turns(now).items():
            if want.begun or want.next_request > now:
                continue
            pause = min(self._interval * 2**want.requests, self._patience)
            want.next_request = now + pause * random.uniform(0.8, 1.2)
            want.requests += 1
            body = Resync(epoch=want.epoch, reason=want.reason)
            if await self._teller.tell(subjects.control(target, "resync"), registry.RESYNC_REQUESTED, body):
                metrics.RESYNC_REQUESTS.inc()

    def _turns(self, now: float) -> Mapping[Target, _Want]:
        """Those whose turn it is, after giving free places to the ones that wait."""
        for target, want in list(self._wants.items()):
            if want.started and now - want.started > self._patience:
                # To the end of the line; one that has begun needs no further turn.
                del self._wants[target]
                if not want.begun:
                    rest = min(self._patience * (2**want.turns - 1), _LONGEST_REST)
                    self._wants[target] = _Want(
                        want.epoch, want.reason, turns=want.turns + 1, rests_until=now + rest
                    )
        metrics.RESYNCS_WANTED.set(len(self._wants))
        running = sum(1 for want in self._wants.values() if want.started)
        for want in self._wants.values():
            if running >= self._concurrency:
                break
            if not want.started and want.rests_until <= now:
                want.started, want.rests_until = now, 0.0
                running += 1
        return {target: want for target, want in self._wants.items() if want.started}


class Superseding:
    """Tells agents that another one serves their id, and one of them when it is free again.

    Nothing is remembered of who stands by: their heartbeats, and frames of those who do not know it yet, come
    again and again, and so does the answer. The same agent is told once in `interval` seconds.
    """

    def __init__(self, teller: Teller, interval: float) -> None:
        self._teller = teller
        self._interval = interval
        self._told: dict[tuple[Target, str], float] = {}

    async def meet(self, rival: Rival) -> None:
        """Answer the heartbeat of an agent that does not serve its id."""
        if rival.may_serve:
            if rival.epoch:
                await self._call(rival)
        elif rival.epoch and not rival.standing_by:
            await self.tell(rival.target, rival.epoch, rival.winner, rival.winner_instance)

    async def tell(self, target: Target, epoch: str, by: str, instance: str) -> None:
        """Tell an agent to stand by for the epoch `by`, which comes from `instance`."""
        if not self._due(target, epoch):
            return
        _log.warning(
            "another agent serves the id: this one is to stand by", target=str(target), epoch=epoch, by=by
        )
        body = Superseded(epoch=epoch, by=by, instance=instance)
        if await self._teller.tell(subjects.control(target, "superseded"), registry.EPOCH_SUPERSEDED, body):
            metrics.SUPERSEDED.inc()

    async def _call(self, rival: Rival) -> None:
        """Have it serve: it begins a new epoch, and the newest one wins."""
        _log.warning("the agent that served the id is gone: calling another", target=str(rival.target))
        body = Resync(epoch=rival.epoch, reason="the agent that served this id is gone")
        await self._teller.tell(subjects.control(rival.target, "resync"), registry.RESYNC_REQUESTED, body)

    def _due(self, target: Target, epoch: str) -> bool:
        now = time.monotonic()
        if now - self._told.get((target, epoch), -self._interval) < self._interval:
            return False
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[target, epoch] = now
        return True
