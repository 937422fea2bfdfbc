"""The server that DATABASE_READ_URL names, beside its primary: how old what it shows may be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.errors import Away, sentence
from backend.app.settings import settings
from backend.app.telemetry.logs import say_once
from events.sql_files import statements

log = logging.getLogger(__name__)

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
LOOK_MS: Final = 2_000
UNASKED: Final = {"position": None, "at": None, "started": None}


@dataclass(frozen=True)
class ReplicaSigns:
    """What it says."""

    follows: bool | None  # whether it follows a primary, or is the one of DATABASE_URL; None: nobody can say
    behind_seconds: float | None  # that its reads are older than the primary's, at most; None: nobody can say


def look() -> ReplicaSigns | None:
    """Ask it; None where there is none. Raises DatabaseAway, TooLong; what else a server refuses is unknown."""
    if not (url := settings().database_read_url):
        return None
    end = _end_of_primary()
    db.engine("reads", LOOK_MS, to=url)
    try:
        with db.snapshot(url) as connection:
            return ReplicaSigns(*connection.exec_driver_sql(SQL["replayed"], end).one())
    except DBAPIError as refusal:
        say_once(log, "the replica does not say how far it is: %s", sentence(refusal))
        return ReplicaSigns(None, None)


def _end_of_primary() -> dict[str, Any]:
    """The end of the primary's log, when that was, and since when the primary runs; nothing while it is away, or does
    not tell."""
    try:
        with db.transaction() as connection:
            position = connection.exec_driver_sql(SQL["written"]).scalar_one()
            return {"position": position, **connection.exec_driver_sql(SQL["clock"]).mappings().one()}
    except Away:
        return UNASKED
    except DBAPIError as refusal:
        say_once(log, "the primary does not say how far it is: %s", sentence(refusal))
        return UNASKED
