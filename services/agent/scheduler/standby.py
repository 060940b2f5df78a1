"""Whether this agent serves its id, or stands by while another one does."""

import asyncio
from collections.abc import Awaitable, Callable

from schemas.ids import Target
from services.runtime import logs
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)


class Standby:
    """Which of the two. An agent serves until the master says that another one does.

    From then on it observes and publishes nothing but heartbeats, until the master calls it: the other one is
    gone. Only the master knows that, so a standby never begins by itself.
    """

    def __init__(self, target: Target, instance: str) -> None:
        self._target = target
        self._instance = instance
        self._serving = asyncio.Event()
        self._serving.set()
        self._leaving = asyncio.Event()
        self.reason = ""
        """Why it stands by, with the next step; empty while it serves."""

    def stand_by(self, by: str, instance: str) -> None:
        """The epoch `by`, which comes from `instance` (empty: not known), is the one that counts."""
        self.reason = self._explain(by, instance)
        self._serving.clear()
        self._leaving.set()
        _log.error("standing by", reason=self.reason)

    def serve(self, reason: str) -> None:
        """Called: nobody else serves the id."""
        self.reason = ""
        self._leaving.clear()
        self._serving.set()
        _log.warning("serving again", target=str(self._target), reason=reason)

    async def while_serving(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` for as long as this agent serves, and anew each time that it does so again.

        Ends, or raises, with `work`.
        """
        while True:
            await self._serving.wait()
            working = asyncio.ensure_future(work())
            leaving = asyncio.ensure_future(self._leaving.wait())
            try:
                await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                    return
            finally:
                await cancelled(leaving)
                await cancelled(working)

    def _explain(self, by: str, instance: str) -> str:
        if instance in ("", self._instance):
            return (
                f"another agent serves {self._target} in epoch {by}; "
                "give one of them an id of its own (AGENT_CLUSTER_ID) or stop it"
            )
        ours = f"this one is {self._instance}" if self._instance else "this one can't read which it is"
        return (
            f"the id {self._target} belongs to another instance, {instance}; {ours}: "
            "give this agent an id of its own (AGENT_CLUSTER_ID), or stop the other one for good"
        )
