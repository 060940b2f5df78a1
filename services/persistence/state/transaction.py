"""One transaction of frames: what each phase does to the rows."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from schemas import frames
from schemas.errors import ContractError
from schemas.frames import MAX_ITEMS, Frame, Phase, ResourceDigest, Scope
from schemas.ids import Target
from schemas.snapshot import ClusterSummary
from services.persistence import tables
from services.persistence.database.dialects import (
    KEYS,
    encode_keys,
    key_is,
    key_parameters,
    keys_table,
    upsert,
)
from services.persistence.presence import rivals
from services.persistence.presence.store import not_collected
from services.persistence.state import ledgers, parts
from services.persistence.state.changes import Changes
from services.persistence.state.epochs import Ledger, ReceivedFrame, Verdict, judge, new_ledger, note
from services.persistence.state.report import Judged, Report
from services.persistence.state.rows import Content, Key, row
from services.persistence.targets import is_same_object, is_target


class Transaction:
    """One transaction's work: rows are gathered by key and written together."""

    def __init__(self, connection: AsyncConnection, known: dict[Target, Ledger], shard: int) -> None:
        """`known` are the ledgers of the frames' agents, who are of that shard."""
        self.report = Report()
        self.ledgers = known
        self._connection = connection
        self._changes = Changes(connection, shard)
        self._pending: dict[Key, Content | None] = {}
        """What each key becomes; None: it goes."""
        self._collections: dict[tuple[Target, str], datetime | None] = {}
        """Collections to write, with the time when they became complete."""

    async def apply(self, received: Sequence[ReceivedFrame]) -> int:
        """Apply as many frames as fit; how many those were. The next may be half swept by then."""
        if not received:
            return 0
        done = rows = 0
        for item in received:
            rows += len(item.frame.items)
            if done and rows > MAX_ITEMS:
                break
            self._changes.time = item.position.time
            if not await self._apply_one(item):
                break
            done += 1
        await self._flush()
        self.report.rev = await self._changes.finish(changed=bool(self.report.changed or self.report.removed))
        await ledgers.save(self._connection, self.ledgers, self._collections)
        return done

    async def _apply_one(self, received: ReceivedFrame) -> bool:
        """Whether the frame is done; False when more is to be swept than fits."""
        target, frame, position = received.target, received.frame, received.position
        ledger = self.ledgers.get(target)
        if ledger is None:
            ledger = self.ledgers[target] = new_ledger(target, frame.epoch, position)
        verdict = judge(ledger, frame, position)
        previous_instance = ""
        begins = verdict is Verdict.APPLIED and frame.phase is Phase.BEGIN
        if begins and ledger.instance not in ("", frame.instance):
            previous_instance = ledger.instance
            if await rivals.is_served(self._connection, ledger):
                verdict = Verdict.FOREIGN
        if verdict is Verdict.APPLIED and not await self._take_effect(ledger, received):
            return False
        note(ledger, frame, position, verdict)
        reason = ledger.resync_reason
        if verdict is Verdict.UNKNOWN_EPOCH:
            reason = "its begin was not seen"
        self.report.frames.append(
            Judged(
                target=target,
                epoch=frame.epoch,
                phase=frame.phase,
                verdict=verdict,
                current=ledger.epoch,
                instance=ledger.instance,
                resync_reason="" if verdict in (Verdict.SUPERSEDED, Verdict.FOREIGN) else reason,
                in_sync=ledger.in_sync,
                digest_agrees=ledger.digest_agrees
                if frame.phase is Phase.DIGEST and verdict is Verdict.APPLIED
                else None,
                previous_instance=previous_instance,
            )
        )
        return True

    async def _take_effect(self, ledger: Ledger, received: ReceivedFrame) -> bool:
        frame = received.frame
        match frame.phase:
            case Phase.BEGIN:
                return await self._open(ledger, frame)
            case Phase.DATA:
                for item in frame.items:
                    await self._take_item(ledger, item, received.position.time)
            case Phase.SYNCED:
                return await self._complete(ledger, frame, received.position.time)
            case Phase.DIGEST:
                await self._compare(ledger, frame, received.position.time)
        return True

    # --- begin ---------------------------------------------------------------------------------------

    async def _open(self, ledger: Ledger, frame: Frame) -> bool:
        await self._flush()
        scope = frame.scope
        assert isinstance(scope, Scope)
        model = tables.Resource
        outside: sa.ColumnElement[bool] = col(model.resource).not_in(scope.resources)
        if scope.namespaces:
            outside |= (col(model.namespace) != "") & col(model.namespace).not_in(scope.namespaces)
        if not await self._sweep(ledger.target, ledger.synced, outside):
            return False
        for gone in ledger.synced.keys() - set(scope.resources):
            await self._connection.execute(
                sa.delete(tables.Collection).where(
                    is_target(tables.Collection, ledger.target), col(tables.Collection.resource) == gone
                )
            )
            del ledger.synced[gone]
        for resource in scope.resources:
            self._know(ledger, resource)
        await parts.forget(self._connection, ledger.target)
        return True

    # --- data ----------------------------------------------------------------------------------------

    async def _take_item(self, ledger: Ledger, item: frames.Put | frames.Delete, time: datetime) -> None:
        if not item.name or not item.resource or "\0" in item.resource + item.namespace + item.name:
            raise ContractError(f"an object called {item.name!r} of {item.resource!r} in {item.namespace!r}")
        self._know(ledger, item.resource)
        key = Key(ledger.target, item.resource, item.namespace, item.name)
        if isinstance(item, frames.Delete):
            self._pending[key] = None
            return
        body = bytes(item.body)
        if item.part is not None:
            whole = await parts.take(self._connection, key, item.part, body)
            if whole is None:
                return
            body = whole
        self._pending[key] = Content.of(key, item.uid, body, ledger.epoch, time)

    # --- synced --------------------------------------------------------------------------------------

    async def _complete(self, ledger: Ledger, frame: Frame, time: datetime) -> bool:
        await self._flush()
        if not await self._sweep(ledger.target, frame.synced, col(tables.Resource.epoch) != ledger.epoch):
            return False
        for resource in frame.synced:
            ledger.synced[resource] = ledger.epoch
            self._collections[ledger.target, resource] = time
        return True

    # --- digest --------------------------------------------------------------------------------------

    async def _compare(self, ledger: Ledger, frame: Frame, time: datetime) -> None:
        await self._flush()
        target = {"kind": ledger.target.kind.value, "id": ledger.target.id}
        found = await self._connection.execute(_DIGESTS, target | {"resources": list(frame.digest)})
        ours = {resource: ResourceDigest(count=count, sum=int(total)) for resource, count, total in found}
        nothing = ResourceDigest(count=0, sum=0)
        wrong = [
            f"{resource}: {theirs.count} objects there, {mine.count} here"
            if theirs.count != mine.count
            else f"{resource}: other content in {mine.count} objects"
            for resource, theirs in frame.digest.items()
            if (mine := ours.get(resource, nothing)) != theirs
        ]
        ledger.digest_agrees = not wrong
        if wrong:
            ledger.want_resync("digest disagrees: " + "; ".join(wrong), time)
        else:
            ledger.resync_reason, ledger.resync_since = "", None
        if isinstance(frame.summary, ClusterSummary):
            ledger.summary = msgspec.json.encode(frame.summary)
        if ledger.missing:
            ledger.not_collected = await not_collected(self._connection, ledger.target)

    # --- rows ----------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Write the gathered rows."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        puts = {key: put for key, put in pending.items() if put is not None}
        there = await self._existing(puts)
        changed: list[dict[str, Any]] = []
        seen_again: list[dict[str, Any]] = []
        for key, put in puts.items():
            uid, content, epoch = there.get(key, ("", -1, ""))
            if (uid, content) != (put.uid, put.hash):
                columns, error = row(key, put, await self._changes.rev())
                changed.append(columns)
                if error is not None:
                    self.report.unreadable.append(
                        f"{key.target} {key.resource} {key.namespace}/{key.name}: {error}"
                    )
            elif epoch != put.epoch:
                seen_again.append(key_parameters(key.columns()) | {"to_epoch": put.epoch})
        await upsert(self._connection, tables.Resource, changed)
        await self._changes.put(puts)
        if seen_again:
            await self._connection.execute(_MOVE_EPOCH, seen_again)
        self.report.changed += len(changed)
        self.report.unchanged += len(puts) - len(changed)
        self.report.removed += await self._changes.remove(
            [key for key, put in pending.items() if put is None]
        )

    async def _existing(self, keys: Iterable[Key]) -> dict[Key, tuple[str, int, str]]:
        """The uid, hash and epoch of those rows that are there."""
        wanted = {tuple(key.columns()[name] for name in tables.OBJECT_KEY): key for key in keys}
        if not wanted:
            return {}
        found = await self._connection.execute(
            _select_existing(self._connection.dialect.name), {KEYS: encode_keys(list(wanted))}
        )
        return {wanted[tuple(values)]: (uid, content, epoch) for *values, uid, content, epoch in found}

    async def _sweep(self, target: Target, resources: Iterable[str], which: sa.ColumnElement[bool]) -> bool:
        """Remove rows of an agent; whether none is left. At most 500 at a time."""
        model = tables.Resource
        found = await self._connection.execute(
            sa.select(col(model.resource), col(model.namespace), col(model.name))
            .where(is_target(model, target), col(model.resource).in_(list(resources)), which)
            .limit(MAX_ITEMS)
        )
        keys = [Key(target, *values) for values in found]
        self.report.removed += await self._changes.remove(keys)
        return len(keys) < MAX_ITEMS

    # --- what is kept beside the rows ----------------------------------------------------------------

    def _know(self, ledger: Ledger, resource: str) -> None:
        """Remember that an agent has that resource: sweeps look at those they know."""
        if resource not in ledger.synced:
            ledger.synced[resource] = ""
            self._collections[ledger.target, resource] = None


_RESOURCE = tables.table_of(tables.Resource)
_DIGESTS = (
    sa.select(_RESOURCE.c.resource, sa.func.count(), sa.func.sum(_RESOURCE.c.hash))
    .where(
        _RESOURCE.c.target_kind == sa.bindparam("kind"),
        _RESOURCE.c.target_id == sa.bindparam("id"),
        _RESOURCE.c.resource.in_(sa.bindparam("resources", expanding=True)),
    )
    .group_by(_RESOURCE.c.resource)
)
_MOVE_EPOCH = (
    sa.update(_RESOURCE)
    .where(*key_is(tables.Resource))
    .values(epoch=sa.bindparam("to_epoch", type_=sa.String()))
)


@cache
def _select_existing(dialect: str) -> sa.Executable:
    given, columns = keys_table(dialect, tables.OBJECT_KEY)
    shown = [
        *(_RESOURCE.c[name] for name in tables.OBJECT_KEY),
        _RESOURCE.c.uid,
        _RESOURCE.c.hash,
        _RESOURCE.c.epoch,
    ]
    return sa.select(*shown).select_from(given).join(_RESOURCE, is_same_object(_RESOURCE.c, columns))
