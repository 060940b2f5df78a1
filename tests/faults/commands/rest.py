"""Commands through the REST API, each call in the history."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.faults.commands.history import Ended, History
from tests.faults.commands.world import Wanted
from tests.faults.system import System

AGAIN = 0.1
"""Seconds before a call without an answer is repeated."""
CALL = 15.0
"""Seconds that one may take."""
_LATER = frozenset({429, 500, 502, 503, 504})
"""Answers that are worth another try, with the same key."""


class Refused(Exception):
    """The API has answered, and does not do it."""


class Rest:
    """What a program does that wants its commands carried out, whatever happens meanwhile."""

    def __init__(self, system: System, history: History) -> None:
        self._system = system
        self.history = history

    async def post(self, wanted: Wanted, key: str) -> dict[str, Any]:
        """Ask until there is an answer, under one Idempotency-Key; the command. Raises Refused."""
        return await self._until_answered("POST", "/commands", wanted.body(), {"Idempotency-Key": key})

    async def cancel(self, command_id: str) -> None:
        """Wish its end; one that has ended may be refused that."""
        with contextlib.suppress(Refused):
            body = {"reason": "somebody changed their mind"}
            await self._until_answered("POST", f"/commands/{command_id}/cancel", body)

    async def get(self, command_id: str, wait: float = 0.0) -> dict[str, Any] | None:
        """The command as it is, after its end or `wait` seconds; None without an answer."""
        path = f"/commands/{command_id}" + (f"?wait={wait:g}s" if wait else "")
        status, answer = await self._once("GET", path, None, {}, CALL + wait)
        if status != 200:
            return None
        assert isinstance(answer, dict)
        return answer

    async def _until_answered(
        self, method: str, path: str, body: object, headers: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        while True:
            status, answer = await self._once(method, path, body, headers, CALL)
            if 200 <= status < 300:
                assert isinstance(answer, dict)
                return answer
            if status not in _LATER and status != 0:
                raise Refused(f"{method} {path}: {status} {answer}")
            await asyncio.sleep(AGAIN)

    async def _once(
        self, method: str, path: str, body: object, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, object]:
        """Status and answer, which is to come within so many seconds; 0 without one."""
        number = self.history.invoke(f"{method} {path}", headers.get("Idempotency-Key", ""), body)
        status, answer, how = 0, "nobody waited for it any longer", Ended.UNKNOWN
        try:
            async with asyncio.timeout(seconds):
                status, answer = await self._system.call(method, path, json=body, headers=headers)
            how = Ended.OK if status < 300 else Ended.UNKNOWN if status in _LATER else Ended.FAIL
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            status, answer = 0, f"{type(error).__name__}: {error}"
        finally:
            self.history.end(number, how, status, _kept(method, how, answer))
        return status, answer


def _kept(method: str, how: Ended, answer: Any) -> object:
    """What the history keeps of an answer: of commands that were only looked at, how they stand."""
    if method == "GET" and how is Ended.OK:
        return {name: answer.get(name) for name in ("id", "state")}
    return answer
