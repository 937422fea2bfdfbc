"""A definition beside a database: each table and column found, each expression tried and understood.

Trials are views that are made in the caller's transaction, which must be rolled back. The parser's own record of them
says which columns and functions an expression uses; nothing here parses SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.catalog.definition import COLUMNS, EVERY_COLUMN, KEY, Definition, Level, Noun, Source, Watch
from backend.app.catalog.node_tree import Foundation, foundation
from backend.app.errors import BadDefinition, Refused
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("resolving.sql"))
KEY_TYPES: Final = ("smallint", "integer", "bigint")
TABLE_KINDS: Final = ("r", "p")  # a table, a partitioned table
TRIAL: Final = "pg_temp.citycache_trial"
TRIED_ROWS: Final = 1_000
UNTOLD: Final = "no event would come. Let a write say it, as a column that a scheduled statement sets"
COMPANIES_OF: Final = """SELECT company.id::bigint FROM catalog_companies AS company WHERE company.city_id = {id}
UNION ALL
SELECT mapping.company_id FROM company_city_mapping AS mapping WHERE mapping.city_id = {id}"""
_NOW: Final = re.compile(r"'\s*(now|today|tomorrow|yesterday)\s*'", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column of one of their tables."""

    name: str
    sql: str  # the name, quoted where it must be
    type: str  # of a domain, what is beneath it
    generated: str  # 's' stored, 'v' virtual, '' neither
    bases: tuple[str, ...]  # of a generated one: what it is computed from


@dataclass(frozen=True)
class Relation:
    """One of their tables."""

    oid: int
    schema: str
    name: str
    kind: str  # 'r' table, 'p' partitioned table
    sql: str  # schema and name, quoted where they must be
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """Schema and name without quotes; names the table in events and sentences."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Value:
    """One tried expression."""

    sql: str
    type: str


@dataclass(frozen=True)
class ResolvedSource:
    """The rows of one noun."""

    noun: Noun
    relation: Relation
    id: Column
    values: Mapping[str, Value]
    used: tuple[str, ...]  # columns whose change makes an event, in the table's order
    every_column: bool = False  # the whole row travels, and each change of it makes an event


@dataclass(frozen=True)
class ResolvedLevel:
    """What cities belong to; `parents` has the widening levels' keys by the rows that they may hang on."""

    name: str
    relation: Relation
    id: Column
    label: Value


@dataclass(frozen=True)
class ResolvedWatch:
    """A watched table: which ids may move when one of its rows does."""

    relation: Relation
    noun: Noun
    ids: str
    publish: tuple[Column, ...]  # `changed` has these
    used: tuple[str, ...]


@dataclass(frozen=True)
class ShownTable:
    """A table that answers of cities are read from, beside the caches."""

    relation: Relation
    used: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """A definition as this database has it."""

    definition: Definition
    sources: Mapping[Noun, ResolvedSource]
    levels: tuple[ResolvedLevel, ...]
    parents: Mapping[int, Mapping[int, Value]]  # row of a level (0: the city) → level → its key, where the row has one
    watches: tuple[ResolvedWatch, ...]
    shown: tuple[ShownTable, ...]
    has_shown_levels: bool  # what levels are read from is among these; not where it may have no triggers of ours


def resolve(connection: Connection, definition: Definition, every_row: bool = False) -> Catalog:
    """Find and try everything, on the first rows or on all of them; the caller rolls back. Raises BadDefinition with
    file, key and reason; Refused."""
    return _Resolver(connection, definition, "ALL" if every_row else str(TRIED_ROWS)).catalog()


@dataclass(frozen=True)
class _Tried:
    columns: Sequence[Column]
    uses: Mapping[int, set[str]]  # columns by the table's oid
    tables: Mapping[int, tuple[str, str]]  # name and kind by oid
    rests_on: Foundation


