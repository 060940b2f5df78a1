"""Ports to listen on that nobody else takes between now and then.

Those that the system gives away (port 0, and the ports of outgoing connections) begin far above.
"""

import itertools
import os
import random
import socket

_FIRST = 20_000
_EACH = 1_500
SHARES = 8
"""One for each of the processes that run tests side by side."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SHARES
_numbers = itertools.count(random.randrange(_EACH))


def free_port() -> int:
    """Another one each time; also for who is going to listen there only later, or again and again."""
    for _ in range(_EACH):
        port = _FIRST + _worker * _EACH + next(_numbers) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")


def share(worker: int) -> None:
    """From now on this process takes its ports from the share of this worker, counted from 0."""
    global _worker
    _worker = worker % SHARES
