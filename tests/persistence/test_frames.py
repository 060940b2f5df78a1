"""Frames become rows: what each phase does, and what a gap, a repeat or a competitor does not."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from schemas.errors import ContractError
from schemas.frames import Frame, Part, Put, content_hash
from schemas.ids import kubernetes
from services.persistence import tables
from services.persistence.cursors import CursorStore
from services.persistence.database.engine import Database
from services.persistence.presence.liveness import Beat
from services.persistence.presence.store import store_signs
from services.persistence.state.applier import FrameApplier
from services.persistence.state.epochs import ReceivedFrame, Verdict
from services.persistence.state.ledgers import wanted_resyncs
from services.persistence.state.report import Report
from tests.persistence.conftest import PATIENT
from tests.persistence.frames import (
    START,
    CrashError,
    CrashingDatabase,
    FrameSource,
    Log,
    apply_all,
    body_of,
    only_row,
    rows,
)


class Stage:
    """A log, an applier, and an agent in sync with two pods."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.log = Log()
        self.agent = FrameSource()
        self.applier = FrameApplier(db, self.agent.target.shard)

    async def apply(self, *frames: Frame) -> Report:
        return await self.replay([self.log.receive(self.agent.target, frame) for frame in frames])

    async def replay(self, received: Sequence[ReceivedFrame]) -> Report:
        return await apply_all(self.applier, received, self.log.cursor)

    async def rows(self) -> dict[tuple[str, str, str], bytes]:
        return await rows(self.db, self.agent.target)


@pytest.fixture
async def stage(db: Database) -> Stage:
    stage = Stage(db)
    await stage.apply(
        stage.agent.begin("e1"), stage.agent.put("a"), stage.agent.put("b"), stage.agent.synced()
    )
    return stage


def verdicts(report: Report) -> list[Verdict]:
    return [judged.verdict for judged in report.frames]


async def test_bodies_are_kept_byte_for_byte(stage: Stage) -> None:
    """A row holds the bytes that were sent, odd spacing and order included, so that hashes agree."""
    odd = (
        b'{ "status":{"phase":"Running"},  "metadata" : {"name":"odd","uid":"u","labels":{"b":"1","a":"2"}} }'
    )
    await stage.apply(stage.agent.put("odd", odd), stage.agent.digest())
    assert (await stage.rows())["pods", "default", "odd"] == odd
    assert (await only_row(stage.db, tables.Epoch)).digest_agrees is True


async def test_unchanged_object_only_moves_to_the_new_epoch(stage: Stage) -> None:
    """A full list that repeats what is known changes neither `updated_at` nor `rev`."""
    table = tables.table_of(tables.Resource)
    async with stage.db.read() as connection:
        before = (await connection.execute(table.select())).all()
    report = await stage.apply(stage.agent.begin("e2"), *stage.agent.all())
    assert (report.changed, report.unchanged, report.removed) == (0, 2, 0)
    async with stage.db.read() as connection:
        after = (await connection.execute(table.select())).all()
    assert [(row.updated_at, row.rev) for row in after] == [(row.updated_at, row.rev) for row in before]
    assert {row.epoch for row in after} == {"e2"}


async def test_sweep_waits_for_synced(stage: Stage) -> None:
    """What a new epoch does not name stays visible until the kind is complete, and goes then."""
    del stage.agent.held["pods", "default", "a"]
    frames = [stage.agent.begin("e2"), *stage.agent.all()]
    await stage.apply(*frames[:-1])
    assert ("pods", "default", "a") in await stage.rows()
    report = await stage.apply(frames[-1])
    assert report.removed == 1
    assert await stage.rows() == stage.agent.held


async def test_synced_sweeps_only_what_it_names(stage: Stage) -> None:
    """A kind that is slow or fails keeps its old rows while another one is completed."""
    await stage.apply(stage.agent.put("n1", b'{"metadata":{"name":"n1"}}', resource="nodes", namespace=""))
    begin = stage.agent.begin("e2")
    stage.agent.resources = ("pods",)
    await stage.apply(begin, stage.agent.synced())
    assert set(await stage.rows()) == {("nodes", "", "n1")}


