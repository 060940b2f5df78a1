"""Any log, with losses, repeats, competitors and crashes, gives the rows that its rules demand."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frames import Frame, Phase, Put
from schemas.ids import Target, kubernetes
from services.persistence import tables
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import ReceivedFrame
from services.runtime.bus.backlog import Backlog, Room
from services.runtime.bus.delivery import Message
from tests.persistence.conftest import PATIENT, UNHURRIED
from tests.persistence.frames import CrashError, CrashingDatabase, FrameSource, Held, Log, body_of, rows


@dataclass
class Model:
    """What the frames of one id amount to, said as simply as possible."""

    held: Held = field(default_factory=dict)
    epoch: str = ""
    sequence: int = 0
    previous: set[str] = field(default_factory=set)
    gap: bool = False
    named: set[tuple[str, str, str]] = field(default_factory=set)
    version: int = 0

    def take(self, frame: Frame) -> None:
        if frame.phase is Phase.BEGIN:
            if frame.epoch in self.previous | {self.epoch}:
                return
            self.previous.add(self.epoch)
            self.epoch, self.gap, self.named = frame.epoch, False, set()
        elif frame.epoch != self.epoch or self.gap or frame.sequence <= self.sequence:
            return
        elif frame.sequence > self.sequence + 1:
            self.gap = True
            return
        self.sequence = frame.sequence
        self.version += 1
        for item in frame.items:
            key = (item.resource, item.namespace, item.name)
            if isinstance(item, Put):
                self.held[key] = bytes(item.body)
                self.named.add(key)
            else:
                self.held.pop(key, None)
        for key in [key for key in self.held if key[0] in frame.synced and key not in self.named]:
            del self.held[key]


ONE, OTHER = kubernetes("one"), kubernetes("other")
NAMES = [f"p{number}" for number in range(5)]

# Two agents share the first id, the third has its own.
STEP = st.tuples(
    st.sampled_from([0, 0, 0, 1, 2, 2]),
    st.sampled_from(["put", "put", "put", "delete", "relist", "relist", "begin", "all", "synced", "digest"]),
    st.sampled_from(NAMES),
    st.sampled_from(["kept"] * 9 + ["twice", "lost", "old again"]),
)


def make_log(steps: list[tuple[int, str, str, str]]) -> list[ReceivedFrame]:
    log, received = Log(), []
    sources = [FrameSource(ONE), FrameSource(ONE), FrameSource(OTHER)]
    for number, (who, what, name, fate) in enumerate(steps):
        source = sources[who]
        if what == "begin" or not source.epoch:
            frames = [source.begin(f"epoch-{who}-{number}")]
        elif what == "relist":
            frames = [source.begin(f"epoch-{who}-{number}"), *source.all(size=2)]
        elif what == "put":
            frames = [source.put(name, body_of(name, state=f"State{number}"))]
        elif what == "delete":
            frames = [source.delete(name)]
        elif what == "all":
            frames = source.all(size=2)
        else:
            frames = [source.synced() if what == "synced" else source.digest()]
        copies = {"lost": frames[:-1], "twice": frames * 2}.get(fate, frames)
        received += [log.receive(source.target, frame) for frame in copies]
        if fate == "old again":
            earlier = [item.frame for item in received if item.target == source.target]
            received += [log.receive(source.target, frame) for frame in earlier[len(earlier) // 2 :][:1]]
    return received


def of_target(log: list[ReceivedFrame], target: Target) -> Model:
    model = Model()
    for item in log:
        if item.target == target:
            model.take(item.frame)
    return model


@dataclass(frozen=True)
class Turn:
    """One round of a reader: what it fetches, who may wait, how much is handled."""

    fetch: int
    may_wait: frozenset[str]
    most: int


TURN = st.builds(
    Turn,
    fetch=st.integers(0, 9),
    may_wait=st.frozensets(st.sampled_from([str(ONE), str(OTHER)])),
    most=st.integers(1, 9),
)


@pytest.mark.timeout(180)  # each example has a database of its own
@settings(UNHURRIED, max_examples=80)
@given(
    steps=st.lists(STEP, min_size=1, max_size=40),
    turns=st.lists(TURN, min_size=1, max_size=8),
    crashes=st.frozensets(st.integers(1, 30), max_size=6),
)
def test_rows_are_what_the_log_demands(
    new_url: Callable[[], str],
    steps: list[tuple[int, str, str, str]],
    turns: list[Turn],
    crashes: frozenset[int],
) -> None:
    """Frames lost, repeated, replayed, of competing agents, in any batches, some waiting for others, through
    any crashes and redeliveries from the stored cursor: rows, version and cursor are those of a plain reading
    of the log."""

    async def run() -> None:
        log = make_log(steps)
        async with CrashingDatabase(new_url(), limits=PATIENT) as db:
            db.crashes = crashes
            await deliver(db, log, turns)
            for target in (ONE, OTHER):
                model = of_target(log, target)
                assert await rows(db, target) == model.held
                assert await version(db, target) == model.version
            cursor = await CursorStore(db).load("test", "FRAMES")
            assert (cursor.sequence if cursor else 0) == len(log)

    asyncio.run(run())


async def deliver(db: CrashingDatabase, log: list[ReceivedFrame], turns: list[Turn]) -> None:
    """From the stored cursor on, again from there after a crash; every other time in the same process."""
    applier = FrameApplier(db, 0)
    endless = itertools.cycle([*turns, Turn(fetch=3, may_wait=frozenset(), most=3)])
    room = Room(100_000)
    while True:
        try:
            with Backlog(room) as backlog:
                await read_on(db, applier, log, endless, backlog)
            return
        except CrashError:
            if db.writes % 4 > 1:
                applier = FrameApplier(db, 0)
        finally:
            assert room.used == 0


async def read_on(
    db: Database, applier: FrameApplier, log: list[ReceivedFrame], turns: Iterator[Turn], backlog: Backlog
) -> None:
    """To the log's end, in the order of a backlog."""
    cursor = await CursorStore(db).load("test", "FRAMES") or replace(Log().cursor, sequence=0)
    frames = {item.position.sequence: item for item in log}
    left = deque(item for item in log if item.position.sequence > cursor.sequence)
    while left or backlog:
        turn = next(turns)
        if not backlog.full:
            fetched = [left.popleft() for _ in range(min(turn.fetch, len(left)))]
            backlog.add([message_of(item) for item in fetched], turn.may_wait)
        if not backlog:
            continue
        portion = backlog.portion(turn.most)
        batch = [frames[item.message.sequence] for item in portion]
        report = await applier.apply(batch, replace(cursor, sequence=backlog.reached(portion)))
        for item in portion[: len(report.frames)]:
            backlog.done(item)


def message_of(item: ReceivedFrame) -> Message:
    position = item.position
    return Message(str(item.target), {}, bytes(20_000), "", position.sequence, 0, 1, position.time, pending=0)


async def version(db: Database, target: Target) -> int:
    """Frames applied; none for an agent that is not known."""
    table = tables.table_of(tables.Epoch)
    async with db.read() as connection:
        found = await connection.scalar(sa.select(table.c.version).where(table.c.target_id == target.id))
    return int(found or 0)
