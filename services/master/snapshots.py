"""From the frames of one shard to rows."""

from collections.abc import Sequence
from contextlib import suppress

from schemas import subjects, topology
from schemas.errors import ContractError
from schemas.frames import Phase
from schemas.ids import Target
from schemas.subjects import Up
from services.master import metrics
from services.master.parts import Parts
from services.persistence.cursors import CursorStore
from services.persistence.database.errors import DatabaseUnavailable
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import Position, ReceivedFrame, Verdict
from services.persistence.state.report import Judged, Report
from services.runtime import logs
from services.runtime.bus.consumer import Consumer, Cursor, CursorPosition, Delivery, Room
from services.runtime.bus.delivery import Message, Rejected
from services.runtime.failpoints import Point, reach

_log = logs.get_logger(__name__)

BATCH = 32
"""Frames that are fetched together, and small ones that share a transaction."""
AHEAD = Room(64 * 1024 * 1024)
"""For the frames of agents that are not in sync, of all shards: those behind them in the log are read and
applied first. A large frame is some 10 to 150 KiB packed, a cluster of 30,000 pods 70 of them."""
_EPOCH = "ce-epoch"
"""The envelope's extension, which is looked at before the frame is unpacked."""


class SnapshotReader:
    """Applies the frames of one shard and has the agents told what follows from it."""

    def __init__(self, parts: Parts, shard: int) -> None:
        self._shard = shard
        self._nudges = parts.nudges
        self._applier = FrameApplier(parts.db, shard)
        self._work = parts.work
        self._resyncs = parts.resyncs
        self._superseding = parts.superseding
        self.consumer = Consumer(
            parts.bus,
            topology.SNAPSHOTS,
            [subjects.snapshots_of_shard(shard)],
            CursorPosition(f"master-snapshots-{shard}", CursorStore(parts.db)),
            self._apply,
            service="master",
            batch=BATCH,
            on_poison=self._after_poison,
            may_wait=self._may_wait,
            room=AHEAD,
        )

    async def _may_wait(self, messages: Sequence[Message]) -> set[str]:
        """Whoever is not in sync, or begins anew: a large cluster that arrives is not to delay the others."""
        agents: dict[str, Target] = {}
        epochs: dict[str, set[str]] = {}
        for message in messages:
            with suppress(ContractError):  # it goes to the dead letters
                subject = subjects.parse(message.subject)
                assert isinstance(subject, Up)  # by the filter
                agents[message.subject] = subject.target
                epochs.setdefault(message.subject, set()).add(message.headers.get(_EPOCH, ""))
        try:
            in_sync = await self._applier.in_sync(set(agents.values()))
        except DatabaseUnavailable:
            in_sync = {}  # the next transaction says so
        return {name for name, target in agents.items() if epochs[name] != {in_sync.get(target)}}

    async def _apply(self, deliveries: Sequence[Delivery], cursor: Cursor | None) -> int:
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
        await reach(Point.FRAMES_AFTER_COMMIT)
        self._nudges.changed(self._shard, report.rev)
        _count(report)
        for judged in report.frames:
            await self._follow_up(judged)
        return len(report.frames)

    async def _follow_up(self, judged: Judged) -> None:
        if judged.verdict is Verdict.APPLIED and judged.phase is Phase.BEGIN:
            self._resyncs.begun(judged.target)
            _log.info("epoch begun", target=str(judged.target), epoch=judged.epoch)
            if judged.previous_instance:
                _log.warning(
                    "the id now belongs to another instance: the one before is lost",
                    target=str(judged.target),
                    before=judged.previous_instance,
                    now=judged.instance,
                )
        if judged.in_sync:
            self._resyncs.in_sync(judged.target, judged.current)
        if judged.verdict in (Verdict.SUPERSEDED, Verdict.FOREIGN):
            await self._superseding.tell(judged.target, judged.epoch, judged.current, judged.instance)
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
