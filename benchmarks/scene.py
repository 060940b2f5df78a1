"""What a benchmark is given: a folder of its own, sizes, databases, and a cluster where it asked for one."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Scene:
    """For one benchmark."""

    folder: Path
    sizes: Sizes
    databases: Databases
    kubeconfig: Path
    """Of the populated cluster; an empty path for benchmarks that need none."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How long one of them may take, and whether it needs the populated cluster."""

    limit: float
    """Seconds."""
    cluster: bool = False
