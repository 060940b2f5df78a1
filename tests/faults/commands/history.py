"""Every call to the REST API as its caller knows it: begun, and ended in one of three ways.

One JSON object per line, as they come: `invoke` with the request, then `ok` or `fail` with the answer, or
`unknown` when there was none, or none yet, and a change may have had its effect.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Ended(StrEnum):
    """How a call ended."""

    OK = "ok"
    FAIL = "fail"
    """The API has answered that it did not do it."""
    UNKNOWN = "unknown"


Entry = dict[str, Any]
"""One line: `at`, `number` of the call and `type`; then `call`, `key`, `body` or `status`, `answer`."""


@dataclass(slots=True)
class History:
    """The calls of one run. `at`: seconds since its start."""

    path: Path
    calls: int = 0
    ended: dict[Ended, int] = field(default_factory=lambda: dict.fromkeys(Ended, 0))
    _began: float = field(default_factory=time.monotonic)

    def invoke(self, call: str, key: str, body: object) -> int:
        """A call begins; its number. `call`: method and path."""
        self.calls += 1
        self._write(self.calls, "invoke", call=call, key=key, body=body)
        return self.calls

    def end(self, number: int, how: Ended, status: int, answer: object) -> None:
        """It has ended; status 0 without an answer."""
        self.ended[how] += 1
        self._write(number, how, status=status, answer=answer)

    def entries(self) -> Iterator[Entry]:
        """The lines so far, in the order of what they tell: a call whose end comes before another's `invoke`
        was over when that one began.
        """
        if self.path.exists():
            with self.path.open() as file:
                yield from map(json.loads, file)

    def _write(self, number: int, kind: str, **what: Any) -> None:
        entry = {"at": round(time.monotonic() - self._began, 4), "number": number, "type": kind, **what}
        with self.path.open("a") as file:
            file.write(json.dumps(entry, default=str) + "\n")
