"""`python -m tests.faults`: many runs, with real time-outs and long outages, and a table at the end."""

import argparse
import asyncio
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from services.runtime import logs
from tests import ports
from tests.faults.catalogue import EVERY, FAULTS, IN_TURN
from tests.faults.commands import scenario as of_commands
from tests.faults.commands.steps import ALL, Step
from tests.faults.fault import Needs
from tests.faults.report import Result, by_seed, summary
from tests.faults.scenario import Plan
from tests.faults.side_by_side import Run, run_all
from tests.faults.system import SHORT

LIST = (*IN_TURN, "database-locked", "database-killed")
"""What is broken when nothing else is asked for."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="number of runs (20); 0 for commands only")
    parser.add_argument("--seed", type=int, action="append", help="run this seed instead; may be repeated")
    parser.add_argument(
        "--jobs",
        type=int,
        choices=range(1, ports.SHARES + 1),
        metavar="JOBS",
        default=1,
        help="runs side by side (1); each takes two thirds of a core and 1 GiB",
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each outage (120)")
    parser.add_argument("--rate", type=float, default=100.0, help="changes per second attempted (100)")
    parser.add_argument("--short", action="store_true", help="short time-outs and outages, as in `make test`")
    parser.add_argument("--faults", default=",".join(LIST), help="which, separated by commas, or `all`")
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="PostgreSQL for all faults but those of SQLite; otherwise only for the one of PostgreSQL itself",
    )
    parser.add_argument(
        "--commands", type=int, default=300, help="kills with commands under way, after all that (300)"
    )
    parser.add_argument(
        "--no-writes",
        action="store_true",
        help="without the kills of the agent at its writes (they need strace)",
    )
    parser.add_argument("--keep", type=Path, help="folder that keeps logs and databases of the runs")
    return parser.parse_args()


def _plans(arguments: argparse.Namespace) -> list[tuple[Plan, bool]]:
    """One for each database that the faults take, and whether that is PostgreSQL."""
    faults = EVERY if arguments.faults == "all" else tuple(arguments.faults.split(","))
    if unknown := [name for name in faults if name not in FAULTS]:
        raise SystemExit(f"no such faults: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    by_database: dict[bool, list[str]] = {False: [], True: []}
    for name in faults:
        needs = FAULTS[name].needs
        by_database[Needs.POSTGRESQL in needs or (arguments.postgres and Needs.SQLITE not in needs)] += [name]
    plan = Plan(rate=arguments.rate, variables=SHORT)
    if not arguments.short:
        outage = (arguments.seconds, arguments.seconds)
        plan = Plan(rate=arguments.rate, variables={}, outage=outage, calm=10.0)
    return [(replace(plan, faults=names), postgres) for postgres, names in by_database.items() if names]


def _run_commands(seed: int, kills: int, keep: Path | None) -> of_commands.Result:
    """Everybody at each step of a command, in an order by the seed, until there were so many kills."""
    dice = random.Random(seed)
    steps: list[Step] = []
    while len(steps) < kills:
        steps += dice.sample(ALL, min(len(ALL), kills - len(steps)))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        where = (keep or Path(folder)) / f"{seed}-commands"
        return asyncio.run(
            of_commands.run(where, seed, steps, lambda text: print(text, flush=True), measured=True)
        )


def _run_writes() -> str:
    """The agent alone, killed when it asks the disk for the n-th time, for one n after the other (strace).

    What is wrong; empty when all held.
    """
    if shutil.which("strace") is None:
        return "the agent's writes NOT RUN: strace is not installed, and --no-writes was not asked for"
    where = "tests/agent/test_commands_crashes.py::test_killed_at_every_write"
    asked = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider", where]
    done = subprocess.run(asked, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    said = [line for line in lines if line.startswith("agent, killed")]
    print(*(said or lines[-30:]), sep="\n", flush=True)
    if done.returncode:
        return "the agent's writes violated"
    return "" if said else "the agent's writes NOT RUN: see above"


def main() -> int:
    """0 when every invariant held in every run, no run was void, and nothing was left out unasked."""
    arguments = _arguments()
    plans = _plans(arguments)
    logs.configure("error", json=True)
    results: list[Result] = []
    seeds = [secrets.randbelow(10**6) for _ in range(arguments.seeds)]
    if arguments.seed and seeds:
        seeds = arguments.seed
    runs = [Run(seed, *plan) for seed in seeds for plan in plans]
    for result, seconds in run_all(runs, arguments.keep, arguments.jobs) if runs else ():
        results.append(result)
        ended = f"{seconds:.0f} s; {len(results)} of {len(runs)} runs have ended"
        print(result.text(), ended, sep="\n", flush=True)
    if results:
        print("\n" + by_seed(results))
        print("\n" + summary(results, {name: fault.what for name, fault in FAULTS.items()}))
    bad = [f"seed {result.seed} {result.verdict}" for result in results if result.verdict != "held"]
    left_out = ["commands", "the agent's writes"]
    if arguments.commands:
        seed = arguments.seed[0] if arguments.seed else secrets.randbelow(10**6)
        kills = _run_commands(seed, arguments.commands, arguments.keep)
        print(kills.text(), of_commands.table([kills]), sep="\n", flush=True)
        bad += [f"seed {kills.seed} of commands violated"] if kills.violations else []
        left_out = ["the agent's writes"] if arguments.no_writes else []
        if not arguments.no_writes and (wrong := _run_writes()):
            bad.append(wrong)
    verdict = ", ".join(bad) or "all held"
    if left_out:
        verdict += f"; not run, as asked: {', '.join(left_out)}"
    print(f"{len(results)} runs, {sum(r.changes for r in results)} changes: {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("interrupted; what has ended is above", file=sys.stderr)
        raise SystemExit(130) from None
