"""What agents say of their commands, from the stream to the rows."""

import asyncio
import time
from collections.abc import Callable, Sequence

from schemas import subjects, topology
from schemas.errors import ContractError
from schemas.subjects import Up
from services.master.commands import metrics
from services.master.commands.confirmations import ResultConfirmations
from services.master.commands.hints import Hints
from services.master.commands.timing import Timing
from services.master.work import DatabaseWork
from services.persistence.commands import results
from services.persistence.commands.results import Applied, Report
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.runtime import logs
from services.runtime.bus.client import ApiError, Bus
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery
from services.runtime.bus.topology import STREAM_NOT_FOUND, parse_time
from services.runtime.failpoints import Point, reach

_log = logs.get_logger(__name__)

BATCH = 256
"""Reports in one transaction."""
LINGER = 0.002
"""Seconds: what an agent says of a short command at one time is stored, and comes, one by one."""
POSITION = "master-results"
_MOMENT = 2.0
"""Seconds in which a reader that keeps up has read what was there."""


class ResultReader:
    """Applies reports, has agents told what is committed, and whoever waits that something has changed."""

    def __init__(
        self,
        bus: Bus,
        db: Database,
        work: DatabaseWork,
        hints: Hints,
        confirmations: ResultConfirmations,
        canceled: Callable[[Sequence[str]], None],
        timing: Timing,
    ) -> None:
        """`canceled` is called with commands that their agents have received, and are to end."""
        self._bus = bus
        self._db = db
        self._work = work
        self._hints = hints
        self._confirmations = confirmations
        self._canceled = canceled
        self._timing = timing
        self._store_of_cursors = CursorStore(db)
        self._told_strange = 0.0
        self.consumer = Consumer(
            bus,
            topology.RESULTS,
            [subjects.ALL_RESULTS],
            CursorPosition(POSITION, self._store_of_cursors),
            self._store,
            service="master",
            batch=BATCH,
            linger=LINGER,
        )

    async def caught_up(self) -> bool:
        """Whether all that the stream has now is applied, in a moment: more may come all the time.

        Raises BusError, DatabaseUnavailable.
        """
        stream = topology.RESULTS.name
        try:
            info = await self._bus.api(f"$JS.API.STREAM.INFO.{stream}")
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                return True
            raise
        if not info["state"]["messages"]:
            return True
        created, last = parse_time(info["created"]), int(info["state"]["last_seq"])
        patience = time.monotonic() + _MOMENT
        while True:
            cursor = await self._store_of_cursors.load(POSITION, stream)
            if cursor is not None and cursor.created == created and cursor.sequence >= last:
                return True
            if time.monotonic() > patience:
                return False
            await asyncio.sleep(0.1)

    async def _store(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        assert cursor is not None
        reports = [_report(delivery) for delivery in deliveries]
        timing = self._timing
        store = results.store(self._db, reports, cursor, timing.pace, timing.grace)
        applied = await self._work.run(topology.RESULTS, store)
        await reach(Point.RESULT_AFTER_COMMIT)
        if applied.canceled:
            self._canceled(applied.canceled)
        self._hints.changed(applied.changed, applied.ended)
        for target, command_ids in applied.confirmed.items():
            self._confirmations.committed(target, command_ids)
        self._count(reports, applied)

    def _count(self, reports: Sequence[Report], applied: Applied) -> None:
        for report in reports:
            metrics.REPORTS.labels(kind=type(report.body).__name__).inc()
        for state in applied.ended.values():
            metrics.ENDED.labels(state=state.value).inc()
        metrics.STRANGE.inc(len(applied.strange))
        metrics.CONTRADICTED.inc(len(applied.contradicted))
        for command_id in applied.contradicted:
            _log.warning("the agent tells another end than the stored one: kept as evidence", id=command_id)
        if applied.strange and time.monotonic() - self._told_strange > 60.0:
            self._told_strange = time.monotonic()
            target, command_id = applied.strange[0]
            _log.warning(
                "the end of a command that is not in the database: confirmed, so that its agent forgets it",
                agent=str(target),
                id=command_id,
            )


def _report(delivery: Delivery) -> Report:
    """Raises ContractError when subject and body name two commands."""
    subject, body = delivery.subject, delivery.body
    assert isinstance(subject, Up)
    if subject.rest != (body.command_id,):
        raise ContractError(f"a report on command {body.command_id[:120]!r} on the subject of another")
    return Report(subject.target, body, delivery.envelope.data)
