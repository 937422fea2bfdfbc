"""How far the log of events reaches back, beside what EVENT_LOG_DAYS promises and what was applied meanwhile.

A log is short when it has dropped events that are younger than promised, and when events were applied before it begins
although it says that it never dropped any: then it was emptied, or made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.errors import BrokerAway, CitycacheError, sentence
from backend.app.relay import event_log
from backend.app.settings import settings
from events import times
from events.errors import EventError
from events.log import Beginning, LogSource
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
LOOK_SECONDS: Final = 60.0  # between two looks, each of which is a connection to the broker where the log is a stream
GRACE_SECONDS: Final = 60.0  # for clocks that differ, and for the time between an event and what was seen of it


@dataclass(frozen=True)
class Reach:
    """What one look found."""

    source: LogSource | None  # None: no relay has led yet, or nobody can say where the log begins
    short_since: float | None = None  # seconds since the epoch before which it lacks events that it should have


def look() -> Reach:
    """Ask the log that the relay fills. Raises DatabaseAway, TooLong, BrokerAway, and CitycacheError for a refusal."""
    try:
        chosen, beginning = event_log.beginning()
        if beginning is None:
            return Reach(None)
        with db.transaction() as connection:
            asked = {"days": settings().event_log_days}
            now, applied = connection.exec_driver_sql(SQL["applied_since"], asked).one()
    except EventError as failure:
        raise BrokerAway(str(failure)) from failure
    except (DBAPIError, psycopg2.Error) as failure:
        raise CitycacheError(sentence(failure)) from failure
    promised = now - settings().event_log_days * 86_400
    return Reach(chosen.source, _short_since(beginning, now, promised, applied))


def _short_since(beginning: Beginning, now: float, promised: float, applied: float | None) -> float | None:
    """`applied`: when an event was, for the first time since the promised instant, as far as anybody watched."""
    oldest = times.seconds(beginning.time, now) if beginning.time else now
    begins = max(beginning.since or 0.0, now if oldest is None else min(oldest, now))
    if beginning.since and beginning.since > promised + GRACE_SECONDS:
        return begins
    return begins if applied is not None and applied < begins - GRACE_SECONDS else None
