"""Bugs of an agent on purpose: a harness that does not see them would not see real ones either.

`FAULTS_PLANTED=<bug> python -m tests.faults.commands.planted agent kubernetes` is that agent with the bug.
"""

import asyncio
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tests.faults.planted import VARIABLE

LATER = 2.0
"""Seconds after which the disk has what was said to be on it."""

BUGS: dict[str, Callable[[], None]] = {}


def _bug(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(plant: Callable[[], None]) -> Callable[[], None]:
        BUGS[name] = plant
        return plant

    return register


@_bug("acknowledged-before-fsync")
def _write_later() -> None:
    """Custody is taken, and an effect begun, when the journal has it in memory; the disk has it later."""
    from services.agent.store import journal

    later: ContextVar[bool] = ContextVar("later", default=False)
    begin = journal.Journal.__init__
    waiting: set[asyncio.Task[Any]] = set()

    class Late:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        async def run(self, work: Any, *, lasting: bool = False) -> Any:
            if not later.get():
                return await self._file.run(work, lasting=lasting)
            task = asyncio.create_task(self._write(work, lasting))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            return None

        async def _write(self, work: Any, lasting: bool) -> None:
            await asyncio.sleep(LATER)
            await self._file.run(work, lasting=lasting)

    def begun(self: Any, file: Any, now: Any) -> None:
        begin(self, Late(file), now)  # type: ignore[arg-type]

    def written_later(name: str) -> None:
        write = getattr(journal.Journal, name)

        async def hasty(self: Any, *arguments: Any) -> Any:
            token = later.set(True)
            try:
                return await write(self, *arguments)
            finally:
                later.reset(token)

        setattr(journal.Journal, name, hasty)

    journal.Journal.__init__ = begun  # type: ignore[method-assign]
    for name in ("_accept", "_started", "_done"):
        written_later(name)


@_bug("dropped-at-the-brokers-ack")
def _forget_what_was_published() -> None:
    """A result that the broker has acknowledged is forgotten: the master's word is not waited for."""
    from services.agent.scheduler.commands import reports
    from services.agent.store import journal_rows

    published = reports.Reporter.published

    async def dropped(self: Any, entry: Any) -> None:
        await published(self, entry)
        journal = self._journal
        await journal.confirm([entry.id])
        self._unconfirmed.pop(entry.id, None)
        if held := journal._index.held.pop(entry.id, None):
            horizon = journal._index.horizon
            await journal._file.run(lambda db: journal_rows.forget(db, [held.number], horizon))

    reports.Reporter.published = dropped  # type: ignore[method-assign]


@_bug("rerun-without-looking")
def _begin_anew() -> None:
    """What a crash has left half done is taken for new: nobody looks whether its effect is there."""
    from msgspec.structs import replace

    from services.agent.store import journal

    load = journal.Journal._load

    async def forgetful(self: Any) -> None:
        await load(self)
        for command_id, entry in self._index.open.items():
            self._index.open[command_id] = replace(entry, begun=0, started_at=None, seen=b"")

    journal.Journal._load = forgetful  # type: ignore[method-assign]


if __name__ == "__main__":
    from services.cli.main import main

    BUGS[os.environ[VARIABLE]]()
    main()
