"""The commands of one agent, put together."""

from collections.abc import Callable
from datetime import datetime

from schemas.ids import Target
from services.agent.capability import Actions
from services.agent.gateway.interfaces import CommandGateway
from services.agent.scheduler.commands.attempts import Attempts
from services.agent.scheduler.commands.checks import Checks
from services.agent.scheduler.commands.custody import Custody
from services.agent.scheduler.commands.execution import Executor
from services.agent.scheduler.commands.reports import Reporter
from services.agent.store.journal import Journal
from services.runtime.failpoints import Point, reach


class CommandScheduler:
    """Takes, executes and reports commands. `now`: the core's time, as far as it is known here.

    `patience`: seconds without a confirmation after which results are sent again.
    """

    def __init__(
        self,
        target: Target,
        instance: str,
        actions: Actions,
        journal: Journal,
        gateway: CommandGateway,
        *,
        read_only: bool,
        patience: float,
        now: Callable[[], datetime],
    ) -> None:
        self.journal = journal
        self._gateway = gateway
        checks = Checks(target, instance, actions, journal, read_only=read_only, now=now)
        self.reporter = Reporter(journal, gateway, patience=patience)
        attempts = Attempts(journal, actions, self.reporter, now)
        self.executor = Executor(journal, actions, checks, self.reporter, attempts, now)
        self.custody = Custody(journal, checks, gateway, self.reporter, self.executor.wake, now)

    async def listen(self) -> None:
        """Hear what is said of commands outside of them."""
        await self._gateway.on_cancel(self._cancel)
        await self._gateway.on_results_confirmed(self.reporter.confirmed)

    async def take(self) -> None:
        """Take custody of what comes, until cancelled; only while this agent serves its id."""
        await self._gateway.take_commands(self.custody.handle)

    async def execute(self) -> None:
        """Carry out what is in custody, until cancelled; only while this agent serves its id."""
        await self.executor.run()

    async def report(self) -> None:
        """Report, until cancelled: also what was done before another agent took over."""
        await self.reporter.run()

    async def recover(self) -> None:
        """Keep the journal, until cancelled."""
        await self.journal.recover(self._reloaded)

    def trouble(self) -> str:
        """What a person should know; empty when all is well."""
        return self.journal.trouble() or self._gateway.silence()

    def counters(self) -> dict[str, int]:
        """Totals since start, for the heartbeat."""
        return {
            "commands_received": self.custody.received,
            "commands_refused": self.custody.refused,
            "commands_done": self.executor.done,
            "commands_redelivered": self.custody.redelivered,
            "commands_open": len(self.journal.open),
            "results_repeated": self.reporter.repeated,
            "results_unconfirmed": self.journal.unconfirmed_count,
        }

    def _reloaded(self) -> None:
        self.executor.wake()
        self.reporter.report_all()

    async def _cancel(self, command_id: str, reason: str) -> None:
        await reach(Point.CANCEL_AFTER_HEARD)
        self.executor.cancel(command_id, reason)
