"""Deletions that take too long for a request: one transaction in the background, and a run that says how it goes.

Nothing is ever half deleted: the whole deletion is one statement. It has a session named after its run, so whoever
looks after runs sees that it goes on; when the process ends, the server undoes it.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Table

from backend.app import db
from backend.app.catalog.rows import CITIES, COMPANIES, NOUNS, find
from backend.app.errors import Away
from backend.app.ledger import ledger
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("removal.sql"))
LARGE: Final = 2_000  # rows that hang on one; deleting as many takes some tenths of a second
PATIENCE_SECONDS: Final = 1.0  # that a request waits for a large deletion before it answers without it
STATEMENT_MS: Final = 3_600_000
SIDE_BY_SIDE: Final = 4  # large deletions of one process
HANGS_ON: Final = {CITIES.name: "companies_of", COMPANIES.name: "products_of"}
_slots: Final = threading.BoundedSemaphore(SIDE_BY_SIDE)


def is_large(connection: Connection, table: Table, row_id: int) -> bool:
    """Whether so much hangs on the row that deleting it may outlast a request."""
    if table.name not in HANGS_ON:
        return False
    asked = {"id": row_id, "rows": LARGE}
    return bool(connection.exec_driver_sql(SQL[HANGS_ON[table.name]], asked).scalar_one() >= LARGE)


def under_way(connection: Connection, table: Table, row_id: int) -> str | None:
    """The run that deletes this row, if there is one."""
    asked = {"task": task_of(table), "id": str(row_id)}
    found: str | None = connection.exec_driver_sql(SQL["under_way"], asked).scalar()
    return found


def start(connection: Connection, table: Table, row_id: int, traceparent: str | None) -> str | None:
    """Delete a row with all that hangs on it; its run, or None when it is done already. Raises NotFound, Away."""
    if running := under_way(connection, table, row_id):
        return running
    find(connection, table, row_id)
    if not _slots.acquire(blocking=False):
        raise Away(f"{SIDE_BY_SIDE} large deletions are under way: ask again later")
    removal = _Removal(table, row_id, traceparent)
    threading.Thread(target=removal.run, name=removal.task, daemon=True).start()
    return None if removal.is_done.wait(PATIENCE_SECONDS) else removal.task_id


def task_of(table: Table) -> str:
    """The name of runs that delete rows of this table."""
    return f"delete_{NOUNS[table.name]}"


class _Removal:
    """One large deletion."""

    def __init__(self, table: Table, row_id: int, traceparent: str | None) -> None:
        self.task, self.task_id = task_of(table), str(uuid4())
        self.is_done = threading.Event()
        self._table, self._row_id, self._traceparent = table, row_id, traceparent or ""
        ledger.announce(self.task_id, self.task, "api", {"id": str(row_id)})

    def run(self) -> None:
        """Delete, and write down how it ended."""
        try:
            self._end("SUCCESS", result={"deleted": self._delete()})
            self.is_done.set()
        except Exception as failure:
            log.exception("%s failed", self.task, extra={"task_id": self.task_id})
            self._end("FAILURE", error=f"nothing was deleted: {failure}"[:2000])
        finally:
            _slots.release()

    def _delete(self) -> int:
        with closing(db.direct(f"run {self.task_id}", STATEMENT_MS)) as connection, db.translated():
            ledger.begin(self.task_id, self.task, "api", {"id": str(self._row_id)})
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute(SQL["trace"], {"value": self._traceparent})
                cursor.execute(SQL["delete"].format(table=self._table.name), {"id": self._row_id})
                deleted = int(cursor.rowcount)
            connection.commit()
            return deleted

    def _end(self, state: str, **told: Any) -> None:
        try:
            ledger.finish(self.task_id, state, **told)
        except Away as failure:  # the lifeline ends the run
            log.warning("the end of %s is not written down: %s", self.task, failure, extra={"task_id": self.task_id})
