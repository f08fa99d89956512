"""Runs migrations on the connection that `store.database` hands over, within its transaction."""

from alembic import context

from pcapdiag.nightly.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
