"""How Alembic runs here: on the connection that `services.persistence.database.migrate` has opened."""

from alembic import context
from alembic.migration import MigrationInfo

from services.persistence.tables import Table
from services.runtime import logs


def done(ctx: object, step: MigrationInfo, heads: object, run_args: object) -> None:  # noqa: ARG001
    logs.get_logger("services.persistence.database").info("tables upgraded", revision=step.up_revision_id)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite changes a table by copying it.
    render_as_batch=True,
    # The whole upgrade is the caller's one transaction.
    transactional_ddl=True,
    on_version_apply=done,
)
context.run_migrations()
