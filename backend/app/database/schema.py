"""The database's schema: which revision it is at, which release brought it there, and which this release needs.

A newer schema is no fault: what a release adds, the one before it can live with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app.catalog import definition
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
MIGRATIONS: Final = Path(__file__).parents[2] / "alembic" / "versions"
TABLE: Final = "alembic_version"
MADE: Final = "made by citycache adopt"  # the comment of a schema that was not there before
NOTE: Final = re.compile(r"citycache (\S{1,40})")  # the table's comment


@dataclass(frozen=True)
class Needed:
    """The newest revision that this release knows, and those before it."""

    revision: str
    older: frozenset[str]

    def is_older(self, revision: str | None) -> bool:
        """Whether a database at this revision lacks something; a revision that is not known here is a newer one."""
        return revision is None or revision in self.older

    def is_newer(self, revision: str | None) -> bool:
        """Whether a later release has brought a database there."""
        return not self.is_older(revision) and revision != self.revision


@dataclass(frozen=True)
class Found:
    """What a database says of its schema."""

    revision: str | None  # None before the first migration
    release: str | None  # that brought it there; None where it left no note


@cache
def needed() -> Needed:
    """Read off this release's migrations, whose names begin with their revisions.

    Without Alembic: every process asks, and its modules would take 10 MB of each.
    """
    *older, head = sorted(migration.name[:4] for migration in MIGRATIONS.glob("[0-9]*.py"))
    return Needed(head, frozenset(older))


def found(connection: Connection) -> Found:
    """What our own schema is at; others may have a table of that name elsewhere."""
    table = '"{}".{}'.format(definition.current().schema.replace('"', '""'), TABLE)
    row = connection.exec_driver_sql(SQL["note"], {"table": table}).first()
    if row is None:
        return Found(None, None)
    revision = connection.exec_driver_sql(f"SELECT version_num FROM {table.replace('%', '%%')}").scalar()
    said = NOTE.fullmatch(row[0] or "")
    return Found(None if revision is None else str(revision), said and said[1])
