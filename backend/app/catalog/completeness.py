"""Whether capture sees all that is written into adopted tables: a few reads of the server's own catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app.catalog import definition
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
SHOWN_SILENT: Final = SQL["silent_tables"].replace("captured_tables()", "shown_tables()")


@dataclass(frozen=True)
class MissingColumn:
    """A column that the definition uses is gone: events wait until the definition has been adopted anew."""

    table: str
    column: str


@dataclass(frozen=True)
class SilentTable:
    """A table, partition or child whose writes make no events."""

    table: str
    is_off: bool  # a trigger is there and switched off; else one lacks


@dataclass(frozen=True)
class Gaps:
    """What capture does not see; all empty beside the built-in catalog, whose triggers are ours."""

    missing_tables: tuple[str, ...] = ()  # that the definition uses: as with a column, events wait
    columns: tuple[MissingColumn, ...] = ()
    tables: tuple[SilentTable, ...] = ()
    is_other_definition: bool = False  # this process follows another definition than the database
    unnoted: tuple[SilentTable, ...] = ()  # tables that answers show, whose changes are not noted

    def __bool__(self) -> bool:
        return bool(self.missing_tables or self.columns or self.tables or self.is_other_definition)


@dataclass(frozen=True)
class PassedTable:
    """A table or partition into which somebody wrote past capture, a short time ago."""

    table: str
    rows: int  # cached rows that went wrong by it; the auditor mends them


def passed_tables(connection: Connection) -> tuple[PassedTable, ...]:
    """Those of the last minutes, as the auditor found them."""
    return tuple(PassedTable(*row) for row in connection.exec_driver_sql(SQL["passed_tables"]))


def parts(connection: Connection) -> dict[int, str]:
    """Names, by oid, of all tables, partitions and children of an adopted catalog."""
    if not definition.current().is_adopted or not connection.exec_driver_sql(SQL["knows_tables"]).scalar_one():
        return {}
    return {row.oid: row.name for row in connection.exec_driver_sql(SQL["parts"])}


def gaps(connection: Connection) -> Gaps:
    """Look for them."""
    chosen = definition.current()
    if not chosen.is_adopted:
        return Gaps()
    if not connection.exec_driver_sql(SQL["knows_tables"]).scalar_one():
        return Gaps(is_other_definition=True)
    are_noted = connection.exec_driver_sql(SQL["knows_shown_tables"]).scalar_one()
    unnoted = connection.exec_driver_sql(SHOWN_SILENT) if are_noted else ()
    missing = connection.exec_driver_sql(SQL["missing_tables"]).scalars()
    columns = connection.exec_driver_sql(SQL["missing_columns"])
    tables = connection.exec_driver_sql(SQL["silent_tables"])
    digest = connection.exec_driver_sql(SQL["applied_digest"]).scalar()
    return Gaps(
        tuple(missing),
        tuple(MissingColumn(*row) for row in columns),
        tuple(SilentTable(*row) for row in tables),
        digest != chosen.digest,
        tuple(SilentTable(*row) for row in unnoted),
    )
