"""Faults of what keeps data: disks that are full or fail, a database that is locked or away."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.faults.fault import TOLD, Needs, Steps, Wrong, fault, told
from tests.faults.system import System

# --- full disks --------------------------------------------------------------------------------------


def _full(disk: str, words: str, *tellers: str) -> Steps:
    """No room left, which the readiness of each teller says in these words."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        system.disks[disk].fill()
        try:
            seconds = await told(system, dict.fromkeys(tellers, words))
            yield f"told in {seconds:.1f} s"
            await told(system, dict.fromkeys(tellers, words))
        finally:
            system.disks[disk].make_room()
            if disk == "broker":  # room alone does not revive its streams
                await system.stop_broker()
                await system.start_broker()

    return steps


for _name, _words, *_tellers in (
    ("agent", "see to the disk", "agent"),
    ("broker", "make room and restart it", "agent", "master"),
    ("database", "disk is full", "master"),
):
    _what = f"the {_name}'s disk full: told within {TOLD:.0f} s by the readiness of {' and '.join(_tellers)}"
    _needs = (Needs.DISKS, Needs.SQLITE) if _name == "database" else (Needs.DISKS,)
    fault(f"{_name}-disk-full", _what, *_needs)(_full(_name, _words, *_tellers))


# --- disks that fail ---------------------------------------------------------------------------------


def _fails(folder: str, teller: str, words: str) -> Steps:
    """Whatever is written or synced there ends with EIO; what is there can be read."""

    async def steps(system: System, dice: random.Random) -> AsyncIterator[str]:
        system.failing_disk(folder).touch()
        try:
            seconds = await told(system, {teller: words})
            await _answers(system)
            yield f"told in {seconds:.1f} s"
            await told(system, {teller: words})
        finally:
            system.failing_disk(folder).unlink()

    return steps


fault("agent-disk-fails", "EIO for each write to the agent's state file", Needs.SHIM)(
    _fails("agent", "agent", "see to the disk")
)
fault("database-disk-fails", "EIO for each write to SQLite's files", Needs.SHIM, Needs.SQLITE)(
    _fails("database", "master", "the disk reports an error")
)


async def _answers(system: System) -> None:
    """Nobody can write, everybody can read: the API shows what there is. Raises Wrong."""
    if "api" in (unready := await system.unready()):
        raise Wrong(f"the API is unready although the database can be read: {unready['api']}")
    if not await system.rows("pods"):
        raise Wrong("the API shows no pods although the database can be read")


# --- the database ------------------------------------------------------------------------------------

_HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
"""Locks a database of SQLite until standard input ends."""


@fault(
    "database-locked",
    "SQLite locked by another process, for 30 s at most (BEGIN EXCLUSIVE): nothing is written",
    Needs.SQLITE,
    longest=30.0,
)
async def _lock(system: System, dice: random.Random) -> AsyncIterator[str]:
    file = Path(system.database_url.partition("///")[2])
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLD, str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        if await holder.stdout.readline() != b"held\n":
            raise Wrong("the harness: the database could not be locked")
        seconds = await told(system, {"master": "database"})
        await _answers(system)
        yield f"told in {seconds:.1f} s"
        await told(system, {"master": "database"})
        await _answers(system)
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        await holder.wait()


@fault(
    "database-killed",
    "PostgreSQL stopped, or killed with -9, and started again: told by master and api",
    Needs.POSTGRESQL,
)
async def _kill_database(system: System, dice: random.Random) -> AsyncIterator[str]:
    assert system.postgres is not None
    gently = dice.random() < 0.5
    began = asyncio.get_running_loop().time()
    await asyncio.to_thread(system.postgres.stop if gently else system.postgres.kill)
    try:
        seconds = await told(system, {"master": "database", "api": "database"}, since=began)
        yield f"{'SIGINT' if gently else 'SIGKILL'}, told in {seconds:.1f} s"
        await told(system, {"master": "database", "api": "database"})
    finally:
        await asyncio.to_thread(system.postgres.start)
