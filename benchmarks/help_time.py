"""Time of `atlhyper --help`, beside a Python process that does nothing."""

import subprocess
import sys
import time

from benchmarks.measure import Figure
from benchmarks.scene import Scene

ROUNDS = 15


async def measure(_scene: Scene) -> list[Figure]:
    """Whole processes, in turn."""
    ours = [sys.executable, "-m", "services", "--help"]
    nothing = [sys.executable, "-c", "pass"]
    times: dict[str, list[float]] = {"ours": [], "nothing": []}
    for number in range(ROUNDS + 1):
        for name, command in (("nothing", nothing), ("ours", ours)):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: ASYNC221 - nothing else runs
            if number:
                times[name].append((time.perf_counter() - started) * 1000)
    return [Figure("atlhyper --help", "ms", times["ours"], "python -c pass", times["nothing"], bar=150)]
