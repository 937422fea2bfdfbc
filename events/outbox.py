"""The outbox table from the relay's side: claim the oldest rows, delete what was delivered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg2
import psycopg2.extensions

from events.errors import LeaderLost
from events.sql_files import statements

SQL_FOLDER: Final = Path(__file__).parent / "sql"
SQL: Final = statements(SQL_FOLDER / "relay.sql")
CAPTURE_FUNCTIONS: Final = ("capture_inserted", "capture_updated", "capture_deleted", "capture_truncated")
LEADER_LOCK: Final = 0x6369_7479  # 'city'; the key of the leader's advisory lock
FLOOR_SECONDS: Final = 1.0  # how often the floor is raised; dead rows of one second are scanned in under 1 ms
PING_SECONDS: Final = 2.0  # between two pings, well below IDLE_SESSION
IDLE_SESSION: Final = "10s"  # a leader that is suspended loses its session, and with it the lock, after this


def capture_sql() -> str:
    """Capture's functions and triggers, as text for a driver that takes % for a placeholder."""
    return (SQL_FOLDER / "capture.sql").read_text(encoding="utf-8").replace("%", "%%")


class Row(NamedTuple):
    """One outbox row; `before` and `after` are JSON texts of the catalog row."""

    id: int
    event_id: str
    type: str
    subject: str
    time: str
    before: str | None
    after: str | None
    traceparent: str | None


@dataclass(frozen=True)
class Lag:
    """What waits in the outbox."""

    rows: int
    oldest_seconds: float  # age of the oldest row; 0.0 when empty


class Outbox:
    """Claims and deletes on one connection of its own, which also holds the leader lock.

    Rows are claimed in the order of their ids, from all rows that are visible: ids do not follow the order of
    commits, so there is no 'last seen' id. The floor below which no row can appear any more is proven instead:
    once every transaction that ran when id N was handed out has ended, and no row up to N is visible, N is a floor.
    It keeps the claim fast over dead index entries that an old snapshot elsewhere keeps alive.
    """

    def __init__(self, connection: psycopg2.extensions.connection) -> None:
        self._connection = connection
        self._floor = 0
        self._horizon: tuple[int, int] | None = None  # (id, transaction): see _raise_floor
        self._checked = self._spoke = time.monotonic()

    def lead(self) -> bool:
        """Try to become the leader; False when another relay leads. Raises LeaderLost when the server is gone."""
        if not self._one("try_lead", lock=LEADER_LOCK):
            return False
        self._run(f"SET idle_session_timeout = '{IDLE_SESSION}'", {})
        return True

    def claim(self, rows: int) -> list[Row]:
        """Up to `rows` oldest rows. They stay in the table until deleted."""
        claimed = [Row(*row) for row in self._run(SQL["claim"], {"floor": self._floor, "rows": rows})]
        if time.monotonic() - self._checked >= FLOOR_SECONDS:
            self._raise_floor(claimed)
        return claimed

    def delete(self, ids: list[int]) -> None:
        """Delete delivered rows."""
        self._run(SQL["delete"], {"ids": ids})

    def lag(self) -> Lag:
        """How many rows wait and for how long."""
        rows, seconds = self._run(SQL["lag"], {})[0]
        return Lag(rows, seconds)

    def ping(self) -> None:
        """Keep the session alive while the broker keeps us waiting; raises LeaderLost when it is gone."""
        if time.monotonic() - self._spoke >= PING_SECONDS:
            self._run("SELECT 1", {})

    def close(self) -> None:
        """Give up the connection and with it the leader lock."""
        self._connection.close()

    def _raise_floor(self, claimed: list[Row]) -> None:
        self._checked = time.monotonic()
        last = self._one("last_id")
        if last < self._floor:  # the sequence was set back by hand
            self._floor, self._horizon = 0, None
            return
        if self._horizon and self._one("oldest_transaction") >= self._horizon[1]:
            below = self._run(SQL["claim"], {"floor": self._floor, "rows": 1})
            self._floor = min(self._horizon[0], below[0][0] - 1) if below else self._horizon[0]
            self._horizon = None
        if not self._horizon:
            self._horizon = (last, self._one("newest_transaction"))

    def _one(self, name: str, **parameters: Any) -> Any:
        return self._run(SQL[name], parameters)[0][0]

    def _run(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        self._spoke = time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as failure:
            raise LeaderLost(f"the relay's database connection is gone: {str(failure).strip()}") from failure
