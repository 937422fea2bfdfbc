"""The keys that an open transaction's own events point at; companies take their products along as ever."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from backend.app.caches.apply import plan_in, products_after
from backend.app.caches.keys import Keys
from backend.app.caches.outlook import Part
from backend.app.settings import settings
from backend.app.worker.batch import Hinted
from events import contract
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("captured.sql"))
WINDOW: Final = 20_000  # events, or products of a company, that are held at a time
PART: Final = 10_000  # keys that are compared at a time
GoOn = Callable[[], None]


@dataclass
class Gathered:
    """Distinct keys in eight bytes each: a statement may touch millions of rows."""

    products: list[array[int]] = field(default_factory=list)  # ascending runs
    companies: list[array[int]] = field(default_factory=list)
    cities: list[array[int]] = field(default_factory=list)
    wide: set[int] = field(default_factory=set)  # companies whose products have yet to be gathered
    everything: bool = False  # all tables are to be compared

    def add(self, keys: Keys) -> None:
        """Some more."""
        for runs, ids in (
            (self.products, keys.products),
            (self.companies, keys.companies),
            (self.cities, keys.cities),
        ):
            if ids:
                runs.append(array("q", ids))

    def parts(self) -> Iterator[Part]:
        """All keys of the mappings, in parts."""
        for product_ids in _in_parts(self.products):
            yield "products", product_ids
        for company_ids in _in_parts(self.companies):
            yield "companies", company_ids

    def distinct_cities(self) -> list[int]:
        """Ascending."""
        return list(_distinct(self.cities))


def newest_event(connection: Connection) -> int:
    """The last id of the outbox that anybody sees; those that this transaction will write are above it."""
    return int(connection.exec_driver_sql(SQL["newest"]).scalar_one())


def gather(connection: Connection, after: int, go_on: GoOn) -> Gathered:
    """Keys of the events above this id that this very transaction has written; `go_on` is called between windows."""
    gathered = Gathered()
    for events in _windows(connection, after):
        go_on()
        asked = Hinted.of([contract.hint(_event(kind, subject)) for kind, subject in events])
        planned = plan_in(connection, asked.keys, asked.is_truncated, 2 * settings().batch_keys, asked.changes)
        for part in planned.parts:
            gathered.add(part)
        gathered.wide.update(planned.wide)
        gathered.everything |= planned.everything or bool(planned.watched)
    for company in sorted(gathered.wide):
        _add_products(connection, company, gathered, go_on)
    return gathered


def _windows(connection: Connection, after: int) -> Iterator[Sequence[Any]]:
    connection.exec_driver_sql(SQL["open"], {"after": after})
    while rows := connection.exec_driver_sql(f"FETCH {WINDOW} FROM citycache_captured").fetchall():
        yield rows
    connection.exec_driver_sql("CLOSE citycache_captured")


def _event(kind: str, subject: str) -> contract.Event:
    return contract.slim_event("preview", kind, subject, "", None, "")


def _add_products(connection: Connection, company: int, gathered: Gathered, go_on: GoOn) -> None:
    after = None
    while products := products_after(connection, company, after, WINDOW):
        go_on()
        gathered.add(Keys(products))
        after = products[-1]


def _distinct(runs: Iterable[array[int]]) -> Iterator[int]:
    return (key for key, _ in groupby(merge(*runs)))


def _in_parts(runs: Iterable[array[int]]) -> Iterator[list[int]]:
    keys = _distinct(runs)
    while part := list(islice(keys, PART)):
        yield part
