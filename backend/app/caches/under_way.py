"""Is a difference still on its way? The one answer to that, for the auditor, rebuilds and recounts.

A cached row that differs from the truth is wrong only if nothing that is under way would mend it:

1. The pipeline (outbox, queue, workers' hands: `tasks.settle`) has passed the first look at the difference, so every
   event of what that look saw has been applied.
2. What the row follows from is as it was at the first look. A newer write has its own event, which may be anywhere.
3. No wide patch waits for it.

Dead letters are not under way: nobody applies them by itself, so a row that waits for one is wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app.database.statement import as_array
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("under_way.sql"))
VERSIONS: Final = {"products": "products_versions", "companies": "companies_versions", "counts": "counts_versions"}


@dataclass(frozen=True)
class Differing:
    """Keys that differed, in the versions of their sources."""

    instant: datetime  # by the database's clock, not before the snapshot was taken
    keys: Sequence[int]  # ascending
    versions: array[int]  # of each key

    def version(self, key: int) -> int | None:
        """The key's version; None if it did not differ then."""
        place = bisect_left(self.keys, key)
        return self.versions[place] if place < len(self.keys) and self.keys[place] == key else None


def look(connection: Connection, what: str, keys: Sequence[int]) -> Differing:
    """A first look at keys ('products', 'companies', 'counts') that differ, in the snapshot of their comparison."""
    ascending = sorted(keys)
    instant = connection.exec_driver_sql(SQL["instant"]).scalar_one()
    return Differing(instant, ascending, array("q", _versions(connection, what, ascending)))


def may_come(connection: Connection, what: str, keys: Sequence[int], first: Differing) -> set[int]:
    """Those of the keys that may be right as soon as all that is under way has been applied.

    Valid for differences that were read before this is asked, after the pipeline has passed the first look.
    """
    asked = sorted(keys)
    if not asked:
        return set()
    if connection.exec_driver_sql(SQL["everything_waits"]).scalar_one():
        return set(asked)
    versions = zip(asked, _versions(connection, what, asked), strict=True)
    newer = {key for key, version in versions if version != first.version(key)}
    return newer | (_waiting(connection, asked) if what == "products" else set())


def _waiting(connection: Connection, products: list[int]) -> set[int]:
    return set(connection.exec_driver_sql(SQL["products_waiting"], {"ids": as_array(products)}).scalars())


def _versions(connection: Connection, what: str, keys: list[int]) -> list[Any]:
    sql = SQL[VERSIONS[what]]
    return list(connection.exec_driver_sql(sql, {"ids": as_array(keys)}).scalar_one()) if keys else []
