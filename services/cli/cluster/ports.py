"""The loopback ports of one state folder, kept from start to start so that clients find them again."""

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

# Below the ranges from which Linux (32768) and macOS (49152) take ports of outgoing connections, so that
# a port found free stays free until it is bound, and is free again after a restart.
_RANGE = range(20000, 30000)


def recorded_ports(folder: Path) -> dict[str, int]:
    """The ports by name; empty before the first start."""
    try:
        ports: dict[str, int] = json.loads((folder / "ports.json").read_text())
    except FileNotFoundError:
        return {}
    return ports


def choose_ports(folder: Path, names: Sequence[str]) -> None:
    """Keep the recorded ports while all of them are free; else record others."""
    ports = recorded_ports(folder)
    if ports.keys() >= set(names) and all(_is_free(port) for port in ports.values()):
        return
    chosen = dict(zip(names, _free_ports(len(names)), strict=True))
    unfinished = folder / "ports.json.new"
    unfinished.write_text(json.dumps(chosen))
    unfinished.replace(folder / "ports.json")


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if _is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports between {_RANGE.start} and {_RANGE.stop} on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the components do: connections of the last run that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
