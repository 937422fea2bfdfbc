"""Alembic's entry: migrations run in one transaction, under a lock, so that several may start at once."""

from __future__ import annotations

from alembic import context
from sqlalchemy import NullPool

from backend.app import db
from backend.app.adopting.ours import METADATA
from backend.app.catalog import definition
from backend.app.catalog.sources import drop_built_in
from backend.app.database.migrating import make, sign

MIGRATION_LOCK = 0x6D696772  # 'migr'

engine = db.make_engine("migrate", statement_ms=600_000, poolclass=NullPool)
catalog = definition.current()
with db.translated(), engine.connect() as connection:
    context.configure(
        connection=connection,
        version_table_schema=catalog.schema if catalog.is_adopted else None,
        target_metadata=METADATA,
        on_version_apply=sign,
        include_name=lambda name, kind, parents: kind != "table" or not str(name).startswith("event_"),  # of `events`
    )
    with context.begin_transaction():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        if catalog.is_adopted:
            make(connection, catalog.schema)
        context.run_migrations()
        if catalog.is_adopted:  # the built-in catalog's own tables, empty; nothing of theirs is in this schema
            connection.exec_driver_sql(drop_built_in(catalog.schema))
engine.dispose()
