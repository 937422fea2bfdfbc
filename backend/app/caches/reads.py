"""Reads of the caches, keyset-paged. Each is one statement, so that all of its rows are of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from backend.app.caches.tables import CityCounts
from backend.app.catalog.rows import CITY_ROWS as CITIES
from backend.app.errors import NotFound
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("reads.sql"))
COUNTS: Final[Table] = CityCounts.__table__  # type: ignore[assignment]
NUMBERS: Final = ("products_count", "services_count", "companies_count")
DIALECT: Final = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
Row = dict[str, Any]


@dataclass(frozen=True)
class Read:
    """A statement in the driver's style, with what stands for its parameters."""

    statement: str
    parameters: Mapping[str, Any]


def cities(sort: str, key: Sequence[Any] | None, limit: int, external_id: str | None = None) -> Read:
    """Cities with their counts, sorted by 'id', 'name' or a count ('-' for descending), after `key`; limit + 1 rows.

    `key` is the sort value and the id of the last row before, the id alone when sorted by id.
    """
    by, descending = sort.removeprefix("-"), sort.startswith("-")
    columns = [CITIES.c.id] if by == "id" else [_column(by), CITIES.c.id]
    query = _cities()
    query = query.order_by(*(column.desc() if descending else column.asc() for column in columns))
    if key is not None:
        row, last = tuple_(*columns), tuple_(*map(literal, key))
        query = query.where(row < last if descending else row > last)
    if external_id is not None:
        query = query.where(CITIES.c.external_id == external_id)
    return _compiled(query.limit(limit + 1))


def city(city_id: int) -> Read:
    """One city with its counts."""
    return _compiled(_cities().where(CITIES.c.id == city_id))


def city_now(connection: Connection, city_id: int) -> Row:
    """The same as this transaction sees it; raises NotFound."""
    read = city(city_id)
    found = [dict(row) for row in connection.exec_driver_sql(read.statement, dict(read.parameters)).mappings()]
    return one_city(found, city_id)[0]


def city_products(city_id: int, kind: str | None, after: int | None, limit: int) -> Read:
    """Mapped products and services of a city, in the order of their ids; for a city without any, one row of nulls."""
    return Read(SQL["city_products"], {"city_id": city_id, "kind": kind, "after": after, "limit": limit + 1})


def city_companies(city_id: int, after: int | None, limit: int) -> Read:
    """Mapped companies of a city, in the order of their ids; for a city without any, one row of nulls."""
    return Read(SQL["city_companies"], {"city_id": city_id, "after": after, "limit": limit + 1})


def active_cities(cache_type: str) -> Read:
    """One row of the active-cities cache."""
    return Read(SQL["active_cities"], {"cache_type": cache_type})


def split(rows: Iterable[Row]) -> tuple[list[Row], datetime | None]:
    """Rows, and when any of their counts was changed last."""
    found = list(rows)
    instants = [instant for row in found if (instant := row.pop("updated_at")) is not None]
    return found, max(instants, default=None)


def one_city(rows: Iterable[Row], city_id: int) -> tuple[Row, datetime | None]:
    """The city's row, and when its counts were changed last; raises NotFound."""
    found, changed = split(rows)
    if not found:
        raise NotFound(f"there is no city {city_id}")
    return found[0], changed


def of_city(rows: Iterable[Row], city_id: int, key: str) -> tuple[list[Row], datetime | None]:
    """Rows of what is in a city, by the name of their id, and when its counts were changed last; raises NotFound."""
    found, changed = split(rows)
    if not found:
        raise NotFound(f"there is no city {city_id}")
    return [row for row in found if row[key] is not None], changed


def _cities() -> Select[Any]:
    numbers = [_column(name).label(name) for name in NUMBERS]
    return select(CITIES, *numbers, COUNTS.c.updated_at).outerjoin(COUNTS, COUNTS.c.city_id == CITIES.c.id)


def _column(name: str) -> Any:
    return func.coalesce(COUNTS.c[name], 0) if name in NUMBERS else CITIES.c[name]


def _compiled(query: Select[Any]) -> Read:
    compiled = query.compile(dialect=DIALECT)
    return Read(str(compiled), compiled.params)
