"""The log of events as this system has it: which one it is, as the relay has written down, and its reader."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg2.extensions

from backend.app import db
from backend.app.settings import settings
from events import table
from events.log import Beginning, LogReader, LogSource
from events.stream import StreamLog
from events.table import LogChoice, RunStatement, TableLog

log = logging.getLogger(__name__)
LOOK_MS: Final = 2_000
PAGE_MS: Final = 60_000  # of a page of the table: the first one of a day passes over what was published before


@contextmanager
def reading() -> Iterator[LogReader]:
    """The log of EVENT_LOG; with `auto`, the one that the relay fills. Raises Away, BrokerGone, NoStreams."""
    with closing(db.direct("log", PAGE_MS)) as connection:
        chosen = table.chosen(_ask(connection))
        source = _source(chosen)
        if source == "table":
            yield TableLog(_ask(connection))
            return
    since = chosen.since if chosen.source == "stream" else None
    with closing(StreamLog(settings().celery_broker_url, since)) as stream:
        yield stream


def beginning() -> tuple[LogChoice, Beginning | None]:
    """Which log the relay fills, and where it begins; None: no relay has led yet, or nobody can say. Writes nothing,
    and makes no log.

    Raises DatabaseAway, BrokerGone, LogMissing, and the driver's errors.
    """
    with closing(db.direct("log", LOOK_MS)) as connection:
        found = table.chosen(_ask(connection))
        if found.source == "table":
            return found, TableLog(_ask(connection)).beginning()
    if found.source is None:
        return found, None
    with closing(StreamLog(settings().celery_broker_url, found.since, makes=False)) as stream:
        return found, stream.glimpse()


def chosen(database_url: str) -> LogChoice:
    """Which log the relay fills, in this database. Raises DatabaseAway, and the driver's errors."""
    with closing(db.connect("log", statement_ms=LOOK_MS, to=database_url)) as connection:
        return table.chosen(_ask(connection))


def _source(chosen: LogChoice) -> LogSource:
    wanted = settings().event_log
    if wanted == "auto":
        return chosen.source or ("table" if settings().in_process else "stream")
    if chosen.source not in (None, wanted):
        log.warning("EVENT_LOG is %s, but the relay fills the %s since %s", wanted, chosen.source, chosen.since)
    return wanted


def _ask(connection: psycopg2.extensions.connection) -> RunStatement:
    def ask(sql: str, parameters: dict[str, Any]) -> list[Any]:
        with db.translated(), connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    return ask
