"""One transaction of a change feed: load, fold, write, commit; again when it met another writer of the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

import psycopg2.errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from tenacity import (
    Retrying,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_random,
)

from backend.app import db
from backend.app.catalog.feed.fold import Tally
from backend.app.catalog.feed.lines import Bad, FeedChange
from backend.app.catalog.feed.rows import Cursor, load, write
from backend.app.catalog.rows import CITIES, COMPANIES, PRODUCTS, catch_up
from backend.app.errors import DatabaseAway

ATTEMPTS: Final = 6  # of a transaction that meets other writers of the same rows
RECOVERY_SECONDS: Final = 15.0  # how long a server may take to come back and say what became of a commit
CLASHES: Final = (
    psycopg2.errors.SequenceGeneratorLimitExceeded,
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.ForeignKeyViolation,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
)


@dataclass
class FeedPart:
    """The lines of one transaction."""

    changes: list[FeedChange] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    next_line: int = 0
    read: int = 0  # lines, and runs of blank ones
    bad: tuple[int, str] | None = None  # the line that ends it, and why


def is_clash(failure: BaseException) -> bool:
    """Whether another writer of the same rows came first."""
    return isinstance(failure.orig if isinstance(failure, DBAPIError) else failure, CLASHES)


@retry(
    retry=retry_if_exception(is_clash),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random(0.01, 0.2),
    before_sleep=lambda state: _make_way(state.outcome and state.outcome.exception()),
    reraise=True,
)
def commit(part: FeedPart) -> Tally:
    """Apply the part as a whole. Raises Bad with the line's number, DatabaseAway, and a clash that does not end."""
    tally, transaction = Tally(), None
    try:
        with db.transaction() as connection, _cursor(connection) as cursor:
            start = 0
            while start < len(part.changes):
                start = _run(cursor, part, start, tally)
            if part.bad:  # only now: a line before it may be bad as well
                raise Bad(part.bad[1], part.bad[0])
            transaction = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
    except DatabaseAway:
        if not (transaction and _is_committed(transaction)):
            raise
    return tally


def _is_committed(transaction: str) -> bool:
    """Ask a server that went away during the commit, once it is back: it knows. False when it does not come back."""
    asking = Retrying(
        retry=retry_if_exception_type(DatabaseAway),
        stop=stop_after_delay(RECOVERY_SECONDS),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    try:
        return asking(_status, transaction) == "committed"
    except DatabaseAway as failure:
        raise DatabaseAway(f"{failure}; whether the last transaction was committed is not known") from failure


def _status(transaction: str) -> str | None:
    with db.transaction() as connection:
        return connection.exec_driver_sql("SELECT pg_xact_status(%(id)s::xid8)", {"id": transaction}).scalar()


def _make_way(clash: Any) -> None:
    """Ids that somebody chose by hand are in the way of the sequences."""
    origin = clash.orig if isinstance(clash, DBAPIError) else clash
    is_at_its_end = isinstance(origin, psycopg2.errors.SequenceGeneratorLimitExceeded)
    name = origin.diag.constraint_name if isinstance(origin, psycopg2.errors.UniqueViolation) else None
    if is_at_its_end or (name or "").endswith("_pkey"):
        with db.transaction() as connection:
            for table in (CITIES, COMPANIES, PRODUCTS):
                catch_up(connection, table)


def _cursor(connection: Connection) -> Cursor:
    """psycopg2's own cursor, for COPY."""
    return cast("Cursor", connection.connection.cursor())


def _run(cursor: Cursor, part: FeedPart, start: int, tally: Tally) -> int:
    """Apply changes from `start` on as far as they fold into one write; where to go on."""
    rest = part.changes[start:]
    model = load(cursor, rest)
    applied = 0
    try:
        for change in rest:
            if not model.apply(change):
                break
            applied += 1
    except Bad as bad:
        raise Bad(str(bad), part.numbers[start + applied]) from None
    write(cursor, model)
    tally.add(model.tally)
    return start + applied
