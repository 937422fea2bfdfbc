"""Threads that have a session of the database each, for statements that only read."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg2
from psycopg2.errors import FeatureNotSupported, TransactionRollbackError
from psycopg2.extensions import connection as Connection

from backend.app import db
from backend.app.api.database import STATEMENT_MS
from backend.app.database import address
from backend.app.errors import DatabaseAway
from backend.app.settings import settings

Value = TypeVar("Value")
MOST_PREPARED: Final = 100  # statements of one session
PARAMETER: Final = re.compile(r"%\((\w+)\)s|%%")


class Session:
    """A connection on which each statement is its own transaction, and is planned once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: dict[str, tuple[str, list[str]]] = {}  # what runs it, and the names of its parameters in order

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of a statement with named parameters in the driver's style."""
        with self._connection.cursor() as cursor:
            if statement not in self._prepared and len(self._prepared) < MOST_PREPARED:
                self._prepare(cursor, statement)
            if prepared := self._prepared.get(statement):
                cursor.execute(prepared[0], [parameters[name] for name in prepared[1]])
            else:
                cursor.execute(statement, dict(parameters))
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def close(self) -> None:
        """Give it up."""
        with suppress(psycopg2.Error):
            self._connection.close()

    def _prepare(self, cursor: Any, statement: str) -> None:
        names: list[str] = []

        def numbered(found: re.Match[str]) -> str:
            if found[1] is None:
                return "%"
            if found[1] not in names:
                names.append(found[1])
            return f"${names.index(found[1]) + 1}"

        numbered_statement, name = PARAMETER.sub(numbered, statement), f"read_{len(self._prepared)}"
        cursor.execute(f"PREPARE {name} AS {numbered_statement}")
        values = f" ({', '.join(['%s'] * len(names))})" if names else ""
        self._prepared[statement] = f"EXECUTE {name}{values}", names


class Sessions:
    """At most so many; a session is made when its thread has its first work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._open: set[Session] = set()

    async def run(self, work: Callable[[Session], Value]) -> Value:
        """What `work` returns, on a thread with a session. It may be done twice. Raises DatabaseAway and TooLong."""
        self._threads = self._threads or ThreadPoolExecutor(self._most, "reads")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def stop(self) -> None:
        """Close the sessions, without waiting for one that hangs."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for session in list(self._open):
            self._close(session)
        self._threads, self._own = None, threading.local()

    def _run(self, work: Callable[[Session], Value]) -> Value:
        with db.translated():
            kept: Session | None = getattr(self._own, "session", None)
            if kept is not None:
                try:
                    return _done(kept, work)
                except psycopg2.Error as failure:
                    if not (db.is_away(failure) or isinstance(failure, FeatureNotSupported)):
                        raise
                    self._close(kept)  # it may have ended long ago, or a definition has given its columns other types
            return _done(self._connected(), work)

    def _connected(self) -> Session:
        replica = settings().database_read_url
        attributes = address.READS if replica else address.WRITES
        session = Session(db.connect("api", STATEMENT_MS, replica, attributes))
        self._own.session = session
        self._open.add(session)
        return session

    def _close(self, session: Session) -> None:
        self._own.session = None
        self._open.discard(session)
        session.close()


def _done(session: Session, work: Callable[[Session], Value]) -> Value:
    try:
        return work(session)
    except TransactionRollbackError as failure:
        raise DatabaseAway("the replica gave this read up to follow its primary") from failure
