"""What the auditor found wrong: written down, counted against the nines, and mended through the one writer.

A finding stays open until its row is right. A row is written down once, however often it is found meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CACHE_TYPES, patch, recount, repair_active
from backend.app.database.statement import as_array
from backend.app.errors import Away
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("observing.sql"))
CAUSE: Final = Cause("audit")
MAPPINGS: Final = ("products", "companies")
LONGER: Final = "SET LOCAL statement_timeout = '60s'"  # than what the process allows its requests
REVISITED: Final = 500  # open findings, of one look


@dataclass(frozen=True)
class WrongRow:
    """A row that is wrong, not merely late."""

    cache: str  # products, companies, counts, active
    key: str
    before: Any | None  # as it is cached
    after: Any | None  # as it should be

    @property
    def side(self) -> str:
        """missing, extra or different."""
        if self.before is None and self.after is None:
            return "different"
        return "missing" if self.before is None else "extra" if self.after is None else "different"


def confirm(cache: str, wrong: Sequence[WrongRow]) -> set[str]:
    """Write down what is new of it, and mend it all; keys of what is new. What cannot be mended stays open.
    Raises DatabaseAway."""
    if not wrong:
        return set()
    with transaction() as connection:
        fresh = {one.key for one in wrong if _found(connection, one)}
        count(connection, cache, wrong=len(fresh))
    _mend(cache, [one.key for one in wrong])
    revisit(cache, [one.key for one in wrong])
    return fresh


def tell_past_capture(tables: Mapping[str, int]) -> None:
    """Write down into which tables somebody wrote past capture, and how many cached rows went wrong by each."""
    if not tables:
        return
    with transaction() as connection:
        for table, rows in tables.items():
            connection.exec_driver_sql(SQL["past_capture"], {"table": table, "rows": rows})


def count(
    connection: Connection,
    cache: str,
    checked: int = 0,
    wrong: int = 0,
    round_seconds: float | None = None,
    round_rows: int | None = None,
) -> None:
    """Add to this minute's numbers of rows; a round that has ended tells its length and how many rows it compared."""
    numbers = {"cache": cache, "checked": checked, "wrong": wrong}
    rounds = {"round_seconds": round_seconds, "round_rows": round_rows}
    connection.exec_driver_sql(SQL["audited"], numbers | rounds)


def revisit(cache: str, keys: Sequence[str]) -> None:
    """Close the open findings among these whose rows are right again. Raises DatabaseAway."""
    if not keys:
        return
    with snapshot() as connection:
        still = _still_wrong(connection, cache, keys)
    with transaction() as connection:
        connection.exec_driver_sql(
            SQL["mended"], {"cache": cache, "keys": as_array([k for k in keys if k not in still])}
        )


def open_keys(cache: str) -> list[str]:
    """The oldest of those that are not mended yet."""
    with db.transaction() as connection:
        return list(connection.exec_driver_sql(SQL["open_keys"], {"cache": cache, "most": REVISITED}).scalars())


@contextmanager
def snapshot() -> Iterator[Connection]:
    """A snapshot that may take its time."""
    with db.snapshot() as connection:
        connection.exec_driver_sql(LONGER)
        yield connection


@contextmanager
def transaction() -> Iterator[Connection]:
    """A transaction that may take its time."""
    with db.transaction() as connection:
        connection.exec_driver_sql(LONGER)
        yield connection


def _found(connection: Connection, wrong: WrongRow) -> list[Any]:
    finding = {
        "cache": wrong.cache,
        "key": wrong.key,
        "side": wrong.side,
        "cached": None if wrong.before is None else json.dumps(wrong.before),
        "wanted": None if wrong.after is None else json.dumps(wrong.after),
        "id": int(wrong.key) if wrong.cache in MAPPINGS else None,
    }
    return list(connection.exec_driver_sql(SQL["found"], finding).scalars())


def _still_wrong(connection: Connection, cache: str, keys: Sequence[str]) -> set[str]:
    if cache in MAPPINGS:
        return {str(row.key) for row in diff.rows(connection, cache, list(map(int, keys))) if row.before != row.after}
    if cache == "counts":
        rows = [str(row.key) for row in diff.uncounted(connection)]
        return {*rows, *(str(row.key) for row in diff.counts_beside_mappings(connection))}
    return set(diff.active_beside_counts(connection))


def _mend(cache: str, keys: Sequence[str]) -> None:
    """A mapping changed behind the writer's back left counts and active cities behind as well, so they follow."""
    if cache in MAPPINGS:
        _patch(cache, sorted(map(int, keys)))
    with transaction() as connection:
        recount(connection)
    for cache_type in CACHE_TYPES:
        with transaction() as connection:
            repair_active(connection, cache_type)


def _patch(cache: str, ids: list[int]) -> None:
    """One key that cannot be patched leaves its neighbours alone."""
    try:
        with transaction() as connection:
            patch(connection, Keys(**{cache: ids}), CAUSE)
    except Away:
        raise
    except Exception as failure:
        if len(ids) == 1:
            log.warning("%s %s is wrong and cannot be mended: %s", cache, ids[0], failure)
            return
        for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
            _patch(cache, half)
