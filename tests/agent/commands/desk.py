"""The other end of an agent's commands, in memory and over the bus."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import binding, registry, subjects
from schemas.commands import (
    Command,
    CommandCompleted,
    CommandObject,
    CommandState,
    ResultPart,
    TargetReference,
)
from schemas.control import CancelRequested, ResultsConfirmed
from schemas.envelope import Envelope
from schemas.ids import Target, kubernetes, uuid7
from schemas.topology import COMMANDS
from services.agent.gateway.interfaces import Order, Report
from services.runtime.bus.client import Bus
from tests.waiting import until

TARGET = kubernetes("a")


def command(action: str = "change", name: str = "one", **values: Any) -> Command:
    """A command for TARGET that may begin for a minute, and end for two."""
    now = datetime.now(UTC)
    wanted: dict[str, Any] = {
        "id": uuid7(),
        "target": TargetReference(kind=TARGET.kind, id=TARGET.id),
        "action": action,
        "object": CommandObject(resource="things", namespace="ns", name=name),
        "created_at": now,
        "start_by": now + timedelta(minutes=1),
        "finish_by": now + timedelta(minutes=2),
    }
    return Command(**wanted | values)


def order(about: Command, journal: str, **values: Any) -> Order:
    """As the bus hands it out."""
    wanted: dict[str, Any] = {
        "command": about,
        "body": about.model_dump_json().encode(),
        "extensions": {"journal": journal},
        "subject_action": about.action,
        "stored_at": datetime.now(UTC),
        "reply": uuid7(),
    }
    return Order(**wanted | values)


class MemoryGateway:
    """CommandGateway whose other end is a test."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[list[Order]] = asyncio.Queue()
        self.acknowledged: list[str] = []
        self.deferred: list[str] = []
        self.reports: list[tuple[str, Report, bool]] = []
        self.together: list[list[str]] = []
        """The names of the reports of each call."""
        self.confirming = True
        """Whether every result is confirmed as soon as it is there."""
        self.largest = 10**9
        """Bytes of the largest report that it takes."""
        self._cancel: Callable[[str, str], Awaitable[None]] | None = None
        self._confirm: Callable[[Sequence[str]], Awaitable[None]] | None = None

    def hand_out(self, *orders: Order) -> None:
        self.orders.put_nowait(list(orders))

    async def take_commands(self, handle: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
        while True:
            await handle(await self.orders.get())

    async def acknowledge(self, order: Order) -> None:
        self.acknowledged.append(order.command.id)

    async def defer(self, order: Order, seconds: float) -> None:
        self.deferred.append(order.command.id)

    async def publish_reports(self, command_id: str, reports: Sequence[Report], *, again: bool) -> bool:
        await asyncio.sleep(0)
        self.together.append([report.name for report in reports])
        fitting = [report for report in reports if len(report.body.model_dump_json()) <= self.largest]
        self.reports += [(command_id, report, again) for report in fitting]
        if self.confirming and any(report.name == "completed" for report in fitting):
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self.confirm(command_id)))
        return len(fitting) == len(reports)

    async def on_cancel(self, handler: Callable[[str, str], Awaitable[None]]) -> None:
        self._cancel = handler

    async def on_results_confirmed(self, handler: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        self._confirm = handler

    def silence(self) -> str:
        return ""

    async def cancel(self, command_id: str, reason: str = "") -> None:
        assert self._cancel
        await self._cancel(command_id, reason)

    async def confirm(self, *command_ids: str) -> None:
        assert self._confirm
        await self._confirm(command_ids)

    def names(self, command_id: str) -> list[str]:
        """What was said of one, in order."""
        return [report.name for id_, report, _ in self.reports if id_ == command_id]

    def ends(self, command_id: str) -> list[CommandCompleted]:
        return [
            report.body
            for id_, report, _ in self.reports
            if id_ == command_id and isinstance(report.body, CommandCompleted)
        ]

    async def end(self, about: Command, seconds: float = 20) -> CommandCompleted:
        """Its result, once it is there."""
        await until(lambda: self.ends(about.id), seconds)
        return self.ends(about.id)[-1]

    def states(self, command_id: str) -> set[CommandState]:
        return {end.state for end in self.ends(command_id)}

    def parts(self, command_id: str) -> list[ResultPart]:
        return [r.body for id_, r, _ in self.reports if id_ == command_id and isinstance(r.body, ResultPart)]


@dataclass
class Desk:
    """A master's part, over the bus: `master` sends, `reader` hears everything the agent says."""

    master: Bus
    reader: Bus
    target: Target = TARGET
    journal: str = ""
    confirming: bool = True
    attempts: dict[str, int] = field(default_factory=dict)
    heard: list[tuple[str, Any]] = field(default_factory=list)

    async def open(self, *, consumer: bool = True) -> None:
        await self.reader.subscribe(f"atlhyper.up.{self.target.kind}.{self.target.id}.result.*", self._hear)
        if consumer:
            await self.make_consumer()

    async def make_consumer(self, ack_wait: float = 5.0) -> None:
        """As the master makes it at first contact. `ack_wait`: seconds."""
        config = {
            "name": self.target.durable,
            "durable_name": self.target.durable,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait * 1e9),
            "max_deliver": -1,
            "max_ack_pending": 256,
            "max_waiting": 64,
            "filter_subject": subjects.commands(self.target),
        }
        await self.master.api(
            f"$JS.API.CONSUMER.CREATE.{COMMANDS.name}.{self.target.durable}.{subjects.commands(self.target)}",
            {"stream_name": COMMANDS.name, "config": config, "action": ""},
        )

    async def send(self, about: Command, **extensions: str) -> None:
        """Send it, or ask what became of it; with further extensions of its envelope."""
        attempt = self.attempts[about.id] = self.attempts.get(about.id, 0) + 1
        subject, envelope = self._message(about, extensions)
        await self.master.publish(subject, envelope, message_id=f"{about.id}.{attempt}")

    async def send_same(self, about: Command) -> tuple[int, bool]:
        """Send its first attempt, under the message id that this has each time.

        The sequence in the stream, and whether the stream knew the message id and dropped this copy.
        """
        subject, envelope = self._message(about, {})
        headers, payload = binding.encode(envelope)
        headers["Nats-Msg-Id"] = f"{about.id}.1"
        # What the bus client returns of an acknowledgement is the sequence only.
        message = await self.master._connection().request(subject, payload, headers, timeout=30)
        answer = json.loads(message.data)
        assert answer.get("stream") == COMMANDS.name, answer
        return answer["seq"], answer.get("duplicate", False)

    def _message(self, about: Command, extensions: dict[str, str]) -> tuple[str, Envelope]:
        envelope = Envelope(
            type=registry.COMMAND_SENT.name,
            source=subjects.service_source("master", "test"),
            data=about.model_dump_json().encode(),
            id=about.id,
            extensions={"journal": self.journal, "expirytime": about.start_by.isoformat()} | extensions,
        )
        return subjects.command(self.target, about.action), envelope

    async def cancel(self, about: Command, reason: str = "") -> None:
        body = CancelRequested(command_id=about.id, reason=reason)
        await self._control(registry.CANCEL_REQUESTED, "cancel", body)

    async def confirm(self, *command_ids: str) -> None:
        body = ResultsConfirmed(command_ids=list(command_ids))
        await self._control(registry.RESULTS_CONFIRMED, "results", body)

    async def _control(self, event_type: registry.EventType[Any], what: str, body: Any) -> None:
        envelope = event_type.envelope(body, source=subjects.service_source("master", "test"))
        await self.master.send(subjects.control(self.target, what), envelope)

    async def _hear(self, subject: str, envelope: Envelope) -> None:
        body = registry.lookup(envelope.type).decode(envelope.data)
        self.heard.append((envelope.id, body))
        if self.confirming and isinstance(body, CommandCompleted):
            await self.confirm(body.command_id)

    def bodies(self, about: Command, kind: type) -> list[Any]:
        return [b for _, b in self.heard if isinstance(b, kind) and b.command_id == about.id]

    def ends(self, about: Command) -> list[CommandCompleted]:
        return self.bodies(about, CommandCompleted)

    async def end(self, about: Command, seconds: float = 30) -> CommandCompleted:
        await until(lambda: self.ends(about), seconds)
        return self.ends(about)[0]
