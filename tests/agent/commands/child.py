"""An agent's side of commands as a process of its own, which the tests kill: `python -m … FOLDER`.

What it says goes into `reports`, what it acknowledges into `acknowledged`, the results that it is told to be
committed into `confirmed`, one line each, written at once. It is handed out every command of `orders` that is
not acknowledged, and asked for every one without a result, and ends when all have one that is confirmed.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from schemas.commands import Command
from services.agent.gateway.interfaces import Order, Report
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows, rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.runtime import failpoints, logs
from tests.agent.commands.desk import TARGET, MemoryGateway, order
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.waiting import until

PATIENCE = 20.0


class FileGateway(MemoryGateway):
    """Writes down what it hears before it answers: the other end outlives us."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._files = {
            name: os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for name in ("reports", "acknowledged", "confirmed")
        }

    def write(self, name: str, line: str) -> None:
        os.write(self._files[name], f"{line}\n".encode())

    async def acknowledge(self, order: Order) -> None:
        await super().acknowledge(order)
        self.write("acknowledged", order.command.id)

    async def confirm(self, *command_ids: str) -> None:
        for command_id in command_ids:
            self.write("confirmed", command_id)
        await super().confirm(*command_ids)

    async def publish_reports(self, command_id: str, reports: Sequence[Report], *, again: bool) -> bool:
        for report in reports:
            state = getattr(report.body, "state", "")
            self.write("reports", json.dumps([command_id, report.name, state]))
        return await super().publish_reports(command_id, reports, again=again)


def lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


async def main(folder: Path) -> None:
    """One start."""
    logs.configure("warning", json=True)
    world, gateway = World(folder / "world.db"), FileGateway(folder)
    commands = [Command.model_validate_json(line) for line in lines(folder, "orders")]
    ended = {json.loads(line)[0] for line in lines(folder, "reports") if '"completed"' in line}
    acknowledged = set(lines(folder, "acknowledged"))
    async with StateFile(folder / "agent.db", (*rows.TABLES, *journal_rows.TABLES)) as file:
        journal = Journal(file, lambda: datetime.now(UTC))
        scheduler = CommandScheduler(
            TARGET,
            "uid",
            WorldActions(world),
            journal,
            gateway,
            read_only=False,
            patience=1.0,
            now=lambda: datetime.now(UTC),
        )
        async with running(scheduler):
            first = folder / "journal"
            if not first.exists():
                first.write_text(journal.id)
            for about in commands:
                if about.id not in acknowledged or about.id not in ended:
                    gateway.hand_out(order(about, first.read_text()))
            await until(lambda: all(gateway.ends(c.id) or c.id in ended for c in commands), PATIENCE)
            await until(lambda: not journal.unconfirmed, PATIENCE)


def trace(pid: int, injection: str) -> subprocess.Popen[bytes]:
    """Have strace tamper with a process that has stopped itself, then let it go on."""
    os.waitpid(pid, os.WUNTRACED)
    calls = injection.partition(":")[0]
    options = ["-f", "-qq", "-o", "/dev/null", f"--trace={calls}", f"--inject={injection}"]
    tracer = subprocess.Popen(["strace", *options, "-p", str(pid)])
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        assert tracer.poll() is None, "strace has ended"
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    return tracer


def serve() -> None:
    """Start one per line of standard input, `[folder, variables, injection]`, and print how it ended.

    Each is a fork: what they import takes longer than what they do. The injection is strace's; empty: none.
    """
    for line in sys.stdin:
        folder, variables, injection = json.loads(line)
        if (pid := os.fork()) == 0:
            if injection:
                os.kill(os.getpid(), signal.SIGSTOP)
            failpoints.arm(variables)
            code = 1
            try:
                asyncio.run(main(Path(folder)))
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it was, the exit code tells
                traceback.print_exc()
            os._exit(code)
        tracer = trace(pid, injection) if injection else None
        _, status = os.waitpid(pid, 0)
        if tracer:
            tracer.wait()
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "-":
        serve()
    else:
        asyncio.run(main(Path(sys.argv[1])))
