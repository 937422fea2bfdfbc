"""Threads that have a session of the database each, for statements that only read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import psycopg2
from psycopg2.errors import TransactionRollbackError
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from backend.app import db
from backend.app.api.database import STATEMENT_MS
from backend.app.database import address
from backend.app.errors import DatabaseAway
from backend.app.settings import settings

Value = TypeVar("Value")


class Sessions:
    """At most so many; a session is made when its thread has its first work. Each statement is its own transaction."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._open: set[Connection] = set()

    async def run(self, work: Callable[[Cursor], Value]) -> Value:
        """What `work` returns, on a thread with a session. It may be done twice. Raises DatabaseAway and TooLong."""
        self._threads = self._threads or ThreadPoolExecutor(self._most, "reads")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def stop(self) -> None:
        """Close the sessions, without waiting for one that hangs."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._open):
            self._close(connection)
        self._threads, self._own = None, threading.local()

    def _run(self, work: Callable[[Cursor], Value]) -> Value:
        with db.translated():
            kept: Connection | None = getattr(self._own, "connection", None)
            if kept is not None:
                try:
                    return self._done(kept, work)
                except psycopg2.Error as failure:
                    if not db.is_away(failure):
                        raise
                    self._close(kept)  # it may have ended long ago
            return self._done(self._connected(), work)

    def _done(self, connection: Connection, work: Callable[[Cursor], Value]) -> Value:
        with connection.cursor() as cursor:
            try:
                return work(cursor)
            except TransactionRollbackError as failure:
                raise DatabaseAway("the replica gave this read up to follow its primary") from failure

    def _connected(self) -> Connection:
        replica = settings().database_read_url
        attributes = address.READS if replica else address.WRITES
        connection = db.connect("api", STATEMENT_MS, replica, attributes)
        self._own.connection = connection
        self._open.add(connection)
        return connection

    def _close(self, connection: Connection) -> None:
        self._own.connection = None
        self._open.discard(connection)
        with suppress(psycopg2.Error):
            connection.close()
