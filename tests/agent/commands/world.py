"""What the commands of these tests are about: numbered objects in a file, and every effect on them.

The file outlives the agent's process, and counts what really happened, whoever says what of it.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from schemas.commands import Action, Command, CommandError, ErrorCode, Nature, Params
from services.agent.capability import (
    Done,
    Doubtful,
    Incomplete,
    Outcome,
    Progress,
    Refused,
    Stale,
    Unprovable,
    Untouched,
    Verdict,
)
from services.runtime.tasks import set_within


class Told(Params):
    """How an action behaves."""

    seconds: float = 0.0
    """It takes so long before its effect."""
    size: int = 0
    """Bytes of its result."""
    lost: str = ""
    """The answer is lost: `before` the effect, or `after` it; the first time only."""


THINGS = ("things",)
ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="change", description="Changes.", nature=Nature.CHANGE, params=Told, resources=("things",)
        ),
        Action(name="read", description="Reads.", nature=Nature.READ, params=Told, repeat_safe=True),
        Action(name="set", description="Safe.", nature=Nature.CHANGE, params=Told, repeat_safe=True),
        Action(
            name="empty",
            description="Takes long, in steps.",
            nature=Nature.DESTROY,
            params=Told,
            repeat_safe=True,
            long=True,
            cancellable=True,
        ),
        Action(
            name="plan", description="Needs nothing.", nature=Nature.CHANGE, needs_object=False, dry_run=False
        ),
    )
}


class World:
    """The objects, in a file."""

    def __init__(self, path: Path) -> None:
        # autocommit; what a killed process has written is there all the same
        self._db = sqlite3.connect(path, isolation_level=None, timeout=20)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, version INT, by TEXT)")
        self._db.execute("CREATE TABLE IF NOT EXISTS effects (command TEXT, thing TEXT)")

    def close(self) -> None:
        self._db.close()

    def get(self, name: str) -> tuple[int, str]:
        """Its version, and which command changed it last."""
        row = self._db.execute("SELECT version, by FROM things WHERE name = ?", (name,)).fetchone()
        return tuple(row) if row else (0, "")

    def touch(self, name: str, version: int | None, by: str) -> bool:
        """Change it, if it still is as it was; whether it was."""
        self._db.execute("BEGIN IMMEDIATE")
        now, _ = self.get(name)
        if hit := version in (None, now):
            self._db.execute("INSERT OR REPLACE INTO things VALUES (?, ?, ?)", (name, now + 1, by))
            self._db.execute("INSERT INTO effects VALUES (?, ?)", (by, name))
        self._db.execute("COMMIT")
        return hit

    def effects(self) -> dict[str, int]:
        """By command, how many it had."""
        return dict(self._db.execute("SELECT command, count(*) FROM effects GROUP BY command").fetchall())

    def order(self) -> list[str]:
        """The commands, as their effects came about."""
        return [id_ for (id_,) in self._db.execute("SELECT command FROM effects ORDER BY rowid")]


class WorldActions:
    """Actions on a World."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: set[str] = set()
        self.most = 0
        """That ever ran at once."""
        self.performed: list[str] = []
        self.looks = 0
        self.lost: set[str] = set()
        self.unreachable = 0
        """Judgements that fail, from now on."""
        self._hurry = asyncio.Event()
        self.forbidden: set[str] = set()
        """Names of objects that may not be touched."""

    def hurry(self) -> None:
        """Nothing takes any time from now on, what is running included."""
        self._hurry.set()

    def declared(self) -> Mapping[str, Action]:
        return ACTIONS

    async def check(self, command: Command) -> None:
        if command.object.name in self.forbidden:
            raise Refused(CommandError(code=ErrorCode.NOT_ALLOWED, message="not on the list"))

    async def look(self, command: Command) -> bytes:
        self.looks += 1
        if command.object.name == "missing":
            raise Refused(CommandError(code=ErrorCode.NOT_FOUND, message="no such thing", status=404))
        return str(self.world.get(command.object.name)[0]).encode()

    async def perform(self, command: Command, seen: bytes, progress: Progress) -> Outcome:
        told = Told.model_validate(command.params)
        self.performed.append(command.id)
        self.running.add(command.id)
        self.most = max(self.most, len(self.running))
        try:
            return await self._perform(command, int(seen), told, progress)
        finally:
            self.running.discard(command.id)

    async def _perform(self, command: Command, seen: int, told: Told, progress: Progress) -> Outcome:
        name = command.object.name
        if command.action == "empty":
            for step in range(1, 5):
                try:
                    await set_within(self._hurry, told.seconds / 4)
                except asyncio.CancelledError:
                    error = CommandError(code=ErrorCode.CANCELED, message="ended in the middle")
                    raise Incomplete(error, {"steps": step - 1}) from None
                await progress(f"step {step}", step, 4)
        else:
            await set_within(self._hurry, told.seconds)
        if command.dry_run or command.action == "read":
            return Outcome({"version": seen, "text": "x" * told.size})
        lost = command.id not in self.lost and told.lost
        self.lost.add(command.id)
        error = CommandError(code=ErrorCode.TIMEOUT, message="no answer")
        if lost == "before":
            raise Doubtful(error)
        precondition = None if command.action in ("set", "empty") else seen
        if not self.world.touch(name, precondition, command.id):
            raise Stale
        if lost == "after":
            raise Doubtful(error)
        return Outcome({"version": seen + 1, "text": "x" * told.size}, ["a warning"])

    async def judge(self, command: Command, seen: bytes) -> Verdict:
        if self.unreachable:
            self.unreachable -= 1
            raise Refused(CommandError(code=ErrorCode.UNREACHABLE, message="no connection"))
        version, by = self.world.get(command.object.name)
        if by == command.id:
            return Done(Outcome({"version": version, "text": ""}))
        if version == int(seen):
            return Untouched()
        return Unprovable("somebody else has changed it since")