async def test_begin_sweeps_what_is_out_of_scope(stage: Stage) -> None:
    """Resources and namespaces that are no longer collected vanish with the begin that leaves them out."""
    await stage.apply(
        stage.agent.put("n1", b'{"metadata":{"name":"n1"}}', resource="nodes", namespace=""),
        stage.agent.put("c", namespace="other"),
    )
    stage.agent.namespaces = ("default",)
    await stage.apply(stage.agent.begin("e2"))
    assert set(await stage.rows()) == {
        ("nodes", "", "n1"),
        ("pods", "default", "a"),
        ("pods", "default", "b"),
    }
    stage.agent.resources = ("nodes",)
    await stage.apply(stage.agent.begin("e3"))
    assert set(await stage.rows()) == {("nodes", "", "n1")}


async def test_large_sweeps_take_several_short_transactions(stage: Stage) -> None:
    """1,700 rows go in steps of at most 500, and the frame counts once."""
    for number in range(1700):
        stage.agent.held["pods", "big", f"p{number}"] = body_of(f"p{number}", "big")
    await stage.apply(stage.agent.begin("e2"), *stage.agent.all())
    version = (await only_row(stage.db, tables.Epoch)).version
    rev = (await only_row(stage.db, tables.Shard)).rev
    stage.agent.held.clear()
    report = await stage.apply(stage.agent.begin("e3"), stage.agent.synced())
    assert report.removed == 1702
    assert await stage.rows() == {}
    assert (await only_row(stage.db, tables.Epoch)).version == version + 2
    assert (await only_row(stage.db, tables.Shard)).rev >= rev + 4


async def test_gap_is_reported_and_ends_the_epoch(stage: Stage) -> None:
    """After a missing frame the rest of the epoch is ignored, a resync is wanted, a new begin heals it."""
    lost = stage.agent.put("lost")
    report = await stage.apply(stage.agent.put("late"))
    assert verdicts(report) == [Verdict.GAP]
    assert report.frames[0].resync_reason == f"frame {lost.sequence} of the epoch is missing"
    assert not report.frames[0].in_sync
    report = await stage.apply(stage.agent.put("later"), stage.agent.digest())
    assert verdicts(report) == [Verdict.IGNORED, Verdict.IGNORED]
    assert set(await wanted_resyncs(stage.db, stage.agent.target.shard)) == {stage.agent.target}
    assert ("pods", "default", "later") not in await stage.rows()
    report = await stage.apply(stage.agent.begin("e2"), *stage.agent.all(), stage.agent.digest())
    assert set(verdicts(report)) == {Verdict.APPLIED}
    assert report.frames[-1].in_sync
    assert await stage.rows() == stage.agent.held
    assert await wanted_resyncs(stage.db, stage.agent.target.shard) == {}


async def test_frames_without_their_begin_ask_for_a_resync(stage: Stage) -> None:
    """A reader that starts in the middle of an epoch applies nothing and says what it misses."""
    stranger = FrameSource(kubernetes("c9"), epoch="x", sequence=7)
    report = await stage.replay([stage.log.receive(stranger.target, stranger.put("a"))])
    assert verdicts(report) == [Verdict.GAP]
    wanted = await wanted_resyncs(stage.db, stranger.target.shard)
    assert wanted == {stranger.target: ("x", "its begin was not seen")}


async def test_repeated_frames_change_nothing(stage: Stage) -> None:
    """The same message again, or the same frame published twice, is counted once."""
    frame = stage.agent.put("a", body_of("a", state="Failed"))
    first = stage.log.receive(stage.agent.target, frame)
    await stage.replay([first])
    before = await only_row(stage.db, tables.Epoch)
    assert verdicts(await stage.replay([first])) == [Verdict.REPEATED]
    assert verdicts(await stage.apply(frame)) == [Verdict.REPEATED]
    after = await only_row(stage.db, tables.Epoch)
    assert (after.version, after.as_of, after.sequence) == (before.version, before.as_of, before.sequence)


async def test_replay_of_the_log_is_no_news(stage: Stage) -> None:
    """What a lost cursor delivers again says nothing of competitors or gaps: nobody is told or asked."""
    again = [
        stage.log.receive(stage.agent.target, frame)
        for frame in [stage.agent.put("c"), stage.agent.begin("e2"), *stage.agent.all()]
    ]
    await stage.replay(again)
    report = await stage.replay(again)
    assert set(verdicts(report)) == {Verdict.REPEATED}


