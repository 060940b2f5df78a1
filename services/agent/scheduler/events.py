"""Publishes observed events: one message per version, never in frames."""

import asyncio

from schemas.ids import uuid7
from services.agent.capability import Capability, Observed
from services.agent.gateway.interfaces import MasterGateway
from services.agent.scheduler.ledger import Ledger

BATCH = 64
"""Events under way at once."""
BATCH_BYTES = 1024 * 1024


class EventScheduler:
    """Sends the events of one agent. `flush_interval`: seconds in which versions of one may coalesce."""

    def __init__(self, capability: Capability, gateway: MasterGateway, *, flush_interval: float) -> None:
        self._capability = capability
        self._gateway = gateway
        self._flush_interval = flush_interval
        self._ledger = Ledger(outlive=True)
        self._epoch = uuid7()
        self.published = 0
        """Events the bus has taken since the agent started; also the last sequence number."""

    def by_type(self) -> dict[str, int]:
        """Events that are still present, by type."""
        return dict(self._ledger.summary.events)

    @property
    def pending(self) -> int:
        """Events waiting to be sent."""
        return self._ledger.pending

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._capability.follow_events(self._ledger), name="follow events")
            group.create_task(self._publish(), name="publish events")

    async def _publish(self) -> None:
        while True:
            await self._ledger.wait()
            await asyncio.sleep(self._flush_interval)
            while self._ledger.pending:
                batch = self._ledger.take(BATCH, BATCH_BYTES)
                # A deletion is the API server forgetting; what was observed has still happened.
                events = [change for change in batch.changes if isinstance(change, Observed)]
                await self._gateway.publish_events(events, self._epoch, self.published + 1)
                self.published += len(events)
