"""Confirmations: what an agent is told it may forget is committed, whatever was lost, late or sent twice."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.errors import ContractError
from schemas.ids import kubernetes
from services.persistence import retention, tables
from services.persistence.database.engine import Database
from services.persistence.events import confirmations
from services.persistence.events.confirmations import Mark, SpoolId, mark_of
from services.persistence.events.store import store_events
from tests.persistence.conftest import PATIENT, UNHURRIED
from tests.persistence.frames import START, Log, only_row
from tests.persistence.test_events import observed

SPOOL = SpoolId(kubernetes("a"), "e1")


def mark(sequence: int, first: int = 1, spool: SpoolId = SPOOL) -> Mark:
    return Mark(spool, sequence, first, START + timedelta(seconds=sequence))


SENT = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[1] <= pair[0]), max_size=30
)
"""Numbers and what was the lowest kept, in any order, as often as you like."""


@pytest.mark.timeout(180)  # each example has a database of its own
@settings(UNHURRIED, max_examples=60)
@given(sent=SENT, size=st.integers(1, 5))
def test_only_what_is_committed_is_confirmed(
    new_url: Callable[[], str], sent: list[tuple[int, int]], size: int
) -> None:
    """Up to the confirmed number all have come, or were said not to come; and it never falls."""

    async def run() -> None:
        come: set[int] = set()
        lowest, before = 1, 0
        async with Database(new_url(), limits=PATIENT) as db:
            for start in range(0, len(sent), size):
                batch = sent[start : start + size]
                reached = await confirmations.store(db, [mark(*pair) for pair in batch])
                come |= {sequence for sequence, _ in batch}
                lowest = max(lowest, *(first for _, first in batch))
                assert all(number in come for number in range(lowest, reached[SPOOL] + 1))
                assert reached[SPOOL] >= max(before, lowest - 1)
                before = reached[SPOOL]
            # Sent again in order, as an agent does, everything is confirmed.
            for start in range(lowest, 13, size):
                again = [mark(number, lowest) for number in range(start, min(start + size, 13))]
                reached = await confirmations.store(db, again)
            assert reached[SPOOL] >= 12

    if sent:
        asyncio.run(run())


async def test_spools_do_not_meet(db: Database) -> None:
    """Another epoch, and another agent's, are counted for themselves."""
    others = [SpoolId(kubernetes("a"), "e2"), SpoolId(kubernetes("b"), "e1")]
    reached = await confirmations.store(db, [mark(1), mark(2), *(mark(3, 3, other) for other in others)])
    assert reached == {SPOOL: 2, others[0]: 3, others[1]: 3}
    assert await confirmations.store(db, [mark(9), mark(4, 1, others[0])]) == {SPOOL: 2, others[0]: 4}


async def test_it_is_of_the_transaction_that_stores_the_events(db: Database) -> None:
    """An Event that cannot be a row takes its whole batch with it, what would be confirmed too."""
    with pytest.raises(ContractError):
        await store_events(db, [observed(metadata={"name": "x"})], Log(sequence=5).cursor, [mark(1)])
    stored = await store_events(db, [observed()], Log(sequence=6).cursor, [mark(2)])
    assert stored.confirmed == {SPOOL: 0}


def test_what_an_envelope_says() -> None:
    """Without the lowest number, or with nonsense, it says nothing."""

    def said(**extensions: str) -> Mark | None:
        envelope = Envelope(type="t", source="s", data=b"", extensions=extensions)
        return mark_of(SPOOL.target, envelope, START)

    assert said(epoch="e1", sequence="0007", firstsequence="0003") == Mark(SPOOL, 7, 3, START)
    assert said(epoch="e1", sequence="7") is None
    assert said(sequence="7", firstsequence="3") is None
    assert said(epoch="e1", sequence="3", firstsequence="7") is None
    assert said(epoch="e1", sequence="x", firstsequence="3") is None
    assert said(epoch="e1", sequence=str(2**63), firstsequence="3") is None
    assert said(epoch="e" * 65, sequence="7", firstsequence="3") is None
    assert mark_of(SPOOL.target, None, START) is None


async def test_a_spool_of_long_ago_is_forgotten(db: Database) -> None:
    """Each start of an agent begins one; what has not moved for the retention goes."""
    await confirmations.store(db, [mark(1), mark(500, 500, SpoolId(kubernetes("a"), "e2"))])
    keep = retention.Keep(rows=timedelta(seconds=60), tombstones=timedelta(seconds=60))
    assert await retention.forget(db, keep, now=START + timedelta(seconds=500)) == 1
    row = await only_row(db, tables.Confirmation)
    assert row.epoch == "e2"
