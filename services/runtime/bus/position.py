"""Where a reader of a stream stands: a cursor in a store, or the acknowledgements of a durable consumer.

Both deliver at least once; the cursor is also without gaps.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from schemas.topology import Stream
from services.runtime import logs
from services.runtime.bus import metrics
from services.runtime.bus.client import ApiError, Bus, BusError, BusUnavailable, StreamMissing
from services.runtime.bus.cursor import Cursor, CursorStore
from services.runtime.bus.delivery import Message
from services.runtime.bus.pull import ConsumerGone, Pull
from services.runtime.bus.topology import STREAM_NOT_FOUND, parse_time
from services.runtime.tasks import cancelled

_log = logs.get_logger(__name__)

INACTIVE = 30.0
"""Seconds after which the broker forgets a cursor's consumer that nobody pulls from."""


class Session(Protocol):
    """One opening of a position; over when the connection or the consumer is lost."""

    created: datetime

    async def take(self, *, wait: bool = True) -> list[Message]: ...

    def cursor(self, sequence: int) -> Cursor | None: ...

    async def skip(self, sequence: int) -> None:
        """Move past what nobody handles."""
        ...

    async def settle(self, messages: Sequence[Message]) -> None: ...


class CursorPosition:
    """A cursor in a store; read through an ephemeral consumer that starts after it."""

    def __init__(self, name: str, store: CursorStore) -> None:
        self.name = name
        self._store = store

    @asynccontextmanager
    async def open(
        self, bus: Bus, stream: Stream, filters: Sequence[str], batch: int
    ) -> AsyncIterator[Session]:
        info = await _stream_info(bus, stream)
        created, state = parse_time(info["created"]), info["state"]
        cursor = await self._store.load(self.name, stream.name)
        if cursor is None or cursor.created != created or cursor.sequence > state["last_seq"]:
            if cursor is not None:
                _log.warning(
                    "the stream is another one than before, reading from its start", stream=stream.name
                )
            cursor = Cursor(self.name, stream.name, created, 0)
        elif (missed := state["first_seq"] - 1 - cursor.sequence) > 0:
            metrics.MISSED.labels(stream=stream.name).inc(missed)
            _log.warning(
                "the stream dropped messages that were not read yet", stream=stream.name, at_most=missed
            )
        consumer = f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.name)}_{secrets.token_hex(4)}"
        await _create_consumer(
            bus,
            stream,
            {
                "name": consumer,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": cursor.sequence + 1,
                "ack_policy": "none",
                "inactive_threshold": int(INACTIVE * 1e9),
                "mem_storage": True,
                "num_replicas": 1,
                "filter_subjects": list(filters),
            },
        )
        pull = Pull(bus, stream.name, consumer, batch)
        try:
            await pull.open()
            yield _CursorSession(pull, self._store, cursor)
        finally:
            await pull.close()
            with suppress(BusError):
                await bus.api(f"$JS.API.CONSUMER.DELETE.{stream.name}.{consumer}", timeout=1.0)


class _CursorSession:
    def __init__(self, pull: Pull, store: CursorStore, cursor: Cursor) -> None:
        self.created = cursor.created
        self._pull = pull
        self._store = store
        self._cursor = cursor
        self._delivered = 0

    async def take(self, *, wait: bool = True) -> list[Message]:
        messages = await self._pull.take(wait=wait)
        for message in messages:
            # Nothing is acknowledged here, so what was lost on the way would never come again.
            if message.consumer_sequence != self._delivered + 1:
                raise ConsumerGone("a message was lost on the way")
            self._delivered += 1
        return messages

    def cursor(self, sequence: int) -> Cursor | None:
        return replace(self._cursor, sequence=sequence)

    async def skip(self, sequence: int) -> None:
        await self._store.save(replace(self._cursor, sequence=sequence))

    async def settle(self, messages: Sequence[Message]) -> None:
        pass  # the handler committed the cursor


class AckPosition:
    """A durable consumer with explicit acknowledgements; several readers may share it.

    A message is handed out again when it is not acknowledged for `ack_wait` seconds; that time is extended
    for as long as its handler works. An acknowledgement may be lost with the broker: handlers are idempotent.
    """

    def __init__(self, durable: str, *, ack_wait: float = 5.0) -> None:
        self.name = durable
        self._ack_wait = ack_wait

    @asynccontextmanager
    async def open(
        self, bus: Bus, stream: Stream, filters: Sequence[str], batch: int
    ) -> AsyncIterator[Session]:
        info = await _stream_info(bus, stream)
        await _create_consumer(
            bus,
            stream,
            {
                "name": self.name,
                "durable_name": self.name,
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": int(self._ack_wait * 1e9),
                "max_ack_pending": max(1000, 4 * batch),
                "filter_subjects": list(filters),
            },
        )
        pull = Pull(bus, stream.name, self.name, batch)
        session = _AckSession(bus, pull, parse_time(info["created"]))
        keeper = asyncio.create_task(session.keep_alive(self._ack_wait / 3), name=f"ack wait of {self.name}")
        try:
            await pull.open()
            yield session
        finally:
            await cancelled(keeper)
            await session.give_back()
            await pull.close()


class _AckSession:
    def __init__(self, bus: Bus, pull: Pull, created: datetime) -> None:
        self.created = created
        self._bus = bus
        self._pull = pull
        self._open: dict[str, Message] = {}

    async def take(self, *, wait: bool = True) -> list[Message]:
        messages = await self._pull.take(wait=wait)
        self._open.update((message.reply, message) for message in messages)
        return messages

    def cursor(self, sequence: int) -> Cursor | None:  # noqa: ARG002 - the protocol's
        return None

    async def skip(self, sequence: int) -> None:
        pass  # it is acknowledged with the batch

    async def settle(self, messages: Sequence[Message]) -> None:
        """Acknowledge; the last one is confirmed, and with it, since the broker reads in order, all."""
        for message in messages[:-1]:
            await self._bus.settle(message.reply, b"+ACK")
        for message in messages[-1:]:
            await self._bus.settle(message.reply, b"+ACK", confirm=True)
        for message in messages:
            self._open.pop(message.reply, None)

    async def keep_alive(self, interval: float) -> None:
        """Tell the broker, again and again, that what we hold is in progress."""
        while True:
            await asyncio.sleep(interval)
            with suppress(BusUnavailable):
                for reply in [*self._open, *(message.reply for message in self._pull.buffered)]:
                    await self._bus.settle(reply, b"+WPI")

    async def give_back(self) -> None:
        """Let the broker hand out at once what was not handled."""
        with suppress(BusError):
            for reply in [*self._open, *(message.reply for message in self._pull.buffered)]:
                await self._bus.settle(reply, b"-NAK")


async def _stream_info(bus: Bus, stream: Stream) -> dict[str, Any]:
    try:
        return await bus.api(f"$JS.API.STREAM.INFO.{stream.name}")
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        raise StreamMissing(", ".join(stream.subjects)) from error


async def _create_consumer(bus: Bus, stream: Stream, config: dict[str, Any]) -> None:
    await bus.api(
        f"$JS.API.CONSUMER.CREATE.{stream.name}.{config['name']}",
        {"stream_name": stream.name, "config": config, "action": ""},
    )
