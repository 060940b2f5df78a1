"""Bugs on purpose, one per invariant: a harness that does not see them would not see real ones either.

`FAULTS_PLANTED=<bug> python -m tests.faults.planted master` is `atlhyper master` with that bug in it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

VARIABLE = "FAULTS_PLANTED"
FREEZE = 6.0
"""Seconds; three times what a lease lasts in a short run."""

BUGS: dict[str, Callable[[], None]] = {}


def _bug(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(plant: Callable[[], None]) -> Callable[[], None]:
        BUGS[name] = plant
        return plant

    return register


@_bug("skipped-frame")
def _skip_a_frame() -> None:
    """Every tenth frame of data is thrown away, and nobody sees that one is missing."""
    from schemas.frames import Phase
    from services.persistence.state import transaction

    take = transaction.Transaction._take_effect
    counted = 0

    async def lossy(self: Any, ledger: Any, received: Any) -> bool:
        nonlocal counted
        counted += received.frame.phase is Phase.DATA
        if received.frame.phase is not Phase.DATA or counted % 10:
            return bool(await take(self, ledger, received))
        ledger.version -= 1  # it is not counted either
        return True

    transaction.Transaction._take_effect = lossy  # type: ignore[method-assign]


@_bug("sweep-without-synced")
def _sweep_at_begin() -> None:
    """What an epoch has not named yet goes when it begins, instead of when it is complete."""
    from sqlmodel import col

    from services.persistence import tables
    from services.persistence.state import transaction

    begin = transaction.Transaction._open

    async def hasty(self: Any, ledger: Any, frame: Any) -> bool:
        done = await begin(self, ledger, frame)
        await self._sweep(ledger.target, ledger.synced, col(tables.Resource.epoch) != frame.epoch)
        return done

    transaction.Transaction._open = hasty  # type: ignore[method-assign]


@_bug("deaf-to-deletions")
def _keep_what_is_gone() -> None:
    """Deletions of ConfigMaps change nothing, and digests are always believed."""
    from services.persistence.state import transaction

    async def trusting(self: Any, ledger: Any, frame: Any, time: Any) -> None:
        ledger.digest_agrees = True

    transaction.Transaction._compare = trusting  # type: ignore[method-assign]
    _keep_until_the_next_epoch()


@_bug("deaf-but-mended")
def _keep_until_the_next_epoch() -> None:
    """Deletions of ConfigMaps change nothing; digests tell, and a new epoch makes up for it."""
    from schemas import frames
    from services.persistence.state import transaction

    take = transaction.Transaction._take_item

    async def deaf(self: Any, ledger: Any, item: Any, time: Any) -> None:
        if not (isinstance(item, frames.Delete) and item.resource == "configmaps"):
            await take(self, ledger, item, time)

    transaction.Transaction._take_item = deaf  # type: ignore[method-assign]


@_bug("lost-event")
def _lose_events() -> None:
    """The cursor moves past every third batch of Events, of which nothing is stored."""
    from services.master import events

    store = events.store_events
    counted = 0

    async def forgetful(db: Any, observed: Sequence[Any], *rest: Any, **named: Any) -> Any:
        nonlocal counted
        counted += 1
        return await store(db, observed if counted % 3 else [], *rest, **named)

    events.store_events = forgetful  # type: ignore[assignment]


@_bug("unreadable")
def _refuse_some() -> None:
    """The ingresses cannot be read any more: their frames go to the dead letters."""
    from schemas.errors import ContractError
    from services.persistence.state import transaction

    take = transaction.Transaction._take_item

    async def picky(self: Any, ledger: Any, item: Any, time: Any) -> None:
        if item.resource == "ingresses" and item.name.endswith("7"):
            raise ContractError("planted")
        await take(self, ledger, item, time)

    transaction.Transaction._take_item = picky  # type: ignore[method-assign]


@_bug("crash")
def _crash() -> None:
    """The process ends by itself when it applies its twentieth batch."""
    from services.persistence.state import applier

    apply = applier.FrameApplier.apply
    counted = 0

    async def fragile(self: Any, received: Sequence[Any], cursor: Any) -> Any:
        nonlocal counted
        counted += 1
        if counted == 20:
            os._exit(3)
        return await apply(self, received, cursor)

    applier.FrameApplier.apply = fragile  # type: ignore[method-assign]


def freeze() -> None:
    """No bug: told by SIGUSR1, the process stands still for a while, outside of any transaction."""
    import asyncio
    import signal
    import time
    from contextlib import asynccontextmanager

    from services.master import keeper
    from services.persistence.database import engine

    write, run = engine.Database.write, keeper.Keeper.run
    writing = 0

    @asynccontextmanager
    async def counted(self: Any, **named: Any) -> Any:
        nonlocal writing
        async with write(self, **named) as session:
            writing += 1
            try:
                yield session
            finally:
                writing -= 1

    async def stand_still(told: asyncio.Event) -> None:
        await told.wait()
        while writing:  # whoever is in a transaction keeps the other one out
            await asyncio.sleep(0)
        time.sleep(FREEZE)  # noqa: ASYNC251 - everything in the process is to stand still

    async def freezing(self: Any) -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        freezer = asyncio.create_task(stand_still(told))
        await run(self)
        await freezer

    engine.Database.write = counted  # type: ignore[method-assign]
    keeper.Keeper.run = freezing  # type: ignore[method-assign]


@_bug("stale-owner")
def _own_for_ever() -> None:
    """A master stands still until another one has taken over, and then writes on as if nothing had been."""
    from services.master import keeper
    from services.persistence import leases

    async def believe(*_: Any) -> None:
        pass

    freeze()
    leases.check = believe  # type: ignore[assignment]
    keeper.Keeper._lose = lambda *_: None  # type: ignore[method-assign]
    keeper.Keeper._lose_what_is_overdue = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    from services.cli.main import main

    {**BUGS, "no-bug-but-frozen": freeze}[os.environ[VARIABLE]]()
    main()
