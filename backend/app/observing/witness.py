"""The witness looks at what was written, whoever captured it.

Triggers stay silent in a session with session_replication_role = replica, while they are switched off, and on a
partition that has none yet. The server counts the rows that are written into each table all the same. Where its
counters have moved, rows of younger transactions are compared by the one diff, and where rows have gone, cached rows
without a source. What differs becomes a suspect of the auditor, who knows what is only under way.

A look reads the whole table for its young rows, since no index knows them, which takes much less than comparing them.
It is paid for by pauses, and a table that nobody writes is not read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff, watched
from backend.app.caches.keys import Keys
from backend.app.catalog import definition
from backend.app.catalog.sources import quoted
from backend.app.database.statement import run
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("witness.sql"))
LOOK_SECONDS: Final = 5.0  # between two looks, at least
LONGEST_SECONDS: Final = 40.0  # between two looks, so that a minute is kept: they may take more than their share then
MOST_SHARES: Final = 40  # that they take for the sake of that; longer pauses where this would not do
MEMORY_SECONDS: Final = 180.0  # that a write counts as young
MOST_YOUNG: Final = 50_000  # rows of one table that one look compares
MOST_COMPANIES: Final = 1_000  # of one city, or of those that differ, whose products are compared
CACHED: Final = {"product": ("product_city_mapping", "product_id"), "company": ("company_city_mapping", "company_id"),
                 "city": ("city_counts", "city_id")}  # fmt: skip
ROLES: Final = tuple(CACHED)


@dataclass(frozen=True)
class CountedTable:
    """One table that is captured, as the server counts it."""

    role: str  # product, company, city; watched_1 and so on
    sql: str  # its name as SQL writes it
    written: str  # changes when a row is written
    gone: str  # changes when one may have gone


@dataclass
class Witness:
    """What was there at the looks before."""

    _looked: dict[str, tuple[CountedTable, str]] = field(
        default_factory=dict
    )  # when its counters moved last, with the horizon of that look
    _gone_at: dict[str, float] = field(default_factory=dict)  # monotonic seconds, by table
    _marks: deque[tuple[float, str]] = field(default_factory=deque)  # monotonic seconds and transaction numbers

    def tables(self) -> list[CountedTable]:
        """All that are captured, read before the rows are: what is counted later is looked at next time."""
        with db.transaction() as connection:
            tables = [CountedTable(*row) for row in run(connection, captured_sql("captured"))]
            mark = connection.exec_driver_sql(SQL["mark"]).scalar_one()
        now = time.monotonic()
        self._marks.append((now, mark))
        while now - self._marks[0][0] > MEMORY_SECONDS:
            self._marks.popleft()
        return tables

    def differing(self, connection: Connection, tables: Sequence[CountedTable]) -> Iterator[tuple[str, list[int]]]:
        """Caches and those of their keys that differ, among what was written since the look before. In a snapshot."""
        horizon = connection.exec_driver_sql(SQL["horizon"]).scalar_one()
        ids: dict[str, set[int]] = {"product": set(), "company": set(), "city": set()}
        moved = [table for table in tables if self._looked.get(table.role, (None, ""))[0] != table]
        for table in moved:
            if before := self._looked.get(table.role):
                for noun, found in self._written(connection, table, *before):
                    ids[noun].update(found)
        yield from _compared(connection, ids)
        self._looked.update({table.role: (table, horizon) for table in moved})

    def has_gone(self, role: str) -> bool:
        """Whether rows of this table may have gone lately."""
        return time.monotonic() - self._gone_at.get(role, -MEMORY_SECONDS) < MEMORY_SECONDS

    @property
    def mark(self) -> str | None:
        """Transactions with a higher number are young; None: nobody can say yet."""
        return self._marks[0][1] if self._marks else None

    def _written(
        self, connection: Connection, table: CountedTable, before: CountedTable, horizon: str
    ) -> Iterator[tuple[str, list[int]]]:
        if table.written != before.written:
            yield from _young(connection, table, horizon)
        if table.gone != before.gone:
            self._gone_at[table.role] = time.monotonic()
            if table.role in ROLES:
                yield table.role, _without_source(connection, table)


def pause(took: float, share: float) -> float:
    """Seconds until the next look, after one that took so many, with this share of one core for all looks."""
    return max(LOOK_SECONDS, min(took / share, LONGEST_SECONDS), took / share / MOST_SHARES)


def captured_sql(name: str) -> str:
    """A statement over all that is captured; of the built-in catalog that is the three tables."""
    tables = "captured_tables()" if definition.current().is_adopted else "catalog_tables()"
    return SQL[name].replace("captured_tables()", tables)


def key_of(connection: Connection, table: str, role: str) -> str:
    """The key column of a noun's table."""
    name = getattr(definition.current(), role).id
    return str(connection.exec_driver_sql(SQL["id_column"], {"table": table, "name": name}).scalar_one())


