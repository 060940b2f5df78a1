"""Runs in processes of their own, some of them side by side."""

import asyncio
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

from services.runtime import logs
from tests import ports
from tests.faults import scenario
from tests.faults.report import Result
from tests.faults.scenario import Plan
from tests.postgres.server import Postgres

_interrupted = False
"""Ctrl-C has come to this process of a pool: no run begins here any more."""


class Run(NamedTuple):
    """One seed on one database."""

    seed: int
    plan: Plan
    on_postgres: bool


class Ended(NamedTuple):
    """What a run found."""

    result: Result
    seconds: float


def run_all(runs: Sequence[Run], keep: Path | None, jobs: int) -> Iterator[Ended]:
    """Each as it ends. `keep`: a folder for logs and databases. After an error or Ctrl-C none begins."""
    context = multiprocessing.get_context("spawn")  # a fork would have our event loop's threads and sockets
    numbers = context.SimpleQueue()
    for number in range(jobs):
        numbers.put(number)
    waiting = iter(runs)
    under_way: set[Future[Ended]] = set()
    with ProcessPoolExecutor(jobs, context, _begin, (numbers,)) as pool:
        while True:
            # A pool that had all of them would begin one more after an error, or after Ctrl-C.
            for run in islice(waiting, jobs - len(under_way)):
                under_way.add(pool.submit(_run, run, keep))
            if not under_way:
                return
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()


def _begin(numbers: SimpleQueue[int]) -> None:
    signal.signal(signal.SIGINT, _remember)
    ports.share(numbers.get())
    logs.configure("error", json=True)


def _remember(*_: object) -> None:
    """Ctrl-C between two runs: who waits for them has it as well."""
    global _interrupted
    _interrupted = True


def _run(run: Run, keep: Path | None) -> Ended:
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    postgres = Postgres() if run.on_postgres else None
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        where = Path(folder) / "run"
        if keep is not None:
            where = keep / (f"{run.seed}-postgres" if run.on_postgres else str(run.seed))
        try:
            if _interrupted:
                raise KeyboardInterrupt
            if postgres is not None:
                postgres.start()
            say = partial(_say, run)
            result = asyncio.run(scenario.run(where, run.seed, run.plan, say, postgres=postgres))
        finally:
            if postgres is not None:
                postgres.close()
            signal.signal(signal.SIGINT, _remember)
    return Ended(result, time.monotonic() - began)


def _say(run: Run, text: str) -> None:
    print(f"{run.seed} on {'PostgreSQL' if run.on_postgres else 'SQLite'}: {text.strip()}", flush=True)
