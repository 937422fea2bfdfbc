"""Everything that breaks silently, each with what to do. Looks, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.applied import applied, is_there, resolved
from backend.app.adopting.plan import checks
from backend.app.catalog import definition, noting, sources
from backend.app.catalog.completeness import gaps, passed_tables
from backend.app.catalog.definition import Definition
from backend.app.catalog.resolved import Catalog
from backend.app.database.schema import found as schema_found
from backend.app.database.schema import needed
from backend.app.errors import BadDefinition, BrokerAway, DatabaseAway, Refused
from backend.app.health.signs import OBSERVED_SECONDS
from backend.app.settings import settings
from events.connection import LOST, connect, rabbitmq_version
from events.errors import BrokerGone
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
FUNCTION: Final = "CREATE OR REPLACE FUNCTION "
AUDITED_SECONDS: Final = 900.0  # since the auditor compared something; its longest pause is 600 s
STREAMS_SINCE: Final = (3, 9)
NEEDED: Final = "3.10"
AGED: Final = "answers of cities may be two seconds old"
AGAIN: Final = "run 'citycache adopt FILE --apply'"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_well: bool | None  # None: nobody can say
    found: str
    advice: str | None = None


def look() -> list[Finding]:
    """Look at everything. Never raises because a server is away: that is a finding."""
    return [*_database(), *_broker()]


def _database() -> Iterator[Finding]:
    chosen = definition.current()
    try:
        with db.transaction() as connection:
            replica = connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
            yield _said("database", not replica, "takes writes", "is a replica", "name the primary in DATABASE_URL")
            if chosen.is_adopted:
                yield from _adopted(connection, chosen)
            else:
                yield from _built_in(connection)
            yield from _notes(connection)
    except DatabaseAway as failure:
        yield Finding("database", False, str(failure), "bring it back, or correct DATABASE_URL")


def _adopted(connection: Connection, chosen: Definition) -> Iterator[Finding]:
    if not is_there(connection, chosen.schema):
        yield Finding("definition", False, f"nothing is adopted into schema {chosen.schema}", AGAIN)
        return
    yield _definition(connection, chosen)
    yield from _gaps(connection)
    yield from _passed(connection)
    try:
        catalog = resolved(chosen)
    except BadDefinition as failure:
        yield Finding("definition", False, str(failure), f"correct the definition, then {AGAIN}")
        return
    except Refused as failure:
        yield Finding("rights", False, str(failure), "grant it, or look as the role that adopted")
        return
    yield from _catalog(connection, catalog)


def _definition(connection: Connection, chosen: Definition) -> Finding:
    known = applied(connection, chosen.schema)
    if known is None or known.applied_at is None:
        return Finding("definition", False, "adopting was not brought to its end", AGAIN)
    same = known.digest == chosen.digest
    return _said("definition", same, "is the applied one", f"{chosen.file} is not the applied one", AGAIN)


def _gaps(connection: Connection) -> Iterator[Finding]:
    found = gaps(connection)
    for table in found.missing_tables:
        told = f"there is no table {table} any more: events wait"
        yield Finding("table", False, told, f"correct the definition, then {AGAIN}")
    for column in found.columns:
        told = f"{column.table} has no column {column.column} any more: events wait"
        yield Finding("column", False, told, f"correct the definition, then {AGAIN}")
    for silent in found.tables:
        state = "has triggers that are switched off" if silent.is_off else "lacks triggers"
        yield Finding("trigger", False, f"{silent.table} {state}: its writes make no events", AGAIN)
    if not (found.missing_tables or found.columns or found.tables):
        yield Finding("capture", True, "all columns are there and all triggers are on")
    for unnoted in found.unnoted:
        state = "has triggers that are switched off" if unnoted.is_off else "lacks triggers"
        yield Finding("notes", False, f"{unnoted.table} {state}: {AGED}", AGAIN)


def _notes(connection: Connection) -> Iterator[Finding]:
    if needed().is_older(schema_found(connection).revision):
        return
    for table in connection.exec_driver_sql(SQL["silent_notes"]).scalars():
        told = f"{table} lacks triggers that note its changes, or not all of them are ENABLE ALWAYS: {AGED}"
        yield Finding("notes", False, told, "ALTER TABLE … ENABLE ALWAYS TRIGGER …")


def _passed(connection: Connection) -> Iterator[Finding]:
    if needed().is_older(schema_found(connection).revision):
        return
    found = passed_tables(connection)
    lately = {"observed": OBSERVED_SECONDS, "audited": AUDITED_SECONDS}
    if not found and not connection.exec_driver_sql(SQL["is_looked_at"], lately).scalar_one():
        advice = "start the observer, with an AUDIT_CORE_SHARE above 0"
        yield Finding("past capture", None, "nobody looks for such writes now", advice)
        return
    told = ", ".join(f"{table.table} ({table.rows} cached rows went wrong)" for table in found)
    advice = "look for sessions with session_replication_role = replica, or triggers that were off for a while"
    yield _said("past capture", not found, "no writes in the last minutes", f"writes into {told}", advice)


def _catalog(connection: Connection, catalog: Catalog) -> Iterator[Finding]:
    for check in checks(connection, catalog):
        if check.state != "well":
            advice = "make an index on it" if check.name == "index" else "see docs/adopting.md"
            yield Finding(check.name, check.state == "slow", check.found, advice)
    schema = catalog.definition.schema
    made = [*sources.statements(catalog, schema), *noting.functions(catalog, schema)]
    yield from _functions(connection, schema, made)
    for needless in triggers.needless(connection, catalog):
        yield Finding("trigger", False, f"{needless.name} on {needless.table} belongs to no definition", AGAIN)


def _functions(connection: Connection, schema: str, made: list[str]) -> Iterator[Finding]:
    """Functions whose text is not what this version makes of the definition."""
    there = triggers.functions(connection, schema)
    others = [name for name, text in map(_text, made) if name and there.get(name) != text]
    told = f"not this version's: {', '.join(others[:5])}"
    yield _said("functions", not others, "are this version's", told, AGAIN)


def _text(statement: str) -> tuple[str | None, str | None]:
    """Name and body of the function that it makes."""
    head, quoted, rest = statement.partition(" AS $body")
    if not quoted or not head.startswith(FUNCTION):
        return None, None
    underscores, _, body = rest.partition("$")
    return head.partition("(")[0].rpartition(".")[2], body.partition(f"$body{underscores}$")[0]


def _built_in(connection: Connection) -> Iterator[Finding]:
    off = connection.exec_driver_sql(SQL["built_in_triggers"]).all()
    for table, name in off:
        yield Finding("trigger", False, f"{name} on {table} lacks or is switched off", "ALTER TABLE … ENABLE TRIGGER …")
    if not off:
        yield Finding("capture", True, "all triggers are on")
    yield from _passed(connection)


def _broker() -> Iterator[Finding]:
    if settings().in_process:
        yield Finding("broker", True, "none: events stay in one process")
        return
    try:
        with connect(settings().celery_broker_url, "doctor", read_timeout=2, write_timeout=2) as connection:
            version = rabbitmq_version(connection)
    except (BrokerGone, BrokerAway, *LOST) as failure:
        yield Finding("broker", False, f"is away: {failure}", "bring it back, or correct CELERY_BROKER_URL")
        return
    yield of_version(version)


def of_version(version: str | None) -> Finding:
    """Whether a broker that calls itself so can do what is asked of it."""
    number = tuple(int(part) for part in re.findall(r"\d+", version or "")[:2])
    if not number:
        return Finding("broker", None, "does not say which RabbitMQ it is", f"take {NEEDED} or newer")
    is_well, told = number >= STREAMS_SINCE, f"RabbitMQ {version} has {{}}streams and quorum queues"
    return _said("broker", is_well, told.format(""), told.format("no "), f"take {NEEDED} or newer")


def _said(name: str, is_well: bool, well: str, otherwise: str, advice: str) -> Finding:
    return Finding(name, is_well, well if is_well else otherwise, None if is_well else advice)
