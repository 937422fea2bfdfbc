"""What is adopted into a schema, and whether a definition fits the database as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.catalog.definition import Definition
from backend.app.catalog.resolved import Catalog, resolve
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("adopting.sql"))


def resolved(definition: Definition, every_row: bool = False) -> Catalog:
    """The definition beside the database, tried in a transaction that is rolled back. Raises BadDefinition, Refused."""
    with db.translated(), db.engine().connect() as connection, connection.begin() as trial:
        if every_row:
            db.may_take_long(connection)
        else:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '60s'")
        catalog = resolve(connection, definition, every_row)
        trial.rollback()
    return catalog


@dataclass(frozen=True)
class FollowedDefinition:
    """The definition that triggers and views follow."""

    definition: str  # the file's text
    digest: str
    began_at: datetime
    applied_at: datetime | None  # None: it was not brought to its end


def is_there(connection: Connection, schema: str) -> bool:
    """Whether something is adopted into this schema, or was begun to be."""
    asked = {"schema": schema, "name": "applied_definition"}
    return bool(connection.exec_driver_sql(SQL["relation_exists"], asked).scalar_one())


def applied(connection: Connection, schema: str) -> FollowedDefinition | None:
    """The definition that was applied last, if any was."""
    row = connection.exec_driver_sql(SQL["applied"]).first() if is_there(connection, schema) else None
    return None if row is None else FollowedDefinition(*row)
