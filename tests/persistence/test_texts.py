"""What a cluster may say in its texts: every database keeps it, or a legible stand-in, and loses no frame."""

import msgspec
import pytest
import sqlalchemy as sa

from services.persistence import queries, tables
from services.persistence.database.engine import Database
from services.persistence.database.types import encode_json
from services.persistence.queries import EventFilter, ResourceFilter
from services.persistence.state.applier import FrameApplier
from tests.persistence.frames import FrameSource, Log, rows


async def test_nul_in_labels_and_names_of_others_costs_no_frame(db: Database) -> None:
    """PostgreSQL's texts hold no U+0000: the columns have U+FFFD, the body has what came."""
    source, log = FrameSource(), Log()
    body = msgspec.json.encode(
        {
            "metadata": {
                "name": "p",
                "namespace": "default",
                "uid": "u",
                "labels": {"a\0b": "c\0", "path": "\\u0000"},
                "annotations": {"x": "\0"},
                "ownerReferences": [{"kind": "Job", "name": "j\0", "uid": "o", "controller": True}],
            },
            "spec": {"nodeName": "n\0"},
            "status": {"phase": "Run\0ning"},
        }
    )
    frames = [source.begin("e1"), source.put("p", body), source.synced(), source.digest()]
    report = await FrameApplier(db, source.target.shard).apply(
        [log.receive(source.target, frame) for frame in frames], log.cursor
    )
    assert await rows(db, source.target) == source.held
    assert report.frames[-1].digest_agrees
    async with db.read() as connection:
        table = tables.table_of(tables.Resource)
        row = (await connection.execute(sa.select(table))).one()
        found = await queries.list_resources(
            connection, ResourceFilter(resource="pods", node="n\0"), limit=10
        )
        none = await queries.list_events(connection, EventFilter(q="\0"), limit=10)
    assert row.labels == {"a\ufffdb": "c\ufffd", "path": "\\u0000"}
    assert (row.node, row.owner_name) == ("n\ufffd", "j\ufffd")
    assert len(found.items) == 1
    assert none.items == []


@pytest.mark.parametrize("value", [{"a": "\\u0000"}, {"a": [1, None, "ä"]}, {}])
def test_other_json_is_kept_as_it_is(value: object) -> None:
    """A text that merely looks like an escape is none."""
    assert msgspec.json.decode(encode_json(value)) == value
