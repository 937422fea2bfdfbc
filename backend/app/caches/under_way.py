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

To write down many keys would take longer than to mend them. So for many it is the patches that write down what they
look at, for as long as a judgement is there; whoever judges waits until every patch has ended that may have begun
before, and then looks. So the look has seen what such a patch has changed, 2 need not be asked, and 1 is what the
patches tell.

Dead letters are not under way: nobody applies them by itself, so a row that waits for one is wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, cast

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.caches.patch import pass_lanes
from backend.app.database.statement import as_array
from backend.app.errors import DatabaseAway, LanesHeld
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("under_way.sql"))
MANY: Final = 10_000  # keys from which on patches tell what they look at
MOST_SECONDS: Final = 600.0  # for which they do
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
    if what == "counts" or len(keys) < MANY:
        return _stood_twice(partial(look, what), partial(standing, what), keys, settle)
    with _judgement(what) as judgement:
        stand = partial(_not_looked_at, judgement, what)
        return _stood_twice(partial(_look_at_many, what), stand, sorted(keys), settle)


Looking = Callable[[Sequence[int]], "Differing | None"]  # None: nobody can tell


def _stood_twice(look: Looking, stand: Looking, keys: Sequence[int], settle: Settle) -> array[int] | None:
    found = look(keys)  # most that was late is right by now
    for _ in range(2):
        if found is None or not found.keys:
            break
        found = stand(found.keys) if settle(found.instant) else None
    return None if found is None else found.keys


@contextmanager
def _judgement(what: str) -> Iterator[str]:
    """From now on patches tell what they look at."""
    asked = {"noun": NOUNS[what], "seconds": MOST_SECONDS}
    with db.transaction() as connection:
        judgement: str = connection.exec_driver_sql(SQL["begin_judgement"], asked).scalar_one()
    try:
        yield judgement
    finally:
        with suppress(DatabaseAway), db.transaction() as connection:
            connection.exec_driver_sql(SQL["end_judgement"], {"judgement": judgement})


def _look_at_many(what: str, keys: Sequence[int]) -> Differing | None:
    """Those that differ once all patches have ended that tell nothing; in two halves at a time, as they are mended."""
    try:
        with db.transaction() as connection:
            db.may_take_long(connection)
            pass_lanes(connection, what)
    except LanesHeld:
        return None
    middle = len(keys) // 2
    with ThreadPoolExecutor(2) as pool:
        low, high = pool.map(partial(_differ_now, what), (keys[:middle], keys[middle:]))
    return Differing(max(low.instant, high.instant), low.keys + high.keys)


def _differ_now(what: str, keys: Sequence[int]) -> Differing:
    with db.snapshot() as connection:
        db.may_take_long(connection)
        differing = _differing(connection, what, keys)
        return Differing(instant(connection), array("q", differing))


def _not_looked_at(judgement: str, what: str, keys: Sequence[int]) -> Differing | None:
    with db.transaction() as connection:
        db.may_take_long(connection)
        waiting = _waiting(connection, what, keys)
        told = connection.exec_driver_sql(SQL["looked_at"], {"judgement": judgement}).scalar()
        if told is None:
            return None
        gone = None if waiting is None else waiting.union(told)
        stand = [] if gone is None else [key for key in keys if key not in gone]
        return Differing(instant(connection), array("q", stand))


def those_in(wrong: array[int] | None, keys: Iterable[int]) -> list[int]:
    """Those of the keys that are wrong."""
    return [] if wrong is None else [key for key in keys if _is_in(wrong, key)]


def look(what: str, keys: Sequence[int]) -> Differing:
    """Write down keys ('products', 'companies', 'counts') that differ, and look which of them still do. Raises
    DatabaseAway."""
    with db.transaction() as connection:
        db.may_take_long(connection)
        connection.exec_driver_sql(SQL["suspect"], {"noun": NOUNS[what], "ids": as_array(sorted(keys))})
    return _differ_now(what, keys)


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
    waiting = _waiting(connection, what, keys) if keys else None
    if waiting is None:
        return set()
    asked = {"noun": NOUNS[what], "ids": as_array(list(keys))}
    return set(connection.exec_driver_sql(SQL["stood"], asked).scalars()) - waiting


def _waiting(connection: Connection, what: str, keys: Sequence[int]) -> set[int] | None:
    """Those of the keys that a wide patch waits for; None: it may be any. To be asked before what patches have looked
    at: a wide patch crosses keys out, and then waits no more."""
    some_wait, all_wait = connection.exec_driver_sql(SQL["what_waits"]).one()
    if all_wait:
        return None
    if not some_wait or what != "products":
        return set()
    return set(connection.exec_driver_sql(SQL["products_waiting"], {"ids": as_array(list(keys))}).scalars())


def _is_in(ascending: array[int], key: int) -> bool:
    place = bisect_left(ascending, key)
    return place < len(ascending) and ascending[place] == key


def _differing(connection: Connection, what: str, keys: Sequence[int]) -> list[int]:
    if what == "counts":
        return sorted(row.key for row in diff.uncounted(connection, keys))
    return diff.among(connection, what, keys).keys
