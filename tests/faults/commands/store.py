"""The broker's store, deleted while something is in it that nobody has read. Load has to be on for Events."""

from schemas import registry, subjects
from schemas.envelope import Envelope
from tests.faults.commands.scenario import Stage
from tests.waiting import until

UNREAD = 10
"""Commands, at least, and results that nobody has read."""


async def delete_with_unfetched_commands(on: Stage) -> None:
    """Commands are in it that no agent has."""
    await _sent_and_unfetched(on)
    await on.system.kill_broker()
    on.system.delete_broker_store()
    await on.system.agent_broker.mend()
    await on.system.start_broker()


async def delete_with_unread_results(on: Stage) -> None:
    """Results and Events are in it that no master has."""
    await on.driver.finish()
    await _sent_and_unfetched(on)
    await on.system.master_broker.cut()
    results: set[str] = set()
    events = len(on.system.recorder.heard)

    async def hear(subject: str, envelope: Envelope) -> None:
        if envelope.type == registry.COMMAND_COMPLETED.name:
            results.add(subject)

    subject = f"{subjects.up(on.system.target).removesuffix('>')}result.*"
    hearing = await on.system.reader.subscribe(subject, hear)
    await on.system.agent_broker.mend()
    await until(lambda: len(results) >= UNREAD and len(on.system.recorder.heard) > events, 60)
    await hearing.close()
    await on.system.kill_broker()
    on.system.delete_broker_store()
    await on.system.master_broker.mend()
    await on.system.start_broker()


async def _sent_and_unfetched(on: Stage) -> None:
    """The agent is cut off, and commands for it are on the broker."""
    await on.system.agent_broker.cut()

    def unfetched() -> bool:
        return sum(command.state == "sent" for command in on.driver.commands) >= UNREAD

    await on.driver.keep(unfetched, 60)
