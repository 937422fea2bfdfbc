"""Threads that have a session of the database each, for statements that only read."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg2
from psycopg2.errors import FeatureNotSupported
from psycopg2.extensions import connection as Connection

from backend.app import db
from backend.app.api.database import STATEMENT_MS, given_up
from backend.app.settings import settings

Value = TypeVar("Value")
STOP_SECONDS: Final = 1.0
MOST_PREPARED: Final = 100  # statements of one session
PARAMETER: Final = re.compile(r"%\((\w+)\)s|%%")


class Session:
    """A connection on which each statement is its own transaction, and is planned once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: dict[str, tuple[str, list[str]]] = {}  # what runs it, and the names of its parameters in order
        self._server: str | None = None

    def server(self) -> str:
        """Which it is of: since when it runs."""
        if self._server is None:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_postmaster_start_time()::text")
                self._server = str(cursor.fetchone()[0])  # type: ignore[index]
        return self._server

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of a statement with named parameters in the driver's style."""
        with self._connection.cursor() as cursor:
            self._run(cursor, statement, parameters)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def tuples(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The same where there are many: without names, in the order of the columns."""
        with self._connection.cursor() as cursor:
            self._run(cursor, statement, parameters)
            return cursor.fetchall()

    def _run(self, cursor: Any, statement: str, parameters: Mapping[str, Any]) -> None:
        if statement not in self._prepared and len(self._prepared) < MOST_PREPARED:
            self._prepare(cursor, statement)
        if prepared := self._prepared.get(statement):
            cursor.execute(prepared[0], [parameters[name] for name in prepared[1]])
        else:
            cursor.execute(statement, dict(parameters))

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


@dataclass(frozen=True)
class _Put:
    work: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]

    def do(self, run: Callable[[Callable[..., Any]], Any]) -> None:
        """Have the work done, and hand over what came of it."""
        try:
            self._settle(run(self.work), None)
        except BaseException as failure:
            self._settle(None, failure)

    def _settle(self, value: Any, failure: BaseException | None) -> None:
        """Hand over what came of it, unless nobody waits any more."""
        with suppress(RuntimeError):  # the loop is gone
            self.loop.call_soon_threadsafe(self._set, value, failure)

    def _set(self, value: Any, failure: BaseException | None) -> None:
        if self.answer.done():
            return
        if failure is not None:
            self.answer.set_exception(failure)
        else:
            self.answer.set_result(value)


async def on_a_thread(work: Callable[[], Value]) -> Value:
    """What `work` returns, on a thread of its own, which ends with the process whatever it waits for."""
    loop = asyncio.get_running_loop()
    asked = _Put(work, loop, loop.create_future())
    threading.Thread(target=asked.do, args=(lambda work: work(),), name="reads, once", daemon=True).start()
    value: Value = await asked.answer
    return value


class Sessions:
    """At most so many; one more is made when all are at work. The threads end with the process, also while a server
    lets them wait: those of Python's own pools would be waited for.
    """

    def __init__(self, most: int) -> None:
        self._most, self._at_work = most, 0
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._threads: list[_Thread] = []

    async def run(self, work: Callable[[Session], Value]) -> Value:
        """What `work` returns, on a thread with a session. It may be done twice. Raises DatabaseAway and TooLong."""
        loop = asyncio.get_running_loop()
        asked: _Put = _Put(work, loop, loop.create_future())
        self._at_work += 1
        if self._at_work > len(self._threads) and len(self._threads) < self._most:
            self._threads.append(_Thread(self._queue))
            self._threads[-1].start()
        self._queue.put(asked)
        try:
            value: Value = await asked.answer
            return value
        finally:
            self._at_work -= 1

    def stop(self) -> None:
        """Close the sessions; one that hangs is left behind after a second."""
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._queue, self._threads = queue.SimpleQueue(), []


class _Thread(threading.Thread):
    """Takes work from a queue until it finds None; its session is made when there is the first work."""

    def __init__(self, asked: queue.SimpleQueue[_Put | None]) -> None:
        super().__init__(name="reads", daemon=True)
        self._asked = asked
        self._session: Session | None = None

    def run(self) -> None:
        """Do it all."""
        while (asked := self._asked.get()) is not None:
            asked.do(self._do)
        self._leave()

    def _do(self, work: Callable[[Session], Any]) -> Any:
        with db.translated(), given_up():
            if self._session is not None:
                try:
                    return work(self._session)
                except psycopg2.Error as failure:
                    if not (db.is_away(failure) or isinstance(failure, FeatureNotSupported)):
                        raise
                    self._leave()  # it may have ended long ago, or a definition has given its columns other types
            self._session = Session(db.connect("api", STATEMENT_MS, settings().database_read_url))
            return work(self._session)

    def _leave(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
