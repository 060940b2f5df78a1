"""`make bench`: every figure of ours beside its reference in one run, printed and saved."""

import argparse
import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import agent_memory, first_state, help_time, machine, stage
from benchmarks.measure import Figure

SETTLE = 30.0
"""Seconds: the two cores of a small machine are to be the benchmark's."""
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run, print, save. The exit code is 1 when a bar is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    figures: list[Figure] = [help_time.measure()]
    print(figures[-1].line(), flush=True)
    with tempfile.TemporaryDirectory(prefix="atlhyper-bench-") as folder:
        root = Path(folder)
        with stage.populated_cluster(root / "cluster", arguments.nodes, arguments.pods, SETTLE) as plane:
            for measure in (first_state.measure, agent_memory.measure):
                home = root / measure.__module__
                home.mkdir()
                figures.append(asyncio.run(measure(plane.kubeconfig, home, arguments.pods)))
                print(figures[-1].line(), flush=True)
    if not arguments.no_save:
        print(f"saved as {save(figures)}")
    return 0 if all(figure.met for figure in figures) else 1


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
