"""Whether patches of other keys work: rows of a key that is well are written, removed and patched, and rolled back.

That tells a key which cannot be patched from a system in which none can: rights, schema, settings, a full disk. What
is asked is the work itself, since no list of error codes is complete, and a trigger may raise any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches.diff import Noun
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import lock, patch
from backend.app.database.statement import as_array
from backend.app.errors import sentence
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_suffix(".sql"))
STATEMENT_MS: Final = 5_000  # a healthy key's patch takes milliseconds
INVENTED: Final = 8_999_999_999_999_999_999  # id of a key that nobody has, used where nobody else has one
CAUSE: Final = Cause("rehearsal")
Also = Callable[[Connection], None]  # what else belongs to the work


def works(noun: Noun, failing: list[int], also: Also) -> bool:
    """Whether any other key of this noun than those that fail can be patched now, and what belongs to it be done."""
    try:
        with db.transaction() as connection:
            found = connection.exec_driver_sql(SQL[f"other_{noun}"], {"ids": as_array(failing)})
            others = [int(row[0]) for row in found]
    except Exception as failure:
        log.warning("nobody's rows can be read: %s", sentence(failure))
        return False
    return any(_succeeds(noun, other, also) for other in others or [INVENTED])


def _succeeds(noun: Noun, key: int, also: Also) -> bool:
    try:
        with _rolled_back() as connection:
            _rewrite(connection, noun, key)
            also(connection)
    except Exception as failure:
        log.warning("a rehearsed patch of %s/%s fails as well: %s", noun, key, sentence(failure))
        return False
    return True


def _rewrite(connection: Connection, noun: Noun, key: int) -> None:
    keys = Keys.of(noun, [key])
    lock(connection, keys)
    if key == INVENTED:
        connection.exec_driver_sql(SQL[f"invent_{noun}"], {"id": key})
    connection.exec_driver_sql(SQL[f"touch_{noun}"], {"id": key})
    if key != INVENTED:
        connection.exec_driver_sql(SQL[f"remove_{noun}"], {"id": key})
    patch(connection, keys, CAUSE)


@contextmanager
def _rolled_back() -> Iterator[Connection]:
    with db.translated(), db.engine().connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_MS}")
        yield connection
        transaction.rollback()
