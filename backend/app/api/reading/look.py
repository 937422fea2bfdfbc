"""The question what a statement sees now, asked once for all who came before it was put.

It is put on a connection that the event loop itself waits for: a thread would cost more than the answer. Each look also
asks whether a transaction that changed what answers of cities show has ended since the look before: `city_changes` has
their numbers, written by triggers. Of those that the earlier snapshot did not show, each is either above its end or
among those that were under way. Beside an adopted catalog triggers may lack that note changes of its cities or levels.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

import psycopg2
from psycopg2.extensions import POLL_OK
from psycopg2.extensions import connection as Connection

from backend.app import db
from backend.app.api.database import STATEMENT_MS
from backend.app.api.reading.sessions import on_a_thread
from backend.app.errors import CitycacheError
from backend.app.settings import settings

SECONDS: Final = 0.3  # for an answer, or a line; after that it is quicker to read
PAUSE_SECONDS: Final = 1.0  # after a line could not be opened: a database that is away is not asked by every request
REMEMBERED_SECONDS: Final = 60.0  # for which `city_changes` has the numbers at least: retention keeps them for longer
PREPARE: Final = """
SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan;
PREPARE look (pg_snapshot) AS
SELECT pg_postmaster_start_time()::text, pg_current_snapshot()::text,
       $1 IS NULL
       OR coalesce((SELECT xid FROM city_changes ORDER BY xid DESC LIMIT 1) >= pg_snapshot_xmax($1), false)
       OR EXISTS (SELECT FROM city_changes WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1)))),
       coalesce((SELECT CASE WHEN levels_noted_since >= began_at THEN 2 WHEN cities_noted_since >= began_at THEN 1
                             ELSE 0 END FROM applied_definition WHERE singleton), 2)"""
LOOK: Final = "EXECUTE look (%s)"
Shown = Literal["caches", "cities", "levels"]  # each with those before it: counts and active cities, cities, the tree
NOTED: Final[tuple[frozenset[Shown | None], ...]] = (
    frozenset({"caches"}),
    frozenset({"caches", "cities"}),
    frozenset({"caches", "cities", "levels"}),
)
_changes: Final = count(1)  # of this process, so that no line repeats what another one said


@dataclass(frozen=True)
class Seen:
    """What the next statement of any session sees at least."""

    server: str  # and since when it runs
    snapshot: str  # while it is the same, every statement sees the same rows
    change: int  # while it is the same, every statement sees the same of what is noted
    noted: int  # how much that is

    def notes(self, shown: Shown | None) -> bool:
        """Whether each change is noted of what an answer shows."""
        return shown in NOTED[self.noted]


Waiting = list[asyncio.Future[Seen]]


class Line:
    """One connection, for the event loop that is running; it ends with its first fault, and tells all who wait."""

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection, self._cursor = connection, connection.cursor()
        self._waiting: Waiting = []  # for the look that comes next
        self._looking: Waiting = []  # for the one that has been put
        self._timer: asyncio.TimerHandle | None = None
        self._file, self._is_open = connection.fileno(), True
        self._before: str | None = None  # the snapshot of the look before
        self._put_at, self._change = 0.0, 0  # monotonic seconds
        self._loop.add_reader(self._file, self._came)

    def serves(self) -> bool:
        """Whether it can be asked here and now."""
        return self._is_open and self._loop is asyncio.get_running_loop()

    def ask(self) -> asyncio.Future[Seen]:
        """What is seen by a statement that is put now or later. The future raises psycopg2.Error."""
        asked: asyncio.Future[Seen] = self._loop.create_future()
        self._waiting.append(asked)
        if len(self._waiting) == 1 and not self._looking:
            self._loop.call_soon(self._put)  # together with those who came in the same turn of the loop
        return asked

    def close(self, failure: psycopg2.Error | None = None) -> None:
        """Give it up."""
        if not self._is_open:
            return
        self._is_open = False
        if not self._loop.is_closed():
            self._forget(failure or psycopg2.InterfaceError("the connection was closed"))
        with suppress(psycopg2.Error):
            self._connection.close()

    def _forget(self, failure: psycopg2.Error) -> None:
        self._loop.remove_reader(self._file)
        if self._timer is not None:
            self._timer.cancel()
        for one in (*self._looking, *self._waiting):
            if not one.done():
                one.set_exception(failure)

    def _put(self) -> None:
        if not self._is_open:
            return
        self._looking, self._waiting = self._waiting, []
        self._timer = self._loop.call_later(SECONDS, self._late)
        now = time.monotonic()
        before, self._put_at = self._before if now - self._put_at < REMEMBERED_SECONDS else None, now
        try:
            self._cursor.execute(LOOK, (before,))
        except psycopg2.Error as failure:
            self.close(failure)

    def _late(self) -> None:
        self.close(psycopg2.OperationalError(f"no answer within {SECONDS:g} s"))

    def _came(self) -> None:
        """Something has come, or the connection has ended."""
        try:
            if self._connection.poll() == POLL_OK and self._looking:
                self._settle(*self._cursor.fetchone())  # type: ignore[misc]
        except psycopg2.Error as failure:
            self.close(failure)

    def _settle(self, server: str, snapshot: str, has_moved: bool, noted: int) -> None:
        if has_moved:
            self._change = next(_changes)
        self._before, seen = snapshot, Seen(server, snapshot, self._change, noted)
        if self._timer is not None:
            self._timer.cancel()
        answered, self._looking = self._looking, []
        for one in answered:
            if not one.done():
                one.set_result(seen)
        if self._waiting:
            self._put()


class CommonLook:
    """Of one application."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0  # monotonic seconds, of the next opening

    async def __call__(self) -> Seen | None:
        """What a statement sees that is put now or later; None where nobody can tell: of a replica, whose snapshots do
        not tell of every commit, and while there is no line."""
        if settings().database_read_url:
            return None
        if (self._line is None or not self._line.serves()) and time.monotonic() >= self._not_before:
            await asyncio.wait({self._begun()}, timeout=SECONDS)
        if self._line is None or not self._line.serves():
            return None
        try:
            return await self._line.ask()
        except psycopg2.Error:  # whoever reads instead finds out why
            return None

    def stop(self) -> None:
        """Close the line."""
        if self._line is not None:
            self._line.close()

    def _begun(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening.done() or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._open(), context=contextvars.Context())
        return self._opening

    async def _open(self) -> None:
        self.stop()
        with suppress(psycopg2.Error, CitycacheError):
            self._line = Line(await on_a_thread(lambda: db.polled("api", STATEMENT_MS, PREPARE)))
            return
        self._not_before = time.monotonic() + PAUSE_SECONDS
