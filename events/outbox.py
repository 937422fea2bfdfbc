"""The outbox table from the relay's side: claim the oldest rows, take out what was delivered.

Where the log is a table, delivered rows move there, in the statement that takes them out: so each is in one of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg2
import psycopg2.extensions

from events import table
from events.errors import LeaderLost, NoLog
from events.floor import Floor
from events.log import LogSource
from events.prepared import Prepared
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).parent / "sql" / "relay.sql")
LEADER_LOCK: Final = 0x6369_7479  # 'city'; the key of the leader's advisory lock
PING_SECONDS: Final = 2.0  # between two pings, well below IDLE_SESSION
CLAIM_LIMITS: Final = {
    "bytes": 8 * 2**20,  # of one claim's images; compressed ones are estimated, up to four times as much may come
    "whole": 2**20,  # of one row's images; above that it travels slim. Every broker takes messages of that size
}
LOOKED_FOR_SECONDS: Final = 0.09  # by one statement; from 0.1 s on servers may log one as slow
OVERTAKING: Final = 200  # rows of one claim that may go before older ones
MOST_OVERTAKEN: Final = 100_000  # ids; beyond that to look who may overtake takes longer than it spares
DAYS_SECONDS: Final = 600.0  # how often somebody looks whether today and tomorrow have their partitions
MOVES: Final = "citycache.moves"  # on: rows leave the outbox for the log; a trigger notes those of other sessions
IDLE_SESSION: Final = "10s"  # a leader that is suspended loses its session, and with it the lock, after this


class Row(NamedTuple):
    """One outbox row; `before` and `after` are JSON texts of the catalog row, as PostgreSQL wrote them."""

    id: int
    event_id: str
    type: str
    subject: str
    time: str
    before: str | bytes | None
    after: str | bytes | None
    traceparent: str | None
    slim: str | None = None  # why it travels without its images


@dataclass(frozen=True)
class Backlog:
    """What waits in the outbox."""

    rows: int
    oldest_seconds: float  # age of the oldest row; 0.0 when empty


class Outbox:
    """Claims and deletes on one connection of its own, which also holds the leader lock.

    Rows are claimed in the order of their ids, from all that are visible above the proven floor: see floor.py. While
    more wait than one claim takes, as after a statement over many rows, those that have come since the claim before go
    first; events of one row stay in their order.
    """

    def __init__(
        self, connection: psycopg2.extensions.connection, on_floor_reset: Callable[[], None] = lambda: None
    ) -> None:
        """`on_floor_reset` hears that a row was found where none could be."""
        self._connection = connection
        self._prepared = Prepared()
        self._spoke = time.monotonic()
        self._is_idle = False  # the last claim found nothing
        self._empty_at: tuple[str, int] | None = None  # snapshot from before it, and floor
        self._rested: str | None = None  # the snapshot that a rest has ended with, before anything else was asked
        self._seen: int | None = None  # the newest row that the last claim saw when it left others; None: it left none
        self._next: int | None = None  # position in the table that is the log; None: it is none
        self._days_at = 0.0  # monotonic
        self._days_lacking = 0
        self.floor = Floor(self._ask, on_floor_reset)

    def lead(self) -> bool:
        """Try to become the leader; False when another relay leads. Raises LeaderLost when the server is gone."""
        if not self._ask("try_lead", lock=LEADER_LOCK)[0][0]:
            return False
        self._run(f"SET idle_session_timeout = '{IDLE_SESSION}'", {})
        self._run("SET synchronous_commit = off", {})  # a crash of the server undoes removals: events come again
        return True

    def claim(self, rows: int) -> list[Row]:
        """Up to `rows` oldest rows, and, while others wait behind them, up to OVERTAKING that have just come, first;
        each of the two of about CLAIM_LIMITS' bytes. They stay in the table until deleted.

        After a claim that found nothing the table is not looked at again before any transaction has ended: while the
        server's snapshot says the same, every statement sees the same rows.
        """
        self.floor.tend()
        now = (self._rested or self._ask("snapshot")[0][0], self.floor.id) if self._is_idle else None
        self._rested = None
        if now is not None and now == self._empty_at:
            return []
        oldest, others_wait, newest = self._claim(rows)
        self._is_idle, self._empty_at = not oldest, None if oldest else now
        if not others_wait:
            self._seen = None
            return oldest
        arrived = self._arrivals(oldest[-1].id, newest)
        return self._claim(len(arrived), arrived)[0] + oldest if arrived else oldest

    def rest(self, pause: float) -> bool:
        """After a claim that found nothing, have the server look after pauses of so many seconds whether a transaction
        has ended, until one has or LOOKED_FOR_SECONDS are over: that costs a third of asking it from here. False where
        it would look but once, and when the claim found something: nobody has waited then."""
        looks = int(LOOKED_FOR_SECONDS / pause)
        if self._empty_at is None or looks < 2:
            return False
        ((self._rested,),) = self._ask("await_transactions", seen=self._empty_at[0], looks=looks, pause=pause)
        return True

    def _claim(self, rows: int, ids: list[int] | None = None) -> tuple[list[Row], bool, int]:
        """Rows, whether others wait behind them, and the newest of all that were there."""
        asked = {"floor": self.floor.id, "rows": rows, "ids": ids, **CLAIM_LIMITS}
        is_often = self._seen is None and ids is None  # a plan for few rows would not do for a backlog
        claimed = self._run(SQL["claim"], asked, as_bytes=True, is_often=is_often)
        others_wait, newest = claimed[0][-2:] if claimed else (False, 0)
        return [_row(*row[:-2]) for row in claimed], others_wait, newest

    def _arrivals(self, claimed: int, newest: int) -> list[int]:
        """Ids of rows that came after those that the claim before left behind, or this one if that left none, beyond
        those claimed now. What comes while a claim is under way is not among its `newest`, so it counts as well."""
        seen, self._seen = max(self._seen or newest, claimed), newest
        latest = self._ask("newest")[0][0] or newest
        if latest <= seen or latest - claimed > MOST_OVERTAKEN:
            return []
        found = self._ask("arrivals", floor=self.floor.id, seen=seen, rows=OVERTAKING)
        return [row_id for (row_id,) in found]

    def log_into(self, source: LogSource, no_stream: str | None = None) -> None:
        """Delivered rows leave for this log, which the database tells to whoever replays; why it has no stream.

        Raises NoLog, and LeaderLost when the server is gone.
        """
        if source == "table" and not self._ask("may_log")[0][0]:
            raise NoLog
        if self._ask("use_log", source=source, reason=no_stream):
            level, why = (
                (logging.WARNING, f": the broker has no stream: {no_stream}") if no_stream else (logging.INFO, "")
            )
            log.log(level, "the log of events is the %s from now on%s", source, why)
        self._run(f"SET {MOVES} = {'on' if source == 'table' else 'off'}", {})
        self._next = self._run(table.SQL["next_position"], {})[0][0] if source == "table" else None

    def remove(self, ids: list[int]) -> None:
        """Take delivered rows out: into the log where that is the table."""
        if self._next is None:
            self._run(SQL["delete"], {"ids": ids}, is_often=True)
        else:
            self._make_days()
            self._next += self._ask("move", ids=ids, next=self._next, whole=CLAIM_LIMITS["whole"])[0][0]

    def _make_days(self) -> None:
        """Partitions of today and tomorrow; where they cannot be made, there is one for all the rest."""
        if time.monotonic() < self._days_at:
            return
        self._days_at = time.monotonic() + DAYS_SECONDS
        lacking = self._ask("make_days")[0][0]
        if lacking and not self._days_lacking:
            log.warning("%s days of event_log have no partition yet: their events go into event_log_default", lacking)
        self._days_lacking = lacking

    def bury(self, row_id: int, reason: str, content_type: str, payload: str) -> None:
        """Move a row that the broker refuses to the dead letters, with what can be sent of it."""
        self._ask("bury", id=row_id, reason=reason, content_type=content_type, payload=payload)

    def lag(self) -> Backlog:
        """How many rows wait and for how long."""
        rows, seconds = self._ask("lag")[0]
        return Backlog(rows, seconds)

    def ping(self) -> None:
        """Keep the session alive while the broker keeps us waiting; raises LeaderLost when it is gone."""
        if time.monotonic() - self._spoke >= PING_SECONDS:
            self._run("SELECT 1", {})

    def close(self) -> None:
        """Give up the connection and with it the leader lock."""
        self._connection.close()

    def _ask(self, name: str, **parameters: Any) -> list[Any]:
        return self._run(SQL[name], parameters)

    def _run(self, sql: str, parameters: dict[str, Any], as_bytes: bool = False, is_often: bool = False) -> list[Any]:
        self._spoke = time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                if as_bytes:
                    psycopg2.extensions.register_type(psycopg2.extensions.BYTES, cursor)
                if is_often:
                    self._prepared.run(cursor.execute, sql, parameters)
                else:
                    cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as failure:
            raise LeaderLost(f"the relay's database connection is gone: {str(failure).strip()}") from failure


def _row(row_id: int, *columns: bytes | None) -> Row:
    """The images stay bytes: no row is so odd that it could not be claimed."""
    event_id, kind, subject, time, before, after, traceparent, slim = columns
    return Row(
        row_id, _text(event_id), _text(kind), _text(subject), _text(time), before, after,
        None if traceparent is None else _text(traceparent), None if slim is None else _text(slim),
    )  # fmt: skip


def _text(column: bytes | None) -> str:
    return (column or b"").decode("utf-8", "replace")
