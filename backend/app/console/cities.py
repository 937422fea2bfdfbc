"""The cities of the map: all of them, and then only what changed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.health import incidents
from backend.app.observing import city_hours
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
COLUMNS: Final = ("id", "name", "latitude", "longitude", "products", "services", "companies")
OVERLAP: Final = timedelta(seconds=5)  # a change is dated by its transaction's begin, and seen at its commit
WHOLE_SECONDS: Final = 30.0  # names and places, and what outlasted the overlap
MOST: Final = 50  # findings, and incidents, of one city
Row = tuple[Any, ...]  # in the order of COLUMNS


@dataclass(frozen=True)
class Delta:
    """What changed since the last look."""

    rows: list[Row] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def everything() -> list[Row]:
    """All cities that readers see, by id. Raises DatabaseAway."""
    with db.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(SQL["cities"])]


def past(city: int) -> dict[str, Any]:
    """A city over a week: its counts, its rows that were wrong, and incidents that touched it. Raises DatabaseAway."""
    with db.transaction() as connection:
        found = city_hours.findings(connection, city, MOST)
        troubles = [one.as_dict() for one in incidents.of_a_city(connection, found, MOST)]
        return {"counts": city_hours.week(connection, city), "findings": found, "incidents": troubles}


class CityDeltas:
    """Remembers the rows, so that each change is told once."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] | None = None
        self._mark: tuple[int, int] = (0, 0)
        self._since: datetime | None = None
        self._whole_at = 0.0  # monotonic seconds, when to read all again

    def look(self) -> Delta:
        """What changed; nothing at the first look. Raises DatabaseAway."""
        mark, until = self._counts_mark()
        if self._rows is None or mark != self._mark or time.monotonic() >= self._whole_at:
            delta = self._take_all(everything())
        else:
            delta = self._take(self._changed())
        self._mark, self._since = mark, until
        return delta

    def _counts_mark(self) -> tuple[tuple[int, int], datetime]:
        with db.transaction() as connection:
            rows, ids, until = connection.exec_driver_sql(SQL["counts_mark"]).one()
            return (rows, ids), until

    def _changed(self) -> list[Row]:
        since = self._since - OVERLAP if self._since else None
        with db.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(SQL["counts_changed"], {"since": since})]

    def _take_all(self, found: list[Row]) -> Delta:
        self._whole_at = time.monotonic() + WHOLE_SECONDS
        known, fresh = self._rows, {row[0]: row for row in found}
        self._rows = fresh
        if known is None:
            return Delta()
        changed = [row for key, row in fresh.items() if known.get(key) != row]
        return Delta(changed, sorted(known.keys() - fresh.keys(), key=int))

    def _take(self, found: list[Row]) -> Delta:
        rows = self._rows if self._rows is not None else {}
        changed = [row for row in found if rows.get(row[0]) != row]
        rows.update((row[0], row) for row in changed)
        return Delta(changed)
