"""Reads of the caches, keyset-paged; each says when what it shows was changed last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, func, literal, select, tuple_

from backend.app.caches.tables import CityCounts
from backend.app.catalog.rows import CITY_ROWS as CITIES
from backend.app.errors import NotFound
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("reads.sql"))
COUNTS: Final[Table] = CityCounts.__table__  # type: ignore[assignment]
NUMBERS: Final = ("products_count", "services_count", "companies_count")
Rows = list[dict[str, Any]]


def cities(
    connection: Connection, sort: str, key: Sequence[Any] | None, limit: int, external_id: str | None = None
) -> tuple[Rows, datetime | None]:
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
    return _split(connection.execute(query.limit(limit + 1)).mappings())


def city(connection: Connection, city_id: int) -> tuple[dict[str, Any], datetime | None]:
    """One city with its counts; raises NotFound."""
    found, changed = _split(connection.execute(_cities().where(CITIES.c.id == city_id)).mappings())
    if not found:
        raise NotFound(f"there is no city {city_id}")
    return found[0], changed


def city_products(
    connection: Connection, city_id: int, kind: str | None, after: int | None, limit: int
) -> tuple[Rows, datetime | None]:
    """Mapped products and services of a city, in the order of their ids; raises NotFound."""
    changed = city(connection, city_id)[1]
    return _page(connection, "city_products", city_id=city_id, kind=kind, after=after, limit=limit + 1), changed


def city_companies(connection: Connection, city_id: int, after: int | None, limit: int) -> tuple[Rows, datetime | None]:
    """Mapped companies of a city, in the order of their ids; raises NotFound."""
    changed = city(connection, city_id)[1]
    return _page(connection, "city_companies", city_id=city_id, after=after, limit=limit + 1), changed


def active_cities(connection: Connection, cache_type: str) -> dict[str, Any]:
    """One row of the active-cities cache; raises NotFound."""
    found = _page(connection, "active_cities", cache_type=cache_type)
    if not found:
        raise NotFound(f"the cache has no row {cache_type!r}")
    return found[0]


def _cities() -> Select[Any]:
    numbers = [_column(name).label(name) for name in NUMBERS]
    return select(CITIES, *numbers, COUNTS.c.updated_at).outerjoin(COUNTS, COUNTS.c.city_id == CITIES.c.id)


def _column(name: str) -> Any:
    return func.coalesce(COUNTS.c[name], 0) if name in NUMBERS else CITIES.c[name]


def _split(found: Any) -> tuple[Rows, datetime | None]:
    rows = [dict(row) for row in found]
    instants = [instant for row in rows if (instant := row.pop("updated_at")) is not None]
    return rows, max(instants, default=None)


def _page(connection: Connection, name: str, **parameters: Any) -> Rows:
    return [dict(row) for row in connection.exec_driver_sql(SQL[name], parameters).mappings()]
