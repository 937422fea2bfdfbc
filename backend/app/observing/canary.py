"""A synthetic change that goes the real way: a reserved city comes and goes, and its row of counts must follow.

The city has the id -1, for which no reader asks, and no company; so no count, mapping or active city ever changes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend.app import db
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("observing.sql"))
CITY: Final = -1
PATIENCE_SECONDS: Final = 10.0  # a way that takes longer counts as not arrived
POLL_SECONDS: Final = 0.004


@dataclass(frozen=True)
class Flight:
    """One canary."""

    there_ms: float | None  # commit of the insert → row of counts; None: not arrived in time
    back_ms: float | None  # commit of the delete → row gone

    @property
    def slowest_ms(self) -> float | None:
        """The slower of both ways; None if either did not arrive."""
        return None if self.there_ms is None or self.back_ms is None else max(self.there_ms, self.back_ms)


def fly(patience: float = PATIENCE_SECONDS) -> Flight:
    """Send one canary there and back. Raises DatabaseAway."""
    _write("drop_canary")  # one that a dead process left behind
    if not _await(False, patience):
        return Flight(None, None)
    there = _timed("put_canary", True, patience)
    return Flight(there, _timed("drop_canary", False, patience))


def _timed(statement: str, expected: bool, patience: float) -> float | None:
    _write(statement)
    began = time.monotonic()
    return (time.monotonic() - began) * 1000 if _await(expected, patience) else None


def _write(statement: str) -> None:
    with db.transaction() as connection:
        connection.exec_driver_sql(SQL[statement], {"id": CITY})


def _await(expected: bool, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with db.transaction() as connection:
            if bool(connection.exec_driver_sql(SQL["canary_cached"], {"id": CITY}).scalar_one()) is expected:
                return True
        time.sleep(POLL_SECONDS)
    return False
