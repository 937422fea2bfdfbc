"""A transaction in which somebody's statements have run, and which is never committed.

The server itself sees to that: the statements run inside a DO block in our transaction, where it refuses whatever would
begin or end one, and what cannot run in one. All of it has one deadline, after which every lock is given up; the
server keeps it as well, where it has `transaction_timeout`, even if this process stands still.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from backend.app import db
from backend.app.database import session
from backend.app.errors import StatementFailed, TooLong
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("trial.sql"))
FOR_THE_END: Final = 0.05  # part of the time that is left for rolling back
UNFIT: Final = "statements that begin or end transactions, or read from the client, cannot be previewed"
RIGHTS: Final = "a preview needs the rights of its statements, and of reading the catalog, event_outbox and the caches"
GONE: Final = ("08", "57P")  # SQLSTATEs of a lost connection and of a server that stops
HINTS: Final = {  # by SQLSTATE
    "0A000": UNFIT,  # BEGIN, COMMIT, COPY FROM STDIN
    "25001": UNFIT,  # VACUUM, CREATE INDEX CONCURRENTLY
    "2D000": UNFIT,  # a procedure that commits
    "42501": RIGHTS,
}


@dataclass(frozen=True)
class TrialLimits:
    """How long the trial may disturb others; seconds."""

    lock: float = 1.0  # for which a statement waits for a lock
    all: float = 10.0  # for the statements and the comparison together; then every lock is given up


class Trial:
    """The transaction, while it is open."""

    def __init__(self, connection: Connection, limits: TrialLimits) -> None:
        self.connection, self._limits = connection, limits
        self._end = time.monotonic() + limits.all
        self._limit_all()

    def run(self, text: str) -> None:
        """Run the statements, and what is deferred to a commit."""
        self.go_on()
        self._limit({"lock_timeout": self._limits.lock})
        self.connection.exec_driver_sql(SQL["keep"], {"statements": text})
        self.connection.exec_driver_sql(SQL["run"])
        self.connection.exec_driver_sql(SQL["end"])
        self._own_session()

    def go_on(self) -> None:
        """Give the next statement the time that is left. Raises TooLong when there is none."""
        left = self._end - time.monotonic() - FOR_THE_END * self._limits.all
        if left <= 0:
            raise TooLong(f"not done within {self._limits.all:g} s: all locks were given up")
        self._limit({"statement_timeout": left})

    def _limit_all(self) -> None:
        """For a process that is suspended, or killed."""
        left = self._end - time.monotonic()
        self._limit({"transaction_timeout": left, "idle_in_transaction_session_timeout": left})

    def _own_session(self) -> None:
        """The statements may have set anything."""
        self.connection.exec_driver_sql(SQL["own_role"])
        session.ask(_driver(self.connection), db.search_path())
        self._limit_all()
        self.go_on()

    def _limit(self, seconds: dict[str, float]) -> None:
        values = [f"{max(1, round(value * 1000))}ms" for value in seconds.values()]
        self.connection.exec_driver_sql(SQL["limit"], {"names": list(seconds), "values": values})


@contextmanager
def trial(limits: TrialLimits) -> Iterator[Trial]:
    """An open one; it is rolled back at the end, whatever happens. Raises StatementFailed, TooLong and DatabaseAway."""
    engine = db.make_engine("preview", poolclass=NullPool)
    with db.translated(), engine.connect() as connection:
        transaction = connection.begin()
        try:
            yield Trial(connection, limits)
        except DBAPIError as failure:
            raise _translated(failure) from failure
        finally:
            with suppress(DBAPIError):  # the session has ended, and the transaction with it
                transaction.rollback()


def _driver(connection: Connection) -> psycopg2.extensions.connection:
    raw: Any = connection.connection.dbapi_connection
    driver: psycopg2.extensions.connection = raw
    return driver


def _translated(failure: DBAPIError) -> Exception:
    """What the server says against the statements; the failure itself where it is not about them."""
    origin = failure.orig
    code = getattr(origin, "pgcode", None)
    if not isinstance(origin, psycopg2.Error) or not code or code.startswith(GONE) or db.is_too_long(failure):
        return failure
    told = origin.diag.message_primary or str(origin).strip()
    if line := _line(origin):
        told = f"line {line}: {told}"
    hint = HINTS.get(code)
    return StatementFailed(f"{told} ({hint})" if hint else told)


def _line(failure: psycopg2.Error) -> int | None:
    """In which line of the statements it is, where the server says so."""
    position, text = failure.diag.internal_position, failure.diag.internal_query
    return text.count("\n", 0, int(position) - 1) + 1 if position and text else None
