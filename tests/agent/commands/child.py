"""An agent's side of commands as a process of its own, which the tests kill: `python -m … FOLDER`.

What it says goes into `reports`, what it acknowledges into `acknowledged`, the results that it is told to be
committed into `confirmed`, and for what it goes to the disk into `transactions`, one line each, written at
once. It is handed out every command of `orders` that is not acknowledged, and asked for every one without a
result, and ends when all have one that is confirmed.

With `hold` effects take as long as they are told to, else no time. It ends in the midst of those then, when
all the others have a result, and these are confirmed together, and what is old is forgotten.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.commands import Command
from services.agent.gateway.interfaces import Order, Report
from services.agent.scheduler.commands import attempts
from services.agent.scheduler.commands.scheduler import CommandScheduler
from services.agent.store import journal_rows, rows
from services.agent.store.file import StateFile
from services.agent.store.journal import Journal
from services.runtime import failpoints, logs
from tests.agent.commands import on_bus
from tests.agent.commands.desk import TARGET, MemoryGateway, order
from tests.agent.commands.running import running
from tests.agent.commands.world import World, WorldActions
from tests.waiting import until

PATIENCE = 50.0
AT_ONCE = 4
"""Commands that are handed out together with `hold`, else each comes alone."""
AHEAD = timedelta(hours=3)
"""By so much the journal's clock is ahead with `hold`: what may be an hour old then is forgotten."""


def append(path: Path) -> int:
    """Opened so that a line that is written is there, whenever its writer is killed."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class WatchedFile(StateFile):
    """Says for which part of the journal it goes to the disk, before it does; stops the process at `stop`."""

    def __init__(self, folder: Path, stop: str) -> None:
        super().__init__(folder / "agent.db", (*rows.TABLES, *journal_rows.TABLES))
        self._transactions = append(folder / "transactions")
        self._stop = stop

    def _do(self, work: Any, lasting: bool) -> Any:
        kind = work.__qualname__.partition(".<locals>")[0] + (" lasting" if lasting else "")
        os.write(self._transactions, f"{kind}\n".encode())
        if kind == self._stop:
            self._stop = ""
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # another thread would let us go on
        return super()._do(work, lasting)


class FileGateway(MemoryGateway):
    """Writes down what it hears before it answers: the other end outlives us."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._files = {name: append(folder / name) for name in ("reports", "acknowledged", "confirmed")}

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


async def main(folder: Path, *, hold: bool = False, stop: str = "") -> None:
    """One start."""
    logs.configure("warning", json=True)
    world, gateway = World(folder / "world.db"), FileGateway(folder)
    actions = WorldActions(world)
    gateway.confirming = not hold
    attempts.HOLD = 0.0  # nobody cancels anything here
    if not hold:
        actions.hurry()
    commands = [Command.model_validate_json(line) for line in lines(folder, "orders")]
    ended = {json.loads(line)[0] for line in lines(folder, "reports") if '"completed"' in line}
    acknowledged = set(lines(folder, "acknowledged"))
    async with WatchedFile(folder, stop) as file:
        journal = Journal(file, lambda: datetime.now(UTC) + (AHEAD if hold else timedelta()))
        scheduler = CommandScheduler(
            TARGET,
            "uid",
            actions,
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
            due = [c for c in commands if c.id not in acknowledged or c.id not in ended]
            at_once = AT_ONCE if hold else 1
            for start in range(0, len(due), at_once):
                gateway.hand_out(*(order(c, first.read_text()) for c in due[start : start + at_once]))
            held = [c for c in commands if hold and c.params.get("seconds")]
            awaited = [c for c in commands if c not in held]
            await until(lambda: all(gateway.ends(c.id) or c.id in ended for c in awaited), PATIENCE)
            if hold:
                await until(lambda: all(c.id in gateway.acknowledged for c in due), PATIENCE)
                await gateway.confirm(*journal.unconfirmed)
                await until(lambda: len(actions.running) == len({c.object.name for c in held}), PATIENCE)
                await journal.prune()
                os._exit(0)
            await until(lambda: not journal.unconfirmed, PATIENCE)


def trace(pid: int, injection: str) -> subprocess.Popen[bytes]:
    """Have strace tamper with a process that has stopped itself, then let it go on."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it has ended before"
    calls = injection.partition(":")[0]
    options = ["-f", "-qq", "-o", "/dev/null", f"--trace={calls}", f"--inject={injection}"]
    tracer = subprocess.Popen(["strace", *options, "-p", str(pid)])
    # Each thread runs for a moment between being seized and being held; what it does then is not seen.
    while not all("State:\tt " in path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")):
        assert tracer.poll() is None, "strace has ended"
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    return tracer


def serve() -> None:
    """Start one per line of standard input, and print how it ended.

    A line is `[folder, variables, injection, within, hold, broker]`. The injection is strace's; empty: none.
    It counts from the first transaction of the kind `within`; empty: from the start. `broker`: home and URL
    of the one at its other end; empty: that is in memory. Each is a fork: what they import takes longer than
    what they do.
    """
    for line in sys.stdin:
        folder, variables, injection, within, hold, broker = json.loads(line)
        if (pid := os.fork()) == 0:
            if injection and not within:
                os.kill(os.getpid(), signal.SIGSTOP)
            failpoints.arm(variables)
            code = 1
            try:
                if broker:
                    home, url = broker
                    asyncio.run(on_bus.main(Path(folder), Path(home), url, hold=hold))
                else:
                    asyncio.run(main(Path(folder), hold=hold, stop=within))
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
