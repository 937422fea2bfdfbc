"""Counts of cities over a week. What stays as it is costs no row, so changes and hours bound their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
EVERY_SECONDS: Final = 60.0  # between two questions whether an hour has begun
Row = dict[str, Any]


def run_once() -> int | None:
    """Write what changed since the last look; rows, or None where this hour has had its look. Raises DatabaseAway."""
    with db.transaction() as connection:
        at = connection.exec_driver_sql(SQL["begin_look"]).scalar()
        if at is None:
            return None
        db.may_take_long(connection)
        return int(connection.exec_driver_sql(SQL["write_changed"], {"at": at}).rowcount)


def week(connection: Connection, city: int) -> list[Row]:
    """Products, services and companies of a city at each look of the last seven days, oldest first; None: unknown."""
    return [dict(row) for row in connection.exec_driver_sql(SQL["week"], {"city": city}).mappings()]


def findings(connection: Connection, city: int, limit: int) -> list[Row]:
    """What the auditor found wrong of a city, newest first."""
    return [dict(row) for row in connection.exec_driver_sql(SQL["findings"], {"city": city, "limit": limit}).mappings()]
