"""objects found by their labels

A later step that copies the table `resource`, as SQLite does for most changes, has to call `keep_labels`
after it: the triggers go with the table they stand on.
"""

import sqlalchemy as sa
from alembic import op

from services.persistence.database.types import Text

revision = "0003"
down_revision = "0002"

_COLUMNS = ("resource", "key", "value", "target_kind", "target_id", "namespace", "name")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_resource_labels", "resource", ["labels"], postgresql_using="gin")
        return
    op.create_table(
        "label",
        *(sa.Column(name, Text(), nullable=False) for name in _COLUMNS),
        sa.PrimaryKeyConstraint(*_COLUMNS, name="pk_label"),
        sqlite_with_rowid=False,
    )
    op.execute(sa.text(_pairs("resource AS new").replace(" WHERE true", " ORDER BY 1, 2, 3, 4, 5, 6, 7")))
    keep_labels()


def keep_labels() -> None:
    """The triggers by which `label` follows `resource`."""
    gone = (
        "DELETE FROM label WHERE (resource, key, value, target_kind, target_id, namespace, name) IN "
        "(SELECT old.resource, pair.key, pair.value, old.target_kind, old.target_id, old.namespace, old.name "
        "FROM json_each(old.labels) AS pair)"
    )
    changed = "UPDATE OF labels ON resource WHEN old.labels IS NOT new.labels"
    for name, when, what in (
        ("label_insert", "INSERT ON resource", _pairs()),
        ("label_update", changed, f"{gone}; {_pairs()}"),
        ("label_delete", "DELETE ON resource", gone),
    ):
        op.execute(sa.text(f"CREATE TRIGGER {name} AFTER {when} BEGIN {what}; END"))


def _pairs(source: str = "") -> str:
    return (
        f"INSERT INTO label ({', '.join(_COLUMNS)}) SELECT new.resource, pair.key, pair.value, "  # noqa: S608
        "new.target_kind, new.target_id, new.namespace, new.name "
        f"FROM {source + ', ' if source else ''}json_each(new.labels) AS pair WHERE true"
    )
