"""How Alembic runs here: on the connection that `services.persistence.migrate` has opened."""

from alembic import context

from services.persistence.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite changes a table by copying it.
    render_as_batch=True,
    # The whole upgrade is the caller's one transaction.
    transactional_ddl=True,
)
context.run_migrations()
