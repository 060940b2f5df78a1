"""Commands over the bus: pulled from the agent's durable consumer, reported on their result subjects."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from schemas import registry, subjects
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandProgressed,
    CommandReceived,
    CommandStarted,
    ResultPart,
)
from schemas.control import CancelRequested, ResultsConfirmed
from schemas.envelope import Envelope
from schemas.ids import Target
from schemas.subjects import Down
from schemas.topology import COMMANDS
from services.agent.gateway.bus import COMPRESS_ABOVE, BusGateway, Outgoing
from services.agent.gateway.interfaces import Order, Report
from services.runtime import logs
from services.runtime.bus.client import Bus, BusError, MessageTooLarge
from services.runtime.bus.delivery import Message, Rejected, read
from services.runtime.bus.pull import ConsumerGone, Pull

_log = logs.get_logger(__name__)

BATCH = 64
"""Commands of one pull."""
FRESH = 0.5
"""Seconds that a pull has waited when what then comes first has only just been stored."""
REJECT = 3.0
"""Seconds that a message which can't be read may hold up the others."""

_TYPES: dict[type[BaseModel], registry.EventType[Any]] = {
    CommandReceived: registry.COMMAND_RECEIVED,
    CommandStarted: registry.COMMAND_STARTED,
    CommandProgressed: registry.COMMAND_PROGRESSED,
    ResultPart: registry.PART_PUBLISHED,
    CommandCompleted: registry.COMMAND_COMPLETED,
}


def core_time(stored_at: datetime, envelope: Envelope) -> datetime:
    """The broker's time of a command by the clock of its deadlines: the database's.

    The two differ where the master says so, in seconds; what it says is measured, not when it was sent.
    """
    try:
        return stored_at - timedelta(seconds=float(envelope.extensions.get("clockahead", "0")))
    except (ValueError, OverflowError):
        return stored_at


