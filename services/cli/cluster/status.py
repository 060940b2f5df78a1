"""How a component is now."""

import subprocess
from dataclasses import dataclass

from services.cli.cluster.build import find_binary
from services.cli.cluster.components import Layout, problem_with
from services.cli.cluster.processes import Processes, resident_memory


@dataclass(frozen=True)
class ComponentStatus:
    """One component. `pid` is None when it does not run, `problem` None when it is healthy."""

    name: str
    pid: int | None
    port: int
    problem: str | None
    version: str = ""
    memory: int = 0
    """Resident memory in bytes."""


def component_status(name: str, processes: Processes, layout: Layout) -> ComponentStatus:
    """Looks, and starts nothing."""
    port = layout.ports.get(name, 0)
    pid = processes.pid(name)
    if pid is None:
        return ComponentStatus(name, None, port, "not running")
    return ComponentStatus(name, pid, port, problem_with(name, layout), _version(name), resident_memory(pid))


def _version(name: str) -> str:
    program = find_binary(name)
    if program is None:
        return "?"
    answer = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=20)
    return next((word for word in answer.stdout.split() if word.lstrip("v")[:1].isdigit()), "?")
