"""The way of the database's schema to this release's, by Alembic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection

from backend import __version__
from backend.app import db
from backend.app.catalog.sources import quoted
from backend.app.database.schema import MADE, SQL, TABLE, found, needed


def make(connection: Connection, schema: str) -> None:
    """Make the schema of an adopted catalog, and leave a note that it is of our making; one that is there stays."""
    if not connection.exec_driver_sql(SQL["is_there"], {"schema": schema}).scalar_one():
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {quoted(schema)} IS '{MADE}'")


def sign(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
    """Leave a note with each step that this release takes; Alembic calls it within the step's transaction."""
    schema = f'"{ctx.version_table_schema}".' if ctx.version_table_schema else ""
    assert ctx.connection is not None, "migrations are never only printed"
    ctx.connection.exec_driver_sql(f"COMMENT ON TABLE {schema}{TABLE} IS 'citycache {__version__}'")


def migrate() -> str:
    """Bring the schema to the newest version that this release knows; what came of it, as a sentence.

    Safe to run from several processes at once. A newer release's schema is left as it is, so that an older one starts.
    """
    db.prove()
    with db.transaction() as connection:
        there = found(connection)
    if needed().is_newer(there.revision):
        return (
            f"The database is newer: its schema is at {there.revision}, migrated by release"
            f" {there.release or 'unknown'}. It is left as it is: this release, {__version__}, runs on it."
        )
    with db.translated():
        command.upgrade(_configuration(), "head")
    return "The schema is up to date."


def _configuration() -> Config:
    return Config(str(Path(__file__).parents[2] / "alembic.ini"))
