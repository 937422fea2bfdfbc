"""The triggers on their tables: which there should be, which there are, and how they come and go unnoticed.

Each is made in a transaction of its own that waits for writers for a second at most, again and again with a growing
pause: whoever waits behind it waits no longer than that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psycopg2.errors import DeadlockDetected
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.catalog.capture import Followed, Form, triggers
from backend.app.catalog.noting import followed
from backend.app.catalog.resolved import Catalog
from backend.app.errors import Refused, TooLong
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("adopting.sql"))
LOCK_MS: Final = 900  # that a statement waits for writers, and new writers behind it
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries
TOLD_FROM: Final = 1.0  # seconds: who waits longer than that between two tries says for whom
PATIENCE_SECONDS: Final = 600.0  # for one trigger, until a person is told who holds its table
ENABLED: Final[dict[Form, str]] = {"statement": "O", "row": "A"}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class FollowedTable:
    """A table, partition or child on which triggers of ours stand."""

    oid: int
    name: str
    sql: str
    kind: str  # 'r' table, 'p' partitioned table
    is_subscribed: bool  # logical replication writes it


@dataclass(frozen=True)
class Wanted:
    """A trigger that there should be."""

    part: FollowedTable
    name: str
    function: str
    enabled: str  # as pg_trigger has it
    statements: Sequence[str]


@dataclass(frozen=True)
class Present:
    """A trigger of ours that is there."""

    oid: int
    table: str
    name: str
    function: str
    enabled: str


def parts(connection: Connection, oid: int) -> list[FollowedTable]:
    """A table and everything below it."""
    return [FollowedTable(*row) for row in connection.exec_driver_sql(SQL["parts"], {"oid": oid})]


def wanted(connection: Connection, catalog: Catalog) -> list[Wanted]:
    """All triggers that the definition asks for."""
    return [
        trigger
        for table in followed(catalog)
        for trigger in _of_table(table, parts(connection, table.relation.oid), catalog.definition.schema)
    ]


def _of_table(table: Followed, below: Sequence[FollowedTable], schema: str) -> Iterator[Wanted]:
    form: Form = "row" if any(part.is_subscribed for part in below) else "statement"
    for part in below:
        if part.kind not in ("r", "p"):
            continue
        for name, made in triggers(table, schema, part.sql, form).items():
            what = name.removeprefix(table.trigger(""))
            if form == "row" and what == "row" and part.kind == "p":
                continue  # its partitions have their own
            yield Wanted(part, name, table.function(what), ENABLED[form], made)


def present(connection: Connection, schema: str) -> list[Present]:
    """All triggers of ours."""
    return [Present(*row) for row in connection.exec_driver_sql(SQL["triggers"], {"schema": schema})]


def functions(connection: Connection, schema: str) -> dict[str, str]:
    """Texts of the functions of our schema, by name."""
    found = connection.exec_driver_sql(SQL["functions"], {"schema": schema})
    return {row.proname: row.prosrc for row in found}


def taken(connection: Connection, catalog: Catalog) -> list[str]:
    """Where triggers of our names are somebody else's, which ours would replace: a sentence for each table."""
    asked = wanted(connection, catalog)
    places = {"oids": [trigger.part.oid for trigger in asked], "names": [trigger.name for trigger in asked]}
    found = connection.exec_driver_sql(SQL["triggers_of_others"], {"schema": catalog.definition.schema, **places})
    return [
        f"{table} has {name} of schema {schema} already: release what was adopted there, or take that schema's name"
        for table, name, schema in found
    ]


def lacking(connection: Connection, catalog: Catalog) -> list[Wanted]:
    """Those that are not there, or are not as they should be."""
    there = {(each.oid, each.name): each for each in present(connection, catalog.definition.schema)}

    def is_right(trigger: Wanted) -> bool:
        found = there.get((trigger.part.oid, trigger.name))
        return found is not None and (found.function, found.enabled) == (trigger.function, trigger.enabled)

    return [trigger for trigger in wanted(connection, catalog) if not is_right(trigger)]


def needless(connection: Connection, catalog: Catalog) -> list[Present]:
    """Those that no definition asks for any more."""
    names = {(trigger.part.oid, trigger.name) for trigger in wanted(connection, catalog)}
    return [each for each in present(connection, catalog.definition.schema) if (each.oid, each.name) not in names]


def install(triggers_: Sequence[Wanted], progress: Progress) -> None:
    """Make these triggers. Raises Refused when a table is held for too long."""
    for trigger in triggers_:
        progress(f"trigger {trigger.name} on {trigger.part.name}")
        patiently(
            [*trigger.statements, *(_switched_on(trigger) if trigger.enabled == "O" else ())],
            trigger.part.oid,
            trigger.part.name,
            progress,
        )


def _switched_on(trigger: Wanted) -> tuple[str, ...]:
    """Replacing a trigger leaves it as it was switched."""
    return (f"ALTER TABLE {trigger.part.sql} ENABLE TRIGGER {trigger.name}",)


def remove(triggers_: Sequence[Present], progress: Progress) -> None:
    """Take these triggers away. Raises Refused when a table is held for too long."""
    for trigger in triggers_:
        progress(f"removing trigger {trigger.name} from {trigger.table}")
        patiently([f"DROP TRIGGER IF EXISTS {trigger.name} ON {trigger.table}"], trigger.oid, trigger.table, progress)


def patiently(commands: Sequence[str], oid: int, table: str, progress: Progress) -> None:
    """Run commands on one table in a transaction that waits for a second at most, again until it comes through."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE
    while not _tried(commands):
        if time.monotonic() > deadline:
            raise Refused(f"{table} is held: {_blockers(oid)}. End that, and run the same command again")
        if pause > TOLD_FROM:
            progress(f"{table} is held by {_blockers(oid)}: tried again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


def _tried(commands: Sequence[str]) -> bool:
    try:
        with db.transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
            for command in commands:
                connection.exec_driver_sql(command.replace("%", "%%"))
        return True
    except TooLong:
        return False
    except DBAPIError as failure:
        if isinstance(failure.orig, DeadlockDetected):
            return False
        raise


def _blockers(oid: int) -> Any:
    with db.transaction() as connection:
        return connection.exec_driver_sql(SQL["blockers"], {"oid": oid}).scalar() or "nobody any more"
