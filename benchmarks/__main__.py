"""`make bench`: every figure of ours beside its reference in one run, printed as a table and saved.

    python -m benchmarks                     all of them, about a quarter of an hour on two cores
    python -m benchmarks fleet events        some
    python -m benchmarks --small fleet       to see that it runs; the numbers mean nothing and are not saved

Progress goes to standard error. The exit code is 1 when a bar is not met or a benchmark failed.
"""

import argparse
import asyncio
import importlib
import json
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, stage
from benchmarks.databases import NAMES, SQLITE, Databases, databases
from benchmarks.measure import Figure, table
from benchmarks.scene import Benchmark, Scene
from benchmarks.sizes import FULL, SMALL, Sizes
from services.runtime import logs

RESULTS = Path(__file__).parent / "results"

BENCHMARKS = {
    "help_time": Benchmark(limit=60),
    "first_state": Benchmark(limit=180, cluster=True),
    "agent_memory": Benchmark(limit=240, cluster=True),
    "change_visible": Benchmark(limit=420, cluster=True),
    "commands": Benchmark(limit=420, cluster=True),
    "memory_slope": Benchmark(limit=420),
    "fleet": Benchmark(limit=600),
    "converge": Benchmark(limit=300),
    "big_arrival": Benchmark(limit=420),
    "events": Benchmark(limit=300),
    "query": Benchmark(limit=600),
}
"""Each is the function `measure` of the module of that name."""


def main() -> int:
    """Run, print, save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--small", action="store_true", help="a fraction of the size; not saved")
    parser.add_argument("--sqlite", action="store_true", help="without the rows on PostgreSQL")
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    names = [name for name in BENCHMARKS if name in arguments.names or not arguments.names]
    sizes = SMALL if arguments.small else FULL
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: processes and folders are put away
    logs.configure("error")  # of ours: that a broker is away is what some of them do
    started = time.monotonic()
    with databases((SQLITE,) if arguments.sqlite else NAMES) as stores:
        figures, failed = run(names, sizes, stores)
    print(table(figures))
    stage.say(f"{time.monotonic() - started:.0f} s in all")
    if figures and not (arguments.no_save or arguments.small):
        stage.say(f"saved as {save(figures)}")
    return 1 if failed or not all(figure.met for figure in figures) else 0


def run(names: list[str], sizes: Sizes, stores: Databases) -> tuple[list[Figure], bool]:
    """The figures of those that ended, and whether one failed. One that fails does not stop the others."""
    figures, failed = [], False
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlhyper-bench-")))
        with ExitStack() as cluster:
            kubeconfig = Path()
            if any(BENCHMARKS[name].cluster for name in names):
                plane = stage.populated_cluster(root / "cluster", sizes.nodes, sizes.pods, sizes.settle)
                kubeconfig = cluster.enter_context(plane).kubeconfig
            # Those that need it come first: the others have the machine to themselves.
            for name in sorted(names, key=lambda name: not BENCHMARKS[name].cluster):
                if not BENCHMARKS[name].cluster:
                    cluster.close()
                folder = root / name
                folder.mkdir()
                try:
                    figures += one(name, Scene(folder, sizes, stores, kubeconfig))
                except Exception as error:  # noqa: BLE001 - told, and the exit code says it
                    stage.say("".join(traceback.format_exception(error)))
                    stage.say(f"{name} FAILED: {type(error).__name__}: {error}")
                    failed = True
    return figures, failed


def one(name: str, scene: Scene) -> list[Figure]:
    """One benchmark within its time."""
    stage.say(name)
    started = time.monotonic()

    async def limited() -> list[Figure]:
        measure = importlib.import_module(f"benchmarks.{name}").measure
        async with asyncio.timeout(BENCHMARKS[name].limit):
            return list(await measure(scene))

    figures = asyncio.run(limited())
    for figure in figures:
        stage.say("  " + " | ".join(part for part in figure.row() if part))
    stage.say(f"  took {time.monotonic() - started:.0f} s")
    return figures


def save(figures: list[Figure]) -> Path:
    """One file per run: the machine, the time and every value."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    result = {
        "taken_at": now.isoformat(),
        "machine": machine.describe(),
        "figures": [f.as_json() for f in figures],
    }
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return path.relative_to(RESULTS.parent.parent)


if __name__ == "__main__":
    sys.exit(main())