async def test_a_store_that_was_set_back_is_no_replay(stage: Stage) -> None:
    """Frames with numbers that were seen before but later times are news: the store lost the ones between."""
    await stage.apply(*(stage.agent.put(f"p{number}") for number in range(5)))
    stage.log.sequence -= 4
    stage.log.later = timedelta(hours=1)
    report = await stage.apply(stage.agent.begin("e9"), *stage.agent.all())
    assert set(verdicts(report)) == {Verdict.APPLIED}
    assert await stage.rows() == stage.agent.held


async def test_newest_begin_wins_for_ever(stage: Stage) -> None:
    """Of two agents with one id the one that began last wins; the other is superseded, its begin too."""
    loser, stage.agent = stage.agent, FrameSource()
    await stage.apply(stage.agent.begin("e2"), stage.agent.put("new"), stage.agent.synced())
    report = await stage.apply(loser.put("old"), loser.digest(), loser.begin("e1"))
    assert verdicts(report) == [Verdict.SUPERSEDED] * 3
    assert {(judged.current, judged.resync_reason) for judged in report.frames} == {("e2", "")}
    assert await stage.rows() == stage.agent.held
    assert verdicts(await stage.apply(stage.agent.digest())) == [Verdict.APPLIED]


async def pass_time(stage: Stage, seconds: int) -> None:
    """The master beats for so long, from the start of the log on."""
    beats = [Beat(START + timedelta(seconds=second), 5) for second in range(0, seconds + 1, 5)]
    await store_signs(stage.db, [], beats, stage.log.cursor)


@pytest.mark.parametrize("instance", ["instance-2", ""])
async def test_id_belongs_to_an_instance_while_its_agent_is_there(stage: Stage, instance: str) -> None:
    """Another cluster's agent, or one that can't say whose it is, changes nothing under a living one's id."""
    owner, stage.agent = stage.agent, FrameSource()
    await pass_time(stage, 40)
    report = await stage.apply(
        stage.agent.begin("e2", instance), stage.agent.put("theirs"), stage.agent.synced()
    )
    assert verdicts(report) == [Verdict.FOREIGN, Verdict.SUPERSEDED, Verdict.SUPERSEDED]
    assert {(judged.current, judged.instance) for judged in report.frames} == {("e1", "instance-1")}
    assert not any(judged.resync_reason for judged in report.frames)
    assert await stage.rows() == owner.held
    assert verdicts(await stage.apply(owner.digest())) == [Verdict.APPLIED]


async def test_id_of_a_lost_agent_goes_to_another_instance(stage: Stage) -> None:
    """Once the owner is lost, by the broker's clock, the newcomer's rows replace its own, and it is told."""
    await pass_time(stage, 60)
    stage.agent = FrameSource()
    report = await stage.apply(
        stage.agent.begin("e2", "instance-2"), stage.agent.put("theirs"), stage.agent.synced()
    )
    assert set(verdicts(report)) == {Verdict.APPLIED}
    assert (report.frames[0].previous_instance, report.frames[0].instance) == ("instance-1", "instance-2")
    assert await stage.rows() == stage.agent.held


async def test_id_of_an_unknown_instance_is_anybody_s(stage: Stage) -> None:
    """Whoever knows its cluster takes the id of a living agent that does not: the newest begin wins."""
    await pass_time(stage, 60)
    await stage.apply(stage.agent.begin("e2", ""), *stage.agent.all())
    stage.log.later = timedelta(minutes=1)
    await stage.apply(stage.agent.digest())
    report = await stage.apply(stage.agent.begin("e3", "instance-1"), *stage.agent.all())
    assert set(verdicts(report)) == {Verdict.APPLIED}


async def test_first_of_two_instances_in_the_log_has_the_id(stage: Stage) -> None:
    """At first contact, in one batch and before any heartbeat, the order of the log decides."""
    one, other = FrameSource(kubernetes("new")), FrameSource(kubernetes("new"))
    frames = [one.begin("a1", "instance-1"), other.begin("b1", "instance-2"), one.put("x"), one.synced()]
    report = await stage.replay([stage.log.receive(one.target, frame) for frame in frames])
    assert verdicts(report) == [Verdict.APPLIED, Verdict.FOREIGN, Verdict.APPLIED, Verdict.APPLIED]


