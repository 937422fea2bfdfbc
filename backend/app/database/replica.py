"""The server that DATABASE_READ_URL names, beside its primary: how old what it shows may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.errors import Away
from backend.app.settings import settings
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
LOOK_MS: Final = 2_000
UNASKED: Final = {"position": None, "at": None, "started": None}


@dataclass(frozen=True)
class ReplicaSigns:
    """What it says."""

    follows: bool | None  # whether it follows a primary, or is the one of DATABASE_URL; None: nobody can say
    behind_seconds: float | None  # that its reads are older than the primary's, at most; None: nobody can say


def look() -> ReplicaSigns | None:
    """Ask it; None where there is none. Raises DatabaseAway, TooLong."""
    if not (url := settings().database_read_url):
        return None
    end = _end_of_primary()
    db.engine("reads", LOOK_MS, to=url)
    with db.snapshot(url) as connection:
        return ReplicaSigns(*connection.exec_driver_sql(SQL["replayed"], end).one())


def _end_of_primary() -> dict[str, Any]:
    """The end of the primary's log, when that was, and since when the primary runs; nothing while it is away."""
    try:
        with db.transaction() as connection:
            position = connection.exec_driver_sql(SQL["written"]).scalar_one()
            return {"position": position, **connection.exec_driver_sql(SQL["clock"]).mappings().one()}
    except Away:
        return UNASKED
