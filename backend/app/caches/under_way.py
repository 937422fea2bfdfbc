"""Is a difference still on its way? The one answer to that, for the auditor, rebuilds and recounts.

A key that differs is written down as a suspect, and then looked at again. It is wrong if it has stood until the
pipeline (outbox, queue, workers' hands: `tasks.settle`) has passed that look, and until it has passed that moment, too:

1. No patch has looked at it since it was written down: each crosses out its keys, in its own transaction.
2. Its row is of the patch that it was of: none that had begun before has changed it.
3. No wide patch waits for it.

For let T be the truth of the key at the look. The event of its last change has been applied, by a patch that began
before the key was written down, since none crossed it out; it saw T, as did every later patch of the key: they come one
after another. So T is cached: since before the look, where it differed from T, or by a change since.

An event of something else that the truth follows from, as a company, is one of the keys that follow from it when it is
applied. A key that has left it by then has an event of its own, written since the look: hence the second time.

Dead letters are not under way: nobody applies them by itself, so a row that waits for one is wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, cast

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.database.statement import as_array
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("under_way.sql"))
MANY: Final = 10_000  # keys that are judged in two halves
NOUNS: Final = {"products": "product", "companies": "company", "counts": "city"}
Settle = Callable[[datetime], bool]  # waits until what was committed before this instant is applied; False: not proven


@dataclass(frozen=True)
class Differing:
    """Keys that differed at a look."""

    instant: datetime  # by the database's clock, not before the snapshot was taken
    keys: array[int]  # ascending


def instant(connection: Connection) -> datetime:
    """By the database's clock. Of a snapshot, one that is not before it."""
    return cast(datetime, connection.exec_driver_sql(SQL["instant"]).scalar_one())


def wrong(what: str, keys: Sequence[int], instant: datetime, settle: Settle) -> array[int] | None:
    """Those of the keys, which differed at an instant, that nothing under way will mend, ascending; None where the
    pipeline did not pass in time, so nobody can tell. Raises DatabaseAway."""
    if not settle(instant):
        return None
    found = _side_by_side(look, what, sorted(keys))  # most that was late is right by now
    for _ in range(2):
        if not found.keys:
            break
        if not settle(found.instant):
            return None
        found = _side_by_side(standing, what, found.keys)
    return found.keys


def _side_by_side(judge: Callable[[str, Sequence[int]], Differing], what: str, keys: Sequence[int]) -> Differing:
    """What is judged of keys in ascending order; of many, two halves at a time, as they are mended."""
    if len(keys) < MANY:
        return judge(what, keys)
    middle = len(keys) // 2
    with ThreadPoolExecutor(2) as pool:
        low, high = pool.map(partial(judge, what), (keys[:middle], keys[middle:]))
    return Differing(max(low.instant, high.instant), low.keys + high.keys)


def those_in(wrong: array[int] | None, keys: Iterable[int]) -> list[int]:
    """Those of the keys that are wrong."""
    return [] if wrong is None else [key for key in keys if _is_in(wrong, key)]


def look(what: str, keys: Sequence[int]) -> Differing:
    """Write down keys ('products', 'companies', 'counts') that differ, and look which of them still do. Raises
    DatabaseAway."""
    with db.transaction() as connection:
        db.may_take_long(connection)
        connection.exec_driver_sql(SQL["suspect"], {"noun": NOUNS[what], "ids": as_array(sorted(keys))})
    with db.snapshot() as connection:
        db.may_take_long(connection)
        differing = _differing(connection, what, keys)
        return Differing(instant(connection), array("q", differing))


def standing(what: str, keys: Sequence[int]) -> Differing:
    """Those of the keys that have been wrong since they differed at a look, which the pipeline has passed. Raises
    DatabaseAway."""
    with db.transaction() as connection:
        db.may_take_long(connection)
        stand = sorted(stood(connection, what, keys))
        return Differing(instant(connection), array("q", stand))


def stood(connection: Connection, what: str, keys: Sequence[int]) -> set[int]:
    """Those of the keys that have been wrong since they differed at a look.

    Valid after the pipeline has passed its instant, and before this transaction patches them.
    """
    some_wait, all_wait = connection.exec_driver_sql(SQL["what_waits"]).one()
    if not keys or all_wait:
        return set()
    asked = {"noun": NOUNS[what], "ids": as_array(list(keys))}
    waiting: set[int] = set()
    if some_wait and what == "products":  # before the keys: a wide patch crosses them out, and then waits no more
        waiting.update(connection.exec_driver_sql(SQL["products_waiting"], asked).scalars())
    return set(connection.exec_driver_sql(SQL["stood"], asked).scalars()) - waiting


def _is_in(ascending: array[int], key: int) -> bool:
    place = bisect_left(ascending, key)
    return place < len(ascending) and ascending[place] == key


def _differing(connection: Connection, what: str, keys: Sequence[int]) -> list[int]:
    if what == "counts":
        return sorted(row.key for row in diff.uncounted(connection, keys))
    return diff.among(connection, what, keys).keys
