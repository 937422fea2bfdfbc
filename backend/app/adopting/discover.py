"""A definition to start from: names, foreign keys and types tell where cities, companies and products may be.

It is a guess, said as such in the file; nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backend.app import db
from backend.app.adopting.guessing import PLACES, Links, Table, TableColumn, between, chosen, links
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
SHOWN: Final = ("is_active", "active", "enabled", "is_enabled", "visible", "is_visible", "is_published", "published")
HIDDEN: Final = (
    "is_hidden", "hidden", "is_deleted", "deleted", "is_archived", "archived", "is_blocked", "blocked", "is_banned",
    "banned",
)  # fmt: skip
GONE: Final = ("deleted_at", "archived_at", "removed_at", "blocked_at", "banned_at")
OPEN: Final = ("active", "published", "live", "approved", "enabled", "open", "visible", "available")
STATES: Final = ("status", "state")
PASSES: Final = re.compile(r"expir|until|valid_to|ends?_at|end_date|discontinue")
TIMES: Final = ("date", "timestamp without time zone", "timestamp with time zone")
MOST_COLUMNS: Final = 40  # named in a comment


@dataclass
class _Guess:
    """What is found, and the watches that it needs."""

    tables: Sequence[Table]
    links: Links
    watches: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        found = chosen(self.tables, self.links)
        city, company, item = found["city"], found["company"], found["product"]
        yield "# A guess from names, foreign keys and types: look at each line, then run 'citycache adopt FILE'."
        yield 'schema = "citycache"'
        yield from _source("city", city, "exists", [])
        yield from _is_its_own_parent(city, self.links)
        yield from self._levels(city)
        yield from _source("company", company, "active", self._link("company", company, "city", city))
        yield from _source("product", item, "active", self._link("product", item, "company", company))
        if item:
            yield "# kind = \"CASE type WHEN 'GOOD' THEN 'product' ELSE 'service' END\"    # without: all are products"
        yield from self.watches

    def _link(self, noun: str, source: Table | None, key: str, target: Table | None) -> list[str]:
        if source is None or target is None:
            return [f'# {key} = ""    # an expression over the row that yields the id of its {key}']
        link = self.links.get((source.oid, target.oid))
        if link:
            told = "" if link.is_told else "    # its name says so, no foreign key does"
            return [_said(key, _name(source.named(link.column))) + told]
        middle = between(source, target, self.tables, self.links)
        if middle is None or source.key is None:
            return [f'# {key} = ""    # no column points at {target.name}: an expression that yields its id']
        return [self._through(noun, source, middle, key, target)]

    def _through(self, noun: str, source: Table, middle: Table, key: str, target: Table) -> str:
        """Where another table says it: its rows are watched."""
        assert source.key is not None, "a table without a key is reached by nothing"
        row = source.key
        found = middle.named(self.links[middle.oid, target.oid].column).sql
        outward = self.links.get((source.oid, middle.oid))
        if outward and middle.key:
            column, changed = source.named(outward.column), middle.key
            says = f"(SELECT m.{found} FROM {middle.sql} AS m WHERE m.{changed.sql} = {source.at}.{column.sql})"
            ids = f"SELECT {row.sql} FROM {source.sql} WHERE {column.sql} = changed.{changed.sql}"
        else:
            changed = middle.named(self.links[middle.oid, source.oid].column)
            says = f"(SELECT min(m.{found}) FROM {middle.sql} AS m WHERE m.{changed.sql} = {source.at}.{row.sql})"
            ids = f"SELECT changed.{changed.sql}"
        watch = {"table": middle.name, "noun": noun, "ids": ids}
        self.watches += ["\n[[watch]]", *_keys(watch), f"publish = [{_text(_name(changed))}]"]
        return _said(key, says)

    def _levels(self, city: Table | None) -> Iterator[str]:
        """Up along what points at what, from a city to what it belongs to; each table once."""
        by_oid = {table.oid: table for table in self.tables if PLACES & {*table.words} and table.key}
        below, seen = city, {city.oid if city else 0}
        names = {"city"}
        while below is not None:
            ways = [
                (to, link)
                for (source, to), link in self.links.items()
                if source == below.oid and to in by_oid.keys() - seen
            ]
            # the nearest level is the one from which the others can be reached as well
            ways.sort(key=lambda way: -sum(1 for (source, _) in self.links if source == way[0]))
            if not ways:
                return
            oid, link = ways[0]
            below = by_oid[oid]
            seen.add(oid)
            if below.key and below.key.is_key:
                label = _name(below.label or below.key)
                name = below.bare if below.words[-1] in names else below.words[-1]
                names.add(name)
                values = {"name": name, "table": below.name, "id": _name(below.key), "label": label}
                yield "\n[[city.level]]"
                yield from _keys({**values, "parent": link.column})


def discover() -> str:
    """A commented definition. Raises DatabaseAway."""
    with db.transaction() as connection:
        tables = [
            Table(oid, schema, bare, sql, at, rows, tuple(TableColumn(*column) for column in columns or ()))
            for oid, schema, bare, sql, at, rows, columns in connection.exec_driver_sql(SQL["tables"])
        ]
        references = connection.exec_driver_sql(SQL["references"]).all()
    return "\n".join(_Guess(tables, links(tables, references)).lines()) + "\n"


def _source(noun: str, table: Table | None, condition: str, links_: Sequence[str]) -> Iterator[str]:
    yield f"\n[{noun}]"
    if table is None:
        yield f"# No table looks like one of {noun} rows: name it yourself."
        yield from ('# table = ""', '# id = ""', '# name = ""', *links_)
        return
    names = ", ".join(column.name for column in table.columns[:MOST_COLUMNS])
    more = f" and {len(table.columns) - MOST_COLUMNS} more" if len(table.columns) > MOST_COLUMNS else ""
    yield f"# about {table.rows:,} rows; columns: {' '.join(names.split())}{more}"
    yield _said("table", table.name)
    yield from _key(table)
    yield _said("name", _name(table.label or table.key or table.columns[0]))
    yield from links_
    says = _condition(table)
    if says:
        yield _said(condition, says)
    yield from _undecided(table, condition)


def _key(table: Table) -> Iterator[str]:
    if table.key is None:
        yield '# id = ""    # no column is unique: name one that is, smallint, integer or bigint'
        return
    told = "" if table.key.is_key else f"    # {table.key.type}: keys have to be smallint, integer or bigint"
    yield _said("id", _name(table.key)) + told


def _condition(table: Table) -> str:
    """Which rows count, by the columns in which people say so; empty: all."""
    by_name = {column.name.lower(): column for column in table.columns}
    flags = {name: column for name, column in by_name.items() if column.type == "boolean"}
    parts = [flags[name].sql for name in SHOWN if name in flags]
    parts += [f"NOT {flags[name].sql}" for name in HIDDEN if name in flags]
    parts += [f"{by_name[name].sql} IS NULL" for name in GONE if name in by_name and by_name[name].type in TIMES]
    for name in STATES:
        labels = [label for label in by_name[name].labels if label.lower() in OPEN] if name in by_name else []
        parts += [f"{by_name[name].sql} IN ({', '.join(map(_literal, labels))})"] if labels else []
    return " AND ".join(parts)


def _undecided(table: Table, condition: str) -> Iterator[str]:
    """Columns that may decide as well, and what nobody can say from here."""
    for column in table.columns:
        if column.name.lower() in STATES and not column.labels and column.type != "boolean":
            yield f"# {condition}: the values of {_told(column)} may decide as well"
        if column.type in TIMES and PASSES.search(column.name.lower()):
            yield f"# {_told(column)} passes without a write, so {condition} cannot ask it: let a write say it is over"


def _is_its_own_parent(city: Table | None, links_: Links) -> Iterator[str]:
    if city and (city.oid, city.oid) in links_:
        yield f"# {city.name} points at itself: where it holds regions as well, let exists say which rows are cities"


def _name(column: TableColumn) -> str:
    """As it stands in the catalog, unless that has spaces at its ends."""
    return column.name if column.name == column.name.strip() else column.sql


def _told(column: TableColumn) -> str:
    return " ".join(column.name.split())


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _said(key: str, value: str) -> str:
    return f"{key} = {_text(value)}"


def _keys(values: Mapping[str, str]) -> Iterator[str]:
    return (_said(key, value) for key, value in values.items())
