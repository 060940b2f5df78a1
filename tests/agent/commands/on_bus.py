"""An agent's side of commands on a real broker, as a process of its own which the tests kill; see `child`."""

from pathlib import Path

from services.agent.gateway.bus import BusGateway
from services.agent.gateway.commands import BusCommands
from services.agent.scheduler.commands import attempts
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.runtime import logs
from services.runtime.bus import client
from services.runtime.settings import BusSettings
from tests.agent.commands.desk import TARGET
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.waiting import until

PATIENCE = 55.0


async def main(folder: Path, home: Path, url: str, *, hold: bool) -> None:
    """One start, until there is a file `end`. `home`: of the broker, has the credentials.

    The id of the journal goes into the file `journal`. With `hold` effects take as long as they are told to,
    else no time.
    """
    logs.configure("warning", json=True)
    world = World(folder / "world.db")
    actions = WorldActions(world)
    attempts.HOLD = 0.0  # nobody cancels anything here
    if not hold:
        actions.hurry()
    async with (
        client.connect(BusSettings(home=home, nats_url=url), TARGET.durable, name="agent") as bus,
        StateFile(folder / "agent.db", journal_rows.TABLES) as file,
    ):
        gateway = BusGateway(bus, TARGET)
        journal = Journal(file, gateway.clock.now)
        scheduler = CommandScheduler(
            TARGET,
            "uid",
            actions,
            journal,
            BusCommands(bus, TARGET, gateway, poll_interval=0.1, patience=20.0),
            read_only=False,
            patience=1.0,
            now=gateway.clock.now,
        )
        async with running(scheduler):
            (folder / "journal").write_text(journal.id)
            await until((folder / "end").exists, PATIENCE)
