"""Giving attempts to the broker."""

import asyncio
from collections.abc import Sequence

from schemas import registry, subjects
from schemas.envelope import Envelope
from schemas.ids import Target
from services.master.commands import metrics
from services.master.commands.skew import ClockSkew
from services.persistence.commands.attempts import Attempt, Outcome, Outgoing, Place
from services.runtime import logs
from services.runtime.bus.client import (
    ApiError,
    Bus,
    BusError,
    MessageTooLarge,
    PermissionDenied,
    StreamMissing,
)
from services.runtime.failpoints import Point, reach

_log = logs.get_logger(__name__)


class Sender:
    """Publishes attempts: those of several agents at one time, those of one agent in their order."""

    def __init__(self, bus: Bus, source: str, skew: ClockSkew) -> None:
        self.under_way: set[str] = set()
        """Commands of whose first attempt it is not noted yet what became of it: nobody asks about them."""
        self._bus = bus
        self._source = source
        self._skew = skew

    async def send(self, outgoing: Sequence[Outgoing], place: Place) -> list[Attempt]:
        """Make each attempt once; what became of them. `place` is where the stream was just before."""
        by_target: dict[Target, list[Outgoing]] = {}
        for item in outgoing:
            by_target.setdefault(item.target, []).append(item)
        made = await asyncio.gather(*(self._send_to_one(some, place) for some in by_target.values()))
        return [attempt for some in made for attempt in some]

    async def _send_to_one(self, outgoing: Sequence[Outgoing], place: Place) -> list[Attempt]:
        """In order: what follows one that was not stored is not tried."""
        made: list[Attempt] = []
        for item in outgoing:
            if made and made[-1].outcome in (Outcome.WITHHELD, Outcome.DOUBTFUL):
                made.append(Attempt(item.command_id, item.attempt, Outcome.WITHHELD, place))
            else:
                made.append(await self._send_one(item, place))
        return made

    async def _send_one(self, item: Outgoing, place: Place) -> Attempt:
        await reach(Point.COMMAND_BEFORE_SEND)
        outcome, sequence, reason = Outcome.STORED, 0, ""
        try:
            sequence = await self._bus.publish(
                subjects.command(item.target, item.action),
                self._envelope(item),
                message_id=f"{item.command_id}.{item.attempt}",
                ttl=item.ttl,
            )
        except MessageTooLarge as error:
            outcome, reason = Outcome.IMPOSSIBLE, str(error)
        except (StreamMissing, PermissionDenied, ApiError) as error:
            outcome, reason = Outcome.WITHHELD, str(error)
        except BusError as error:
            outcome, reason = Outcome.DOUBTFUL, str(error)
        if outcome is not Outcome.STORED:
            metrics.NOT_STORED.labels(outcome=outcome.value).inc()
            _log.warning(
                "a command was not stored by the broker",
                id=item.command_id,
                outcome=outcome.value,
                reason=reason,
            )
        await reach(Point.COMMAND_AFTER_SEND)
        return Attempt(item.command_id, item.attempt, outcome, place, sequence, reason)

    def _envelope(self, item: Outgoing) -> Envelope:
        extensions = {
            "journal": item.journal,
            "expirytime": item.start_by.isoformat().replace("+00:00", "Z"),
        }
        if self._skew.ahead:
            extensions["clockahead"] = f"{self._skew.ahead:.3f}"
        if item.signature:
            extensions["signature"] = item.signature
        return Envelope(
            type=registry.COMMAND_SENT.name,
            source=self._source,
            data=item.body,
            id=item.command_id,
            time=item.created_at,
            extensions=extensions,
        )
