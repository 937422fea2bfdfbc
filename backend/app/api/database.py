"""The API's transactions: short, on a pool as large as its threads, and tied to the request's deadline and trace."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import psycopg2
from fastapi import Depends, Request
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.api import deadline
from backend.app.database.replica import SQL
from backend.app.errors import DatabaseAway, TooLong
from backend.app.settings import settings
from backend.app.telemetry import tracing

STATEMENT_MS: Final = 1_500  # the server gives up before the deadline of the request
CATCH_UP_SECONDS: Final = 0.3  # that one look waits for a replica
CATCH_UP_POLL_SECONDS: Final = 0.003
THREADS: Final = 20  # at most as many requests in threads as connections
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def prepare() -> None:
    """Make this process's engine with the API's deadlines, if there is none yet."""
    db.engine("api", statement_ms=STATEMENT_MS, size=THREADS)
    if replica := settings().database_read_url:
        db.engine("api reads", statement_ms=STATEMENT_MS, size=THREADS, to=replica)


@contextmanager
def transaction(traceparent: str | None = None) -> Iterator[Connection]:
    """One transaction; its changes carry the trace. Nothing is committed after the request's deadline."""
    prepare()
    with db.transaction() as connection:
        if traceparent:
            statement = "SELECT set_config('citycache.traceparent', %(value)s, true)"
            connection.exec_driver_sql(statement, {"value": traceparent})
        yield connection
        deadline.check()


@contextmanager
def snapshot() -> Iterator[Connection]:
    """Read only; all statements see one state, of a replica where DATABASE_READ_URL names one."""
    prepare()
    with given_up(), db.snapshot(settings().database_read_url) as connection:
        yield connection


@contextmanager
def given_up() -> Iterator[None]:
    """A replica ends reads of rows that its primary has vacuumed away: DatabaseAway."""
    try:
        yield
    except (DBAPIError, psycopg2.Error) as failure:
        if db.is_rollback(failure):
            raise DatabaseAway("the replica gave this read up to follow its primary") from failure
        raise


@contextmanager
def fresh_snapshot() -> Iterator[Connection]:
    """A snapshot with all that was committed before: of a replica, once it has come so far. Raises TooLong."""
    prepare()
    if replica := settings().database_read_url:
        with db.transaction() as connection:
            written = connection.exec_driver_sql(SQL["written"]).scalar_one()
        _follow(replica, written)
    with snapshot() as connection:
        yield connection


def _follow(replica: str, written: str) -> None:
    """Wait until the replica has replayed the log up to this position."""
    until = time.monotonic() + CATCH_UP_SECONDS
    while True:
        with db.snapshot(replica) as connection:
            if connection.exec_driver_sql(SQL["has_replayed"], {"position": written}).scalar_one():
                return
        if time.monotonic() >= until:
            raise TooLong("the replica has not come so far in time")
        time.sleep(CATCH_UP_POLL_SECONDS)


def _traceparent(request: Request) -> str | None:
    """The trace context of the request's own span, else the one that the request brought, when it is valid."""
    if own := tracing.traceparent():
        return own
    header = request.headers.get("traceparent", "").strip()
    return header if _TRACEPARENT.fullmatch(header) else None


Trace = Annotated[str | None, Depends(_traceparent)]