async def test_digest_that_disagrees_asks_for_a_resync(stage: Stage) -> None:
    """A row that is missing, or has other content, is found by the next digest and named by its kind."""
    stage.agent.held["pods", "default", "unsent"] = body_of("unsent")
    report = await stage.apply(stage.agent.digest())
    assert report.frames[0].digest_agrees is False
    assert report.frames[0].resync_reason == "digest disagrees: pods: 3 objects there, 2 here"
    del stage.agent.held["pods", "default", "unsent"]
    assert (await stage.apply(stage.agent.digest())).frames[0].resync_reason == ""
    stage.agent.held["pods", "default", "a"] = body_of("a", state="Failed")
    report = await stage.apply(stage.agent.digest())
    assert report.frames[0].resync_reason == "digest disagrees: pods: other content in 2 objects"


async def test_object_in_parts_appears_when_complete(stage: Stage) -> None:
    """An object over the limit travels in slices, over several frames, and is one row in the end."""
    body = body_of("huge", payload="x" * 100_000)
    slices = [body[start : start + 40_000] for start in range(0, len(body), 40_000)]
    items = [
        Put(
            resource="pods",
            namespace="default",
            name="huge",
            uid="uid-huge",
            body=msgspec.Raw(b'"%b"' % base64.b64encode(data)),
            part=Part(index=index, count=len(slices)),
        )
        for index, data in enumerate(slices)
    ]
    await stage.apply(stage.agent.data(*items[:2]))
    assert ("pods", "default", "huge") not in await stage.rows()
    await stage.apply(stage.agent.data(*items[2:]))
    assert (await stage.rows())["pods", "default", "huge"] == body
    with pytest.raises(ContractError, match="part 1 of pods huge came after 0 others"):
        await stage.apply(stage.agent.data(items[1]))


async def test_unreadable_object_costs_only_its_columns(stage: Stage) -> None:
    """A body that its projection refuses is kept, counted and found by name; the frame goes on."""
    broken = b'{"metadata":{"name":"broken"},"status":"not a status"}'
    too_early = b'{"metadata":{"name":"early","creationTimestamp":"0001-01-01T00:00:00+14:00"}}'
    report = await stage.apply(
        stage.agent.put("broken", broken),
        stage.agent.put("early", too_early),
        stage.agent.put("fine"),
        stage.agent.digest(),
    )
    assert [text.split(": ")[0] for text in report.unreadable] == [
        "kubernetes/c1 pods default/broken",
        "kubernetes/c1 pods default/early",
    ]
    assert report.frames[-1].digest_agrees is True
    assert (await stage.rows())["pods", "default", "broken"] == broken


@pytest.mark.parametrize("resource", ["pods", "widgets.example.com"])
@pytest.mark.parametrize("body", [b'{"metadata":{},"skipped":"\xff"}', b'{"metadata":{},"\xff":1}'])
async def test_body_that_is_no_utf_8_is_unreadable(stage: Stage, resource: str, body: bytes) -> None:
    """Also where the projection has no field for it: JSON is UTF-8 (RFC 8259, 8.1), and so are answers."""
    report = await stage.apply(stage.agent.put("latin", body, resource=resource), stage.agent.put("fine"))
    assert [text.split(": ")[0] for text in report.unreadable] == [f"kubernetes/c1 {resource} default/latin"]
    rows = await stage.rows()
    assert rows[resource, "default", "latin"] == b"null"
    assert ("pods", "default", "fine") in rows


async def test_unknown_resource_is_stored_generically(stage: Stage) -> None:
    """A resource added by setting at the agent needs nothing here: metadata and phase are read from it."""
    stage.agent.resources = ("pods", "nodes", "widgets.example.com")
    widget = b'{"kind":"Widget","metadata":{"name":"w","labels":{"a":"b"}},"status":{"phase":"Spinning"}}'
    await stage.apply(
        stage.agent.begin("e2"),
        *stage.agent.all(),
        stage.agent.put("w", widget, resource="widgets.example.com"),
    )
    table = tables.table_of(tables.Resource)
    async with stage.db.read() as connection:
        query = table.select().where(table.c.resource == "widgets.example.com")
        row = (await connection.execute(query)).one()
    assert (row.kind, row.labels, row.state) == ("Widget", {"a": "b"}, "Spinning")


async def test_content_hash_tells_objects_apart_by_key() -> None:
    """Two objects with equal bodies and other names differ, so swapping them is seen by a digest."""
    assert content_hash("pods", "a", "x", b"{}") != content_hash("pods", "b", "x", b"{}")


