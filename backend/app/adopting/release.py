"""Letting go: triggers and schema go, and the database is as it was before it was adopted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.adopt import one_at_a_time
from backend.app.adopting.applied import is_there
from backend.app.adopting.ours import names
from backend.app.adopting.triggers import Progress
from backend.app.catalog.definition import Definition
from backend.app.catalog.resolved import run_as_it_is
from backend.app.catalog.sources import quoted
from backend.app.database.schema import MADE, found, needed
from backend.app.errors import Refused
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))


def planned(definition: Definition) -> dict[str, Any]:
    """What would go. Raises Refused where nothing was adopted."""
    _refuse_unadopted(definition)
    with db.transaction() as connection:
        _refuse_what_would_go_too(connection, definition)
        there = triggers.present(connection, definition.schema)
    return {"schema": definition.schema, "triggers": [f"{each.name} on {each.table}" for each in there]}


def release(definition: Definition, progress: Progress) -> None:
    """Do it; safe to kill and to run again. Raises Refused, Away."""
    _refuse_unadopted(definition)
    with one_at_a_time():
        with db.transaction() as connection:
            _refuse_what_would_go_too(connection, definition)
            there = triggers.present(connection, definition.schema)
        triggers.remove(there, progress)
        progress(f"dropping schema {definition.schema}")
        with db.transaction() as connection:
            for statement in _drops(connection, definition.schema):
                run_as_it_is(connection, statement)


def _drops(connection: Connection, schema: str) -> list[str]:
    """A schema that was there before stays, empty."""
    asked = {"schema": schema, "made": MADE}
    if connection.exec_driver_sql(SQL["is_of_our_making"], asked).scalar_one():
        return [f"DROP SCHEMA {quoted(schema)} CASCADE"]
    return list(connection.exec_driver_sql(SQL["contents"], asked).scalars())


def _refuse_what_would_go_too(connection: Connection, definition: Definition) -> None:
    leaning = connection.exec_driver_sql(SQL["leaning"], {"schema": definition.schema}).scalars().all()
    if leaning:
        raise Refused(f"{', '.join(leaning)} would go as well, being made upon what is ours: drop that first")
    if needed().is_newer(found(connection).revision):
        return  # whose tables are not known here
    asked = {"schema": definition.schema, "ours": names()}
    others = connection.exec_driver_sql(SQL["of_others"], asked).scalars().all()
    if others:
        raise Refused(f"{', '.join(others)} would go as well, and is not ours: move it to another schema first")


def _refuse_unadopted(definition: Definition) -> None:
    if not definition.is_adopted:
        raise Refused("the built-in catalog is not adopted: name the definition that is")
    with db.transaction() as connection:
        if not is_there(connection, definition.schema):
            raise Refused(f"nothing is adopted into schema {definition.schema!r}")
