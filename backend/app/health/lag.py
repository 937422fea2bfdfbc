"""How far the caches lag behind the catalog, read along the way of an event so that nothing under way is missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg2.extensions

from backend.app.errors import BrokerAway
from backend.app.health import inspector
from events import times
from events.outbox import SQL as OUTBOX_SQL

WIDE_SQL: Final = (
    "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(requested_at)), 0)::float8 FROM wide_requests"
)


@dataclass(frozen=True)
class Lag:
    """All zero: every committed change is in the caches. None: nobody could say so in time."""

    outbox_rows: int | None  # committed, not yet confirmed by the broker
    queue_messages: int | None  # in the queue or in a worker's hands; a wide patch counts as one until it is done
    oldest_event_seconds: float | None  # age of the oldest event of all these, as far as it is known

    def as_dict(self) -> dict[str, Any]:
        """The contract's fields."""
        return asdict(self)


def lag(query: Callable[[str], Any], broker_url: str | None = None) -> Lag:
    """The lag; `query` runs one statement and answers its only row, and may answer None when the database is away."""
    outbox = query(OUTBOX_SQL["lag"])
    try:
        waiting: inspector.Waiting | None = inspector.waiting(broker_url, connected=lambda: _workers(query))
    except BrokerAway:
        waiting = None
    wide = query(WIDE_SQL)
    ages = [row[1] for row in (outbox, wide) if row]
    if waiting and waiting.oldest_held:
        ages.append(_age(waiting.oldest_held))
    return Lag(
        outbox[0] if outbox else None,
        waiting.messages + wide[0] if waiting and wide and waiting.is_known else None,
        max(ages) if ages else None,
    )


def _workers(query: Callable[[str], Any]) -> Any:
    row = query(inspector.CONNECTED_WORKERS)
    return row and row[0]


def cursor_query(connection: psycopg2.extensions.connection) -> Callable[[str], Any]:
    """Ask through a plain connection; None when the database is away."""

    def query(sql: str) -> Any:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()
        except psycopg2.Error:
            return None

    return query


def _age(event_time: str) -> float:
    now = time.time()
    at = times.seconds(event_time, now)
    return 0.0 if at is None else now - at
