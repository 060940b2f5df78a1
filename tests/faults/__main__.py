"""`python -m tests.faults`: many runs, with real time-outs and long outages, and a table at the end."""

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from services.runtime import logs
from tests.faults.catalogue import FAULTS, IN_TURN
from tests.faults.disk import MOUNTS
from tests.faults.report import Result, summary
from tests.faults.scenario import Plan, run
from tests.faults.system import SHORT

EVERY = tuple(name for name, fault in FAULTS.items() if not fault.replicated and (MOUNTS or not fault.disk))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="number of runs (20)")
    parser.add_argument("--seed", type=int, action="append", help="run this seed instead; may be repeated")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each outage (120)")
    parser.add_argument("--rate", type=float, default=100.0, help="changes per second attempted (100)")
    parser.add_argument("--short", action="store_true", help="short time-outs and outages, as in `make test`")
    parser.add_argument("--faults", default=",".join(IN_TURN), help="which, separated by commas, or `all`")
    parser.add_argument("--keep", type=Path, help="folder that keeps logs and databases of the runs")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    faults = EVERY if arguments.faults == "all" else tuple(arguments.faults.split(","))
    if unknown := [name for name in faults if name not in FAULTS]:
        raise SystemExit(f"no such faults: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    if arguments.short:
        return Plan(faults=faults, rate=arguments.rate, variables=SHORT)
    outage = (arguments.seconds, arguments.seconds)
    return Plan(faults=faults, rate=arguments.rate, variables={}, outage=outage, calm=10.0)


def main() -> int:
    """0 when every invariant held in every run and no run was void."""
    arguments = _arguments()
    plan = _plan(arguments)
    logs.configure("error", json=True)
    results: list[Result] = []
    seeds = arguments.seed or [secrets.randbelow(10**6) for _ in range(arguments.seeds)]
    for number, seed in enumerate(seeds, 1):
        print(f"run {number} of {len(seeds)}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            where = arguments.keep / str(seed) if arguments.keep else Path(folder) / "run"
            result = asyncio.run(run(where, seed, plan, lambda text: print(text, flush=True)))
        results.append(result)
        print(result.text(), f"{time.monotonic() - began:.0f} s", sep="\n", flush=True)
    print("\n" + summary(results, {name: fault.what for name, fault in FAULTS.items()}))
    bad = [f"{result.seed} {result.verdict}" for result in results if result.verdict != "held"]
    print(
        f"{len(results)} runs, {sum(r.changes for r in results)} changes: " + (", ".join(bad) or "all held")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