async def test_a_frame_that_breaks_the_contract_leaves_no_trace(stage: Stage) -> None:
    """Its transaction is rolled back, cursor and ledger included, and the next frame shows the gap."""
    store = CursorStore(stage.db)
    before = await store.load("test", "FRAMES")
    bad = Put(resource="pods", name="x", uid="u", body=msgspec.Raw(b"{}"), part=Part(index=0, count=2))
    with pytest.raises(ContractError, match="not Base64"):
        await stage.apply(stage.agent.put("before"), stage.agent.data(bad))
    assert await store.load("test", "FRAMES") == before
    assert ("pods", "default", "before") not in await stage.rows()
    report = await stage.apply(stage.agent.put("after"))
    assert verdicts(report) == [Verdict.GAP]


@pytest.mark.parametrize("name", ["", "a\0b"])
async def test_names_that_no_database_takes_are_refused(stage: Stage, name: str) -> None:
    """An empty name or one with a NUL in it is the frame's fault, and is said at once."""
    bad = Put(resource="pods", name=name, uid="u", body=msgspec.Raw(b"{}"))
    with pytest.raises(ContractError, match="an object called"):
        await stage.apply(stage.agent.data(bad))


async def test_one_call_is_one_short_transaction(stage: Stage) -> None:
    """Between two calls somebody else may write: about 500 rows each, also of a sweep; the cursor is before
    the first frame that is left, and never behind the one that was asked for."""
    big = FrameSource(kubernetes("big"))
    big.held = {("pods", "ns", f"p{number}"): body_of(f"p{number}", "ns") for number in range(1200)}
    received = [stage.log.receive(big.target, frame) for frame in [big.begin("b1"), *big.all()]]
    big.held.clear()
    received += [stage.log.receive(big.target, frame) for frame in [big.begin("b2"), big.synced()]]
    asked_for = replace(stage.log.cursor, sequence=received[4].position.sequence)
    done = []
    while received:
        before = len(await rows(stage.db, big.target))
        report = await stage.applier.apply(received, asked_for)
        assert abs(len(await rows(stage.db, big.target)) - before) <= 500
        received = received[len(report.frames) :]
        done.append(len(report.frames))
        left = received[0].position.sequence - 1 if received else asked_for.sequence
        reached = min(asked_for.sequence, left)
        assert await CursorStore(stage.db).load("test", "FRAMES") == replace(asked_for, sequence=reached)
    assert done == [2, 1, 3, 0, 1]


async def test_in_sync_is_known_without_a_frame(stage: Stage) -> None:
    """Also by an applier that has just begun; who is in the middle of an epoch, or unknown, is not."""
    other = FrameSource(kubernetes("other"))
    await stage.replay([stage.log.receive(other.target, other.begin("o1"))])
    targets = [stage.agent.target, other.target, kubernetes("unknown")]
    fresh = FrameApplier(stage.db, stage.agent.target.shard)
    assert await fresh.in_sync(targets) == {stage.agent.target: "e1"}
    assert await stage.applier.in_sync(targets) == {stage.agent.target: "e1"}


async def test_a_stream_that_was_made_again_is_read_from_its_start(stage: Stage) -> None:
    """After the broker lost its store, sequences begin at 1 again, and no frame is skipped for that."""
    stage.log = Log(created=START.replace(year=2027))
    report = await stage.apply(stage.agent.put("c"))
    assert verdicts(report) == [Verdict.APPLIED]
    assert ("pods", "default", "c") in await stage.rows()


async def test_commit_of_unknown_fate_is_looked_up(new_url: Callable[[], str]) -> None:
    """When a commit succeeds but says it failed, what is in memory is dropped: the next frames still fit."""
    async with CrashingDatabase(new_url(), limits=PATIENT) as db:
        stage = Stage(db)
        await stage.apply(stage.agent.begin("e1"), stage.agent.put("a"))
        db.crashes = frozenset({2})
        frame = stage.log.receive(stage.agent.target, stage.agent.put("b"))
        with pytest.raises(CrashError):
            await stage.replay([frame])
        assert verdicts(await stage.replay([frame])) == [Verdict.REPEATED]
        assert verdicts(await stage.apply(stage.agent.put("c"))) == [Verdict.APPLIED]
        assert await stage.rows() == stage.agent.held
