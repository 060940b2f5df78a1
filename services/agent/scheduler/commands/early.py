"""Cancels that come before their commands, which may wait at the broker while their agent is told."""

import time
from collections.abc import Callable

KEPT = 600.0
"""Seconds for which one is remembered. The master says it again and again until its command ends."""
MOST = 1000
"""How many are remembered; beyond them the oldest is forgotten."""


class EarlyCancels:
    """What was said of commands that are not in hand, the latest last."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._said: dict[str, tuple[float, str]] = {}
        """By command: when it was said last, and the first reason."""

    def note(self, command_id: str, reason: str) -> None:
        """A command that is not here yet is to end."""
        self._forget()
        _, first = self._said.pop(command_id, (0.0, reason))
        self._said[command_id] = self._monotonic(), first
        if len(self._said) > MOST:
            del self._said[next(iter(self._said))]

    def take(self, command_id: str) -> str | None:
        """The reason why a command that comes in hand is to end; None: nobody has asked for that."""
        self._forget()
        _, reason = self._said.pop(command_id, (0.0, None))
        return reason

    def _forget(self) -> None:
        ago = self._monotonic() - KEPT
        while self._said and self._said[oldest := next(iter(self._said))][0] < ago:
            del self._said[oldest]
