"""From the frames of one shard to rows."""

from collections.abc import Sequence

from schemas import subjects, topology
from schemas.frames import Phase
from schemas.subjects import Up
from services.master import metrics
from services.master.resync import Resyncs, Superseding
from services.master.work import DatabaseWork
from services.persistence.cursors import CursorStore
from services.persistence.engine import Database
from services.persistence.epochs import Position, ReceivedFrame, Verdict
from services.persistence.errors import DatabaseUnavailable
from services.persistence.report import Judged, Report
from services.persistence.state import FrameApplier
from services.runtime import logs
from services.runtime.bus.client import Bus
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery
from services.runtime.bus.delivery import Rejected

_log = logs.get_logger(__name__)

WINNER_SILENT = 120.0
"""Seconds without a frame after which an epoch no longer keeps the one that it replaced from coming back.
Four digests with the agents' default."""
BATCH = 16
"""Frames that are fetched together: enough to share transactions, few enough that a change behind a big
snapshot need not wait for more than these."""


class SnapshotReader:
    """Applies the frames of one shard and has the agents told what follows from it."""

    def __init__(
        self, bus: Bus, db: Database, work: DatabaseWork, resyncs: Resyncs, losers: Superseding, shard: int
    ) -> None:
        self._applier = FrameApplier(db, shard)
        self._work = work
        self._resyncs = resyncs
        self._losers = losers
        self.consumer = Consumer(
            bus,
            topology.SNAPSHOTS,
            [subjects.snapshots_of_shard(shard)],
            CursorPosition(f"master-snapshots-{shard}", CursorStore(db)),
            self._apply,
            service="master",
            batch=BATCH,
            on_poison=self._after_poison,
        )

    async def _apply(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> None:
        assert cursor is not None
        received = [
            ReceivedFrame(
                delivery.subject.target,
                delivery.body,
                Position(
                    created=cursor.created, sequence=delivery.stream_sequence, time=delivery.stream_time
                ),
            )
            for delivery in deliveries
            if isinstance(delivery.subject, Up)
        ]
        report = await self._work.run(topology.SNAPSHOTS, self._applier.apply(received, cursor))
        _count(report)
        for judged in report.frames:
            await self._follow_up(judged)

    async def _follow_up(self, judged: Judged) -> None:
        if judged.verdict is Verdict.APPLIED and judged.phase is Phase.BEGIN:
            self._resyncs.begun(judged.target)
            _log.info("epoch begun", target=str(judged.target), epoch=judged.epoch)
            if judged.previous_instance:
                _log.warning(
                    "the id now belongs to another instance; are two agents using it?",
                    target=str(judged.target),
                    before=judged.previous_instance,
                )
        if judged.in_sync:
            self._resyncs.in_sync(judged.target, judged.current)
        if judged.verdict is Verdict.SUPERSEDED and judged.silence > WINNER_SILENT:
            reason = f"the epoch that replaced it has been silent for {judged.silence:.0f} s"
            self._resyncs.want(judged.target, judged.epoch, reason)
        elif judged.verdict is Verdict.SUPERSEDED:
            await self._losers.tell(judged.target, judged.epoch, judged.current)
        elif judged.resync_reason:
            unknown = judged.verdict is Verdict.UNKNOWN_EPOCH
            useless = judged.epoch if unknown else judged.current
            self._resyncs.want(judged.target, useless, judged.resync_reason)

    async def _after_poison(self, rejected: Rejected) -> None:
        """A frame is missing now; the next one would show it, but may be long in coming."""
        if not isinstance(rejected.subject, Up):
            return
        target, reason = rejected.subject.target, f"a frame could not be read: {rejected.reason}"
        try:
            epoch = await self._applier.want_resync(target, reason, rejected.message.time)
        except DatabaseUnavailable:
            epoch = None
        self._resyncs.want(target, epoch or "", reason)


def _count(report: Report) -> None:
    for judged in report.frames:
        metrics.FRAMES.labels(verdict=judged.verdict.value).inc()
        if judged.digest_agrees is False:
            metrics.DIGEST_MISMATCHES.inc()
    metrics.ROWS.labels(change="changed").inc(report.changed)
    metrics.ROWS.labels(change="unchanged").inc(report.unchanged)
    metrics.ROWS.labels(change="removed").inc(report.removed)
    metrics.UNREADABLE.inc(len(report.unreadable))
    for text in report.unreadable[:3]:
        _log.warning("an object could not be read and is shown by its name only", object=text)
