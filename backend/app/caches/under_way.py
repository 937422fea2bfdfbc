"""Is a difference still on its way? The one answer to that, for the auditor, rebuilds and recounts.

Whoever judges begins a judgement: while it lasts, patches write down which keys they look at, each in its own
transaction. When every patch has ended that may have begun before, keys are compared. One that differs is wrong if it
has stood until the pipeline (outbox, queue, workers' hands: `tasks.settle`) has passed that look, and until it has
passed that moment, too:

1. No patch has told that it looked at it.
2. No wide patch waits for it.

For let T be the truth of the key at the look. The event of its last change has been applied, by a patch that saw T, as
did every later one until the look: they come one after another. That patch has told, or had ended by the look: then the
row was T, and what differs from T has been written past all patches.

An event of something else that the truth follows from, as a company, is one of the keys that follow from it when it is
applied. A key that has left it by then has an event of its own, written since the look: hence the second time.

Dead letters are not under way: nobody applies them by itself, so a row that waits for one is wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from sqlalchemy import Connection

from backend.app import db
from backend.app.caches.patch import pass_lanes
from backend.app.database.statement import as_array
from backend.app.errors import DatabaseAway, LanesHeld, TooLong
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("under_way.sql"))
MOST_SECONDS: Final = 600.0  # for which patches tell what they look at
PASSING_MS: Final = 10_000  # within which the patches that are under way must end
ASKING_MS: Final = 60_000  # for what patches have told, which are some keys or millions
TIMES: Final = 2  # that keys must have stood
NOUNS: Final = {"products": "product", "companies": "company", "counts": "city"}
Settle = Callable[[datetime], bool]  # waits until what was committed before this instant is applied; False: not proven


@dataclass(frozen=True)
class Differing:
    """Keys that differed at a look."""

    instant: datetime  # by the database's clock, not before the snapshot was taken
    keys: Sequence[int]  # ascending


def instant(connection: Connection) -> datetime:
    """By the database's clock. Of a snapshot, one that is not before it."""
    return cast(datetime, connection.exec_driver_sql(SQL["instant"]).scalar_one())


@dataclass(frozen=True)
class Judgement:
    """Of keys of one kind ('products', 'companies', 'counts'); while it lasts, patches tell which ones they look at."""

    what: str
    id: str

    def standing(self, keys: Sequence[int]) -> Differing | None:
        """Those of the keys, which differed at a look since it began, that no patch has looked at and none waits for;
        None: nobody can tell, since it took too long or a crash has ended it. To be asked when the pipeline has passed
        that look. Raises DatabaseAway."""
        try:
            return self._standing(keys)
        except TooLong:
            return None

    def _standing(self, keys: Sequence[int]) -> Differing | None:
        with db.snapshot() as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {ASKING_MS}")
            told = connection.exec_driver_sql(SQL["looked_at"], {"judgement": self.id}).scalar()
            if told is None:
                return None
            waiting = _waiting(connection, self.what, keys)
            gone = None if waiting is None else waiting.union(told)
            stand = [] if gone is None else [key for key in keys if key not in gone]
            return Differing(instant(connection), array("q", stand))

    def end(self) -> None:
        """Patches tell it nothing any more."""
        with suppress(DatabaseAway), db.transaction() as connection:
            connection.exec_driver_sql(SQL["end_judgement"], {"judgement": self.id})


def begin(what: str, seconds: float, passing_ms: int) -> Judgement | None:
    """A judgement that lasts so long at most, when all patches have ended that may tell it nothing; None: one of them
    does not end in time. Raises DatabaseAway."""
    with db.transaction() as connection:
        asked = {"noun": NOUNS[what], "seconds": seconds}
        judgement = Judgement(what, connection.exec_driver_sql(SQL["begin_judgement"], asked).scalar_one())
    try:
        with db.transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {passing_ms}")
            pass_lanes(connection, what)
    except BaseException as failure:
        judgement.end()
        if isinstance(failure, LanesHeld):
            return None
        raise
    return judgement


@contextmanager
def judging(what: str) -> Iterator[Judgement | None]:
    """A judgement that ends."""
    judgement = begin(what, MOST_SECONDS, PASSING_MS)
    try:
        yield judgement
    finally:
        if judgement is not None:
            judgement.end()


def wrong(judgement: Judgement | None, found: Differing, settle: Settle) -> Sequence[int] | None:
    """Those of the keys, which differed at a look since it began, that nothing under way will mend, ascending; None
    where the pipeline did not pass in time, so nobody can tell. Raises DatabaseAway."""
    for _ in range(TIMES):
        if not found.keys:
            break
        if judgement is None or not settle(found.instant):
            return None
        standing = judgement.standing(found.keys)
        if standing is None:
            return None
        found = standing
    return found.keys


def those_in(wrong: Sequence[int] | None, keys: Iterable[int]) -> list[int]:
    """Those of the keys that are wrong."""
    return [] if wrong is None else [key for key in keys if _is_in(wrong, key)]


def _waiting(connection: Connection, what: str, keys: Sequence[int]) -> set[int] | None:
    """Those of the keys that a wide patch waits for; None: it may be any."""
    some_wait, all_wait = connection.exec_driver_sql(SQL["what_waits"]).one()
    if all_wait:
        return None
    if not some_wait or what != "products":
        return set()
    return set(connection.exec_driver_sql(SQL["products_waiting"], {"ids": as_array(list(keys))}).scalars())


def _is_in(ascending: Sequence[int], key: int) -> bool:
    place = bisect_left(ascending, key)
    return place < len(ascending) and ascending[place] == key
