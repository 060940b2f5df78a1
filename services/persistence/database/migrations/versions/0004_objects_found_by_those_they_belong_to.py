"""objects found by those they belong to

The names of nodes and owners repeat from cluster to cluster, so their indexes go on to the cluster. Events
are found by the object that they are about, the one seen last first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_INVOLVED = ("cluster_id", "involved_kind", "involved_namespace", "involved_name", "last_seen")


def upgrade() -> None:
    for old, *columns in (
        ("ix_resource_node", "node"),
        ("ix_resource_owner_name_owner_kind", "owner_name", "owner_kind"),
    ):
        op.drop_index(old, "resource")
        filled = sa.text(f"{columns[0]} != ''")
        columns += ["target_kind", "target_id"]
        name = f"ix_resource_{'_'.join(columns)}"
        op.create_index(name, "resource", columns, sqlite_where=filled, postgresql_where=filled)
    op.create_index("ix_event_involved", "event", _INVOLVED)