class BusCommands:
    """CommandGateway of one agent.

    `poll_interval`: seconds to wait after a pull that failed. `patience`: seconds without a word from the
    broker after which `silence` tells.
    """

    def __init__(
        self, bus: Bus, target: Target, gateway: BusGateway, *, poll_interval: float, patience: float
    ) -> None:
        self._bus = bus
        self._target = target
        self._gateway = gateway
        self._poll_interval = poll_interval
        self._patience = patience
        self._source = subjects.agent_source(target)
        self._taking_since = 0.0
        """By the loop's clock, as all here; 0: commands are not taken."""
        self._heard = 0.0
        self._reason = ""

    def silence(self) -> str:
        if not self._taking_since:
            return ""
        seconds = asyncio.get_running_loop().time() - max(self._heard, self._taking_since)
        if seconds < self._patience:
            return ""
        return (
            f"no command could be asked for, for {seconds:.0f} s: {self._reason or 'the broker is silent'}; "
            f"a master makes the consumer {self._target.durable}: see that one runs"
        )

    # --- taking ---------------------------------------------------------------------------------------

    async def take_commands(self, handle: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
        self._taking_since = asyncio.get_running_loop().time()
        try:
            while True:
                try:
                    await self._take_until_lost(handle)
                except ConsumerGone as error:
                    if str(error) != self._reason:
                        _log.info("commands can't be taken, trying again", reason=str(error))
                    self._reason = str(error)
                await asyncio.sleep(self._poll_interval * random.uniform(0.5, 1.5))
                await self._bus.wait_connected()
        finally:
            self._taking_since = 0.0

    async def _take_until_lost(self, handle: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
        """Raises ConsumerGone."""
        loop = asyncio.get_running_loop()
        pull = Pull(self._bus, COMMANDS.name, self._target.durable, BATCH)
        try:
            await pull.open()
            while True:
                asked = loop.time()
                messages = await pull.take()
                if pull.heard > self._heard:
                    self._heard, self._reason = pull.heard, ""
                fresh = loop.time() - asked > FRESH
                if orders := [order for message in messages if (order := await self._order(message, fresh))]:
                    await handle(orders)
        finally:
            await self._give_back(pull.buffered)
            await pull.close()

    async def _order(self, message: Message, fresh: bool) -> Order | None:
        """The message read; None when it breaks the contract: then it is where people look for that."""
        delivery = read(message, COMMANDS)
        if isinstance(delivery, Rejected):
            await self._reject(delivery)
            return None
        command, subject = delivery.body, delivery.subject
        assert isinstance(command, Command)
        assert isinstance(subject, Down)
        if delivery.envelope.id != command.id:
            reason = f"the envelope is of {delivery.envelope.id!r}, the command in it {command.id!r}"
            await self._reject(Rejected(reason, COMMANDS.name, message, subject, delivery.envelope))
            return None
        stored_at = core_time(message.time, delivery.envelope)
        self._gateway.clock.hear(stored_at, fresh=fresh and message.attempt == 1)
        return Order(
            command,
            delivery.envelope.data,
            delivery.envelope.extensions,
            "".join(subject.rest),
            stored_at,
            message.reply,
            self._gateway.clock.known,
        )

    async def _reject(self, rejected: Rejected) -> None:
        message = rejected.message
        if rejected.envelope is None:
            _log.warning("message can't be read", subject=message.subject, reason=rejected.reason)
        else:
            try:
                async with asyncio.timeout(REJECT):
                    await self._gateway.reject(message.subject, rejected.envelope, rejected.reason)
            except MessageTooLarge as error:
                _log.error("dead letter left out", subject=message.subject, reason=str(error))
            except TimeoutError:
                return  # it comes again
        await self._settle(message.reply, b"+ACK")

    async def _give_back(self, messages: Sequence[Message]) -> None:
        """Let the broker hand out at once what nobody has looked at."""
        for message in messages:
            await self._settle(message.reply, b"-NAK")

    async def acknowledge(self, order: Order) -> None:
        await self._settle(order.reply, b"+ACK")

    async def defer(self, order: Order, seconds: float) -> None:
        await self._settle(order.reply, b'-NAK {"delay": %d}' % int(seconds * 1e9))

    async def _settle(self, reply: str, word: bytes) -> None:
        with suppress(BusError):  # it comes again, and is answered then
            await self._bus.settle(reply, word)

    # --- reporting ------------------------------------------------------------------------------------

    async def publish_reports(self, command_id: str, reports: Sequence[Report], *, again: bool) -> bool:
        # As for events: under its own id the stream would drop, for its duplicate window, what is to be seen
        # once more.
        suffix = f".{secrets.token_hex(4)}" if again else ""
        subject = subjects.result(self._target, command_id)
        too_large = await self._gateway.publish_in_order(
            [self._outgoing(subject, command_id, report, suffix) for report in reports]
        )
        for index, error in too_large.items():
            _log.error("report left out", command=command_id, report=reports[index].name, reason=str(error))
        return not too_large

    def _outgoing(self, subject: str, command_id: str, report: Report, suffix: str) -> Outgoing:
        event_type = _TYPES[type(report.body)]
        envelope = Envelope(
            type=event_type.name,
            source=self._source,
            data=event_type.encode(report.body),
            id=f"{command_id}.{report.name}",
            time=report.at,
            extensions={"correlationid": command_id},
        )
        return Outgoing(subject, envelope, envelope.id + suffix, len(envelope.data) > COMPRESS_ABOVE)

    # --- ctl ------------------------------------------------------------------------------------------

    async def on_cancel(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        async def receive(message: CancelRequested) -> None:
            await handler(message.command_id, message.reason)

        await self._gateway.listen(registry.CANCEL_REQUESTED, "cancel", receive)

    async def on_results_confirmed(self, handler: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        async def receive(message: ResultsConfirmed) -> None:
            await handler(message.command_ids)

        await self._gateway.listen(registry.RESULTS_CONFIRMED, "results", receive)
