"""What adopting would do: each check with its result, the SQL, locks, sizes, and what a changed definition changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection

from backend.app import db
from backend.app.adopting import triggers
from backend.app.adopting.adopt import make_readers
from backend.app.adopting.applied import applied, resolved
from backend.app.caches import diff
from backend.app.catalog import capture, noting, sources
from backend.app.catalog.definition import Definition
from backend.app.catalog.resolved import Catalog, run_as_it_is
from backend.app.catalog.sources import quoted
from backend.app.errors import TooLong
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("plan.sql"))
State = Literal["well", "slow", "no"]  # 'slow' can be adopted, and costs something
LEAST_VERSION: Final = 140_000
LOOK_MS: Final = 60_000  # for rows of one id; in a table that takes longer they are not found
FILLED_A_SECOND: Final = 20_000  # rows, on two cores that everything else shares
SHOWN_ROWS: Final = 10
SCRATCH: Final = "citycache_plan"


@dataclass(frozen=True)
class Check:
    """One thing that has to be so, or had better be."""

    name: str
    state: State
    found: str


@dataclass(frozen=True)
class AdoptionPlan:
    """All of it."""

    file: str
    schema: str
    checks: list[Check]
    sql: list[str]
    locks: list[str]
    rows: dict[str, int]  # of each table, as the planner knows them
    fill_seconds: float
    would_change: dict[str, Any] | None = field(default=None)  # where another definition is applied

    @property
    def is_possible(self) -> bool:
        """Whether it can be applied."""
        return all(check.state != "no" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {"possible": self.is_possible, **asdict(self)}

    def as_text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.file} into schema {self.schema}"
        yield from (f"  [{check.state:>4}] {check.name}: {check.found}" for check in self.checks)
        yield "Locks, each for a second at most, tried again until it is free:"
        yield from (f"  {lock}" for lock in self.locks)
        yield f"Rows: {', '.join(f'{table} {rows:,}' for table, rows in self.rows.items())}"
        yield f"First fill: about {self.fill_seconds:,.0f} s, online"
        if self.would_change is not None:
            yield f"The applied definition is another one. Rows that would change: {self.would_change['numbers']}"
            yield from (f"  {row}" for row in self.would_change["rows"])
        yield "SQL:"
        yield from (f"{statement};" for statement in self.sql)
        yield "It can be applied: --apply." if self.is_possible else "It cannot be applied."


def plan(definition: Definition) -> AdoptionPlan:
    """Look at everything, change nothing. Raises BadDefinition, Refused, Away."""
    catalog = resolved(definition)
    with db.transaction() as connection:
        found = list(checks(connection, catalog))
        wanted = triggers.lacking(connection, catalog)
        rows = _rows(connection, catalog)
    found += _repeated(catalog)
    return AdoptionPlan(
        definition.file,
        definition.schema,
        found,
        [*_sql(catalog), *(statement for trigger in wanted for statement in trigger.statements)],
        sorted({f"SHARE ROW EXCLUSIVE on {trigger.part.name}" for trigger in wanted}),
        rows,
        sum(rows.values()) / FILLED_A_SECOND,
        _would_change(catalog),
    )


def _sql(catalog: Catalog) -> Iterator[str]:
    schema = catalog.definition.schema
    yield f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"
    yield capture.missing_type(schema)
    yield from sources.statements(catalog, schema)
    yield from noting.functions(catalog, schema)


def checks(connection: Connection, catalog: Catalog) -> Iterator[Check]:
    """What has to be so, or had better be."""
    version, recovers, may_create = connection.exec_driver_sql(SQL["server"]).one()
    yield _is("server", version >= LEAST_VERSION, f"version {version // 10000}", "14 is the oldest that serves")
    yield _is("primary", not recovers, "takes writes", "DATABASE_URL names a replica, which takes none")
    asked = {"schema": catalog.definition.schema}
    exists, is_ours, may_use = connection.exec_driver_sql(SQL["schema"], asked).one()
    yield _is("schema", exists or may_create, "can be made", "this role may not create a schema in this database")
    if exists:
        yield _is("schema", is_ours, "is ours", "is there and not empty: name another one")
        yield _is("schema", may_use, "may be used", "is there, and this role may not make anything in it")
    if connection.exec_driver_sql(SQL["is_a_role"], asked).scalar_one():
        told = f'a role is called {catalog.definition.schema} as well: with "$user" in its search_path'
        yield Check("search path", "slow", f"{told} it finds our tables before those of public. Name another schema")
    for publication in connection.exec_driver_sql(SQL["publications_of_all"]).scalars():
        told = f"{publication} publishes all tables, ours as well: a subscriber that has not got them stops"
        yield Check("publication", "slow", f"{told}. Publish the tables, or the schemas, that it is for")
    yield from _tables(connection, catalog)
    yield from (Check("trigger", "no", told) for told in triggers.taken(connection, catalog))
    yield from _keys(connection, catalog)
    if not catalog.has_shown_levels:
        told = "what they are read from is no table, or not this role's: without triggers there"
        yield Check("levels", "slow", f"{told} the tree is read anew after each commit")


def _tables(connection: Connection, catalog: Catalog) -> Iterator[Check]:
    for table in capture.captured(catalog):
        asked = {"oid": table.relation.oid, "columns": list(table.columns)}
        for column, kind, schema in connection.exec_driver_sql(SQL["types_elsewhere"], asked):
            told = f"{table.relation.plain}.{column} is of type {kind}, whose operators are not found by their signs"
            yield Check("type", "slow", f"{told} alone: = compares it as text. Write OPERATOR({schema}.=)")
        for part in triggers.parts(connection, table.relation.oid):
            owned, forced, unlogged = connection.exec_driver_sql(SQL["table"], {"oid": part.oid}).one()
            kind = "may have triggers" if part.kind in ("r", "p") else ""
            told = f"{part.name} {'is written by logical replication: row triggers' if part.is_subscribed else kind}"
            yield _is("table", bool(kind), told, f"{part.name} is a foreign table, whose writes nobody here sees")
            yield _is(
                "owner", owned, f"of {part.name}", f"this role does not own {part.name}, and makes no triggers there"
            )
            if unlogged:
                yield Check("unlogged", "slow", f"{part.name} is emptied by a crash of the server, and no event tells")
            if forced:
                yield Check("row security", "no", f"{part.name} hides rows from its owner: the caches would lack them")


def _keys(connection: Connection, catalog: Catalog) -> Iterator[Check]:
    for source in catalog.sources.values():
        asked = {"oid": source.relation.oid, "column": source.id.name}
        unique = connection.exec_driver_sql(SQL["is_unique"], asked).scalar_one()
        reason = (
            f"no index says that {source.relation.plain}.{source.id.name} is unique: two rows of one id spoil patches"
        )
        yield Check(
            "key", "well" if unique else "slow", f"{source.relation.plain}.{source.id.name}" if unique else reason
        )
    for noun, key, why in (("product", "company", "a company takes"), ("company", "city", "a city takes")):
        source = catalog.sources[noun]  # type: ignore[index]
        name = next(
            (name for name, column in source.relation.columns.items() if column.sql == source.values[key].sql), None
        )
        if name is None:
            told = f"{noun}.{key} is an expression, which {source.relation.plain} is read as a whole for: {why} long"
            yield Check("expression", "slow", f"{told} to change where that has many rows")
            continue
        led = connection.exec_driver_sql(SQL["leads_an_index"], {"oid": source.relation.oid, "column": name})
        told = f"{source.relation.plain} by {source.values[key].sql}"
        is_led = led.scalar_one()
        yield Check(
            "index", "well" if is_led else "slow", told if is_led else f"{told}: none, and {why} long to change"
        )


def _repeated(catalog: Catalog) -> Iterator[Check]:
    """Rows of one id, looked for where no index forbids them."""
    for source in catalog.sources.values():
        asked = {"oid": source.relation.oid, "column": source.id.name}
        where = f"({source.values['exists'].sql}\n)" if "exists" in source.values else "true"
        query = f"""
            SELECT {source.id.sql}::text FROM {source.relation.sql} WHERE {where} AND {source.id.sql} IS NOT NULL
             GROUP BY {source.id.sql} HAVING count(*) > 1 LIMIT 1"""
        with suppress(TooLong), db.transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {LOOK_MS}")
            if connection.exec_driver_sql(SQL["is_unique"], asked).scalar_one():
                continue
            if repeated := run_as_it_is(connection, query).scalar():
                told = f"{source.relation.plain} has several rows whose {source.id.name} is {repeated}"
                yield Check("key", "no", f"{told}: name a column that is unique among the rows that exist")


def _is(name: str, holds: bool, well: str, otherwise: str) -> Check:
    return Check(name, "well" if holds else "no", well if holds else otherwise)


def _rows(connection: Connection, catalog: Catalog) -> dict[str, int]:
    return {
        source.relation.plain: connection.exec_driver_sql(SQL["rows"], {"oid": source.relation.oid}).scalar_one()
        for source in catalog.sources.values()
    }


def _would_change(catalog: Catalog) -> dict[str, Any] | None:
    """With the new definition's views in a scratch schema, in a transaction that is rolled back: the one diff."""
    with db.translated(), db.engine().connect() as connection, connection.begin() as trial:
        known = applied(connection, catalog.definition.schema)
        if known is None or known.digest == catalog.definition.digest:
            return None
        changes = _changes(connection, catalog)
        trial.rollback()
    return changes


def _changes(connection: Connection, catalog: Catalog) -> dict[str, Any]:
    run_as_it_is(connection, f"CREATE SCHEMA {SCRATCH}")
    run_as_it_is(connection, f"SET LOCAL search_path = {SCRATCH}, {catalog.definition.search_path}")
    make_readers(connection, catalog, SCRATCH)
    found = {what: diff.compare(connection, what) for what in diff.TABLES}
    rows = [vars(row) for what in found for row in diff.rows(connection, what, found[what].keys[:SHOWN_ROWS])]
    numbers = {diff.TABLES[what]: len(difference.keys) for what, difference in found.items()}
    return {"numbers": numbers, "rows": rows[:SHOWN_ROWS]}
