"""Letting go: triggers and schema go, and the database is as it was before it was adopted."""

from __future__ import annotations

from typing import Any

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.adopt import one_at_a_time
from backend.app.adopting.applied import is_there
from backend.app.adopting.triggers import Progress
from backend.app.catalog.definition import Definition
from backend.app.catalog.sources import quoted
from backend.app.errors import Refused


def planned(definition: Definition) -> dict[str, Any]:
    """What would go. Raises Refused where nothing was adopted."""
    _refuse_unadopted(definition)
    with db.transaction() as connection:
        there = triggers.present(connection, definition.schema)
    return {"schema": definition.schema, "triggers": [f"{each.name} on {each.table}" for each in there]}


def release(definition: Definition, progress: Progress) -> None:
    """Do it; safe to kill and to run again. Raises Refused, Away."""
    _refuse_unadopted(definition)
    with one_at_a_time():
        with db.transaction() as connection:
            there = triggers.present(connection, definition.schema)
        triggers.remove(there, progress)
        progress(f"dropping schema {definition.schema}")
        with db.transaction() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {quoted(definition.schema)} CASCADE")


def _refuse_unadopted(definition: Definition) -> None:
    if not definition.is_adopted:
        raise Refused("the built-in catalog is not adopted: name the definition that is")
    with db.transaction() as connection:
        if not is_there(connection, definition.schema):
            raise Refused(f"nothing is adopted into schema {definition.schema!r}")
