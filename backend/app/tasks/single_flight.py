"""One run of a kind at a time, in all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg2.errors import LockNotAvailable

from backend.app import db
from backend.app.errors import CitycacheError

FLIGHT_CLASS: Final = 0x666C7974  # 'flyt'
FLIGHTS: Final = {  # by which the keys of their locks differ: numbers that releases running side by side agree on
    "products": 0,
    "companies": 1,
    "counts": 2,
    "all": 3,
    "clear": 4,
    "wide": 5,
    "replay": 6,
    "city": 7,
    "import": 8,
}
IDS: Final = 2**31  # that the second half of a key tells apart; cities so far from each other share a flight


class Skipped(CitycacheError):
    """Another run of the same kind is under way."""


@contextmanager
def flight(name: str, patience: float = 0.0, of: int | None = None) -> Iterator[None]:
    """Only one run of a kind at a time, in all processes; raises Skipped when another holds it.

    `of`: an id, where each has a flight of its own. Then the flight's number is in the first half of its lock's key and
    the id in the second; else the number is the second half.

    A session lock on a connection of its own: it ends with the process, however that ends.
    """
    connection = db.direct(f"flight {name}")
    try:
        with db.translated(), connection.cursor() as cursor:
            lock = (FLIGHT_CLASS, FLIGHTS[name]) if of is None else (FLIGHT_CLASS + FLIGHTS[name], of % IDS)
            cursor.execute("SET lock_timeout = %s", (f"{max(1, int(patience * 1000))}ms",))
            cursor.execute("SET statement_timeout = 0")
            try:
                cursor.execute("SELECT pg_advisory_lock(%s, %s)", lock)
            except LockNotAvailable:
                raise Skipped from None
        yield
    finally:
        connection.close()
