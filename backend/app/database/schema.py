"""The database's schema: which revision it is at, which release brought it there, and the way to this release's.

A newer schema is no fault: what a release adds, the one before it can live with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from backend import __version__
from backend.app import db
from backend.app.catalog import definition
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
TABLE: Final = "alembic_version"
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
    """Read from this release's migrations."""
    scripts = ScriptDirectory.from_config(_configuration())
    head = str(scripts.get_current_head())
    return Needed(head, frozenset(script.revision for script in scripts.walk_revisions()) - {head})


def found(connection: Connection) -> Found:
    """What our own schema is at; others may have a table of that name elsewhere."""
    table = '"{}".{}'.format(definition.current().schema.replace('"', '""'), TABLE)
    row = connection.exec_driver_sql(SQL["note"], {"table": table}).first()
    if row is None:
        return Found(None, None)
    revision = connection.exec_driver_sql(f"SELECT version_num FROM {table.replace('%', '%%')}").scalar()
    said = NOTE.fullmatch(row[0] or "")
    return Found(None if revision is None else str(revision), said and said[1])


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
    return Config(str(Path(db.__file__).parents[1] / "alembic.ini"))