def spelled(name: str) -> str:
    """A name inside of a statement with parameters."""
    return name.replace("%", "%%")


def images(watch: Any) -> str:
    """Rows of a watched table as capture keeps them, with the part that each is in, of transactions above `mark`."""
    columns = ", ".join(f"source.{quoted(name)}" for name in watch.columns)
    return spelled(
        f"SELECT source.tableoid::regclass::text AS part, row_to_json(picked.*) AS image"
        f" FROM {watch.sql} AS source CROSS JOIN LATERAL (SELECT {columns}) AS picked"
    ) + (" WHERE age(source.xmin) BETWEEN 0 AND age(%(mark)s::xid) LIMIT %(most)s")


def _young(connection: Connection, table: CountedTable, horizon: str) -> Iterator[tuple[str, list[int]]]:
    """Ids that rows of this transaction or a higher one have, or decide about."""
    asked: Mapping[str, Any] = {"mark": horizon, "most": MOST_YOUNG}
    if table.role in ROLES:
        query = spelled(f"SELECT {key_of(connection, table.sql, table.role)}::bigint FROM {table.sql} AS source")
        young = f"{query} WHERE age(source.xmin) BETWEEN 0 AND age(%(mark)s::xid) LIMIT %(most)s"
        yield table.role, [row[0] for row in run(connection, young, **asked) if row[0] is not None]
        return
    for watch in run(connection, SQL["watches"]):
        if watch.sql == table.sql:
            moved = f"CROSS JOIN LATERAL watch_{watch.number}_ids(image) AS moved LIMIT %(most)s"
            query = f"SELECT DISTINCT moved.id FROM ({images(watch)}) AS written {moved}"
            yield watch.noun, [row[0] for row in run(connection, query, **asked)]


def _without_source(connection: Connection, table: CountedTable) -> list[int]:
    cached, key = CACHED[table.role]
    same = spelled(f"{table.sql} AS source WHERE source.{key_of(connection, table.sql, table.role)}")
    query = f"SELECT {key} FROM {cached} AS cached WHERE NOT EXISTS (SELECT FROM {same} = cached.{key}) LIMIT %(most)s"
    return [row[0] for row in run(connection, query, most=MOST_YOUNG)]


def _compared(connection: Connection, ids: Mapping[str, set[int]]) -> Iterator[tuple[str, list[int]]]:
    """A company takes its products along only where it differs itself: they follow from nothing else of it."""
    if ids["city"]:
        yield "counts", [row.key for row in diff.uncounted(connection, sorted(ids["city"]))]
    in_cities, _ = watched.companies_of(connection, sorted(ids["city"]), MOST_COMPANIES)
    companies = diff.among(connection, "companies", sorted(ids["company"] | in_cities)).keys
    yield "companies", companies
    along = diff.differing(connection, Keys((), companies[:MOST_COMPANIES], ())).products if companies else ()
    yield "products", sorted({*diff.among(connection, "products", sorted(ids["product"])).keys, *along})