class _Resolver:
    def __init__(self, connection: Connection, definition: Definition, rows: str) -> None:
        self._connection, self._definition, self._rows = connection, definition, rows
        self._uses: dict[int, set[str]] = {}  # columns that decide what is cached, by table
        self._watched_uses: dict[int, set[str]] = {}  # columns that decide about rows of other tables
        self._watched: set[int] = set()  # tables that a [[watch]] names
        self._city_uses: dict[int, set[str]] = {}  # columns that answers of cities are read from, by table
        self._level_uses: dict[int, set[str]] = {}  # and those of the levels above
        self._read: list[tuple[str, int, _Tried]] = []  # key, own table, what its expression reads

    def catalog(self) -> Catalog:
        self._watched = {
            self._relation(f"watch[{number}].table", watch.table).oid
            for number, watch in enumerate(self._definition.watches, 1)
        }
        sources = {source.noun: self._source(source) for source in self._definition.sources}
        levels = tuple(self._level(number, level) for number, level in enumerate(self._definition.levels, 1))
        parents = self._parents([sources["city"].relation, *(level.relation for level in levels)])
        watches = [self._watch(number, watch) for number, watch in enumerate(self._definition.watches, 1)]
        if self._definition.is_adopted:
            watches.append(self._watch_of_cities(sources["city"]))
        self._refuse_unwatched()
        has_shown_levels = all(map(self._may_have_triggers, self._level_uses))
        return Catalog(
            self._definition,
            {noun: self._with_uses(source) for noun, source in sources.items()},
            levels,
            parents,
            tuple(self._with_watched_uses(watch) for watch in watches),
            tuple(self._shown(with_levels=has_shown_levels)),
            has_shown_levels,
        )

    def _source(self, source: Source) -> ResolvedSource:
        relation = self._relation(f"{source.noun}.table", source.table)
        key = self._key(f"{source.noun}.id", relation, source.id)
        values = {name: self._value(source.noun, relation, name, sql) for name, sql in source.values.items()}
        self._uses.setdefault(relation.oid, set()).add(key.name)
        if source.noun == "city":
            self._city_uses.setdefault(relation.oid, set()).add(key.name)
        published = [name for name in source.publish if name != EVERY_COLUMN]
        columns = [self._column(f"{source.noun}.publish", relation, name) for name in published]
        self._uses[relation.oid].update(column.name for column in columns)
        return ResolvedSource(source.noun, relation, key, values, (), EVERY_COLUMN in source.publish)

    def _level(self, number: int, level: Level) -> ResolvedLevel:
        place = f"city.level[{number}]"
        relation = self._relation(f"{place}.table", level.table)
        key = self._key(f"{place}.id", relation, level.id)
        label = self._tried(f"{place}.label", relation, level.label)
        self._level_uses.setdefault(relation.oid, set()).add(key.name)
        _add(self._level_uses, label.uses)
        return ResolvedLevel(
            level.name, relation, key, Value(_expression(relation, level.label), label.columns[0].type)
        )

    def _parents(self, rows: Sequence[Relation]) -> dict[int, dict[int, Value]]:
        """A level's key may be asked of any row below; the nearest one must have it."""
        found: dict[int, dict[int, Value]] = {}
        for number, level in enumerate(self._definition.levels, 1):
            for below in range(number):
                try:
                    value = self._parent(number, below, rows[below], level.parent)
                except BadDefinition:
                    if below == number - 1:
                        raise
                    continue
                found.setdefault(below, {})[number] = value
        return found

    def _parent(self, number: int, below: int, relation: Relation, sql: str) -> Value:
        key = f"city.level[{number}].parent"
        tried = self._tried(key, relation, sql)
        self._require_key_type(key, tried.columns[0].type)
        _add(self._level_uses, tried.uses)
        return Value(_expression(relation, sql), tried.columns[0].type)

    def _watch(self, number: int, watch: Watch) -> ResolvedWatch:
        place = f"watch[{number}]"
        relation = self._relation(f"{place}.table", watch.table)
        columns = tuple(self._column(f"{place}.publish", relation, name) for name in watch.publish)
        if virtual := next((column.name for column in columns if column.generated == "v"), None):
            raise self._bad(
                f"{place}.publish", f"{virtual!r} is computed when it is read: name what it is computed from"
            )
        for column in columns:
            if self._connection.exec_driver_sql(SQL["becomes_json"], {"type": column.type}).scalar_one():
                reason = (
                    f"{column.name!r} is of type {column.type}, which does not come back from JSON: watch without it"
                )
                raise self._bad(f"{place}.publish", reason)
        changed = ", ".join(f"NULL::{column.type} AS {column.sql}" for column in columns) or "NULL AS nothing"
        query = f"SELECT key.* FROM (SELECT {changed}) AS changed CROSS JOIN LATERAL (\n{watch.ids}\n) AS key"
        tried = self._try(f"{place}.ids", query)
        self._require_key_type(f"{place}.ids", tried.columns[0].type)
        self._refuse_unsteady(f"{place}.ids", watch.ids, tried.rests_on, whole_rows=False)
        if tried.rests_on.locks:
            raise self._bad(f"{place}.ids", "locks rows: it may only read")
        self._watched_uses.setdefault(relation.oid, set()).update(column.name for column in columns)
        return ResolvedWatch(relation, watch.noun, watch.ids, columns, ())

    def _watch_of_cities(self, city: ResolvedSource) -> ResolvedWatch:
        """A city that comes to be, or is no more, takes its companies along."""
        self._watched_uses.setdefault(city.relation.oid, set()).add(city.id.name)
        return ResolvedWatch(city.relation, "company", COMPANIES_OF.format(id=f"changed.{city.id.sql}"), (city.id,), ())

    def _with_watched_uses(self, watch: ResolvedWatch) -> ResolvedWatch:
        return replace(watch, used=_in_order(watch.relation, self._watched_uses.get(watch.relation.oid, set())))

    def _with_uses(self, captured: Any) -> Any:
        relation: Relation = captured.relation
        return replace(captured, used=_in_order(relation, self._uses.get(relation.oid, set())))

    def _shown(self, with_levels: bool) -> Iterator[ShownTable]:
        uses = self._city_uses
        if with_levels:
            _add(uses, self._level_uses)
        for oid, columns in uses.items():
            relation = self._relation("city", str(oid))
            yield ShownTable(relation, _in_order(relation, columns))

    def _may_have_triggers(self, oid: int) -> bool:
        return bool(self._connection.exec_driver_sql(SQL["may_have_triggers"], {"oid": oid}).scalar_one())

    def _value(self, noun: Noun, relation: Relation, name: str, sql: str) -> Value:
        key = f"{noun}.{name}"
        tried = self._tried(key, relation, sql)
        self._require_type(noun, name, relation, sql, tried.columns[0].type)
        _add(self._uses, tried.uses)
        if noun == "city":
            _add(self._city_uses, tried.uses)
        for oid, columns in tried.uses.items():
            if oid != relation.oid or name == "exists" or relation.oid in self._watched:
                self._watched_uses.setdefault(oid, set()).update(columns)
        self._read.append((key, relation.oid, tried))
        return Value(_expression(relation, sql), tried.columns[0].type)

    def _require_type(self, noun: Noun, name: str, relation: Relation, sql: str, found: str) -> None:
        """What is read has to be of a type, or to become it."""
        key = f"{noun}.{name}"
        wanted = {row[1]: row[2] for row in COLUMNS[noun]}.get(name, "boolean")
        if wanted == KEY:
            self._require_key_type(key, found)
        elif wanted == "boolean" and found != wanted:
            raise self._bad(key, f"is of type {found}, not {wanted}")
        elif name == "kind" and not self._connection.exec_driver_sql(SQL["is_text"], {"type": found}).scalar_one():
            raise self._bad(key, f"is of type {found}, and is never 'product' or 'service'")
        elif found != wanted:
            with self._explained(key):
                cast = f"({_expression(relation, sql)}\n)::{wanted}"
                self._run(f"SELECT {cast} FROM {relation.sql} LIMIT {self._rows}")

    def _tried(self, key: str, relation: Relation, sql: str) -> _Tried:
        expression = f"({_expression(relation, sql)}\n)"
        tried = self._try(key, f"SELECT {expression} AS value FROM {relation.sql}")
        with self._explained(key):  # one value for each row: a condition takes no aggregate and no set
            self._run(f"EXPLAIN SELECT FROM {relation.sql} WHERE {expression} IS NULL")
        self._refuse_unsteady(key, sql, tried.rests_on)
        return tried

    def _refuse_unwatched(self) -> None:
        for key, own, tried in self._read:
            for oid, (name, kind) in tried.tables.items():
                if kind not in TABLE_KINDS:
                    raise self._bad(key, f"reads {name}, which is no table: name the tables beneath it, and watch them")
                is_its_row = oid == own and tried.rests_on.tables.count(oid) == 1
                if not is_its_row and oid not in self._watched:
                    read = f"other rows of {name}" if oid == own else name
                    raise self._bad(
                        key, f"reads {read}, which no [[watch]] names: no event would come when a row there changes"
                    )

    def _refuse_unsteady(self, key: str, sql: str, rests_on: Foundation, whole_rows: bool = True) -> None:
        if whole_rows and rests_on.whole_rows:
            raise self._bad(key, "takes a row as a whole: name the columns, so that events tell only what is used")
        if rests_on.values_of_now or (rests_on.times and _NOW.search(sql)):
            raise self._bad(key, f"changes without a write: {UNTOLD}")
        oids = {name: list(getattr(rests_on, name)) for name in ("functions", "operators", "printed", "parsed")}
        unsteady = self._connection.exec_driver_sql(SQL["unsteady"], oids).scalars().all()
        if unsteady:
            raise self._bad(key, f"rests on {unsteady[0]}, which may change without a write: {UNTOLD}")

    def _relation(self, key: str, name: str) -> Relation:
        row = self._relation_row(key, name)
        if row[3] not in TABLE_KINDS:
            raise self._bad(key, f"{row[4]} is no table: no trigger can tell of its changes")
        if row[1].startswith("pg_"):
            raise self._bad(key, f"{row[4]} belongs to PostgreSQL: nobody else can follow its changes")
        if away := self._connection.exec_driver_sql(SQL["foreign_part"], {"oid": row[0]}).scalar():
            raise self._bad(
                key, f"{away}, a part of {row[4]}, is a foreign table: nobody here sees its writes. Detach it"
            )
        columns = self._connection.exec_driver_sql(SQL["columns"], {"oid": row[0]})
        found = {column.attname: _column(column) for column in columns}
        primary = self._connection.exec_driver_sql(SQL["primary_key"], {"oid": row[0]}).scalars().all()
        return Relation(row[0], row[1], row[2], row[3], row[4], found, tuple(primary))

    def _relation_row(self, key: str, name: str) -> Any:
        found = self._connection.exec_driver_sql(SQL["relation"], {"name": name}).all()
        if len(found) > 1:
            raise self._bad(key, f"may be {' or '.join(row[4] for row in found)}: write it as one of these")
        if found:
            return found[0]
        with self._explained(key):
            return self._connection.exec_driver_sql(SQL["relation_as_written"], {"name": name}).one()

    def _column(self, key: str, relation: Relation, name: str) -> Column:
        with self._explained(key):
            parsed = name
            if name not in relation.columns:
                parsed = self._connection.exec_driver_sql("SELECT (parse_ident(%(n)s))[1]", {"n": name}).scalar_one()
        if parsed not in relation.columns:
            raise self._bad(key, f"{relation.sql} has no column {name!r}")
        return relation.columns[parsed]

    def _key(self, key: str, relation: Relation, name: str) -> Column:
        column = self._column(key, relation, name)
        self._require_key_type(key, column.type)
        return column

    def _require_key_type(self, key: str, found: str) -> None:
        if found not in KEY_TYPES:
            instead = "name a unique column that is, or add one" if key.endswith(".id") else "cast it, or look that up"
            kinds = f"{', '.join(KEY_TYPES)}, or domains over them"
            raise self._bad(key, f"is of type {found}; keys are {kinds}: {instead}")

    def _try(self, key: str, query: str) -> _Tried:
        with self._explained(key):
            self._run(f"CREATE TEMPORARY VIEW citycache_trial AS {query}")
            oid = self._connection.exec_driver_sql(f"SELECT '{TRIAL}'::regclass::oid::bigint").scalar_one()
            uses: dict[int, set[str]] = {}
            tables: dict[int, tuple[str, str]] = {}
            for table, column, name, kind in self._connection.exec_driver_sql(SQL["trial_uses"], {"oid": oid}):
                tables[table] = (name, kind)
                uses.setdefault(table, set()).update([column] if column else [])
            columns = self._connection.exec_driver_sql(SQL["columns"], {"oid": oid}).all()
            tree = self._connection.exec_driver_sql(SQL["trial_tree"], {"oid": oid}).scalar_one()
            self._run(f"SELECT count(tried.*::text) FROM (SELECT * FROM {TRIAL} LIMIT {self._rows}) AS tried")
            self._run(f"DROP VIEW {TRIAL}")
        return _Tried([_column(row) for row in columns], uses, tables, foundation(tree))

    def _run(self, sql: str) -> None:
        run_as_it_is(self._connection, sql)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """A mistake is answered in PostgreSQL's words, and the transaction goes on. A lack of rights is none."""
        try:
            with self._connection.begin_nested():
                yield
        except DBAPIError as failure:
            if db.is_away(failure):
                raise
            said = str(failure.orig).strip().splitlines()[0]
            if isinstance(failure.orig, InsufficientPrivilege):
                raise Refused(f"{key} cannot be tried: {said}. The role that adopts needs that right") from failure
            raise self._bad(key, said) from failure

    def _bad(self, key: str, reason: str) -> BadDefinition:
        return BadDefinition(self._definition.file, key, reason)


def _add(uses: dict[int, set[str]], more: Mapping[int, set[str]]) -> None:
    for oid, columns in more.items():
        uses.setdefault(oid, set()).update(columns)


def _column(row: Any) -> Column:
    name, sql, kind, generated, bases = row
    return Column(name, sql, kind, generated, tuple(bases))


def run_as_it_is(connection: Connection, sql: str) -> Any:
    """Execute a statement that somebody wrote; a % in it is no placeholder."""
    return connection.exec_driver_sql(sql.replace("%", "%%"))


def _expression(relation: Relation, sql: str) -> str:
    """The name of a column as it stands in the catalog is that column, anything else is SQL."""
    return relation.columns[sql].sql if sql in relation.columns else sql


def _in_order(relation: Relation, names: set[str]) -> tuple[str, ...]:
    """Columns that can be seen changing: in place of a virtual one those that it is computed from."""
    wanted: set[str] = set()
    for name in names & relation.columns.keys():
        column = relation.columns[name]
        wanted.update(column.bases if column.generated == "v" else (name,))
    return tuple(name for name in relation.columns if name in wanted)
