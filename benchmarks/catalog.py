"""The catalogs that benchmarks run on, and the changes that they make to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from backend.app import db
from backend.app.caches import patch
from events.sql_files import statements

SQL: Final = statements(Path(__file__).parent / "sql" / "catalog.sql")
CITIES: Final = 500
PRODUCTS_OF_A_COMPANY: Final = 50  # on average


@dataclass(frozen=True)
class Size:
    """How large a catalog is."""

    products: int

    @property
    def companies(self) -> int:
        """In proportion."""
        return max(100, self.products // PRODUCTS_OF_A_COMPANY)

    def as_parameters(self) -> dict[str, int]:
        """For SQL."""
        return {"products": self.products, "companies": self.companies, "cities": CITIES}


@contextmanager
def connect(dsn: str, autocommit: bool = True) -> Iterator[psycopg2.extensions.connection]:
    """A plain connection without the product's deadlines."""
    connection = psycopg2.connect(dsn, connect_timeout=5, application_name="benchmark")
    connection.autocommit = autocommit
    try:
        yield connection
    finally:
        connection.close()


def run(connection: psycopg2.extensions.connection, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
    """One statement; its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def fill(dsn: str, size: Size) -> None:
    """Fill a migrated, empty database, whose caches are right afterwards. This process's settings must name it."""
    with connect(dsn) as connection:
        for name in (
            "quiet",
            "cities",
            "companies",
            "products",
            "cached_products",
            "cached_companies",
            "sequences",
            "numbers",
        ):
            run(connection, SQL[name], size.as_parameters() if "%(" in SQL[name] else None)
        recount()
        run(connection, "VACUUM (ANALYZE)")


def recount() -> None:
    """Make counts and active cities right."""
    with db.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '10min'")
        patch.recount(connection)
    for cache in patch.CACHE_TYPES:
        with db.transaction() as connection:
            patch.repair_active(connection, cache)


def change(connection: psycopg2.extensions.connection, size: Size, rows: int) -> int:
    """Change `rows` products in one transaction; how many it were."""
    with connection.cursor() as cursor:
        cursor.execute(SQL["change"], {**size.as_parameters(), "rows": rows})
        return cursor.rowcount


def pile_up(dsn: str, size: Size, events: int, rows: int = 1_000) -> int:
    """Changes with nobody to relay them; the events that wait in the outbox afterwards."""
    done = 0
    with connect(dsn) as connection:
        while done < events:
            done += change(connection, size, min(rows, events - done))
        run(connection, "CHECKPOINT")
    return done
